"""Learning-rate schedules: when a scheduler steps, and the project's own ones.

Those are stepped once per batch; after the last step of the run each stands exactly at its last value.
"""

import inspect
import math
from collections.abc import Callable
from typing import Any

from omegaconf import DictConfig
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CyclicLR, LambdaLR, LRScheduler, OneCycleLR, ReduceLROnPlateau

from mnist_lightning.config.build import build
from mnist_lightning.config.errors import ConfigError, typed

PER_BATCH = (OneCycleLR, CyclicLR)  # "should be called after a batch", torch says of these alone
OF_THE_RUN = ("total_steps", "epochs", "steps_per_epoch")  # what a scheduler that asks for its steps is told by the run


class Schedule:
    """How the learning rate of a run moves: what makes the scheduler of an optimizer, and when that steps.

    It steps every `interval`, "step" (of the optimizer) or "epoch". By default that is a step where torch documents it so, or
    where the scheduler asks for `total_steps`; else an epoch, so that torch's own arguments mean what they mean elsewhere.
    ReduceLROnPlateau looks at `monitor`, by default the loss of the epoch's evaluation.
    """

    def __init__(self, make: Callable[..., LRScheduler], interval: str | None = None, monitor: str | None = None) -> None:
        self.make = make
        self.kind = getattr(make, "func", make)  # what a partial calls
        self.given: dict[str, Any] = getattr(make, "keywords", {})
        self.asks_for_steps = "total_steps" in inspect.signature(make).parameters
        per_batch = self.asks_for_steps or self.kind in PER_BATCH
        self.interval = interval or ("step" if per_batch else "epoch")
        self.monitor = monitor

    @classmethod
    def of(cls, cfg: DictConfig) -> "Schedule":
        """The group `scheduler` of a configuration; raises a ConfigError."""
        return cls(build(cfg, "scheduler"), cfg.scheduler.get("interval"), cfg.scheduler.get("monitor"))

    def __call__(self, optimizer: Optimizer, num_steps: int, num_epochs: int) -> LRScheduler:
        """The scheduler of an optimizer that takes so many steps; a ConfigError where keys of the group contradict the run."""
        if "schedulers" in self.given:  # which SequentialLR and ChainedScheduler put together
            scheduler = self.make(optimizer=optimizer, schedulers=[make(optimizer) for make in self.given["schedulers"]])
        elif not self.asks_for_steps:
            scheduler = self.make(optimizer)
        else:
            for key in (key for key in OF_THE_RUN if key in self.given):
                raise ConfigError(f"scheduler.{key}={typed(self.given[key])}: the run counts its own steps; leave the key out")
            total_steps = num_steps if self.interval == "step" else num_epochs
            # torch's own counts the value before the first step as one.
            scheduler = self.make(optimizer, total_steps=total_steps + (self.kind is OneCycleLR))
        watches = isinstance(scheduler, ReduceLROnPlateau)
        if watches and self.interval == "step":
            raise ConfigError("scheduler.interval=step: this scheduler looks at the figures of an epoch; use interval=epoch")
        if self.monitor and not watches:
            raise ConfigError(
                f"scheduler.monitor={self.monitor}: {type(scheduler).__name__} looks at nothing; leave the key out"
            )
        return scheduler


def _warm_up_then(decay: Callable[[float], float], warmup: float, total_steps: int) -> Callable[[int], float]:
    """Factor on the peak lr: a linear rise over the first `warmup` of the steps, then `decay` of the progress in [0, 1]."""
    warmup_steps = int(warmup * total_steps)

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)  # never 0: every step learns
        return decay((step - warmup_steps) / (total_steps - warmup_steps))

    return factor


def constant(optimizer: Optimizer, total_steps: int) -> LRScheduler:
    """The optimizer's lr throughout, as published."""
    return LambdaLR(optimizer, lambda step: 1.0)


def linear(optimizer: Optimizer, total_steps: int, warmup: float) -> LRScheduler:
    """A linear rise over the first `warmup` (a fraction) of the steps, then a linear decay to zero."""
    return LambdaLR(optimizer, _warm_up_then(lambda progress: 1.0 - progress, warmup, total_steps))


def cosine(optimizer: Optimizer, total_steps: int, warmup: float) -> LRScheduler:
    """A linear rise over the first `warmup` of the steps, then half a cosine down to zero.

    Source: Loshchilov and Hutter, 2017, "SGDR", eq. 5 without restarts (arXiv 1608.03983).
    """
    return LambdaLR(optimizer, _warm_up_then(lambda progress: (1 + math.cos(math.pi * progress)) / 2, warmup, total_steps))


def onecycle(optimizer: Optimizer, total_steps: int, warmup: float, div_factor: float, final_div_factor: float) -> LRScheduler:
    """One cycle: from lr / div_factor up to lr, then down to lr / (div_factor · final_div_factor); momentum runs opposite.

    The optimizer's momentum, or the first of its betas, moves from 0.95 down to 0.85 and back, whatever it was.

    Source: Smith and Topin, 2018, "Super-convergence" (arXiv 1708.07120), as torch's OneCycleLR.
    """
    return OneCycleLR(
        optimizer,
        max_lr=[group["lr"] for group in optimizer.param_groups],
        total_steps=total_steps + 1,  # torch counts the value before the first step as one
        pct_start=warmup,
        div_factor=div_factor,
        final_div_factor=final_div_factor,
    )
