"""What a run's loggers are told: its description at the start, curves by epoch, pictures of the trained network."""

from collections.abc import Mapping
from typing import Any

import lightning as L
import torch
from omegaconf import DictConfig
from torch import Tensor, nn
from torchmetrics.utilities.distributed import gather_all_tensors

from mnist_lightning.data.datamodule import DigitsDataModule
from mnist_lightning.models.summary import summarize
from mnist_lightning.training.callbacks import EpochTable
from mnist_lightning.training.lit_module import LitClassifier
from mnist_lightning.training.loggers import Loggers
from mnist_lightning.training.tensorboard import documenting

NUM_AUGMENTED = 36  # training images shown before and after augmentation


class Dashboard(L.Callback):
    """Tells the loggers: of a run at its start, a point on every curve per epoch, pictures at its end."""

    def __init__(self, cfg: DictConfig, loggers: Loggers, epochs: EpochTable) -> None:
        self.cfg = cfg
        self.loggers = loggers
        self.epochs = epochs  # a callback before this one
        self.may_be_last = False  # the latest epoch, of which nothing is drawn yet

    def on_fit_start(self, trainer: L.Trainer, pl_module: LitClassifier) -> None:  # type: ignore[override]
        self.loggers.begin(self.cfg, pl_module.net)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: LitClassifier) -> None:  # type: ignore[override]
        split = trainer.datamodule.epoch_split  # type: ignore[attr-defined]
        epoch = trainer.current_epoch + 1
        ends = epoch == trainer.max_epochs or trainer.should_stop or trainer.global_step == trainer.max_steps
        evaluated = f"{split}/acc" in self.epochs.rows[-1]  # an argument of the trainer can leave out an epoch's evaluation
        last = evaluated and self.cfg.pictures == "last" and split == "test"
        if (evaluated and self.cfg.pictures == "every") or (last and ends):
            self._draw(trainer, pl_module, split, epoch)
        self.may_be_last = last and not ends
        self.loggers.tell({number: self._curves(row, split) for number, row in enumerate(self.epochs.rows, 1)})

    def _curves(self, row: Mapping[str, Any], split: str) -> dict[str, float]:
        """The points of a row of metrics.csv, which a resumed run has read as text."""
        curves = {name: float(value) for name, value in row.items() if name not in ("epoch", "step") and value != ""}
        if f"{split}/acc" in curves:
            curves |= {"gap/acc": curves["train/acc"] - curves[f"{split}/acc"], "target/acc": self.cfg.gate.min_accuracy}
        return curves

    def on_train_end(self, trainer: L.Trainer, pl_module: LitClassifier) -> None:  # type: ignore[override]
        # Lightning asks EarlyStopping after the other callbacks' end of an epoch.
        if self.may_be_last:
            self._draw(trainer, pl_module, "test", len(self.epochs.rows))

    def on_test_end(self, trainer: L.Trainer, pl_module: LitClassifier) -> None:  # type: ignore[override]
        # The one look at the test set of a run with a hold-out, a step past its last epoch, and the pictures of it.
        epoch = trainer.current_epoch + 1
        if self.cfg.pictures != "none":
            self._draw(trainer, pl_module, "test", epoch)
        self.loggers.tell({epoch: {name: float(trainer.callback_metrics[name]) for name in ("test/loss", "test/acc")}})

    def _draw(self, trainer: L.Trainer, pl_module: LitClassifier, split: str, epoch: int) -> None:
        """Pictures of the network as it is and of its latest evaluation."""
        logits, targets = (_of_all_processes(part, trainer.world_size) for part in pl_module.evaluated)
        if not trainer.is_global_zero:
            return
        from mnist_lightning.evaluation import figures  # matplotlib: not for a run without pictures

        data: DigitsDataModule = trainer.datamodule  # type: ignore[attr-defined]
        images = data.splits[split].images[: len(targets)].cpu()
        before = data.splits["train"].images[:NUM_AUGMENTED].float()
        after = data.augmentation(before[:, None])[:, 0]  # moves no number of training: every epoch is seeded anew
        drawn = {
            f"{split}/confusion_matrix": figures.confusion_matrix(logits, targets),
            f"{split}/worst_mistakes": figures.worst_mistakes(images, logits, targets),
            "train/augmentation": figures.augmentation(before.cpu(), after.cpu()),
        }
        for convolution in [module for module in pl_module.net.modules() if isinstance(module, nn.Conv2d)][:1]:
            drawn["network/first_filters"] = figures.filters(convolution.weight.detach().cpu())
        with documenting("receptive fields"):
            drawn["network/receptive_fields"] = figures.receptive_fields(summarize(pl_module.net))
        for name, figure in drawn.items():
            self.loggers.draw(name, figure, epoch)


def _of_all_processes(part: Tensor, num_processes: int) -> Tensor:
    """What the processes of a run evaluated, `(N, …)` each, in the order of the images, on the CPU."""
    if num_processes == 1:
        return part.cpu()
    parts = gather_all_tensors(part)  # which may differ in length
    whole = torch.empty(sum(map(len, parts)), *part.shape[1:], dtype=part.dtype)
    for rank, share in enumerate(parts):
        whole[rank::num_processes] = share.cpu()  # as IndexBatches deals them out
    return whole
