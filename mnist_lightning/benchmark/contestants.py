"""The five ways to take a training step that the benchmark compares, from the published loop down to one fixed batch.

Each is built once, in a process of its own, and returns a function that takes a number of steps, runs them after a warm-up, and
returns their seconds. `evaluation` is a sixth of the kind: its step is one evaluation of all test images.
"""

import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import lightning as L
import torch
from omegaconf import DictConfig
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchmetrics.classification import MulticlassAccuracy
from torchvision import transforms

from mnist_lightning.config.build import build
from mnist_lightning.config.compose import compose_config
from mnist_lightning.data.datamodule import MEAN, NUM_CLASSES, STD, Batch, DigitsDataModule, normalize
from mnist_lightning.models.layers.batchnorm import BatchNorm2d
from mnist_lightning.models.layers.dropout import Dropout
from mnist_lightning.training.cuda_graph import BATCHES_PER_CHUNK
from mnist_lightning.training.environment import device_of
from mnist_lightning.training.fit import assemble, make_gate, quieten
from mnist_lightning.training.lit_module import decay_groups
from mnist_lightning.training.memory import keep_freed

WARM_UP = 5  # steps of each round that are not timed: workers start, caches fill
WORKERS = 2  # of the contestants that load by worker processes: the fastest number on two cores


class Clock(L.Callback):
    """Times the steps of one Lightning epoch after the warm-up: from one step's end to the last's."""

    def __init__(self) -> None:
        self.first = self.last = 0.0

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        done = trainer.fit_loop.epoch_loop.batch_idx
        if done == WARM_UP - 1 or trainer.is_last_batch:
            _wait_for_device()
        self.last = time.perf_counter()
        if done == WARM_UP - 1:
            self.first = self.last


def timed(step: Callable[[], object], steps: int) -> float:
    """Seconds of `steps` calls after the warm-up."""
    for _ in range(WARM_UP):
        step()
    _wait_for_device()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    _wait_for_device()
    return time.perf_counter() - start


def _wait_for_device() -> None:
    """A GPU runs behind the program: without this, only the launching would be timed."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


class PerImage(Dataset[tuple[Tensor, int]]):
    """The published way to data: one PIL image at a time through torchvision's transforms."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels
        self.transform = transforms.Compose(
            [
                transforms.ColorJitter(brightness=0.4, contrast=0.4),
                transforms.RandomRotation(5),
                transforms.ToTensor(),
                transforms.Normalize((MEAN,), (STD,)),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index].numpy())), int(self.labels[index])


def stock_network(cfg: DictConfig) -> nn.Module:
    """The configured network with torch's own dropout and batch norm."""
    net: nn.Module = build(cfg, "model")
    for name, module in list(net.named_modules()):
        if isinstance(module, Dropout):
            net.set_submodule(name, nn.Dropout(module.p))
        elif isinstance(module, BatchNorm2d):
            net.set_submodule(name, nn.BatchNorm2d(module.num_features))
    return net


def published_sgd(net: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(net.parameters(), lr=0.015, momentum=0.9)


def per_image_loader(data: DigitsDataModule) -> DataLoader[Any]:
    dataset = PerImage(data.splits["train"].images, data.splits["train"].labels)
    return DataLoader(dataset, batch_size=data.batch_size, shuffle=True, num_workers=WORKERS, drop_last=True)


def published_loop(cfg: DictConfig, data: DigitsDataModule, device: torch.device) -> Callable[[int], float]:
    """1. The published loop, written out: per-image PIL transforms, workers, stock modules, `.item()` every step."""
    net = stock_network(cfg).to(device).train()
    optimizer, loader = published_sgd(net), per_image_loader(data)

    def round_of(steps: int) -> float:
        batches, losses = endless(loader), []

        def step() -> None:
            images, targets = next(batches)
            images, targets = images.to(device), targets.to(device)
            optimizer.zero_grad()
            loss = F.cross_entropy(net(images), targets)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())

        return timed(step, steps)

    return round_of


