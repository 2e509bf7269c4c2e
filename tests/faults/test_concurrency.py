"""Commands at the same time: directories of their own, or one line for the second; a dead process keeps nobody out."""

import csv
import errno
import fcntl
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from mnist_lightning.lock import Lock

from mnist_lightning.config.errors import ConfigError
from mnist_lightning.evaluation.run_directories import LOCK
from tests.conftest import TINY, Finished, finish, read_verdict, spawn, wait_for
from tests.faults.conftest import ALL, Trials

Cli = Callable[..., Finished]
AT_WORK = re.compile(
    r"error: \S+: process \d+ on \S+ is at work there \(run\.lock\); wait for its end, or name another with .*\n"
)

HOLDER = """
import sys, time
from pathlib import Path
from mnist_lightning.lock import Lock
lock = Lock(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(600)
"""
# Takes the lock and lets go of it, again and again; ends with status 1 if another is inside at the same time.
CONTENDER = """
import os, random, sys, time
from pathlib import Path
from mnist_lightning.config.errors import ConfigError
from mnist_lightning.lock import Lock
directory, until, held = Path(sys.argv[1]), time.monotonic() + float(sys.argv[2]), 0
while time.monotonic() < until:
    try:
        with Lock(directory):
            os.close(os.open(directory / "inside", os.O_CREAT | os.O_EXCL))
            held += 1
            os.unlink(directory / "inside")
    except ConfigError:
        continue
print(held)
"""


