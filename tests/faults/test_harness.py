"""The harness itself: a trial that fails names the command that repeats it, with the same random numbers."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TEST = """
def test_draws(trials):
    for trial in trials("harness", few=3, all=5):
        draw = trial.rng.random()
        assert trial.number < 2, f"drew {draw}"
"""


def _run(cwd: Path, **env: str) -> str:
    flags = ["-p", "tests.faults.conftest", "-c", os.devnull, "--rootdir", str(cwd)]
    outer = {name: value for name, value in os.environ.items() if not name.startswith(("FAULT", "PYTEST_XDIST"))}
    env = outer | {"PYTHONPATH": str(Path(__file__).parents[2])} | env
    command = [sys.executable, "-m", "pytest", *flags, "test_drawn.py"]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False).stdout


@pytest.mark.slow
def test_a_failed_trial_can_be_repeated_alone(tmp_path: Path) -> None:
    (tmp_path / "test_drawn.py").write_text(TEST)
    first = _run(tmp_path, FAULT_SEED="7", FAULTS="all")
    assert re.search(r"harness +3 trials +1 failed", first)  # 0 and 1 pass, 2 fails
    assert "again: FAULT_SEED=7 FAULT_TRIAL=2 python -m pytest" in first
    alone = _run(tmp_path, FAULT_SEED="7", FAULT_TRIAL="2")
    drawn = re.compile(r"drew (0\.\d+)")
    assert drawn.findall(first)[0] == drawn.findall(alone)[0]
