"""The training step as a CUDA graph: recorded once, replayed for every batch, so that a GPU does not wait for Python.

A network of 7,496 parameters keeps a GPU busy for a fraction of the time that Python needs to launch its 200 kernels. A graph
launches them at once, and a chunk of batches per `training_step` shares Lightning's own cost among them. `cuda_graph=true`.
Tried on a CPU, where the same steps run without a graph; a graph itself has not been run on a GPU yet.
"""

import inspect

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.utils.data import DataLoader

from mnist_lightning.data.batches import Batch, num_training_batches, training_batches
from mnist_lightning.data.datamodule import DigitsDataModule
from mnist_lightning.training.lit_module import LitClassifier, decay_groups

BATCHES_PER_CHUNK = 32
WARM_UP = 3  # steps before the recording, real ones: libraries choose their algorithms and allocate their workspaces in them


def hand_over_chunks(data: DigitsDataModule) -> None:
    """Lets the training loader give `BATCHES_PER_CHUNK` batches at a time, as one, of uint8 images."""
    batches, prepared = data.train_dataloader, data.on_after_batch_transfer

    def train_dataloader() -> DataLoader[Batch]:
        loader = batches()
        loader.sampler.batch_size *= BATCHES_PER_CHUNK  # type: ignore[attr-defined]
        return loader

    def on_after_batch_transfer(batch: Batch, dataloader_idx: int) -> Batch:
        return batch if data.trainer and data.trainer.training else prepared(batch, dataloader_idx)

    data.train_dataloader = train_dataloader  # type: ignore[method-assign]
    data.on_after_batch_transfer = on_after_batch_transfer  # type: ignore[method-assign]


class GraphedClassifier(LitClassifier):
    """`LitClassifier` that takes a chunk of batches per `training_step` and replays its optimizer steps from a CUDA graph.

    Same steps in the same order with the same random numbers. A last batch of another size is never recorded.
    """

    def __init__(self, *parts: object, data: DigitsDataModule) -> None:
        super().__init__(*parts)  # type: ignore[arg-type]
        self.automatic_optimization = False
        self.batch_size = data.batch_size
        self.prepare = data.prepare
        self.steps_taken = 0
        self.graph: torch.cuda.CUDAGraph | None = None
        self.inputs: Batch
        self.outputs: tuple[Tensor, Tensor]
        hand_over_chunks(data)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        # torch's own optimizers take a tensor for lr when fused; others have no such argument.
        fused = {"fused": True} if "fused" in inspect.signature(self.optimizer).parameters else {}
        optimizer = self.optimizer(decay_groups(self.net), **fused)
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        chunks = int(self.trainer.estimated_stepping_batches) // self.trainer.max_epochs  # type: ignore[operator]
        steps = min(chunks * BATCHES_PER_CHUNK, num_training_batches(data.num_images("train"), self.batch_size))
        num_epochs = self.trainer.max_epochs or 1
        scheduler = self.schedule(optimizer, steps * num_epochs, num_epochs)
        return {"optimizer": optimizer, "lr_scheduler": scheduler}

    def on_train_start(self) -> None:
        # On the device, where the schedule changes it in place: a graph would record the first step's number for ever.
        for group in self.optimizers(use_pl_optimizer=False).param_groups:  # type: ignore[union-attr]
            group["lr"] = torch.as_tensor(group["lr"], device=self.device)

    def training_step(self, chunk: Batch, batch_idx: int) -> None:  # type: ignore[override]
        images, targets = (training_batches(tensor, self.batch_size) for tensor in chunk)
        for batch in zip(images, targets, strict=True):
            loss, logits = self._optimize(batch)
            self.seen["train"].append((loss.clone(), logits.clone(), batch[1]))  # the next replay overwrites them
            if self.schedule.interval == "step":
                self.lr_schedulers().step()  # type: ignore[union-attr]
        scheduler = self.lr_schedulers()
        if self.schedule.interval == "epoch" and self.trainer.is_last_batch and not isinstance(scheduler, ReduceLROnPlateau):
            scheduler.step()  # type: ignore[union-attr]
        # Lightning counts the steps of its own wrapper, which a replay goes past.
        self.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress.total.completed += len(images)
        self._end_step(loss)

    def _optimize(self, batch: Batch) -> tuple[Tensor, Tensor]:
        images, targets = batch
        if self.device.type != "cuda" or len(targets) != self.batch_size:
            return self._plain_step(images, targets)
        self.steps_taken += 1
        if self.steps_taken <= WARM_UP:
            # On a stream of its own, as a recording will be.
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                outputs = self._plain_step(images, targets)
            torch.cuda.current_stream().wait_stream(stream)
            return outputs
        if self.graph is None:
            self.inputs = (images.clone(), targets.clone())
            self.graph = torch.cuda.CUDAGraph()
            self.optimizers(use_pl_optimizer=False).zero_grad()  # type: ignore[union-attr]  # gradients of the graph's own
            with torch.cuda.graph(self.graph):
                self.outputs = self._plain_step(*self.inputs)
        self.inputs[0].copy_(images)
        self.inputs[1].copy_(targets)
        self.graph.replay()
        return self.outputs

    def _plain_step(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        optimizer = self.optimizers(use_pl_optimizer=False)
        loss, logits = self.loss_and_logits((self.prepare(images), targets))
        optimizer.zero_grad()  # type: ignore[union-attr]
        loss.backward()
        optimizer.step()  # type: ignore[union-attr]
        return loss.detach(), logits.detach()
