"""A disk that is full, over a quota or read-only: one line with the path, whole files, a run that goes on.

TensorBoard's own thread writes its events, and reports by itself what it cannot write: here it finds room.
"""

import logging
import logging.config
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mnist_lightning.config.compose import compose_config
from mnist_lightning.files import LogFile
from mnist_lightning.training.fit import run
from tests.conftest import TINY, Finished, assert_same_weights, at_call, read_rows, read_verdict, read_weights, throw
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


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing happened to."""
    directory = tmp_path_factory.mktemp("straight")
    run(compose_config(*RUN), directory)
    return directory


def assert_whole_and_goes_on(cli: Cli, directory: Path, straight: Path) -> None:
    """What a run left is the beginning of what it leaves undisturbed, and with room it ends the same."""
    assert not list(directory.glob("*.part*"))
    assert read_rows(directory) == read_rows(straight)[: len(read_rows(directory))]
    for path in directory.glob("*.ckpt"):
        read_weights(path)
    assert read_verdict(directory)["status"] == "error"
    resumed = cli(*RUN, f"hydra.run.dir={directory}", "resume=true")
    assert (resumed.status, resumed.err) == (0, ""), resumed
    assert read_rows(directory) == read_rows(straight)
    assert_same_weights(directory, straight)


@pytest.mark.slow
def test_a_file_that_may_not_grow_is_one_line(cli: Cli, tmp_path: Path, straight: Path) -> None:
    """As over a quota, in the second of three epochs."""
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    with at_call(8, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM * PAGE, unlimited[1]))):
        try:
            done = cli(*RUN, f"hydra.run.dir={tmp_path / 'run'}")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert "File too large" in one_error(done, tmp_path / "run")
    assert_whole_and_goes_on(cli, tmp_path / "run", straight)


@pytest.mark.slow
def test_a_full_disk_is_one_line(trials: Trials, cli: Cli, disk: Path, straight: Path) -> None:
    for trial in trials("full disk", few=2, all=20):
        directory = disk / str(trial.number)
        with at_call(trial.rng.randint(1, STEPS), lambda: fill(disk, ROOM)):
            done = cli(*RUN, f"hydra.run.dir={directory}")
        (disk / "filler").unlink(missing_ok=True)
        assert "No space left on device" in one_error(done, directory)
        assert_whole_and_goes_on(cli, directory, straight)


@pytest.mark.slow
def test_a_read_only_file_system_is_one_line(cli: Cli, disk: Path, straight: Path) -> None:
    """For a run that is to be gone on with there, and for one that is to begin."""
    directory = disk / "run"
    with at_call(8, lambda: throw(RuntimeError("stopped"))):
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
