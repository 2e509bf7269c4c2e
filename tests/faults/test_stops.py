"""A run is killed, terminated or interrupted at any moment: what it leaves is whole or known not to be, and it goes on."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from mnist_lightning.config.compose import compose_config
from mnist_lightning.evaluation.run_directories import read_epochs, read_run
from mnist_lightning.training import checkpoints, resume, signals
from mnist_lightning.training.fit import run
from tests.conftest import TINY, assert_same_weights, read_rows
from tests.faults.conftest import Trial, Trials

# A hold-out: the run also chooses an epoch, reads its checkpoint and tests it.
THREE = (*TINY, "trainer.max_epochs=3", "model.dropout=0.1", "data.val_images=50", "gate.on_miss=warn")
THREE += ("hydra.run.dir=run", "resume=true")
LIMIT_S = 10.0


class Unbroken(NamedTuple):
    """A run that nothing disturbed, and how often it changed a file."""

    directory: Path
    num_changes: int


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Unbroken:
    pytest.importorskip("resource", reason="processes are forked and struck as POSIX has it")
    from tests.faults.victim import Victim

    cwd = tmp_path_factory.mktemp("unbroken")
    victim = Victim(cwd, *THREE)
    assert victim.end() == 0, (cwd / "err.txt").read_text()
    return Unbroken(cwd / "run", victim.num_changes)


def verdict(directory: Path) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads((directory / "verdict.json").read_text("utf-8"))
    # Versions are of a checkout that may have moved on meanwhile.
    return {key: value for key, value in fields.items() if key not in ("seconds", "versions")}


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
        whole = len(read_epochs(directory))  # raises where a row is cut off: the file is replaced, never appended to
        assert read_rows(directory) == read_rows(unbroken.directory)[:whole]
    for name in ("last.ckpt", "best.ckpt"):
        if (directory / name).exists():
            assert checkpoints.read(directory / name)["epoch"] in (0, 1, 2)
    if list(directory.glob("*tfevents*")):
        for tag, points in events(directory)[0].items():
            assert tag.startswith("Verdict/") or set(points) <= set(events(unbroken.directory)[0][tag]), tag


def assert_it_goes_on(cwd: Path, unbroken: Unbroken) -> None:
    """To bit-equal weights, the same figures, verdict and dashboard, but for times."""
    from tests.faults.victim import Victim

    assert Victim(cwd, *THREE).end() == 0, (cwd / "err.txt").read_text()
    directory = cwd / "run"
    for name in ("last.ckpt", "best.ckpt"):
        assert_same_weights(directory, unbroken.directory, name)
    assert read_rows(directory) == read_rows(unbroken.directory)
    assert verdict(directory) == verdict(unbroken.directory)
    assert events(directory) == events(unbroken.directory)
    assert not list(directory.glob("*.part*"))


def any_change(trial: Trial, num_changes: int) -> int:
    """Of the changes to files one, in every fourth trial of the last ones, with which a run ends."""
    return trial.rng.randint(num_changes - 8 if trial.number % 4 == 3 else 1, num_changes)


@pytest.mark.slow
def test_a_run_killed_at_any_change_of_its_files_goes_on(tmp_path: Path, trials: Trials, unbroken: Unbroken) -> None:
    """By turns: at a change of a file, in the middle of what is written next, at any moment after."""
    from tests.faults.victim import Blow, Victim

    for trial in trials("SIGKILL", few=6, all=100):
        cwd = tmp_path / str(trial.number)
        cwd.mkdir()
        how = ({}, {"torn": int(10 ** trial.rng.uniform(0, 5)) - 1}, {"delay_s": trial.rng.uniform(0.001, 0.1)})
        blow = Blow(any_change(trial, unbroken.num_changes), **how[trial.number % 3])  # type: ignore[arg-type]
        assert Victim(cwd, *THREE, blow=blow).end() in (-signal.SIGKILL, -signal.SIGXFSZ, 0), blow
        if (cwd / "run").exists():
            assert_nothing_false_is_read(cwd / "run", unbroken)
        assert_it_goes_on(cwd, unbroken)


@pytest.mark.slow
def test_a_run_that_is_stopped_says_so_and_goes_on(tmp_path: Path, trials: Trials, unbroken: Unbroken) -> None:
    """By one signal in order, with status 143 or 130; by a second one at once."""
    from tests.faults.victim import Blow, Victim

    for trial in trials("SIGTERM, SIGINT", few=4, all=28):
        cwd, directory = tmp_path / str(trial.number), tmp_path / str(trial.number) / "run"
        cwd.mkdir()
        signum = (signal.SIGTERM, signal.SIGINT)[trial.number % 2]
        again_s = trial.rng.uniform(0, 0.1) if trial.number % 3 == 2 else None
        delay_s = trial.rng.uniform(0, 0.1)
        blow = Blow(any_change(trial, unbroken.num_changes), signum, delay_s=delay_s, again_s=again_s)
        victim = Victim(cwd, *THREE, blow=blow)
        status = victim.end()
        assert victim.seconds_left < LIMIT_S, blow
        finished = read_run(directory).finished
        assert status in (128 + signum, *([] if again_s is None else [-signum]), *([0] if finished else [])), blow
        assert "Traceback" not in (cwd / "err.txt").read_text()
        assert_nothing_false_is_read(directory, unbroken)
        if (directory / "config.yaml").exists() and again_s is None and not finished:
            left = verdict(directory)
            assert (left["status"], left["exit_status"]) == ("interrupted", 128 + signum), blow
            assert left["reasons"] == [f"stopped by {signal.Signals(signum).name}"]
            assert events(directory)[1] == "interrupted"
        assert_it_goes_on(cwd, unbroken)


@pytest.mark.parametrize("stop", range(6))
def test_a_run_killed_while_it_is_set_aside_is_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int) -> None:
    """Nothing is taken for its own by the next attempt, wherever the move stopped."""
    files = {"best.ckpt", "config.yaml", "environment.json", "last.ckpt", "metrics.csv", "verdict.json"}
    for name in files:
        (tmp_path / name).write_text("of another run", "utf-8")
    moved: list[Path] = []
    rename = Path.rename

    def dying(self: Path, target: Path) -> Path:
        if len(moved) == stop:
            raise KeyboardInterrupt
        moved.append(self)
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", dying)
        with pytest.raises(KeyboardInterrupt):
            resume.take_up(tmp_path, compose_config(*TINY))
    left = {path.name for path in tmp_path.iterdir() if path.is_file()}
    assert "config.yaml" in left
    assert left == files or "last.ckpt" not in left
    assert resume.take_up(tmp_path, compose_config(*TINY)) == resume.Taken()
    assert not [path for path in tmp_path.iterdir() if path.is_file()]


def test_an_exit_ends_a_run_as_a_stop_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As submitit's, when Slurm preempts the job."""

    def step(*args: object) -> None:
        raise SystemExit(-1)

    monkeypatch.setattr("mnist_lightning.training.lit_module.LitClassifier.training_step", step)
    with pytest.raises(SystemExit):
        run(compose_config(*TINY), tmp_path)
    left = verdict(tmp_path)
    assert (left["status"], left["exit_status"], left["reasons"]) == ("interrupted", -1, ["SystemExit: -1"])


