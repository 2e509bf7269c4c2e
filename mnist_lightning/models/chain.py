"""What the networks share: layers one after another, channel widths of a known number, and what counts as a parameter."""

from collections.abc import Sequence

from torch import Tensor, nn


class Chain(nn.Sequential):
    """Layers that run one after another; the last one's `(N, 10, 1, 1)` are the logits `(N, 10)`."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).flatten(1)


def exactly(num: int, channels: Sequence[int]) -> Sequence[int]:
    """The widths; a ValueError where there are more or fewer than the network has places for."""
    if len(channels) != num:
        raise ValueError(f"channels={list(channels)} must be a list of {num} widths, not of {len(channels)}")
    return channels


def count_parameters(net: nn.Module, count: str = "trainable") -> int:
    """Elements of the parameters that are trained, that are "frozen", or of "all"; a module used twice has them once.

    A batch norm's running statistics are buffers, not parameters, and do not count.
    """
    trained = {"trainable": (True,), "frozen": (False,), "all": (True, False)}[count]
    return sum(parameter.numel() for parameter in net.parameters() if parameter.requires_grad in trained)
