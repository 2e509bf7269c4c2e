"""The core runs where its users sit: without what Unix has and Windows has not."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torchvision.utils import save_image

import mnist_lightning
from mnist_lightning.data import synthetic
from tests.conftest import TINY, only_run, read_verdict

UNIX = {"fcntl", "resource", "pwd", "grp", "termios"}

# Libraries have Windows versions of their own: they are imported first. `os.name` stays as it is, for pathlib.
AS_ON_WINDOWS = """
import os, signal, sys
import filelock, hydra, torch.utils.tensorboard, torchvision
import lightning.pytorch.trainer.connectors.signal_connector as signal_connector

signal_connector._IS_WINDOWS = True
signal.valid_signals = lambda: {{signal.SIGINT, signal.SIGTERM}}
for module, names in ((os, "fork getuid mkfifo"), (signal, "SIGHUP SIGKILL SIGUSR1 SIGALRM")):
    for name in names.split():
        delattr(module, name)
for name in {unix}:
    sys.modules.pop(name, None)

def no_proc(path):
    if str(path).startswith("/proc"):
        raise FileNotFoundError(2, "No such file or directory", path)

def as_on_windows(event, call):
    if event == "import" and call[0] in {unix}:
        raise ModuleNotFoundError(f"No module named {{call[0]!r}}", name=call[0])
    if event == "open" and isinstance(call[0], (str, os.PathLike)):
        no_proc(call[0])
        if os.path.isdir(call[0]):
            raise PermissionError(13, "Permission denied", call[0])

stat = os.stat
os.stat = lambda path, **how: no_proc(path) or stat(path, **how)
sys.addaudithook(as_on_windows)
from mnist_lightning.__main__ import main

for arguments in {commands}:
    sys.argv = ["mnist_lightning", *arguments]
    try:
        main()
    except SystemExit as end:
        assert end.code == 0, (arguments, end.code)
    if arguments[-1] == "hydra.run.dir={killed}":
        os.remove("{killed}/verdict.json")
"""


def test_no_module_needs_what_windows_lacks() -> None:
    """Nothing of Unix's alone is imported at the top of a module; inside a function an alternative stands beside it."""
    for path in Path(mnist_lightning.__file__).parent.rglob("*.py"):
        text = path.read_text("utf-8")
        for node in ast.parse(text).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [getattr(node, "module", "")]
            assert not UNIX & set(names), path
        assert "fcntl" not in text, path
        assert "os.O_" not in text.replace("os.O_RDONLY", "").replace("os.O_RDWR", ""), path


@pytest.mark.slow
def test_the_core_runs_without_what_windows_lacks(tmp_path: Path) -> None:
    """Compose, train, go on with a run that was killed before its verdict, compare, predict."""
    image = synthetic.draw(1, seed=0)[0][0]
    save_image(torch.nn.functional.pad(image / 255, [6] * 4), tmp_path / "digit.png")
    directory = "outputs/mine"
    train = [*TINY, f"hydra.run.dir={directory}"]
    use = [["leaderboard", "outputs"], ["predict", directory, "digit.png"]]
    commands = [["--cfg", "job"], train, [*train, "resume=true"], *use]
    code = AS_ON_WINDOWS.format(unix=sorted(UNIX), commands=commands, killed=directory)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("digit.png") == 1
    assert read_verdict(only_run(tmp_path))["epochs"] == 1
    assert not list(tmp_path.rglob("set-aside-*"))  # which a run that starts over leaves
