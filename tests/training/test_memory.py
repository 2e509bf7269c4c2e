"""Freed memory stays with the process: the page faults of a training step go away."""

import platform
import subprocess
import sys

import pytest

from mnist_lightning.training import memory

FAULTS = """
import resource, sys, torch
from mnist_lightning.training.memory import keep_freed
if sys.argv[1] == "keep":
    assert keep_freed()
def step():
    torch.ones(20_000_000)  # 80 MB, freed at once
for _ in range(5):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    step()
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // 20)
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
def test_a_step_faults_no_pages_in_again() -> None:
    def faults(how: str) -> int:
        done = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True)
        return int(done.stdout)

    # Now and then a small block lands in the freed one, and the heap grows once more.
    assert faults("keep") < faults("default") / 4


def test_elsewhere_nothing_is_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda _: pytest.fail("a C library was opened"))
    assert memory.keep_freed() is False
