"""The core runs where its users sit: without what Unix has and Windows has not."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torchvision.utils import save_image

import mnist_lightning
from mnist_lightning.data import synthetic
from tests.conftest import TINY, only_run

MODULES = sorted(Path(mnist_lightning.__file__).parent.rglob("*.py"))
UNIX = {"fcntl", "resource", "pwd", "grp", "termios"}

# Libraries that have Windows versions of their own are imported first; then what Windows lacks is taken away.
AS_ON_WINDOWS = """
import builtins, io, os, pathlib, signal, sys
import filelock, hydra, lightning, tensorboard, torch, torch.utils.tensorboard, torchmetrics, torchvision

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name in {unix}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

for name in {unix}:
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Missing())
for name in ("fork", "mkfifo", "chown", "getuid"):
    if hasattr(os, name):
        delattr(os, name)
for name in ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM"):
    if hasattr(signal, name):
        delattr(signal, name)

open_file = os.open
def open_no_directory(path, flags, *args, **kwargs):
    if os.path.isdir(path):
        raise PermissionError(13, "Permission denied", str(path))
    return open_file(path, flags, *args, **kwargs)
os.open = open_no_directory

exists = pathlib.Path.exists
pathlib.Path.exists = lambda path, **kwargs: not str(path).startswith("/proc") and exists(path, **kwargs)
# os.name itself decides what pathlib makes of a path; the one place that asks for it is told directly.
import mnist_lightning.files
mnist_lightning.files.SYNCS_DIRECTORIES = False

from mnist_lightning.__main__ import main
for arguments in {commands}:
    sys.argv = ["mnist_lightning", *arguments]
    try:
        main()
    except SystemExit as end:
        assert end.code == 0, (arguments, end.code)
"""


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_no_module_needs_what_windows_lacks(path: Path) -> None:
    """At its top; inside a function an alternative stands beside it."""
    for node in ast.parse(path.read_text("utf-8")).body:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [getattr(node, "module", "")]
        assert not UNIX & set(names)
    assert "os.O_" not in path.read_text("utf-8").replace("os.O_RDONLY", "").replace("os.O_RDWR", "")


def test_the_core_runs_without_what_windows_lacks(tmp_path: Path) -> None:
    image = synthetic.draw(1, seed=0)[0][0]
    save_image(torch.nn.functional.pad(image / 255, [6] * 4), tmp_path / "digit.png")
    run = "outputs/mine"
    commands = [
        ["--cfg", "job"],
        [*TINY, f"hydra.run.dir={run}"],
        [*TINY, "trainer.max_epochs=1", f"hydra.run.dir={run}", "resume=true"],
        ["leaderboard", "outputs"],
        ["predict", run, "digit.png"],
        ["summary", "model=net3"],
    ]
    code = AS_ON_WINDOWS.format(unix=sorted(UNIX), commands=json.dumps(commands))
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=os.environ, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "KEPT  outputs/mine" in done.stdout
    assert "digit.png" in done.stdout
    assert only_run(tmp_path).name == "mine"
