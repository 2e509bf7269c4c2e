"""Hours in minutes: nothing grows over many epochs of a run, or over many jobs of a sweep. Only with FAULTS=all."""

import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mnist_lightning.config.compose import compose_config
from mnist_lightning.study.sweep import Study
from mnist_lightning.training.callbacks import EpochSeed
from mnist_lightning.training.fit import run
from tests.conftest import TINY, Finished
from tests.faults.conftest import ALL, FIGURES, Trials

pytestmark = pytest.mark.skipif(not ALL, reason="a soak: FAULTS=all")
SMALL = (*TINY, "data.train_images=64", "data.test_images=20", "gate.on_miss=warn")


class Meter:
    """What the process holds, and what it has computed since, a row each time it is read."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self.cpu_s = time.process_time()

    def read(self) -> None:
        cpu_s = time.process_time()
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
        self.rows.append(
            {
                "MB": pages * os.sysconf("SC_PAGE_SIZE") / 1e6,
                "files": len(os.listdir("/proc/self/fd")),  # noqa: PTH208  # without an object for each
                "threads": threading.active_count(),
                "CPU ms": 1000 * (cpu_s - self.cpu_s),
            }
        )
        self.cpu_s = cpu_s

    def quarters(self) -> tuple[dict[str, float], dict[str, float]]:
        """Medians over the first and over the last quarter."""
        length = len(self.rows) // 4
        first, last = self.rows[1 : 1 + length], self.rows[-length:]  # the first row holds the start
        return tuple({name: statistics.median(row[name] for row in part) for name in part[0]} for part in (first, last))  # type: ignore[return-value]

    def judge(self, what: str) -> None:
        first, last = self.quarters()
        FIGURES.append(f"{what}, first and last quarter: {_text(first)}; {_text(last)}")
        assert last["MB"] <= first["MB"] + 20
        assert last["files"] <= first["files"]
        assert last["threads"] <= first["threads"]
        assert last["CPU ms"] <= 1.5 * first["CPU ms"]


def _text(row: dict[str, float]) -> str:
    return ", ".join(f"{value:.1f} {name}" for name, value in row.items())


@contextmanager
def metered(owner: type, method: str) -> Iterator[Meter]:
    """Reads the meter at every call of a method."""
    meter = Meter()
    original = getattr(owner, method)

    def read_and_go_on(*args: Any, **kwargs: Any) -> Any:
        meter.read()
        return original(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, method, read_and_go_on)
        yield meter


def test_200_epochs(tmp_path: Path, trials: Trials) -> None:
    for _ in trials("soak", few=1, all=1):
        with metered(EpochSeed, "on_train_epoch_start") as meter:
            run(compose_config(*SMALL, "trainer.max_epochs=200", "gate.within_epochs=200"), tmp_path / "run")
        assert len(meter.rows) == 200
        meter.judge("an epoch of 200")


def test_a_sweep_of_64_jobs(cli: Callable[..., Finished], trials: Trials) -> None:
    for _ in trials("soak", few=1, all=1):
        with metered(Study, "on_job_end") as meter:
            done = cli(*SMALL, "--multirun", f"seed={','.join(map(str, range(64)))}", "hydra.sweep.dir=sweep")
        assert done.status == 0, done.err
        assert len(meter.rows) == 64
        meter.judge("a job of 64")
