"""Hours in minutes: nothing grows over many epochs of a run, or over many jobs of a sweep. Only with FAULTS=all."""

import itertools
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mnist_lightning.config.compose import compose_config
from mnist_lightning.study.sweep import Study
from mnist_lightning.training.callbacks import EpochBounds
from mnist_lightning.training.fit import run
from tests.conftest import TINY, Finished
from tests.faults.conftest import ALL, FIGURES

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not ALL or sys.platform != "linux", reason="a soak: FAULTS=all, and /proc to measure by"),
]
SMALL = (*TINY, "data.train_images=64", "data.test_images=20", "gate.on_miss=warn")
ALLOWED: dict[str, Callable[[float], float]] = {
    "MB": lambda first: first + 20,
    "files": lambda first: first,
    "threads": lambda first: first,
    "CPU ms": lambda first: 1.5 * first,
}


def metered(patch: pytest.MonkeyPatch, owner: type, method: str) -> list[dict[str, float]]:
    """Notes at every call of a method what the process holds and has computed."""
    rows: list[dict[str, float]] = []
    original = getattr(owner, method)

    def note_and_go_on(*args: Any, **kwargs: Any) -> Any:
        megabytes = int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
        files = len(os.listdir("/proc/self/fd"))  # noqa: PTH208  # without an object for each
        cpu_ms = 1000 * time.process_time()
        rows.append({"MB": megabytes, "files": files, "threads": threading.active_count(), "CPU ms": cpu_ms})
        return original(*args, **kwargs)

    patch.setattr(owner, method, note_and_go_on)
    return rows


def judge(rows: list[dict[str, float]], what: str) -> None:
    """Compares medians over the first and over the last quarter."""
    spent = [after | {"CPU ms": after["CPU ms"] - before["CPU ms"]} for before, after in itertools.pairwise(rows)]
    length = len(spent) // 4
    for name, allowed in ALLOWED.items():
        first, last = (statistics.median(row[name] for row in part) for part in (spent[:length], spent[-length:]))
        FIGURES.append(f"{what}, {name}, first and last quarter: {first:.1f}, {last:.1f}")
        assert last <= allowed(first), name


def test_200_epochs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = metered(monkeypatch, EpochBounds, "on_train_epoch_start")
    run(compose_config(*SMALL, "trainer.max_epochs=200", "gate.within_epochs=200"), tmp_path / "run")
    judge(rows, "an epoch of 200")


def test_a_sweep_of_64_jobs(cli: Callable[..., Finished], monkeypatch: pytest.MonkeyPatch) -> None:
    rows = metered(monkeypatch, Study, "on_job_end")
    done = cli("--multirun", *SMALL, f"seed={','.join(map(str, range(64)))}", "hydra.sweep.dir=sweep")
    assert (done.status, len(rows)) == (0, 64), done.err
    judge(rows, "a job of 64")
