"""Every file is whole or not there: one helper writes them all; interrupted, it leaves the old file and nothing beside it."""

import errno
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import mnist_lightning
from mnist_lightning import files
from mnist_lightning.config.compose import compose_config
from mnist_lightning.training.checkpoints import WholeCheckpoints
from mnist_lightning.training.fit import run
from tests.conftest import TINY
from tests.faults.conftest import Trials

PACKAGE = Path(mnist_lightning.__file__).parent

# --- one helper ---------------------------------------------------------------------------------------------------------

WRITING = re.compile(
    r"\.write_text\(|\.write_bytes\(|\.rename\(|\.to_csv\((?!\)|index)|mkstemp|torch\.save\("
    r"|[(.]open\([^)]*[\"'][wax]b?\+?[\"']"
)
ELSEWHERE = {
    "contestants.py": "the null device",
    "checkpoints.py": "into memory",
    "download.py": "the part of a file that `files.replacing` puts in place",
    "resume.py": "sets aside what is written already",
    "worker.py": "what a trial prints, added to its log as a logger does",
}


def test_no_other_module_writes_by_itself() -> None:
    modules = [path for path in PACKAGE.rglob("*.py") if path.name != "files.py"]
    assert {path.name for path in modules if WRITING.search(path.read_text("utf-8"))} <= set(ELSEWHERE)


# --- interrupted --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("old", [b"old", None], ids=["replaced", "new"])
def test_a_failure_leaves_the_old_file_and_nothing_beside_it(
    trials: Trials, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: bytes | None
) -> None:
    for trial in trials("atomic writes", few=12, all=100):
        path = tmp_path / f"{trial.number}.ckpt"
        if old is not None:
            path.write_bytes(old)
        before = sorted(tmp_path.iterdir())
        error = trial.rng.choice([OSError(errno.ENOSPC, "no room"), RuntimeError("bad"), KeyboardInterrupt()])

        def fail(*args: object, error: BaseException = error) -> None:
            raise error

        with monkeypatch.context() as patch, pytest.raises(type(error)) as caught:  # noqa: PT012
            where = trial.rng.choice(["body", "write_bytes", "fsync", "replace"])
            if where in ("write_bytes", "replace"):
                patch.setattr(Path, where, fail)
            elif where == "fsync":
                patch.setattr(os, "fsync", fail)
            with files.replacing(path) as part:
                with part.open("wb") as file:
                    file.write(b"n" * trial.rng.randrange(100_000))
                part.write_bytes(b"new")
                if where == "body":
                    fail()
        assert sorted(tmp_path.iterdir()) == before
        assert (path.read_bytes() if path.exists() else None) == old
        if isinstance(caught.value, OSError):
            assert caught.value.filename == str(path)


WRITER = """
import sys
from pathlib import Path
from mnist_lightning import files
for version in range(1_000_000):
    files.write(Path(sys.argv[1]), f"{version % 10}" * 300_000)
"""


@pytest.mark.slow
def test_a_killed_writer_leaves_a_whole_file(trials: Trials, tmp_path: Path) -> None:
    for trial in trials("atomic writes", few=3, all=30):
        path = tmp_path / str(trial.number) / "file"
        path.parent.mkdir()
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)])
        while not path.exists():
            time.sleep(0.01)
        time.sleep(trial.rng.uniform(0, 0.3))
        process.kill()
        process.wait()
        content = path.read_bytes()
        assert content == content[:1] * 300_000
        files.remove_parts(path.parent)
        assert list(path.parent.iterdir()) == [path]


def test_what_no_run_writes_is_not_read(tmp_path: Path) -> None:
    """A pipe would be waited for, and a device never ends."""
    (tmp_path / "zeros").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "large").open("wb") as file:
        file.truncate(files.MAX_BYTES + 1)
    for name in ("zeros", "pipe", "large"):
        with pytest.raises(ValueError, match=rf"{name} is no regular file of at most 10,000,000 bytes"):
            files.read_text(tmp_path / name)


# --- on disk ------------------------------------------------------------------------------------------------------------


def test_a_checkpoint_is_written_beside_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not moved there from the folder for temporary files: a move to another file system is a copy."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "nowhere"))
    WholeCheckpoints().save_checkpoint({"a": torch.ones(3)}, tmp_path / "a.ckpt")
    assert torch.load(tmp_path / "a.ckpt", weights_only=True)["a"].tolist() == [1, 1, 1]
    assert [path.name for path in tmp_path.iterdir()] == ["a.ckpt"]


def test_where_directories_are_not_synced_files_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def open_no_directory(path: Path, flags: int) -> int:
        if path.is_dir():
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path, flags)

    monkeypatch.setattr(os, "open", open_no_directory)
    files.write(tmp_path / "a", "text")
    assert files.read_text(tmp_path / "a") == "text"


def test_a_run_that_says_how_it_ended_has_its_files_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: dict[int, tuple[int, int]] = {}
    real = os.fsync

    def fsync(descriptor: int) -> None:
        real(descriptor)
        status = os.fstat(descriptor)
        synced.pop(status.st_ino, None)
        synced[status.st_ino] = (status.st_size, status.st_mtime_ns)

    monkeypatch.setattr(os, "fsync", fsync)
    run(compose_config(*TINY), tmp_path)
    left = {path.name: path.stat() for path in tmp_path.iterdir()}
    assert {"config.yaml", "environment.json", "metrics.csv", "best.ckpt", "last.ckpt", "verdict.json"} < set(left)
    written = {name: status for name, status in left.items() if not name.startswith(("events.", "."))}  # TensorBoard's own
    for name, status in written.items():
        assert synced.get(status.st_ino) == (status.st_size, status.st_mtime_ns), f"{name} has changed since it was synced"
    # The verdict after all others, and the directory that holds the names after the verdict.
    assert list(synced)[-2:] == [left["verdict.json"].st_ino, tmp_path.stat().st_ino]
