"""Commands at the same time: directories of their own, or one line for the second; a dead process keeps nobody out."""

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mnist_lightning.config.errors import ConfigError
from mnist_lightning.evaluation.run_directories import LOCK, lock, read_epochs
from tests.conftest import TINY, Finished, finish, read_verdict, spawn
from tests.faults.conftest import Trials

Cli = Callable[..., Finished]
AT_WORK = re.compile(r"error: \S+: another command is at work there; wait for its end, or name another .*\n")

HOLDER = """
import sys, time
from pathlib import Path
from mnist_lightning.evaluation.run_directories import lock
held = lock(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(600)
"""


@contextmanager
def held(directory: Path) -> Iterator[None]:
    """A process of its own has the lock of a directory until it is killed, at the end."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(directory)], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    try:
        yield
    finally:
        process.kill()
        process.communicate()


def contents(directory: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file() and path.name != LOCK}


def test_a_lock_keeps_others_out_until_its_holder_is_dead(tmp_path: Path) -> None:
    with held(tmp_path), pytest.raises(ConfigError, match="another command is at work there; wait for its end"):
        lock(tmp_path)
    with lock(tmp_path):
        pass
    lock(tmp_path).release()


@pytest.mark.slow
def test_a_second_run_is_refused_and_changes_nothing(cli: Cli, tmp_path: Path) -> None:
    """One that begins, and one that is gone on with."""
    directory = tmp_path / "run"
    for number, options in enumerate(((), ("resume=true",))):
        with held(directory):
            before = contents(directory)
            refused = cli(*TINY, "hydra.run.dir=run", "resume=true")
            assert refused.status == 2
            assert AT_WORK.fullmatch(refused.err), refused.err
            left = contents(directory)
            assert {path: left[path] for path in before if path.name != "run.log"} == {
                path: before[path] for path in before if path.name != "run.log"
            }
            assert {path.name for path in left} <= {path.name for path in before} | {"run.log"}
        done = cli(*TINY, "hydra.run.dir=run", *options)
        assert (done.status, done.err, "KEPT" in done.out) == (0, "", number == 1)


@pytest.mark.slow
def test_a_job_that_outlives_its_sweep_is_not_run_beside_itself(cli: Cli, tmp_path: Path) -> None:
    """As under a launcher of processes whose own process was killed: the sweep goes on but for that job."""
    command = ("--multirun", *TINY, "seed=0,1", "hydra.sweep.dir=sweep", "resume=true")
    done = cli(*command)
    assert done.status == 0, done.err
    [job] = {path.parent for path in tmp_path.rglob("verdict.json") if read_verdict(path.parent)["seed"] == 1}
    (job / "verdict.json").unlink()
    with held(job):
        done = cli(*command)
        assert done.status == 1
        assert AT_WORK.fullmatch(done.err), done.err
        assert "1 of 2 jobs finished" in done.out
    done = cli(*command)
    assert (done.status, done.out.count("KEPT")) == (0, 1)


@pytest.mark.slow
def test_runs_started_at_once_have_directories_of_their_own(trials: Trials, tmp_path: Path) -> None:
    for trial in trials("concurrency", few=1, all=4):
        folder = tmp_path / str(trial.number)
        folder.mkdir()
        done = [finish(process, timeout_s=900) for process in [spawn(*TINY, cwd=folder) for _ in range(3)]]
        assert [(one.status, one.err) for one in done] == [(0, "")] * 3
        verdicts = [path.parent for path in folder.rglob("verdict.json")]
        assert len(verdicts) == 3
        assert len({read_verdict(directory)["accuracy"] for directory in verdicts}) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "results"),
    [
        ((*TINY, "hydra.run.dir=run", "resume=true"), 1),
        (("--multirun", *TINY, "gate.on_miss=warn", "seed=0,1", "hydra.sweep.dir=sweep"), 2),
    ],
    ids=["run", "sweep"],
)
def test_of_two_commands_in_one_directory_one_goes_on(
    trials: Trials, tmp_path: Path, command: tuple[str, ...], results: int
) -> None:
    for trial in trials("concurrency", few=1, all=4):
        folder = tmp_path / str(trial.number)
        folder.mkdir()
        first = spawn(*command, cwd=folder)
        time.sleep(trial.rng.uniform(0, 1))
        done = [finish(process, timeout_s=900) for process in (first, spawn(*command, cwd=folder))]
        refused = max(done, key=lambda one: one.status)
        assert sorted(one.status for one in done) in ([0, 2], [0, 0])
        # Either of them may begin when the other has ended already.
        told = AT_WORK.fullmatch(refused.err) or "holds a sweep already" in refused.err
        assert told if refused.status else sorted(one.out.count("KEPT") for one in done) == [0, results], done
        verdicts = [path.parent for path in folder.rglob("verdict.json")]
        assert len(verdicts) == results
        for directory in verdicts:
            assert len(read_epochs(directory)) == read_verdict(directory)["epochs"]
        assert not list(folder.rglob("set-aside-*"))
