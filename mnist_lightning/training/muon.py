"""Muon: momentum whose every step is made orthogonal, for the weights of convolutions and linear layers.

Source: Jordan et al., 2024, "Muon: An optimizer for hidden layers in neural networks"
(https://kellerjordan.github.io/posts/muon). `torch.optim.Muon` takes matrices alone and no torch before 2.9 has it; a small
network is made of 4-D kernels, and of batch norms, which want another rule.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the source's quintic, which drives all singular values into about [0.7, 1.2]
NUM_ITERATIONS = 5


def orthogonalize(matrix: Tensor) -> Tensor:
    """The nearest orthogonal matrix, roughly: singular vectors kept, singular values near 1, by Newton–Schulz iterations."""
    a, b, c = COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix  # the products below are as small as the shorter side
    x = x / (x.norm() + 1e-7)
    for _ in range(NUM_ITERATIONS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x


class Muon(Optimizer):
    """Muon on all weights of two or more dimensions, SGD with the same Nesterov momentum on the others.

    A kernel `(C_out, C_in, H, W)` counts as a matrix `(C_out, C_in · H · W)`. Its step has about the same size in every
    direction, however the gradient is distributed; a tall matrix's is √(rows / columns) larger. It also shrinks the weight by
    `lr · weight_decay` of itself. The lr of the other weights is `others · lr`.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.05,
        others: float = 5.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "others": others})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)
        return loss

    def _update(self, parameter: Tensor, group: dict[str, Any]) -> None:
        grad, state = parameter.grad, self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        buffer = state["momentum_buffer"].mul_(group["momentum"]).add_(grad)
        update = grad + group["momentum"] * buffer
        if parameter.dim() < 2:
            parameter.sub_(group["lr"] * group["others"] * update)
            return
        matrix = update.flatten(1)
        num_rows, num_columns = matrix.shape
        factor = max(1.0, num_rows / num_columns) ** 0.5
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.sub_(group["lr"] * factor * orthogonalize(matrix).view_as(parameter))
