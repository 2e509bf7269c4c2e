"""A disk that is full, over a quota or read-only at any moment: one line with the path, whole files, a run that goes on."""

import csv
import logging
import logging.config
import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from mnist_lightning.config.compose import compose_config
from mnist_lightning.files import LogFile
from mnist_lightning.training import fit
from mnist_lightning.training.fit import run
from tests.conftest import TINY, Finished, read_verdict
from tests.faults.conftest import Trials

Cli = Callable[..., Finished]
PAGE = 4096
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


@contextmanager
def limited(size: int) -> Iterator[None]:
    """No file of this process may grow beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def one_error(done: Finished, directory: Path) -> str:
    """The one line of an error, which names a path in the directory; nothing else was said."""
    assert done.status == 1, (done.status, done.err, done.out)
    [line] = done.err.splitlines()
    assert line.startswith("error: ")
    assert str(directory) in line
    assert "Traceback" not in done.out
    return line


def weights(directory: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(directory / "last.ckpt", weights_only=True)["state_dict"]
    return state


def rows(directory: Path) -> list[dict[str, str]]:
    with (directory / "metrics.csv").open(encoding="utf-8", newline="") as file:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]


def assert_whole(directory: Path, straight: Path) -> None:
    """What a run left is the beginning of what it leaves undisturbed."""
    assert not list(directory.glob("*.part*")) + list(directory.glob(".*"))
    if (directory / "config.yaml").exists():
        assert OmegaConf.load(directory / "config.yaml").seed == 0
    if (directory / "metrics.csv").exists():
        left = rows(directory)
        assert left == rows(straight)[: len(left)]
    for name in ("best.ckpt", "last.ckpt"):
        if (directory / name).exists():
            torch.load(directory / name, weights_only=True)
    if (directory / "verdict.json").exists():
        assert read_verdict(directory)["status"] == "error"


def at_step(monkeypatch: pytest.MonkeyPatch, step: int, act: Callable[[], None]) -> None:
    """Lets something happen before a step of training, counted from 0; before the verdict where there are no more steps."""
    taken = 0
    training_step, judge = fit.LitClassifier.training_step, fit.Gate.on_fit_end

    def step_after(self: Any, batch: Any, batch_idx: int) -> Any:
        nonlocal taken
        if taken == step:
            act()
        taken += 1
        return training_step(self, batch, batch_idx)

    def judge_after(self: Any, *args: Any) -> None:
        if step == STEPS:
            act()
        judge(self, *args)

    monkeypatch.setattr(fit.LitClassifier, "training_step", step_after)
    monkeypatch.setattr(fit.Gate, "on_fit_end", judge_after)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing happened to."""
    directory = tmp_path_factory.mktemp("straight")
    run(compose_config(*RUN), directory)
    return directory


def test_a_run_stops_with_one_line_and_goes_on_after(
    trials: Trials, cli: Cli, disk: Path, straight: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a random step the file system is full up to a random size, files are limited to one, or names cannot be changed."""
    checkpoint = (straight / "last.ckpt").stat().st_size
    for trial in trials("full disk", few=4, all=20):
        rng, directory = trial.rng, disk / str(trial.number)
        command = (*RUN, f"hydra.run.dir={directory}")
        # From the beginning, where run.log cannot even be opened or takes nothing, to the end, where the verdict is missing.
        step = [-1, STEPS, rng.randrange(STEPS), rng.randrange(STEPS)][trial.number % 4]
        kind = ["full", "limited", "fixed"][trial.number % 3]
        left = 0 if step == STEPS else rng.randrange(checkpoint // PAGE)  # a checkpoint does not fit beside the one before
        # The terminal's lines go to files, too, here; the events of the verdict are longer.
        size = 1_000 if step == STEPS else rng.randrange(1_000, checkpoint)

        with monkeypatch.context() as patch:

            def act(kind: str = kind, left: int = left, size: int = size, directory: Path = directory) -> None:
                directory.mkdir(exist_ok=True)
                if kind == "full":
                    fill(disk, left)
                elif kind == "limited":
                    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
                else:
                    subprocess.run(["chattr", "+i", str(directory)], check=True)

            with limited(resource.RLIM_INFINITY):
                if step < 0:
                    act()
                else:
                    at_step(patch, step, act)
                done = cli(*command)
        (disk / "filler").unlink(missing_ok=True)
        subprocess.run(["chattr", "-i", str(directory)], check=True)

        one_error(done, directory)
        assert_whole(directory, straight)
        resumed = cli(*command, "resume=true")
        assert (resumed.status, resumed.err) == (0, ""), resumed
        assert rows(directory) == rows(straight)
        assert all(torch.equal(weights(directory)[name], value) for name, value in weights(straight).items())
        shutil.rmtree(directory)


def test_a_read_only_file_system_is_one_line(trials: Trials, cli: Cli, disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a run that is to be gone on with there, and for one and a sweep that are to begin."""
    for _ in trials("full disk", few=1, all=2):
        directory = disk / "run"
        with monkeypatch.context() as patch:
            at_step(patch, 7, lambda: (_ for _ in ()).throw(RuntimeError("stopped")))
            assert cli(*RUN, f"hydra.run.dir={directory}").status == 1
        before = {path: path.read_bytes() for path in directory.iterdir()}
        close_log()
        _mount("-o", "remount,ro", str(disk))
        try:
            for command in (
                (f"hydra.run.dir={directory}", "resume=true"),
                (f"hydra.run.dir={disk / 'new'}",),
                ("--multirun", "seed=0,1", f"hydra.sweep.dir={disk / 'new'}"),
            ):
                assert "Read-only file system" in one_error(cli(*RUN, *command), disk)
        finally:
            close_log()
            _mount("-o", "remount,rw", str(disk))
        assert {path: path.read_bytes() for path in directory.iterdir()} == before
        assert cli(*RUN, f"hydra.run.dir={directory}", "resume=true").status == 0
        shutil.rmtree(directory)


def test_a_sweep_is_found_again_after_the_disk_was_full(trials: Trials, cli: Cli, disk: Path) -> None:
    """By the same command, which does not say where it is."""
    (disk.parent / "outputs").symlink_to(disk)
    command = (*TINY, "--multirun", "seed=0,1")
    assert cli(*command).status == 0
    for trial in trials("full disk", few=2, all=8):
        fill(disk, trial.number % 2)  # pages: with more, all that is written again finds room
        line = one_error(cli(*command, "resume=true"), Path("outputs/sweeps"))
        assert line.startswith("error: the output directory cannot be written: [Errno 28] No space left on device")
        (disk / "filler").unlink()
    done = cli(*command, "resume=true")
    assert (done.status, done.out.count("KEPT")) == (0, 2)
    assert len(list(disk.glob("sweeps/*"))) == 1


def test_a_log_that_takes_nothing_is_an_error_with_its_path(
    trials: Trials, disk: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for trial in trials("full disk", few=1, all=2):
        path = disk / f"{trial.number}.log"
        handler = LogFile(path)
        fill(disk, trial.number)
        with pytest.raises(OSError, match=r"No space left on device") as caught:
            handler.handle(logging.makeLogRecord({"msg": "a" * 10 * PAGE}))
        assert caught.value.filename == str(path)
        (disk / "filler").unlink()
        handler.close()
        assert capfd.readouterr().err == ""
