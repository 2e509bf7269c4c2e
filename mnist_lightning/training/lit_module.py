"""The LightningModule around any network: loss, accuracy, optimizer and schedule; no paths, no pass/fail rules."""

import math
import sys
from collections.abc import Callable
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from mnist_lightning.data.batches import Batch
from mnist_lightning.models.probe import in_fastest_format
from mnist_lightning.training.schedules import Schedule

NEVER = sys.maxsize  # epochs


class NonFiniteLossError(ArithmeticError):
    """A loss became NaN or infinite: nothing learned or measured after that would mean anything."""


def decay_groups(net: nn.Module) -> list[dict[str, Any]]:
    """Parameter groups: weight decay acts on the weights of convolutions and linear layers alone.

    A batch norm undoes the scale of the weights before it; decaying its own scale and shift would only bias the features.
    """
    trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
    weights = [parameter for parameter in trained if parameter.dim() > 1]
    others = [parameter for parameter in trained if parameter.dim() <= 1]
    return [{"params": weights}, {"params": others, "weight_decay": 0.0}] if others else [{"params": weights}]


class LitClassifier(L.LightningModule):
    """Cross-entropy classification of digit images."""

    def __init__(
        self,
        net: nn.Module,  # that has passed `models.probe.probe`
        optimizer: Callable[[list[dict[str, Any]]], Optimizer],  # of the network's `decay_groups`
        schedule: Schedule,
        label_smoothing: float,  # share of a training target for all classes alike (Szegedy et al., 2016, section 7)
        epoch_split: str,  # what each epoch's evaluation is logged as: "test", or "val" on a hold-out
    ) -> None:
        super().__init__()
        self.net = in_fastest_format(net)
        self.optimizer = optimizer
        self.schedule = schedule
        self.label_smoothing = label_smoothing
        self.epoch_split = epoch_split
        # Loss, logits and targets of every batch of an epoch, by split.
        self.seen: dict[str, list[tuple[Tensor, Tensor, Tensor]]] = {split: [] for split in ("train", epoch_split, "test")}
        # Logits and targets of the latest evaluation, in the order of the images, for the pictures of it.
        self.evaluated: tuple[Tensor, Tensor]
        self.steps_before = 0  # optimizer steps of the run before this epoch

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images).flatten(1)  # of (N, 10, 1, 1)

    def loss_and_logits(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Mean cross-entropy of a batch, a scalar, and its logits `(N, 10)`; targets `(N,)`, or shares of each `(N, 10)`."""
        images, targets = batch
        logits = self(images)
        smoothing = self.label_smoothing if self.training else 0.0
        return F.cross_entropy(logits, targets, label_smoothing=smoothing), logits

    def _step(self, batch: Batch, split: str) -> Tensor:
        """Loss of one batch, kept with its logits for the end of the epoch."""
        loss, logits = self.loss_and_logits(batch)
        targets = batch[1]
        if targets.dim() > 1:  # mixed: right is the class that has the larger share
            targets = targets.argmax(dim=1)
        self.seen[split].append((loss.detach(), logits.detach(), targets))
        return loss

    def log_epoch(self, split: str) -> None:
        """Logs means over the epoch's images. Once, since `self.log` costs a millisecond a step, and makes a GPU wait."""
        losses, logits, targets = zip(*self.seen[split], strict=True)
        num_images = torch.tensor([len(batch) for batch in targets], device=self.device)
        all_logits, all_targets = torch.cat(logits), torch.cat(targets)
        num_right = (all_logits.argmax(dim=1) == all_targets).sum()
        sums = torch.stack([(torch.stack(losses).float() * num_images).sum(), num_right, num_images.sum()])
        loss_sum, right, count = self.trainer.strategy.reduce(sums, reduce_op="sum")  # over all processes
        if not torch.isfinite(loss_sum):  # logits that are NaN have a highest class all the same, and so an accuracy
            raise self._non_finite(split, loss_sum / count)
        self.seen[split].clear()
        if split != "train":
            self.evaluated = all_logits, all_targets
        # For the callbacks: the dashboard writes an epoch's figures to the logger, all at once.
        means = {f"{split}/loss": loss_sum / count, f"{split}/acc": right / count}
        self.log_dict(means, on_step=False, on_epoch=True, batch_size=1, logger=False)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss = self._step(batch, "train")
        self._end_step(loss)
        return loss

    def on_train_epoch_start(self) -> None:
        self.steps_before = self.global_step

    def _end_step(self, loss: Tensor) -> None:
        # Asking a GPU for a value waits for it, so it is asked once an epoch, of all losses.
        if loss.device.type == "cpu" and not torch.isfinite(loss):
            raise self._non_finite("train", loss.detach())
        if self.trainer.is_last_batch:
            self.log_epoch("train")

    def _non_finite(self, split: str, loss: Tensor) -> NonFiniteLossError:
        """Says where the first loss of an epoch that is not finite arose, or the given one where only their mean is not."""
        epoch, step_of_run = self.current_epoch + (not self.trainer.testing), self.global_step
        where = f"the {split} loss is {{}} at epoch {epoch}, after step {step_of_run} of the run"
        losses = [float(loss) for loss, _, _ in self.seen[split]]
        step, value = next(((i, x) for i, x in enumerate(losses, 1) if not math.isfinite(x)), (len(losses), float(loss)))
        if split == "train":
            step_of_run = self.steps_before + -(-step // self.trainer.accumulate_grad_batches)
            where = f"the training loss is {{}} at epoch {epoch}, step {step} (step {step_of_run} of the run)"
        return NonFiniteLossError(f"{where.format(value)}; lower optimizer.lr or look at the data")

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._step(batch, self.epoch_split)

    def on_validation_epoch_end(self) -> None:
        self.log_epoch(self.epoch_split)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self._step(batch, "test")

    def on_test_epoch_end(self) -> None:
        self.log_epoch("test")

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = self.optimizer(decay_groups(self.net))
        num_epochs = self.trainer.max_epochs or 1
        scheduler = self.schedule(optimizer, int(self.trainer.estimated_stepping_batches), num_epochs)
        options: dict[str, Any] = {"interval": self.schedule.interval}
        if isinstance(scheduler, ReduceLROnPlateau):
            options = {"monitor": self._watched, "frequency": NEVER}  # but in on_train_epoch_end
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, **options}}  # type: ignore[return-value]

    @property
    def _watched(self) -> str:
        return self.schedule.monitor or f"{self.epoch_split}/loss"

    def on_train_epoch_end(self) -> None:
        # Lightning's moment for a plateau is after the epoch's checkpoint, from which a resumed run would miss the step.
        figures, scheduler = self.trainer.callback_metrics, self.lr_schedulers()
        if isinstance(scheduler, ReduceLROnPlateau) and self._watched in figures:
            scheduler.step(figures[self._watched])