def test_a_stop_is_a_stop_though_something_fails_on_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As TensorBoard's writer does that a signal has half closed, or tqdm's lock that it has half made."""

    def step(*args: object) -> None:
        try:
            raise signals.Interrupted(signal.SIGTERM)
        finally:
            raise OSError("Writer is closed")

    monkeypatch.setattr("mnist_lightning.training.lit_module.LitClassifier.training_step", step)
    with pytest.raises(signals.Interrupted):
        run(compose_config(*TINY), tmp_path)
    left = verdict(tmp_path)
    assert (left["status"], left["exit_status"], left["reasons"]) == ("interrupted", 143, ["stopped by SIGTERM"])


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_waits_for_what_is_being_written(monkeypatch: pytest.MonkeyPatch, signum: int) -> None:
    """Without `hold` it would come amid the verdict; two signals do not wait."""
    ended: list[int] = []
    written: list[int] = []

    def write(handler: Callable[..., None]) -> None:
        with signals.hold():
            handler(signum, None)
            written.append(signum)

    monkeypatch.setattr(signal, "raise_signal", ended.append)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        signals.catch()
        handler: Callable[..., None] = signal.getsignal(signum)  # type: ignore[assignment]
        with pytest.raises(signals.Interrupted) as stopped:
            write(handler)
        assert (written, stopped.value.code) == ([signum], 128 + signum)
        assert signal.getsignal(signum) is signal.SIG_DFL
        handler(signum, None)  # as Lightning has put it back
        assert ended == [signum]
    finally:
        for number, handler_before in before.items():
            signal.signal(number, handler_before)
