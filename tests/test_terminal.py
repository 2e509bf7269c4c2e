"""What commands say: readers who leave early, and lines that a terminal does not obey."""

import subprocess
import sys
from pathlib import Path

import pytest

from mnist_lightning.terminal import complain
from tests.conftest import TINY, leave_run, only_run, read_verdict, spawn


def test_an_error_is_one_printable_line_whatever_is_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    complain("a\x1b[31m\r\u202eb.png: is no picture\nsecond")
    assert capsys.readouterr().err == "error: a\\x1b[31m\\r\\u202eb.png: is no picture\nerror: second\n"


@pytest.mark.slow
@pytest.mark.parametrize("command", [("--help",), ("leaderboard", ".")])
def test_a_reader_who_leaves_early_disturbs_no_command(tmp_path: Path, command: tuple[str, ...]) -> None:
    """As `| head -n 0` does: the pipe has no reader when the command writes, and when its streams are closed."""
    leave_run(tmp_path / "run")
    process = spawn(*command, cwd=tmp_path)
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    _, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")


@pytest.mark.slow
def test_a_run_whose_reader_leaves_trains_to_its_end(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mnist_lightning", *TINY, "trainer.max_epochs=2"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("epoch 1/2")
    process.stdout.close()
    process.stdout = None
    _, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    verdict = read_verdict(only_run(tmp_path))
    assert (verdict["status"], verdict["epochs"]) == ("passed", 2)
