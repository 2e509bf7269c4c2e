"""The ways to take a training step that the benchmark compares, from the published loop down to one fixed batch.

Each is built once, in a process of its own, and times rounds of steps after a warm-up. `evaluation` is another of the kind.
"""

import contextlib
import io
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import lightning as L
import torch
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from mnist_lightning.config.build import build
from mnist_lightning.data.batches import NUM_CLASSES
from mnist_lightning.data.datamodule import MEAN, STD, DigitsDataModule, normalize
from mnist_lightning.evaluation.gate import Gate
from mnist_lightning.models.layers.batchnorm import BatchNorm2d
from mnist_lightning.models.layers.dropout import Dropout
from mnist_lightning.models.probe import in_fastest_format, probe
from mnist_lightning.training.cuda_graph import BATCHES_PER_CHUNK
from mnist_lightning.training.fit import Assembled, assemble
from mnist_lightning.training.lit_module import decay_groups
from mnist_lightning.training.loggers import Loggers
from mnist_lightning.training.memory import keep_freed

WARM_UP = 5  # steps of each round that are not timed: workers start, caches fill
WORKERS = 2  # of the published loop: the fastest number on two cores

Contestant = Callable[[int], float]  # from a number of steps to the seconds of one


def now() -> float:
    """Seconds, once a GPU has done what it was told: it runs behind the program."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def timed(step: Callable[[], object], steps: int) -> float:
    """Seconds of a step: the mean over so many, after a warm-up."""
    for _ in range(WARM_UP):
        step()
    start = now()
    for _ in range(steps):
        step()
    return (now() - start) / steps


class Clock(L.Callback):
    """Times the calls of `training_step` in one epoch after the warm-up."""

    seconds_per_call = start = math.nan

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        done = trainer.fit_loop.epoch_loop.batch_idx + 1
        if done == WARM_UP:
            self.start = now()
        elif trainer.is_last_batch:
            self.seconds_per_call = (now() - self.start) / (done - WARM_UP)


class PerImage(Dataset[tuple[Tensor, int]]):
    """The published way to data: one PIL image at a time through torchvision's transforms."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels
        jitter, rotation = transforms.ColorJitter(brightness=0.4, contrast=0.4), transforms.RandomRotation(5)
        to_tensor, normalization = transforms.ToTensor(), transforms.Normalize((MEAN,), (STD,))
        self.transform = transforms.Compose([jitter, rotation, to_tensor, normalization])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index].numpy())), int(self.labels[index])


def stock_network(cfg: DictConfig) -> nn.Module:
    """The configured network with torch's own dropout and batch norm."""
    net = probe(build(cfg, "model"))
    for name, module in list(net.named_modules()):
        if isinstance(module, Dropout):
            net.set_submodule(name, nn.Dropout(module.p))
        elif isinstance(module, BatchNorm2d):
            net.set_submodule(name, nn.BatchNorm2d(module.num_features))
    return net


def take_step(net: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, targets: Tensor) -> Tensor:
    loss = F.cross_entropy(net(images), targets)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss


def published_loop(cfg: DictConfig, data: DigitsDataModule, device: torch.device) -> Contestant:
    """1. The published loop, written out: per-image PIL transforms, workers, stock modules, `.item()` every step."""
    net = stock_network(cfg).to(device).train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.015, momentum=0.9)
    dataset = PerImage(data.splits["train"].images, data.splits["train"].labels)
    loader = DataLoader(dataset, batch_size=data.batch_size, shuffle=True, num_workers=WORKERS, drop_last=True)

    def losses() -> Iterator[float]:
        for images, targets in chain.from_iterable(repeat(loader)):
            yield take_step(net, optimizer, images.to(device), targets.to(device)).item()

    return lambda steps: timed(losses().__next__, steps)


@contextlib.contextmanager
def own_run(cfg: DictConfig, data: DigitsDataModule) -> Iterator[Assembled]:
    """A run of this project, in a folder of its own and without its lines on the terminal."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        parts = assemble(cfg, Path(folder), Gate(cfg), Loggers(cfg, Path(folder)))
        parts.data.splits = data.splits  # read once for all rounds
        yield parts


def this_project(cfg: DictConfig, data: DigitsDataModule, device: torch.device) -> Contestant:
    """2. This project as a user runs it: gate, epoch table, checkpoints, events, the configured augmentation."""

    def round_of(steps: int) -> float:
        clock = Clock()
        with own_run(cfg, data) as parts:
            steps_per_call = BATCHES_PER_CHUNK if cfg.cuda_graph else 1
            parts.trainer.limit_train_batches = -(-steps // steps_per_call) + WARM_UP
            parts.trainer.limit_val_batches = 1
            parts.trainer.fit_loop.max_epochs = 1
            parts.trainer.callbacks.append(clock)  # type: ignore[attr-defined]
            parts.trainer.fit(parts.classifier, datamodule=parts.data)
        return clock.seconds_per_call / steps_per_call

    return round_of


def with_setting(key: str, value: object) -> Callable[[DictConfig, DigitsDataModule, torch.device], Contestant]:
    """2 with one setting changed; if it compiles, that is part of the warm-up."""

    def contestant(cfg: DictConfig, data: DigitsDataModule, device: torch.device) -> Contestant:
        cfg = cfg.copy()
        OmegaConf.update(cfg, key, value)
        return this_project(cfg, data, device)

    return contestant


def evaluation(cfg: DictConfig, data: DigitsDataModule, device: torch.device) -> Contestant:
    """The project's evaluation of all test images, as after every epoch; a step is one of them."""

    def round_of(steps: int) -> float:
        with own_run(cfg, data) as parts:
            start = now()
            for _ in range(steps):
                parts.trainer.validate(parts.classifier, datamodule=parts.data, verbose=False)
            return (now() - start) / steps

    return round_of


def own_parts(cfg: DictConfig, device: torch.device) -> tuple[nn.Module, torch.optim.Optimizer]:
    """The configured network and optimizer as `LitClassifier` holds them, in a process as `assemble` sets it up."""
    keep_freed()
    net = in_fastest_format(probe(build(cfg, "model"))).to(device).train()
    return net, build(cfg, "optimizer")(decay_groups(net))


def bare_loop(cfg: DictConfig, data: DigitsDataModule, device: torch.device) -> Contestant:
    """3. The same batches, augmentation, network and optimizer as 2, in a loop without Lightning that logs nothing."""
    net, optimizer = own_parts(cfg, device)
    loader = data.train_dataloader()

    def losses() -> Iterator[Tensor]:
        for images, targets in chain.from_iterable(repeat(loader)):
            augmented = data.augmentation(images.to(device)[:, None].float())
            yield take_step(net, optimizer, normalize(augmented, data.mean, data.std), targets.to(device))

    return lambda steps: timed(losses().__next__, steps)


def fixed_batch(cfg: DictConfig, data: DigitsDataModule, device: torch.device) -> Contestant:
    """4. The floor: forward, backward and optimizer on one batch that lies ready."""
    net, optimizer = own_parts(cfg, device)
    images = torch.randn(data.batch_size, 1, 28, 28, device=device)
    targets = torch.randint(NUM_CLASSES, (data.batch_size,), device=device)
    return lambda steps: timed(lambda: take_step(net, optimizer, images, targets), steps)


CONTESTANTS = {
    "published loop": published_loop,
    "this project": this_project,
    "compiled": with_setting("compile", True),
    "bfloat16": with_setting("trainer.precision", "bf16-mixed"),
    "bare loop": bare_loop,
    "floor: fixed batch": fixed_batch,
}
