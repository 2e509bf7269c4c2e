"""What a sweep costs (`python -m mnist_lightning benchmark table=sweep`): jobs one after another against side by side, and the
time around the training by the number of jobs. Every sweep is a whole command in a process of its own, with all it imports.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnist_lightning.evaluation.run_directories import find_runs

NUM_JOBS = 4  # of the first table
# Short jobs of the second one: what is small is the data, nothing else.
SHORT = ("data=synthetic", "data.train_images=320", "data.test_images=100", "trainer.max_epochs=1")


@dataclass(frozen=True)
class Side:
    """One way to run the jobs of a sweep."""

    name: str
    jobs_at_a_time: int
    threads: int
    """Of each job."""

    @property
    def launcher(self) -> list[str]:
        if self.jobs_at_a_time == 1:
            return []
        return ["hydra/launcher=joblib", f"hydra.launcher.n_jobs={self.jobs_at_a_time}"]


THROUGHPUT = (Side("one after another", 1, 2), Side("joblib", 2, 1), Side("joblib", 4, 1))
OVERHEAD = (Side("basic", 1, 1), Side("joblib", 2, 1))


def sweep_seconds(side: Side, overrides: Sequence[str], num_jobs: int) -> tuple[float, float]:
    """Wall time of a sweep over that many seeds, and the sum of what its jobs say of their training and evaluation.

    Raises:
        RuntimeError: A job did not end as a result; holds what the sweep printed.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "mnist_lightning", "--multirun", *overrides, *side.launcher, "gate.on_miss=warn"]
        command += [f"seed=range({num_jobs})", f"hydra.sweep.dir={folder}"]
        environment = os.environ | {"OMP_NUM_THREADS": str(side.threads)}
        start = time.perf_counter()
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - start
        finished = [run.verdict["seconds"] for run in find_runs([Path(folder)]) if run.finished]
    if len(finished) != num_jobs:
        raise RuntimeError(f"{len(finished)} of {num_jobs} jobs finished\n{done.stdout}{done.stderr}")
    return seconds, sum(finished)


def measure_sweeps(overrides: Sequence[str], rounds: int, jobs: int) -> dict[str, Any]:
    """Runs all rounds of both tables, interleaved, so that what else the machine does falls on all alike.

    Args:
        overrides: Of the jobs of the first table.
        rounds: Sweeps of each kind.
        jobs: Size of the largest sweep of the second table; the others are the powers of two below.

    Returns:
        Seconds of every sweep; of the second table with the time that its jobs trained.
    """
    sizes = [2**power for power in range(jobs.bit_length()) if 2**power < jobs] + [jobs]
    throughput: list[list[float]] = [[] for _ in THROUGHPUT]
    overhead: list[list[list[tuple[float, float]]]] = [[[] for _ in sizes] for _ in OVERHEAD]
    for _ in range(rounds):
        for times, side in zip(throughput, THROUGHPUT, strict=True):
            times.append(sweep_seconds(side, overrides, NUM_JOBS)[0])
        for i, size in enumerate(sizes):
            for measured, side in zip(overhead, OVERHEAD, strict=True):
                measured[i].append(sweep_seconds(side, (*overrides, *SHORT), size))
    return {"rounds": rounds, "throughput": throughput, "sizes": sizes, "overhead": overhead}


def sweeps_text(report: dict[str, Any]) -> str:
    """Both tables in Markdown: medians over the rounds."""
    rounds = report["rounds"]
    lines = [f"{NUM_JOBS} jobs, {rounds} interleaved rounds:", ""]
    lines += ["| jobs | at a time | threads each | seconds | lowest–highest | throughput |", "| --- " * 6 + "|"]
    first = report["throughput"][0]
    for side, seconds in zip(THROUGHPUT, report["throughput"], strict=True):
        # Round by round: neighbours in time meet the same machine.
        ratio = statistics.median(one / other for one, other in zip(first, seconds, strict=True))
        spread = f"{min(seconds):.1f}–{max(seconds):.1f}"
        head = f"| {side.name} | {side.jobs_at_a_time} | {side.threads} "
        lines.append(f"{head}| {statistics.median(seconds):.1f} | {spread} | {ratio:.2f} |")
    lines += ["", f"Short jobs, {rounds} rounds; overhead: a worker's time that is not training or evaluation, per job:", ""]
    heads = [f"{side.name} ({side.jobs_at_a_time} at a time), s | overhead, s/job" for side in OVERHEAD]
    lines += [f"| jobs | {' | '.join(heads)} |", "| --- " * (1 + 2 * len(OVERHEAD)) + "|"]
    for i, size in enumerate(report["sizes"]):
        cells = [str(size)]
        for side, measured in zip(OVERHEAD, report["overhead"], strict=True):
            workers = min(side.jobs_at_a_time, size)
            around = statistics.median((wall * workers - trained) / size for wall, trained in measured[i])
            cells += [f"{statistics.median(wall for wall, _ in measured[i]):.1f}", f"{around:.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
