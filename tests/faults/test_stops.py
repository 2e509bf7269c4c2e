"""A run is killed, terminated or interrupted at any moment: what it leaves is whole or known not to be, and it goes on."""

import csv
import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from mnist_lightning.config.compose import compose_config
from mnist_lightning.config.errors import ConfigError
from mnist_lightning.evaluation.run_directories import read_epochs, read_run
from mnist_lightning.training import checkpoints, resume
from tests.conftest import TINY, spawn
from tests.faults.conftest import Trial, Trials
from tests.faults.victim import Blow, Victim

# A hold-out: the run also chooses an epoch, reads its checkpoint and tests it.
THREE = (*TINY, "trainer.max_epochs=3", "model.dropout=0.1", "data.val_images=50", "gate.on_miss=warn")
THREE += ("hydra.run.dir=run", "resume=true")
LIMIT_S = 10.0


@dataclass
class Unbroken:
    """A run that nothing disturbed, and how often it changed a file."""

    directory: Path
    num_changes: int


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Unbroken:
    cwd = tmp_path_factory.mktemp("unbroken")
    victim = Victim(cwd, *THREE)
    assert victim.end() == 0, (cwd / "err.txt").read_text()
    return Unbroken(cwd / "run", victim.num_changes)


def rows(directory: Path) -> list[dict[str, str]]:
    with (directory / "metrics.csv").open(encoding="utf-8") as file:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]


def verdict(directory: Path) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads((directory / "verdict.json").read_text("utf-8"))
    del fields["versions"]  # of a checkout that may have moved on meanwhile
    return {key: value for key, value in fields.items() if key != "seconds"}


def events(directory: Path) -> tuple[dict[str, list[tuple[int, float]]], str]:
    """Every point of every curve but times, and the status that TensorBoard lists."""
    read = EventAccumulator(str(directory)).Reload()
    tags = [tag for tag in read.Tags()["scalars"] if "seconds" not in tag]
    points = {tag: [(point.step, point.value) for point in read.Scalars(tag)] for tag in tags}
    try:
        content = read.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    except KeyError:
        return points, ""
    return points, HParamsPluginData.FromString(content).session_start_info.hparams["Status"].string_value


def assert_nothing_false_is_read(directory: Path, unbroken: Unbroken) -> None:
    """What can be read of a run that has just died is what the unbroken one has."""
    if read_run(directory).finished:
        assert verdict(directory) == verdict(unbroken.directory)
    if (directory / "metrics.csv").exists():
        try:
            whole = len(read_epochs(directory))
        except ValueError:  # a row is cut off, and known to be
            whole = 0
        assert rows(directory)[:whole] == rows(unbroken.directory)[:whole]
    for name in ("last.ckpt", "best.ckpt"):
        if (directory / name).exists():
            try:
                epoch = checkpoints.read(directory / name)["epoch"]
            except ConfigError:
                continue
            assert epoch in (0, 1, 2)
    if list(directory.glob("*tfevents*")):
        for tag, points in events(directory)[0].items():
            if tag.startswith("Verdict/"):  # of the epochs that there were
                continue
            assert set(points) <= set(events(unbroken.directory)[0][tag]), tag


def assert_the_same(directory: Path, unbroken: Unbroken) -> None:
    """Bit-equal weights, the same figures, verdict and dashboard, but for times."""
    for name in ("last.ckpt", "best.ckpt"):
        states = [torch.load(path / name, weights_only=True)["state_dict"] for path in (directory, unbroken.directory)]
        assert all(torch.equal(states[0][key], states[1][key]) for key in states[1]), name
    assert rows(directory) == rows(unbroken.directory)
    assert verdict(directory) == verdict(unbroken.directory)
    assert events(directory) == events(unbroken.directory)
    assert not list(directory.glob("*.part*"))


def assert_it_goes_on(cwd: Path, unbroken: Unbroken) -> None:
    assert Victim(cwd, *THREE).end() == 0, (cwd / "err.txt").read_text()
    assert_the_same(cwd / "run", unbroken)


def any_change(trial: Trial, num_changes: int) -> int:
    """Of the changes to files one, in every fourth trial of the last ones, with which a run ends."""
    return trial.rng.randint(num_changes - 8 if trial.number % 4 == 3 else 1, num_changes)


def killing(trial: Trial, num_changes: int) -> Blow:
    """By turns: at a change of a file, in the middle of what is written next, at any moment after."""
    event = any_change(trial, num_changes)
    if trial.number % 3 == 0:
        return Blow(event)
    if trial.number % 3 == 1:
        return Blow(event, torn=int(10 ** trial.rng.uniform(0, 5)) - 1)
    return Blow(event, delay_s=trial.rng.uniform(0.001, 0.1))


def test_a_run_killed_at_any_change_of_its_files_goes_on(tmp_path: Path, trials: Trials, unbroken: Unbroken) -> None:
    for trial in trials("SIGKILL", few=5, all=95):
        cwd = tmp_path / str(trial.number)
        cwd.mkdir()
        blow = killing(trial, unbroken.num_changes)
        assert Victim(cwd, *THREE, blow=blow).end() in (-signal.SIGKILL, -signal.SIGXFSZ, 0), blow
        if (cwd / "run").exists():
            assert_nothing_false_is_read(cwd / "run", unbroken)
        if trial.number % 5 == 4:  # and once more on the way back
            Victim(cwd, *THREE, blow=killing(trial, unbroken.num_changes)).end()
            assert_nothing_false_is_read(cwd / "run", unbroken)
        assert_it_goes_on(cwd, unbroken)


