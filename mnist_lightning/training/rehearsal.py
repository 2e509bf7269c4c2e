"""A recipe tried on next to nothing: what its classes refuse is told before data is read or an epoch trained."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from mnist_lightning.config.build import refusal
from mnist_lightning.config.errors import ConfigError
from mnist_lightning.training.schedules import Schedule


def rehearse(
    cfg: DictConfig,
    optimizer: Callable[..., Optimizer],
    schedule: Schedule,
    augmentation: Callable[[Tensor], Tensor],
) -> None:
    """Takes a step an epoch, and augments two images; draws no random number of the run. Raises a ConfigError."""
    with torch.random.fork_rng(devices=[]):
        _learn(cfg, optimizer, schedule)
        _augment(cfg, augmentation)


def _learn(cfg: DictConfig, make_optimizer: Callable[..., Optimizer], schedule: Schedule) -> None:
    weight, bias = nn.Parameter(torch.zeros(2, 2, 3, 3)), nn.Parameter(torch.zeros(2))

    def closure() -> Tensor:
        weight.grad, bias.grad = torch.ones_like(weight), torch.ones_like(bias)
        return torch.zeros(())

    num_epochs = cfg.trainer.max_epochs
    with _refusals(cfg, "optimizer"):  # of the groups that `decay_groups` makes
        optimizer = make_optimizer([{"params": [weight]}, {"params": [bias], "weight_decay": 0.0}])
        optimizer.step(closure)  # type: ignore[arg-type]
    with _refusals(cfg, "scheduler"):
        scheduler: Any = schedule(optimizer, num_epochs, num_epochs)
        for _ in range(num_epochs):
            optimizer.step(closure)  # type: ignore[arg-type]
            scheduler.step(*[0.0] if isinstance(scheduler, ReduceLROnPlateau) else [])


def _augment(cfg: DictConfig, augmentation: Callable[[Tensor], Tensor]) -> None:
    images = 255 * torch.rand(2, 1, 28, 28)
    with _refusals(cfg, "augmentation"):
        augmented = augmentation(images.clone())
        if augmented.shape != images.shape or augmented.dtype != images.dtype:
            raise ValueError(f"it makes {augmented.dtype} {tuple(augmented.shape)} of {images.dtype} {tuple(images.shape)}")


@contextlib.contextmanager
def _refusals(cfg: DictConfig, group: str) -> Iterator[None]:
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:  # whatever a class of anyone's raises
        raise refusal(group, cfg[group]._target_, error) from error