class TypicalModule(L.LightningModule):
    """A LightningModule as tutorials write it: torchmetrics, and loss and accuracy logged every step."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.accuracy = MulticlassAccuracy(NUM_CLASSES, average="micro")

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        images, targets = batch
        logits = self.net(images)
        loss = F.cross_entropy(logits, targets)
        self.accuracy(logits, targets)
        self.log("train_loss", loss, on_step=True, on_epoch=True, prog_bar=True)
        self.log("train_acc", self.accuracy, on_step=True, on_epoch=True, prog_bar=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return published_sgd(self.net)


def typical_lightning(cfg: DictConfig, data: DigitsDataModule, device: torch.device) -> Callable[[int], float]:
    """2. A usual Lightning set-up: transforms in the dataset, workers, torchmetrics, a log entry every step."""

    def round_of(steps: int) -> float:
        clock = Clock()
        with tempfile.TemporaryDirectory() as folder:
            trainer = L.Trainer(
                accelerator=device.type,
                devices=1,
                max_epochs=1,
                limit_train_batches=steps + WARM_UP,
                log_every_n_steps=1,
                callbacks=[clock],
                default_root_dir=folder,
                enable_model_summary=False,
                enable_progress_bar=sys.stderr.isatty(),
            )
            trainer.fit(TypicalModule(stock_network(cfg)), per_image_loader(data))
        return clock.last - clock.first

    return round_of


def this_project(cfg: DictConfig, data: DigitsDataModule, device: torch.device) -> Callable[[int], float]:
    """3. This project as a user runs it: gate, epoch table, checkpoints, events, the configured augmentation."""

    def round_of(steps: int) -> float:
        clock, gate = Clock(), make_gate(cfg)
        gate.on_miss = "warn"
        with tempfile.TemporaryDirectory() as folder, silence():
            parts = assemble(cfg, Path(folder), gate)
            parts.data.splits = data.splits  # read once for all contestants
            chunk = BATCHES_PER_CHUNK if cfg.cuda_graph else 1
            calls = -(-steps // chunk)  # of training_step
            parts.trainer.limit_train_batches = calls + WARM_UP
            parts.trainer.limit_val_batches = 1
            parts.trainer.fit_loop.max_epochs = 1
            parts.trainer.callbacks.append(clock)  # type: ignore[attr-defined]
            parts.trainer.fit(parts.classifier, datamodule=parts.data)
        return (clock.last - clock.first) * steps / (calls * chunk)

    return round_of


def evaluation(cfg: DictConfig, data: DigitsDataModule, device: torch.device) -> Callable[[int], float]:
    """The project's evaluation of all test images, as after every epoch; a step is one of them."""

    def round_of(steps: int) -> float:
        with tempfile.TemporaryDirectory() as folder, silence():
            parts = assemble(cfg, Path(folder), make_gate(cfg))
            parts.data.splits = data.splits
            start = time.perf_counter()
            for _ in range(steps):
                parts.trainer.validate(parts.classifier, datamodule=parts.data, verbose=False)
            return time.perf_counter() - start

    return round_of


def own_network(cfg: DictConfig, device: torch.device) -> nn.Module:
    """The configured network as `LitClassifier` holds it, in a process as `assemble` sets it up."""
    keep_freed()
    net: nn.Module = build(cfg, "model").to(device, memory_format=torch.channels_last)
    return net.train()


def bare_loop(cfg: DictConfig, data: DigitsDataModule, device: torch.device) -> Callable[[int], float]:
    """4. The same batches, augmentation, network and optimizer as 3, in a loop without Lightning that logs nothing."""
    net = own_network(cfg, device)
    optimizer = build(cfg, "optimizer")(decay_groups(net))
    loader = data.train_dataloader()

    def round_of(steps: int) -> float:
        batches = endless(loader)

        def step() -> None:
            images, targets = (tensor.to(device) for tensor in next(batches))
            images = normalize(data.augmentation(images[:, None].float()))
            loss = F.cross_entropy(net(images), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        return timed(step, steps)

    return round_of


def fixed_batch(cfg: DictConfig, data: DigitsDataModule, device: torch.device) -> Callable[[int], float]:
    """5. The floor: forward, backward and optimizer on one batch that lies ready."""
    net = own_network(cfg, device)
    optimizer = build(cfg, "optimizer")(decay_groups(net))
    images = torch.randn(data.batch_size, 1, 28, 28, device=device)
    targets = torch.randint(NUM_CLASSES, (data.batch_size,), device=device)

    def step() -> None:
        loss = F.cross_entropy(net(images), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return lambda steps: timed(step, steps)


CONTESTANTS = {
    "published loop": published_loop,
    "typical Lightning": typical_lightning,
    "this project": this_project,
    "bare loop": bare_loop,
    "floor: fixed batch": fixed_batch,
}


def endless(loader: DataLoader[Any]) -> Iterator[Any]:
    while True:
        yield from loader


class InProcess:
    """A contestant in a process of its own, since memory settings and peaks are a process's; it waits between rounds.

    Args:
        name: Of `CONTESTANTS`, or "evaluation".
        overrides: Of the configuration.
    """

    def __init__(self, name: str, overrides: list[str]) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, name, overrides))
        self.process.start()
        theirs.close()  # so that the end of the process ends the pipe
        self.peaks_bytes: list[int] = []
        """Peak resident memory of the process after each round."""

    def round_of(self, steps: int) -> float:
        """Seconds of the steps.

        Raises:
            EOFError: The process has ended; its traceback is on stderr.
        """
        self.pipe.send(steps)
        seconds, peak_bytes = self.pipe.recv()
        self.peaks_bytes.append(peak_bytes)
        return float(seconds)

    def close(self) -> None:
        self.pipe.close()  # which the process waits for
        self.process.join()


def _serve(pipe: Connection, name: str, overrides: list[str]) -> None:
    """Runs a round for every number of steps received, until the pipe closes."""
    quieten()
    cfg = compose_config(*overrides)
    data = read_data(cfg)
    round_of = (CONTESTANTS | {"evaluation": evaluation})[name](cfg, data, device_of(str(cfg.trainer.accelerator)))
    while True:
        try:
            steps = pipe.recv()
        except EOFError:
            return
        seconds = round_of(steps)
        pipe.send((seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))


def read_data(cfg: DictConfig) -> DigitsDataModule:
    data: DigitsDataModule = build(cfg, "data", seed=cfg.seed, augmentation=build(cfg, "augmentation"))
    data.prepare_data()
    data.setup("fit")
    return data


@contextmanager
def silence() -> Iterator[None]:
    """Keeps the line per epoch of the timed runs out of the table."""
    stdout = sys.stdout
    with Path(os.devnull).open("w", encoding="utf-8") as sys.stdout:
        try:
            yield
        finally:
            sys.stdout = stdout
