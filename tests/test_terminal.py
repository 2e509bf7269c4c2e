"""What commands say: readers who leave early, and lines that a terminal does not obey."""

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mnist_lightning.terminal import complain
from tests.conftest import TINY, finish, leave_run, only_run, read_verdict, spawn


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


@pytest.mark.slow
@pytest.mark.parametrize("output", ["full", "closed", "ascii"])
def test_a_run_does_not_depend_on_what_becomes_of_its_output(tmp_path: Path, output: str) -> None:
    """In an environment as a notebook's cell passes it on: a drawing backend that is not installed here."""
    notebook = {"MPLBACKEND": "module://nowhere.backend_inline", "PYTHONIOENCODING": "ascii:strict", "LC_ALL": "C"}
    command = " ".join([shlex.quote(sys.executable), "-m mnist_lightning", *TINY, "pictures=last"])
    redirected = {"full": "> /dev/full", "closed": ">&- 2>&-", "ascii": "> out.txt"}[output]
    done = subprocess.run(f"{command} {redirected}", shell=True, cwd=tmp_path, env=os.environ | notebook, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert read_verdict(only_run(tmp_path))["passed"]
    if output == "ascii":
        assert (tmp_path / "out.txt").read_text("ascii").startswith("epoch 1/1 ")


@pytest.mark.slow
def test_a_command_that_only_prints_fails_where_nothing_can_be_printed(tmp_path: Path) -> None:
    leave_run(tmp_path / "run")
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "mnist_lightning", "leaderboard", "."]
        done = subprocess.run(command, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "error: OSError: the output could not be written: No space left on device\n")


@pytest.mark.slow
def test_each_line_goes_out_as_it_is_printed(tmp_path: Path) -> None:
    with spawn(*TINY, "trainer.max_epochs=15", "data.train_images=3000", cwd=tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("epoch  1/15")
        assert process.poll() is None
        process.send_signal(signal.SIGHUP)
        assert finish(process, timeout_s=60).status == 129
