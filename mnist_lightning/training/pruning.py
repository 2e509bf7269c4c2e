"""Stops jobs of a sweep early whose curves lie below the others': a median rule (Golovin et al., 2017, section 3.2.1).

Jobs know of each other by the files in the sweep's directory, in whatever processes they run.
"""

import statistics
from collections import defaultdict
from pathlib import Path

import lightning as L

from mnist_lightning.evaluation.run_directories import SET_ASIDE, SWEEP, read_epochs
from mnist_lightning.evaluation.verdict import percent
from mnist_lightning.files import read_text

NUM_OTHERS = 3  # configurations that have come as far; fewer say too little
UNTOUCHED = 5  # none is stopped before this part of its epochs: the first say little of the last


class Pruned(Exception):  # noqa: N818  # no error
    """A job of a sweep was stopped, since others do better."""


def sweep_of(run: Path) -> Path | None:
    """The sweep's directory that a run lies in."""
    return next((folder for folder in run.parents if (folder / SWEEP).exists()), None)


class Pruning(L.Callback):
    """Raises `Pruned` before an epoch, where the configuration's hold-out accuracy is below the median of the others'.

    That is the best one so far, in the mean over the seeds that have come as far: one seed's luck decides on no configuration.
    """

    def __init__(self, run: Path, sweep: Path) -> None:
        self.run, self.sweep = run, sweep

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        epochs = trainer.current_epoch
        if epochs < max(1, (trainer.max_epochs or 0) // UNTOUCHED):
            return
        figures = best_so_far(self.sweep, epochs)
        mine = figures.pop(_configuration(self.run), 0.0)
        if len(figures) >= NUM_OTHERS and mine < (median := statistics.median(figures.values())):
            reached = f"the hold-out accuracy, at best {percent(mine)} after epoch {epochs}"
            raise Pruned(f"{reached}, is below the median of the sweep's other configurations, {percent(median)}")


def best_so_far(sweep: Path, epochs: int) -> dict[str, float]:
    """By configuration the best hold-out accuracy within so many epochs, in the mean over the seeds that have come as far."""
    figures: dict[str, list[float]] = defaultdict(list)
    for table in sweep.rglob("metrics.csv"):
        if not table.parent.name.startswith(SET_ASIDE):
            try:
                curve = [row["val/acc"] for row in read_epochs(table.parent)][:epochs]
                if len(curve) == epochs:
                    figures[_configuration(table.parent)].append(max(curve))
            except (OSError, ValueError, KeyError):  # set aside meanwhile, damaged, a logger's
                continue
    return {configuration: statistics.mean(values) for configuration, values in figures.items()}


def _configuration(run: Path) -> str:
    """A run's configuration without its seed."""
    return "\n".join(line for line in read_text(run / "config.yaml").splitlines() if not line.startswith("seed:"))
