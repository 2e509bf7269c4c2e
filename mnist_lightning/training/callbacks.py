"""What happens around the epochs of a run: random numbers and augmentation by epoch, a progress bar, a line and a CSV row."""

import csv
import hashlib
import io
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm
from tqdm import tqdm

from mnist_lightning import files
from mnist_lightning.data.augmentation import Affine


class EpochSeed(L.Callback):
    """Seeds augmentation and dropout anew at every epoch, so that an epoch draws the same after a resume as without one.

    Args:
        seed: Of the run. Every epoch of every process has numbers of its own.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # Hashed, since torch keeps 32 bits of a seed, and neighbouring seeds and epochs must not meet.
        name = f"{self.seed}/{trainer.current_epoch}/{trainer.global_rank}"
        torch.manual_seed(int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big"))


class AugmentationStrength(L.Callback):
    """Tells the augmentation which epoch begins, where it wants to know."""

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        augmentation = trainer.datamodule.augmentation  # type: ignore[attr-defined]
        if isinstance(augmentation, Affine):
            augmentation.begin_epoch(trainer.current_epoch, trainer.max_epochs or 1)


class EpochBar(TQDMProgressBar):
    """One bar per epoch over its training steps, counted from 1 like everything else the run shows.

    Evaluation has none: it takes seconds, and Lightning would call it validation on the test set too.
    """

    def __init__(self) -> None:
        super().__init__(refresh_rate=20)

    def on_train_epoch_start(self, trainer: L.Trainer, *args: Any) -> None:
        super().on_train_epoch_start(trainer, *args)
        self.train_progress_bar.set_description(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}")

    def init_validation_tqdm(self) -> Tqdm:
        return Tqdm(disable=True)

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        return {}  # the line per epoch has them; here each would cost a synchronisation with the device


class EpochTable(L.Callback):
    """Prints a line per epoch and adds a row to `metrics.csv`: an epoch that finished is on disk before the next starts.

    Columns: epoch (from 1), step (optimizer steps so far), loss and accuracy of training and evaluation, lr (after the
    epoch's last step), seconds (wall time of the epoch with its evaluation). Accuracies are fractions.

    Args:
        path: The CSV file; begun anew unless training goes on from a checkpoint.
        max_epochs: For the printed line.
    """

    def __init__(self, path: Path, max_epochs: int) -> None:
        self.path = path
        self.max_epochs = max_epochs
        self.columns: list[str] = []
        self.started_s = 0.0
        self.evaluated: dict[str, float] = {}  # of this epoch: callback_metrics would repeat an earlier epoch's
        self.row: dict[str, Any] = {}  # of the epoch that ended last
        self.rows: list[dict[str, Any]] = []  # of the table

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        split = trainer.datamodule.epoch_split  # type: ignore[attr-defined]
        metrics = ["train/loss", "train/acc", f"{split}/loss", f"{split}/acc"]
        self.columns = ["epoch", "step", *metrics, "lr", "seconds"]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # Not in on_fit_start, which a checkpoint's epoch has not reached yet. Of several processes one keeps the table.
        if not trainer.is_global_zero:
            return
        if trainer.current_epoch == 0:
            self.rows = []
        else:
            with self.path.open(newline="", encoding="utf-8") as file:
                # Without the row of an epoch that was written before the checkpoint that a resumed run goes on from.
                self.rows = list(csv.DictReader(file))[: trainer.current_epoch]
        self._write()

    def _write(self) -> None:
        file = io.StringIO(newline="")
        table = csv.DictWriter(file, self.columns, extrasaction="ignore")
        table.writeheader()
        table.writerows(self.rows)
        files.write(self.path, file.getvalue())

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.started_s = time.monotonic()
        self.evaluated = {}

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.evaluated = {name: float(value) for name, value in trainer.callback_metrics.items()}

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        row = self.evaluated | {
            **{name: float(trainer.callback_metrics[name]) for name in self.columns if name.startswith("train/")},
            "epoch": trainer.current_epoch + 1,
            "step": trainer.global_step,
            "lr": float(trainer.optimizers[0].param_groups[0]["lr"]),
            "seconds": round(time.monotonic() - self.started_s, 3),
        }
        self.row = {name: row[name] for name in self.columns if name in row}
        if trainer.is_global_zero:
            self.rows.append(row)
            self._write()
            tqdm.write(self._line(row))  # above the progress bar, where there is one

    def _line(self, row: dict[str, Any]) -> str:
        width = len(str(self.max_epochs))
        text = f"epoch {row['epoch']:{width}}/{self.max_epochs}"
        for split in dict.fromkeys(name.split("/")[0] for name in self.columns if "/" in name):
            loss, accuracy = row.get(f"{split}/loss"), row.get(f"{split}/acc")
            if loss is not None and accuracy is not None:
                text += f"  {split} loss {loss:.4f} acc {100 * accuracy:.2f} %"
        return f"{text}  lr {row['lr']:.5f}  {row['seconds']:.1f} s"