def test_a_process_killed_at_any_time_goes_on(tmp_path: Path, trials: Trials, unbroken: Unbroken) -> None:
    """From its first instruction on, imports included."""
    for trial in trials("SIGKILL", few=1, all=5):
        cwd = tmp_path / str(trial.number)
        cwd.mkdir()
        process = spawn(*THREE, cwd=cwd)
        time.sleep(trial.rng.uniform(0, 8))
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        assert_nothing_false_is_read(cwd / "run", unbroken)
        assert_it_goes_on(cwd, unbroken)


def test_a_run_killed_while_it_is_set_aside_is_set_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trials: Trials
) -> None:
    """Nothing is taken for its own by the next attempt, wherever the move stopped."""
    files = ("best.ckpt", "config.yaml", "environment.json", "last.ckpt", "metrics.csv", "verdict.json")
    moved = 0
    rename = Path.rename

    def dying(self: Path, target: Path) -> Path:
        nonlocal moved
        if moved == stop:
            raise KeyboardInterrupt
        moved += 1
        return rename(self, target)

    for trial in trials("SIGKILL", few=6, all=6):
        directory, stop, moved = tmp_path / str(trial.number), trial.number, 0
        directory.mkdir()
        for name in files:
            (directory / name).write_text("of another run", "utf-8")
        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", dying)
            with pytest.raises(KeyboardInterrupt):
                resume.take_up(directory, compose_config(*TINY))
        left = {path.name for path in directory.iterdir() if path.is_file()}
        assert "config.yaml" in left
        assert left == set(files) or "last.ckpt" not in left
        assert resume.take_up(directory, compose_config(*TINY)).checkpoint is None
        assert not [path for path in directory.iterdir() if path.is_file()]


def test_a_run_that_is_stopped_says_so_and_goes_on(tmp_path: Path, trials: Trials, unbroken: Unbroken) -> None:
    for trial in trials("SIGTERM, SIGINT", few=4, all=28):
        cwd = tmp_path / str(trial.number)
        cwd.mkdir()
        signum = trial.rng.choice([signal.SIGTERM, signal.SIGINT])
        twice = trial.number % 3 == 2
        blow = Blow(
            any_change(trial, unbroken.num_changes),
            signum,
            delay_s=trial.rng.uniform(0, 0.1),
            again_s=trial.rng.uniform(0, 0.1) if twice else None,
        )
        victim = Victim(cwd, *THREE, blow=blow)
        status = victim.end()
        directory = cwd / "run"
        assert victim.seconds_left < LIMIT_S, blow
        finished = read_run(directory).finished
        assert status in (128 + signum, *([-signum] if twice else []), *([0] if finished else [])), blow
        assert "Traceback" not in (cwd / "err.txt").read_text()
        assert_nothing_false_is_read(directory, unbroken)
        if (directory / "config.yaml").exists() and not twice and not finished:
            left = verdict(directory)
            assert (left["status"], left["exit_status"]) == ("interrupted", 128 + signum), blow
            assert left["reasons"] == [f"stopped by {signal.Signals(signum).name}"]
            assert events(directory)[1] == "interrupted"
            if left["epochs"] > 1:  # a stop between an epoch's row and its checkpoint leaves that of the epoch before
                assert checkpoints.read(directory / "last.ckpt")["epoch"] + 1 in (left["epochs"], left["epochs"] - 1)
        assert_it_goes_on(cwd, unbroken)


def test_a_process_that_is_stopped_at_any_time_ends(tmp_path: Path, trials: Trials) -> None:
    """Imports included: before the project's own handler is there, Python's ends it by the signal itself."""
    for trial in trials("SIGTERM, SIGINT", few=1, all=2):
        signum = (signal.SIGTERM, signal.SIGINT)[trial.number % 2]
        process = spawn(*THREE, cwd=tmp_path)
        time.sleep(trial.rng.uniform(0, 6))
        os.kill(process.pid, signum)
        process.communicate(timeout=LIMIT_S)
        assert process.returncode in (128 + signum, -signum, 0)


def test_a_stop_waits_for_what_is_being_written(monkeypatch: pytest.MonkeyPatch, trials: Trials) -> None:
    """Without `hold` it would come amid the verdict; two signals do not wait."""
    from mnist_lightning.training import signals

    ended: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, signum: ended.append(signum))
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for trial in trials("SIGTERM, SIGINT", few=2, all=2):
        signum = (signal.SIGTERM, signal.SIGINT)[trial.number]
        try:
            signals.catch()
            handler: Callable[..., None] = signal.getsignal(signum)  # type: ignore[assignment]
            written = []

            def write(handler: Callable[..., None] = handler, signum: int = signum, written: list[int] = written) -> None:
                with signals.hold():
                    handler(signum, None)
                    written.append(signum)

            with pytest.raises(signals.Interrupted) as stopped:
                write()
            assert (written, stopped.value.code) == ([signum], 128 + signum)
            assert signal.getsignal(signum) is signal.SIG_DFL
            handler(signum, None)  # as Lightning has put it back
            assert ended == [signum]
        finally:
            ended.clear()
            for number, handler_before in before.items():
                signal.signal(number, handler_before)
