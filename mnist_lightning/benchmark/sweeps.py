"""What a sweep costs: jobs one after another against side by side, and the time around the training by the number of jobs."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from mnist_lightning.benchmark.processes import run_command
from mnist_lightning.evaluation.run_directories import find_runs

NUM_JOBS = 4  # of the first table
# Short jobs of the second one: what is small is the data, nothing else.
SHORT = ("data=synthetic", "data.train_images=320", "data.test_images=100", "trainer.max_epochs=1")


class Side(NamedTuple):
    """One way to run the jobs of a sweep: one after another, or by joblib."""

    at_a_time: int
    threads: int  # of each job

    @property
    def launcher(self) -> list[str]:
        return ["hydra/launcher=joblib", f"hydra.launcher.n_jobs={self.at_a_time}"] if self.at_a_time > 1 else []


THROUGHPUT = (Side(1, 2), Side(2, 1), Side(4, 1))
OVERHEAD = (Side(1, 1), Side(2, 1))


def sweep_seconds(side: Side, overrides: Sequence[str], jobs: int) -> dict[str, float]:
    """Wall time of a sweep over that many seeds, and the sum of what its jobs say of their training and evaluation."""
    with tempfile.TemporaryDirectory() as folder:
        sweep = [f"seed=range({jobs})", f"hydra.sweep.dir={folder}", "gate.on_miss=warn"]
        words = ["--multirun", *overrides, *side.launcher, *sweep]
        seconds, _, output = run_command(*words, OMP_NUM_THREADS=str(side.threads))
        trained = [run.verdict["seconds"] for run in find_runs([Path(folder)]) if run.finished]
    if len(trained) != jobs:
        raise RuntimeError(f"{len(trained)} of {jobs} jobs finished\n{output}")
    return {"seconds": seconds, "trained": sum(trained)}


def measure_sweeps(overrides: Sequence[str], rounds: int, jobs: int) -> dict[str, Any]:
    """Every sweep of both tables, interleaved, so that what else the machine does falls on all alike.

    Those of the second table are of powers of two jobs, up to `jobs`.
    """
    sizes = [2**power for power in range(jobs.bit_length()) if 2**power < jobs] + [jobs]
    kinds = [("throughput", side, NUM_JOBS, overrides) for side in THROUGHPUT]
    kinds += [("overhead", side, size, (*overrides, *SHORT)) for size in sizes for side in OVERHEAD]
    sweeps = [
        {"table": table, "round": number, "jobs": size, **side._asdict(), **sweep_seconds(side, words, size)}
        for number in range(rounds)
        for table, side, size, words in kinds
    ]
    return {"rounds": rounds, "sweeps": sweeps}


def sweeps_text(report: dict[str, Any]) -> str:
    """Both tables in Markdown: medians over the rounds."""
    sweeps = pd.DataFrame(report["sweeps"])
    by_table = dict(iter(sweeps.groupby("table")))
    # Round by round: neighbours in time meet the same machine.
    seconds = by_table["throughput"].pivot(index="round", columns=["at_a_time", "threads"], values="seconds")
    throughput = seconds.rdiv(seconds[THROUGHPUT[0]], axis=0)
    columns = {"seconds": seconds.median(), "lowest": seconds.min(), "highest": seconds.max()}
    first = pd.DataFrame(columns | {"throughput": throughput.median()}).reset_index()
    short = by_table["overhead"]
    workers = short[["at_a_time", "jobs"]].min(axis=1)
    short = short.assign(overhead=(short["seconds"] * workers - short["trained"]) / short["jobs"])
    second = short.groupby(["jobs", "at_a_time"])[["seconds", "overhead"]].median().reset_index()
    return "\n\n".join(
        [
            f"{NUM_JOBS} jobs, {report['rounds']} interleaved rounds:",
            first.astype(object).to_markdown(index=False, floatfmt=("", "", ".1f", ".1f", ".1f", ".2f")),
            f"Short jobs, {report['rounds']} rounds; overhead: a worker's time that is not training or evaluation, s per job:",
            second.astype(object).to_markdown(index=False, floatfmt=("", "", ".1f", ".2f")),
        ]
    )