def start(code: str, *arguments: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def hold(directory: Path) -> "subprocess.Popen[str]":
    """A process of its own that holds the lock of a directory until it is killed."""
    process = start(HOLDER, directory)
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    return process


def kill(process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


# --- the lock -----------------------------------------------------------------------------------------------------------


def test_one_of_many_processes_is_inside(trials: Trials, tmp_path: Path) -> None:
    """Also at the moment when the file of the one before is removed."""
    for trial in trials("concurrency", few=1, all=4):
        directory = tmp_path / str(trial.number)
        processes = [start(CONTENDER, directory, 2) for _ in range(4)]
        done = [finish(process) for process in processes]
        assert [one.err for one in done] == [""] * 4
        assert sum(int(one.out) for one in done) > 50
        assert list(directory.iterdir()) == []


def test_a_lock_is_on_the_file_that_has_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its holder removes it, and a third makes it anew, between the moments when another has opened and when it locks it."""
    flock, third = fcntl.flock, []

    def late_flock(descriptor: int, operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", flock)
        (tmp_path / LOCK).unlink()
        third.append(Lock(tmp_path))
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late_flock)
    with pytest.raises(ConfigError, match="is at work there"):
        Lock(tmp_path)
    third[0].release()
    with Lock(tmp_path):
        pass


def test_a_file_system_without_locks_refuses_nobody_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unsupported(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with caplog.at_level(logging.WARNING), Lock(tmp_path), Lock(tmp_path):
        pass
    assert (
        caplog.messages == [f"{tmp_path}: the file system has no locks; a second command in this directory is not refused"] * 2
    )
    assert list(tmp_path.iterdir()) == []


def test_a_copy_made_by_fork_lets_go_of_nothing(tmp_path: Path) -> None:
    with Lock(tmp_path) as lock:
        if (copy := os.fork()) == 0:
            lock.release()
            os._exit(0)
        os.waitpid(copy, 0)
        with pytest.raises(ConfigError, match="is at work there"):
            Lock(tmp_path)


# --- the second is refused ----------------------------------------------------------------------------------------------


def test_a_second_command_is_refused_until_the_first_is_dead(trials: Trials, cli: Cli, tmp_path: Path) -> None:
    """A run or a sweep that begins, or that is gone on with; what lies in the directory stays."""
    for trial in trials("concurrency", few=2, all=4):
        kind = ["run", "sweep"][trial.number % 2]
        options = (f"hydra.run.dir={kind}",) if kind == "run" else ("--multirun", "seed=0,1", f"hydra.sweep.dir={kind}")
        directory = tmp_path / kind
        holder = hold(directory)
        for resume in ("resume=false", "resume=true"):
            refused = cli(*TINY, *options, resume)
            assert refused.status == 2
            assert AT_WORK.fullmatch(refused.err), refused.err
            assert {path.name for path in directory.iterdir()} <= {LOCK, "run.log"}
        kill(holder)
        assert (directory / LOCK).exists()
        done = cli(*TINY, *options, "resume=true")
        assert (done.status, done.err) == (0, "")
        assert not list(tmp_path.rglob(LOCK))
        holder = hold(directory)
        before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
        assert cli(*TINY, *options, "resume=true").status == 2
        assert {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()} == before
        kill(holder)
        assert cli(*TINY, *options, "resume=true").out.count("KEPT") == (1 if kind == "run" else 2)
        for path in sorted(directory.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()


def test_a_job_that_outlives_its_sweep_is_not_run_beside_itself(trials: Trials, cli: Cli, tmp_path: Path) -> None:
    """As under a launcher of processes whose own process was killed: the sweep goes on but for that job."""
    for trial in trials("concurrency", few=1, all=2):
        sweep = tmp_path / str(trial.number)
        command = (*TINY, "--multirun", "seed=0,1", f"hydra.sweep.dir={sweep}", "resume=true")
        holder = hold(sweep / "net3" / "lr=0.015" / f"seed={trial.number % 2}")
        done = cli(*command)
        assert done.status == 1
        assert AT_WORK.fullmatch(done.err), done.err
        assert "1 of 2 jobs finished" in done.out
        kill(holder)
        done = cli(*command)
        assert (done.status, done.out.count("KEPT")) == (0, 1)


# --- at once ------------------------------------------------------------------------------------------------------------


def test_runs_started_at_once_have_directories_of_their_own(trials: Trials, tmp_path: Path) -> None:
    for trial in trials("concurrency", few=1, all=2):
        folder = tmp_path / str(trial.number)
        folder.mkdir()
        number = 16 if ALL else 3
        processes = [spawn(*TINY, cwd=folder) for _ in range(number)]
        done = [finish(process, timeout_s=900) for process in processes]
        assert [(one.status, one.err) for one in done] == [(0, "")] * number
        verdicts = [path.parent for path in folder.rglob("verdict.json")]
        assert len(verdicts) == number
        assert len({read_verdict(directory)["accuracy"] for directory in verdicts}) == 1
        assert not list(folder.rglob(LOCK))


SWEEP = (*TINY, "gate.on_miss=warn", "--multirun", "seed=0,1", "hydra.sweep.dir=sweep")


@pytest.mark.slow
def test_two_commands_in_one_directory(trials: Trials, tmp_path: Path) -> None:
    """Two sweeps, two resumes of a run, two resumes of a sweep of two processes: one goes on, one is told, nothing is mixed."""
    for trial in trials("concurrency", few=1, all=6):
        folder = tmp_path / str(trial.number)
        folder.mkdir()
        kind = trial.number % 3
        if kind == 0:
            command, results = SWEEP, 2
        elif kind == 1:
            command, results = (
                (*TINY, "trainer.max_epochs=30", "gate.on_miss=warn", "gate.within_epochs=30", "hydra.run.dir=run"),
                1,
            )
            first = spawn(*command, cwd=folder)
            wait_for(first, folder, "last.ckpt")
            kill(first)
            command += ("resume=true",)
        else:
            command, results = (*SWEEP, "resume=true", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"), 2
        first = spawn(*command, cwd=folder)
        time.sleep(trial.rng.uniform(0, 1))
        second = spawn(*command, cwd=folder)
        done = sorted([finish(first, timeout_s=900), finish(second, timeout_s=900)], key=lambda one: one.status)
        assert [one.status for one in done] in ([0, 2], [0, 0])
        refused = done[1]
        # The second may begin when the first has ended already.
        told = AT_WORK.fullmatch(refused.err) or "the directory holds a" in refused.err
        assert told if refused.status else refused.out.count("KEPT") == results, refused
        verdicts = [path.parent for path in folder.rglob("verdict.json")]
        assert len(verdicts) == results
        for directory in verdicts:
            with (directory / "metrics.csv").open(encoding="utf-8") as file:
                epochs = [int(row["epoch"]) for row in csv.DictReader(file)]
            assert epochs == list(range(1, read_verdict(directory)["epochs"] + 1))
        assert not list(folder.rglob("set-aside-*")) + list(folder.rglob(LOCK))
