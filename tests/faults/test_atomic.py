"""Every file is whole or not there: one helper writes them all; interrupted, it leaves the old file and nothing beside it."""

import ast
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import mnist_lightning
from mnist_lightning import files
from mnist_lightning.config.compose import compose_config
from mnist_lightning.evaluation.run_directories import LOCK
from mnist_lightning.training.checkpoints import WholeCheckpoints
from mnist_lightning.training.fit import run
from tests.conftest import TINY
from tests.faults.conftest import Trials

PACKAGE = Path(mnist_lightning.__file__).parent

# --- one helper ---------------------------------------------------------------------------------------------------------

WRITES = {"write_text", "write_bytes", "rename", "mkstemp", "NamedTemporaryFile", "save_checkpoint", "to_csv"}
OPENS = {"open", "fdopen", "GzipFile", "ZipFile"}
SAVES = {"save", "savefig"}  # of torch, onnx, matplotlib: into memory, or to the name that `replacing` gives
INTO = {"part", "file", "content"}
ELSEWHERE = {
    ("contestants.py", "open"): "the null device",
    ("download.py", "open"): "the unfinished file, locked for one process, which `files.put` gives its name",
    ("download.py", "fdopen"): "the same",
    ("resume.py", "rename"): "sets aside what is written already",
    ("lock.py", "open"): "the lock, which has no contents to lose",
}


def writers(path: Path) -> list[tuple[str, str]]:
    """The calls in a module that write, or move, a file by themselves."""
    found = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        on = getattr(getattr(node.func, "value", None), "id", "")
        arguments = [*node.args, *(keyword.value for keyword in node.keywords)]
        texts = [a.value for a in arguments if isinstance(a, ast.Constant) and isinstance(a.value, str)]
        for_writing = on == "os" or any(set(text) <= set("rwaxbt+") and set(text) & set("wax+") for text in texts)
        if (
            name in WRITES
            or (name in OPENS and for_writing and on != "part")
            or (name == "replace" and (on == "os" or len(arguments) == 1))  # of a path; a string's takes two
            or (name in SAVES and node.args and not {getattr(a, "id", "") for a in node.args} & INTO)
        ):
            found.append((path.name, name))
    return found


def test_no_other_module_writes_by_itself() -> None:
    modules = [path for path in PACKAGE.rglob("*.py") if path.name != "files.py"]
    assert {call for path in modules for call in writers(path)} == set(ELSEWHERE)


def test_the_search_finds_what_it_looks_for(tmp_path: Path) -> None:
    lines = ["path.write_text('a')", "path.open('w')", "open(path, mode='ab')", "part.replace(path)", "os.replace(a, b)"]
    lines += ["torch.save(state, directory / 'a')", "os.open(path, flags)", "tempfile.mkstemp()"]
    for line in lines:
        (tmp_path / "a.py").write_text(line)
        assert writers(tmp_path / "a.py"), line


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
        error = trial.rng.choice(
            [OSError(trial.rng.choice(files.NAMELESS), "no room"), RuntimeError("bad"), KeyboardInterrupt()]
        )

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


def test_a_killed_writer_leaves_a_whole_file(trials: Trials, tmp_path: Path) -> None:
    for trial in trials("atomic writes", few=3, all=30):
        path = tmp_path / str(trial.number) / "file"
        path.parent.mkdir()
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)])
        while not path.exists():
            time.sleep(0.01)
        time.sleep(trial.rng.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.wait()
        content = path.read_bytes()
        assert content == content[:1] * 300_000
        files.remove_parts(path.parent)
        assert list(path.parent.iterdir()) == [path]


# --- on disk ------------------------------------------------------------------------------------------------------------


def test_a_checkpoint_is_written_beside_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not moved there from the folder for temporary files: a move to another file system is a copy."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "nowhere"))
    WholeCheckpoints().save_checkpoint({"a": torch.ones(3)}, tmp_path / "a.ckpt")
    assert torch.load(tmp_path / "a.ckpt", weights_only=True)["a"].tolist() == [1, 1, 1]
    assert [path.name for path in tmp_path.iterdir()] == ["a.ckpt"]


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
    # But for TensorBoard's events, which its own writer hands to the operating system.
    left = {path.name: path.stat() for path in tmp_path.iterdir() if path.name != LOCK and "tfevents" not in path.name}
    assert {"config.yaml", "environment.json", "metrics.csv", "best.ckpt", "last.ckpt", "verdict.json"} <= set(left)
    for name, status in left.items():
        assert synced.get(status.st_ino) == (status.st_size, status.st_mtime_ns), f"{name} has changed since it was synced"
    # The verdict after all others, and the directory that holds the names after the verdict.
    assert list(synced)[-2:] == [left["verdict.json"].st_ino, tmp_path.stat().st_ino]
