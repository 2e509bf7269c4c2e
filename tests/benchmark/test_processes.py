"""What a benchmark starts ends with it, even when it is killed."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from mnist_lightning.benchmark import processes
from tests.conftest import TINY, read_verdict

# A contestant whose round takes ten minutes, and a command that trains for as long.
ROUND = """
import pathlib, sys, time
from mnist_lightning.benchmark.processes import own_process

def work(path):
    for beat in range(6000):
        path.write_text(str(beat))
        time.sleep(0.1)

if __name__ == "__main__":
    with own_process() as process:
        process.submit(work, pathlib.Path(sys.argv[1]) / "beat").result()
"""
COMMAND = """
import sys
from mnist_lightning.benchmark.processes import run_command

run_command(*sys.argv[2:], f"hydra.run.dir={sys.argv[1]}", "trainer.max_epochs=1000", "gate.within_epochs=1000")
"""


def wait_for_file(path: Path, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end
        time.sleep(0.1)


def kill_once(path: Path, script: str, *words: str) -> None:
    """Runs a script with the folder of the path as its first word, and kills it when the path exists."""
    path.parent.mkdir()
    file = path.parent.parent / "script.py"  # a file, which the script's processes import
    file.write_text(script, "utf-8")
    parent = subprocess.Popen([sys.executable, file, path.parent, *words])
    try:
        wait_for_file(path, 120)
    finally:
        parent.kill()
        parent.wait()


@pytest.mark.slow
def test_a_contestant_in_a_round_ends_with_its_killed_parent(tmp_path: Path) -> None:
    beat = tmp_path / "work" / "beat"
    kill_once(beat, ROUND)
    time.sleep(5)
    before = beat.read_text()
    time.sleep(1)
    assert beat.read_text() == before


@pytest.mark.slow
def test_a_command_ends_in_order_with_its_killed_parent(tmp_path: Path) -> None:
    run = tmp_path / "run"
    kill_once(run / "last.ckpt", COMMAND, *TINY)
    wait_for_file(run / "verdict.json", 30)
    assert read_verdict(run)["status"] == "interrupted"


def test_a_process_keeps_its_state_and_raises_here() -> None:
    with processes.own_process() as process:
        pids = {process.submit(processes.os.getpid).result() for _ in range(2)}
        with pytest.raises(ZeroDivisionError):
            process.submit(divmod, 1, 0).result()
    assert len(pids) == 1


def test_a_command_is_timed_and_its_output_kept() -> None:
    seconds, status, output = processes.run_command("--help")
    assert (0 < seconds < 60, status) == (True, 0)
    assert "python -m mnist_lightning" in output
    assert sys.platform == "win32" or 50e6 < processes.peak_bytes() < 50e9
