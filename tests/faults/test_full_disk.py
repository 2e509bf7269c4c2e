"""A disk that is full, over a quota or read-only: one line with the path, whole files, a run that goes on.

TensorBoard's own thread writes its events, and reports by itself what it cannot write: here it finds room.
"""

import csv
import logging
import logging.config
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from mnist_lightning.config.compose import compose_config
from mnist_lightning.files import LogFile
from mnist_lightning.training import fit
from mnist_lightning.training.fit import run
from tests.conftest import TINY, Finished, read_verdict
from tests.faults.conftest import Trials

resource = pytest.importorskip("resource", reason="limits files as POSIX has it")

Cli = Callable[..., Finished]
PAGE = 4096
ROOM = 10  # pages: enough for events, a table and a verdict, not for a checkpoint
RUN = (*TINY, "trainer.max_epochs=3", "model.dropout=0.1")
STEPS = 15


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of four megabytes, which a test can fill and turn read-only."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        _mount("-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder))
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no file system can be mounted here: {error}")
    yield folder
    close_log()
    subprocess.run(["umount", str(folder)], check=True)


def close_log() -> None:
    """Closes the run.log of a command in this process, which its end would have closed."""
    logging.config.dictConfig({"version": 1})


def fill(disk: Path, left: int) -> None:
    """Fills a file system up to so many pages."""
    with (disk / "filler").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, (os.statvfs(disk).f_bavail - left) * PAGE)


def one_error(done: Finished, directory: Path) -> str:
    """The one line of an error, which names a path in the directory; nothing else was said."""
    assert done.status == 1, (done.status, done.err, done.out)
    [line] = done.err.splitlines()
    assert line.startswith("error: ")
    assert str(directory) in line
    return line


def rows(directory: Path) -> list[dict[str, str]]:
    table = csv.DictReader((directory / "metrics.csv").read_text("utf-8").splitlines())
    return [{key: value for key, value in row.items() if key != "seconds"} for row in table]


def at_step(monkeypatch: pytest.MonkeyPatch, step: int, act: Callable[[], None]) -> None:
    """Lets something happen before a step of training, counted from 0."""
    taken = 0
    training_step = fit.LitClassifier.training_step

    def step_after(self: Any, batch: Any, batch_idx: int) -> Any:
        nonlocal taken
        if taken == step:
            act()
        taken += 1
        return training_step(self, batch, batch_idx)

    monkeypatch.setattr(fit.LitClassifier, "training_step", step_after)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing happened to."""
    directory = tmp_path_factory.mktemp("straight")
    run(compose_config(*RUN), directory)
    return directory


def assert_whole_and_goes_on(cli: Cli, directory: Path, straight: Path) -> None:
    """What a run left is the beginning of what it leaves undisturbed, and with room it ends the same."""
    assert not list(directory.glob("*.part*"))
    assert rows(directory) == rows(straight)[: len(rows(directory))]
    for path in directory.glob("*.ckpt"):
        torch.load(path, weights_only=True)
    assert read_verdict(directory)["status"] == "error"
    resumed = cli(*RUN, f"hydra.run.dir={directory}", "resume=true")
    assert (resumed.status, resumed.err) == (0, ""), resumed
    assert rows(directory) == rows(straight)
    states = [torch.load(path / "last.ckpt", weights_only=True)["state_dict"] for path in (directory, straight)]
    assert all(torch.equal(states[0][name], values) for name, values in states[1].items())


def test_a_file_that_may_not_grow_is_one_line(
    cli: Cli, tmp_path: Path, straight: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As over a quota, in the second of three epochs."""
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    with monkeypatch.context() as patch:
        at_step(patch, 7, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM * PAGE, unlimited[1])))
        try:
            done = cli(*RUN, f"hydra.run.dir={tmp_path / 'run'}")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert "File too large" in one_error(done, tmp_path / "run")
    assert_whole_and_goes_on(cli, tmp_path / "run", straight)


@pytest.mark.slow
def test_a_full_disk_is_one_line(trials: Trials, cli: Cli, disk: Path, straight: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for trial in trials("full disk", few=2, all=20):
        directory = disk / str(trial.number)
        with monkeypatch.context() as patch:
            at_step(patch, trial.rng.randrange(STEPS), lambda: fill(disk, ROOM))
            done = cli(*RUN, f"hydra.run.dir={directory}")
        (disk / "filler").unlink(missing_ok=True)
        assert "No space left on device" in one_error(done, directory)
        assert_whole_and_goes_on(cli, directory, straight)


@pytest.mark.slow
def test_a_read_only_file_system_is_one_line(cli: Cli, disk: Path, straight: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a run that is to be gone on with there, and for one that is to begin."""
    directory = disk / "run"
    with monkeypatch.context() as patch:
        at_step(patch, 7, lambda: (_ for _ in ()).throw(RuntimeError("stopped")))
        assert cli(*RUN, f"hydra.run.dir={directory}").status == 1
    before = {path: path.read_bytes() for path in directory.iterdir()}
    close_log()
    _mount("-o", "remount,ro", str(disk))
    try:
        for command in ((f"hydra.run.dir={directory}", "resume=true"), (f"hydra.run.dir={disk / 'new'}",)):
            done = cli(*RUN, *command)
            assert (done.status, len(done.err.splitlines()), done.err[:7]) == (1, 1, "error: "), done
    finally:
        close_log()
        _mount("-o", "remount,rw", str(disk))
    assert {path: path.read_bytes() for path in directory.iterdir()} == before
    assert_whole_and_goes_on(cli, directory, straight)


@pytest.mark.slow
def test_a_log_that_takes_nothing_is_an_error_with_its_path(disk: Path, capfd: pytest.CaptureFixture[str]) -> None:
    handler = LogFile(disk / "run.log")
    fill(disk, 0)
    with pytest.raises(OSError, match=r"No space left on device") as caught:
        handler.handle(logging.makeLogRecord({"msg": "a" * 10 * PAGE}))
    assert caught.value.filename == str(disk / "run.log")
    (disk / "filler").unlink()
    handler.close()
    assert capfd.readouterr().err == ""
