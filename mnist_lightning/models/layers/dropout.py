"""Dropout that costs what it drops rather than what it keeps, and one for the compiler.

`nn.Dropout` draws a random number per element, on a CPU more than half of the time of Net3's whole training step. Here only the
gaps between dropped elements are drawn: at p = 0.025 one number in place of forty. A compiler cannot fuse that; it fuses a hash
of each element's place with the operations beside it.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn


def dropped_positions(num: int, p: float) -> Tensor:
    """Draws which of `num` elements are dropped, each independently with probability `p` in (0, 1).

    The distance from one dropped element to the next is geometric: 1 + ⌊log(u) / log(1 - p)⌋ for u uniform in (0, 1]
    (Devroye, 1986, "Non-Uniform Random Variate Generation", section X.2), in double precision, which does not cut long gaps.
    Positions are ascending int64, on the CPU.
    """
    expected = num * p
    num_gaps = int(expected + 5 * math.sqrt(expected) + 10)  # enough but for once in millions of draws
    positions = torch.tensor([-1])
    while positions[-1] < num:
        gaps = (1 - torch.rand(num_gaps, dtype=torch.float64)).log_().div_(math.log1p(-p)).long().add_(1)
        positions = torch.cat([positions, gaps.cumsum(0).add_(positions[-1])])
    return positions[1 : int(torch.searchsorted(positions, num))]


def _scale_and_drop(values: Tensor, positions: Tensor, scale: float) -> Tensor:
    """Positions are counted in the order of memory."""
    out = values * scale
    out.as_strided((out.numel(),), (1,))[positions] = 0.0
    return out


class _Drop(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, positions: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        # Positions are counted in memory, so the gradient must come back in the same format.
        channels_last = values.dim() == 4 and values.is_contiguous(memory_format=torch.channels_last)
        ctx.format = torch.channels_last if channels_last else torch.contiguous_format
        ctx.save_for_backward(positions)
        return _scale_and_drop(values.contiguous(memory_format=ctx.format), positions, scale)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (positions,) = ctx.saved_tensors
        return _scale_and_drop(grads[0].contiguous(memory_format=ctx.format), positions, ctx.scale), None, None


def _mixed(words: Tensor) -> Tensor:
    """A bijection of int32 in which every bit of a word moves every other: Wellons, 2018, "Prospecting for Hash Functions"."""
    words = (words ^ (words >> 16 & 0xFFFF)) * 0x7FEB352D
    words = (words ^ (words >> 15 & 0x1FFFF)) * (0x846CA68B - 2**32)
    return words ^ (words >> 16 & 0xFFFF)


def hashed(num: int, key: Tensor) -> Tensor:
    """A word, int32 `(num,)`, for each place from 0 on and for a key, int32 `(2,)`; each word once in 2^32 places.

    The second half of the key enters between two rounds: with one round, masks of two keys could be the same one, moved.
    """
    places = torch.arange(num, dtype=torch.int32, device=key.device)
    return _mixed(_mixed(places ^ key[0]) ^ key[1])


def drop_by_hash(values: Tensor, p: float) -> Tensor:
    """Dropout with a key drawn at every call; the share dropped of all 2^32 words is `p` within 2^-33."""
    channels_last = values.dim() == 4 and values.is_contiguous(memory_format=torch.channels_last)
    shape = values.movedim(1, -1).shape if channels_last else values.shape  # places are counted in memory
    key = torch.randint(-(2**31), 2**31, (2,), device=values.device).int()
    kept = (hashed(values.numel(), key) >= round(p * 2**32) - 2**31).view(shape)
    return torch.where(kept.movedim(-1, 1) if channels_last else kept, values * (1 / (1 - p)), 0.0)


class Dropout(nn.Dropout):
    """`nn.Dropout` with the same distribution of masks, faster on a CPU the smaller `p` is; elsewhere it is `nn.Dropout`."""

    def forward(self, input: Tensor) -> Tensor:
        if input.device.type != "cpu" or not self.training or not 0 < self.p < 1:
            return super().forward(input)
        if torch.compiler.is_compiling():
            return drop_by_hash(input, self.p)
        return _Drop.apply(input, dropped_positions(input.numel(), self.p), 1 / (1 - self.p))
