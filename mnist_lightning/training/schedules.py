"""Learning-rate schedules, stepped once per batch; after the last step of the run each stands exactly at its last value."""

import math
from collections.abc import Callable

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR


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
