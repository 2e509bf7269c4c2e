"""Channel widths as every network takes them: a list of a known length, and what counts as a parameter."""

from collections.abc import Sequence

from torch import nn


def exactly(num: int, channels: Sequence[int]) -> Sequence[int]:
    """Returns the widths unchanged.

    Raises:
        ValueError: There are more or fewer than the network has places for.
    """
    if len(channels) != num:
        raise ValueError(f"channels={list(channels)} must be a list of {num} widths, not of {len(channels)}")
    return channels


def count_parameters(net: nn.Module) -> int:
    """Trainable elements. A batch norm's running statistics are buffers, not parameters, and do not count."""
    return sum(parameter.numel() for parameter in net.parameters() if parameter.requires_grad)
