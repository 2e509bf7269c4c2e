"""Stops a job of a sweep early whose curve lies below the others': a median rule (Golovin et al., 2017, section 3.2.1)."""

import statistics
from pathlib import Path

import lightning as L

from mnist_lightning.evaluation.run_directories import SET_ASIDE, SWEEP, read_epochs
from mnist_lightning.evaluation.verdict import percent

NUM_OTHERS = 4  # that have come as far; fewer say too little


class Pruned(Exception):  # noqa: N818  # no error
    """A job of a sweep was stopped, since others do better."""


def sweep_of(run: Path) -> Path | None:
    """The sweep's directory that a run lies in."""
    return next((folder for folder in run.parents if (folder / SWEEP).exists()), None)


def median_of_others(curves: list[list[float]], epochs: int) -> float | None:
    """Of the others' best figures after so many epochs; None where too few have come as far."""
    reached = [max(curve[:epochs]) for curve in curves if len(curve) >= epochs]
    return statistics.median(reached) if len(reached) >= NUM_OTHERS else None


class Pruning(L.Callback):
    """Raises `Pruned` before an epoch, where the best hold-out accuracy so far is below the median of the others'."""

    def __init__(self, run: Path, sweep: Path) -> None:
        self.run, self.sweep = run, sweep

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        epochs = trainer.current_epoch
        others = [_curve(folder) for folder in _runs(self.sweep) if folder != self.run]
        median = median_of_others(others, epochs) if epochs else None
        mine = max(_curve(self.run)[:epochs], default=0.0)
        if median is not None and mine < median:
            text = "the hold-out accuracy, at best {} after epoch {}, is below the median of the sweep's other jobs, {}"
            raise Pruned(text.format(percent(mine), epochs, percent(median)))


def _runs(sweep: Path) -> list[Path]:
    tables = [table.parent for table in sweep.rglob("metrics.csv") if (table.parent / "config.yaml").exists()]
    return [folder for folder in tables if not folder.name.startswith(SET_ASIDE)]


def _curve(run: Path) -> list[float]:
    try:
        return [row["val/acc"] for row in read_epochs(run)]
    except (OSError, ValueError, KeyError):  # set aside meanwhile, damaged
        return []
