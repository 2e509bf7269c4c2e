"""What happens around the epochs of a run: random numbers and augmentation by epoch, a progress bar, a line and a CSV row."""

import csv
import hashlib
import io
import random
import time
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm
from tqdm import tqdm

from mnist_lightning import files, terminal
from mnist_lightning.data.augmentation import Affine
from mnist_lightning.training.lit_module import LitClassifier


class EpochBounds(L.Callback):
    """Seeds augmentation and dropout anew, so that an epoch draws the same after a resume as without one.

    A run that was told to stop early, and killed before its verdict, starts no further epoch.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # Hashed, since torch keeps 32 bits of a seed, and neighbouring seeds and epochs must not meet; by process, too.
        name = f"{self.seed}/{trainer.current_epoch}/{trainer.global_rank}"
        seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
        torch.manual_seed(seed)
        random.seed(seed)  # for augmentations of others
        np.random.seed(seed)  # noqa: NPY002
        augmentation = trainer.datamodule.augmentation  # type: ignore[attr-defined]
        if isinstance(augmentation, Affine):
            augmentation.begin_epoch(trainer.current_epoch, trainer.max_epochs or 1)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["should_stop"] = trainer.should_stop

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        trainer.should_stop = checkpoint.get("should_stop", False)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: LitClassifier) -> None:  # type: ignore[override]
        if pl_module.seen["train"]:  # cut short by an argument of the trainer: its last batch did not come
            pl_module.log_epoch("train")


class EpochBar(TQDMProgressBar):
    """One bar per epoch, counted from 1; none for evaluation, which Lightning would call validation on the test set too."""

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
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.columns: list[str] = []
        self.started_s = 0.0
        self.evaluated: dict[str, float] = {}  # of this epoch: callback_metrics would repeat an earlier epoch's
        self.rows: list[dict[str, Any]] = []

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        split = trainer.datamodule.epoch_split  # type: ignore[attr-defined]
        self.columns = ["epoch", "step", "train/loss", "train/acc", f"{split}/loss", f"{split}/acc", "lr", "seconds"]
        if trainer.current_epoch and trainer.is_global_zero:
            with self.path.open(newline="", encoding="utf-8") as file:
                # Without the row of an epoch that was written before the checkpoint that a resumed run goes on from.
                self.rows = list(csv.DictReader(file))[: trainer.current_epoch]
        self._write(trainer)

    def _write(self, trainer: L.Trainer) -> None:
        if not trainer.is_global_zero:  # of several processes
            return
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
            **{name: float(trainer.callback_metrics[name]) for name in ("train/loss", "train/acc")},
            "epoch": trainer.current_epoch + 1,
            "step": trainer.global_step,
            "lr": float(trainer.optimizers[0].param_groups[0]["lr"]),
            "seconds": round(time.monotonic() - self.started_s, 3),
        }
        self.rows.append({name: row[name] for name in self.columns if name in row})
        self._write(trainer)
        if trainer.is_global_zero:
            done, all_batches = trainer.fit_loop.epoch_loop.batch_progress.current.completed, trainer.num_training_batches
            part = f" (only {done} of {all_batches} batches)" if done < all_batches else ""
            # Above the progress bar, where there is one.
            tqdm.write(terminal.prefix + self._line(row, trainer.max_epochs, part))

    def _line(self, row: dict[str, Any], max_epochs: int | None, part: str) -> str:
        text = f"epoch {row['epoch']:{len(str(max_epochs))}}/{max_epochs}{part}"
        for split in ("train", self.columns[4].partition("/")[0]):
            if f"{split}/acc" in row:
                text += f"  {split} loss {row[f'{split}/loss']:.4f} acc {100 * row[f'{split}/acc']:.2f} %"
        return f"{text}  lr {row['lr']:.5f}  {row['seconds']:.1f} s"
