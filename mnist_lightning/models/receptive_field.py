"""Receptive fields: what a value of a map sees of the image, followed through the operators of a forward pass.

Source: the recursion of Araujo, Norris and Sim, 2019, "Computing receptive fields of convolutional neural networks"; where
branches meet, the largest field counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

Pair = tuple[int, int]
"""Along the height and along the width."""


@dataclass(frozen=True)
class Field:
    """What one value of a map sees of the image, in pixels: its extent, and the distance to its neighbour's."""

    extent: Pair = (1, 1)
    jump: Pair = (1, 1)

    def behind(self, window: "Window") -> "Field":
        """The field behind a convolution or a pooling."""
        extent, jump = [], []
        for axis in (0, 1):
            extent.append(self.extent[axis] + (window.kernel[axis] - 1) * window.dilation[axis] * self.jump[axis])
            jump.append(self.jump[axis] * window.stride[axis])
        return Field((extent[0], extent[1]), (jump[0], jump[1]))


@dataclass(frozen=True)
class Window:
    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair = (1, 1)


def sides_of(maps: Tensor) -> Pair:
    """Height and width of maps, 1 and 1 of vectors `(N, C)`; 0 of what is neither, such as sequences."""
    return (int(maps.shape[-2]), int(maps.shape[-1])) if maps.dim() > 3 else (1, 1) if maps.dim() == 2 else (0, 0)


def merged(fields: Sequence[Field], of_largest_maps: Sequence[Field]) -> Field:
    """The field where branches meet: the largest extent; neighbours are those of the largest maps."""
    return Field(_largest([one.extent for one in fields]), _largest([one.jump for one in of_largest_maps]))


def _largest(pairs: Sequence[Pair]) -> Pair:
    return max(height for height, _ in pairs), max(width for _, width in pairs)


def window_of(name: str, args: Sequence[Any], maps: Tensor, outputs: Sequence[Tensor]) -> Window | None:
    """The window of an operator on maps: of a convolution, of a pooling, or the whole map where that becomes one value."""
    if maps.dim() != 4 or not outputs:
        return None
    if name == "convolution":
        _, weight, _, stride, padding, dilation, transposed, *_ = args
        kernel = (int(weight.shape[-2]), int(weight.shape[-1]))
        return None if transposed else Window(kernel, _pair(stride), _pair(padding), _pair(dilation))
    if name in ("max_pool2d_with_indices", "avg_pool2d", "max_pool2d"):
        kernel, stride, padding, dilation = list(args[1:5]) + [[], [0], [1]][len(args) - 2 :]  # what is left out is the default
        return Window(_pair(kernel), _pair(stride or kernel), _pair(padding), _pair(1 if name == "avg_pool2d" else dilation))
    before, after = sides_of(maps), sides_of(outputs[0])
    if "adaptive" in name or (after == (1, 1) and before != after and outputs[0].numel() < maps.numel()):
        side = (before[0] // after[0], before[1] // after[1])
        return Window(side, side, (0, 0))
    return None


def _pair(values: int | Sequence[int]) -> Pair:
    both = [values] if isinstance(values, int) else list(values)
    return int(both[0]), int(both[-1])
