"""What a sweep costs as it grows: its jobs one after another, side by side, and on Ray where that is installed."""

import itertools
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd

from mnist_lightning.benchmark.processes import run_command
from mnist_lightning.evaluation.run_directories import find_runs
from mnist_lightning.terminal import show

WAYS = {"one after another": ["sweep.jobs=1"], "side by side": [], "on Ray": ["hydra/launcher=ray"]}
FIRST = "one after another"  # what the others are compared with


def sweep_seconds(overrides: Sequence[str], jobs: int) -> dict[str, float]:
    """Wall time of a sweep over that many seeds, and the sum of what its jobs say of their training and evaluation."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["--multirun", *overrides, f"seed=range({jobs})", f"hydra.sweep.dir={folder}", "gate.on_miss=warn"]
        seconds, _, output = run_command(*words, OMP_NUM_THREADS="")  # each way has its own number of threads
        trained = [run.verdict["seconds"] for run in find_runs([Path(folder)]) if run.finished]
    if len(trained) != jobs:
        raise RuntimeError(f"{len(trained)} of {jobs} jobs finished\n{output}")
    return {"seconds": seconds, "trained": sum(trained)}


def measure_sweeps(overrides: Sequence[str], rounds: int, jobs: int) -> dict[str, Any]:
    """Sweeps of powers of two jobs, up to `jobs`, interleaved, so that what else the machine does falls on all alike."""
    sizes = [2**power for power in range(jobs.bit_length()) if 2**power < jobs] + [jobs]
    ways = {name: words for name, words in WAYS.items() if name != "on Ray" or find_spec("ray")}
    sweeps = []
    for number, size, (way, words) in itertools.product(range(rounds), sizes, ways.items()):
        sweeps.append({"round": number, "jobs": size, "way": way, **sweep_seconds([*overrides, *words], size)})
        show(f"{size} jobs, {way}: {sweeps[-1]['seconds']:.1f} s")  # a whole table takes an hour
    return {"rounds": rounds, "sweeps": sweeps}


def sweeps_text(report: dict[str, Any]) -> str:
    """The table in Markdown: medians over the rounds."""
    sweeps = pd.DataFrame(report["sweeps"])
    seconds = sweeps.pivot(index=["round", "jobs"], columns="way", values="seconds")[list(dict.fromkeys(sweeps.way))]
    # Round by round: neighbours in time meet the same machine.
    faster = seconds.rdiv(seconds[FIRST], axis=0).drop(columns=FIRST).add_suffix(", times as fast")
    table = seconds.add_suffix(", s").join(faster).groupby("jobs").median().reset_index()
    around = (sweeps.seconds - sweeps.trained)[sweeps.way == FIRST] / sweeps.jobs
    table["not training, s/job"] = table.jobs.map(around.groupby(sweeps.jobs).median())
    formats = ["", *[".1f"] * seconds.shape[1], *[".2f"] * faster.shape[1], ".2f"]
    return f"{report['rounds']} interleaved rounds:\n\n{table.astype(object).to_markdown(index=False, floatfmt=formats)}"
