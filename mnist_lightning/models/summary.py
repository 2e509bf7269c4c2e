"""The layer table of a network: shapes, receptive fields, parameters and multiply-adds, all from one forward pass."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tabulate import SEPARATING_LINE, tabulate
from torch import Tensor, nn

from mnist_lightning.models.probe import IMAGE_SHAPE
from mnist_lightning.models.receptive_field import Window
from mnist_lightning.models.trace import Call, calls

BATCH = 2  # images of the pass; a batch norm without running statistics compares them

HEAD = ("layer", "output shape", "kernel", "stride", "padding", "RF", "jump", "parameters", "multiply-adds")


@dataclass(frozen=True)
class Layer:
    """One row of the table. Receptive field and jump are in input pixels, along the longer side of a window."""

    index: int
    kind: str
    output_shape: tuple[int, ...]  # channels, height, width
    window: Window | None
    receptive_field: int | None  # None behind a flatten, and where places mix in another way
    jump: int | None  # between neighbouring outputs: the product of the strides so far
    params: int
    multiply_adds: int  # per image; of convolutions and products of matrices, a bias not counted
    activation_bytes: int  # alive while it runs, for one image in float32

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.index}"

    @property
    def kernel(self) -> int | None:
        return max(self.window.kernel) if self.window else None


def summarize(net: nn.Module, image_shape: Sequence[int] = IMAGE_SHAPE) -> list[Layer]:
    """The layers and functions of a network in the order in which they run.

    What belongs to none of them, such as a parameter that nothing uses, is a row at the end: the sums are the network's.
    """
    some = next(net.parameters(), torch.zeros(()))
    *ran, elsewhere = calls(net, torch.zeros(BATCH, *image_shape, device=some.device, dtype=some.dtype))
    counted: set[nn.Parameter] = set()
    layers: list[Layer] = []
    for call, alive in zip(ran, _values_alive(ran), strict=True):
        layers.append(_row(len(layers) + 1, call, [one for one in call.params if one not in counted], alive))
        counted.update(call.params)  # a shared layer's parameters are those of its first row
    rest = [one for one in net.parameters() if one not in counted]
    if rest or elsewhere.flops:
        layers.append(_row(len(layers) + 1, elsewhere, rest))
    return layers


def _values_alive(ran: Sequence[Call]) -> list[int]:
    """Values of all images that are kept while each call runs, as a small device would keep them.

    They are its inputs, its outputs, and what a later call reads. A call that works value by value writes over an input that no
    later call reads.
    """
    sizes: dict[int, int] = {}  # by buffer, which a view shares with what it looks at
    spans: dict[int, tuple[int, int]] = {}  # of the calls that a buffer is kept for
    for index, call in enumerate(ran):
        for buffer, size in _buffers([*call.inputs, *call.outputs]).items():
            sizes[buffer] = size
            spans[buffer] = spans.get(buffer, (index,))[0], index
    alive = []
    for index, call in enumerate(ran):
        kept = sum(size for buffer, size in sizes.items() if spans[buffer][0] <= index <= spans[buffer][1])
        ending = [size for buffer, size in _buffers(call.inputs).items() if spans[buffer][1] == index]
        begun = [size for buffer, size in _buffers(call.outputs).items() if spans[buffer][0] == index]
        alive.append(kept - sum(size for size in begun if call.by_value and size in ending))
    return alive


def _buffers(tensors: Sequence[Tensor]) -> dict[int, int]:
    """The memory behind tensors: address, and values that it holds."""
    return {one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() // one.itemsize for one in tensors}


def _row(index: int, call: Call, params: Sequence[nn.Parameter], values_alive: int = 0) -> Layer:
    return Layer(
        index=index,
        kind=call.name,
        output_shape=tuple(call.outputs[0].shape[1:]) if call.outputs else (),
        window=call.windows[0] if len(call.windows) == 1 else None,
        receptive_field=max(call.field.extent) if call.field else None,
        jump=max(call.field.jump) if call.field else None,
        params=sum(one.numel() for one in set(params)),
        multiply_adds=call.flops // (2 * BATCH),
        activation_bytes=4 * values_alive // BATCH,
    )


def layer_sizes(layers: Sequence[Layer]) -> dict[str, int]:
    """What a network costs for one image: all multiply-adds, and the most bytes of activations that are alive at once."""
    return {
        "multiply_adds": sum(layer.multiply_adds for layer in layers),
        "activation_bytes": max(layer.activation_bytes for layer in layers),
    }


def cells(layers: Sequence[Layer]) -> list[tuple[str, ...]]:
    """The table's rows, a cell for each of `HEAD`, without the totals."""
    return [
        (
            layer.name,
            "×".join(map(str, layer.output_shape)),
            *_window(layer.window),
            "–" if layer.receptive_field is None else str(layer.receptive_field),
            "–" if layer.jump is None else str(layer.jump),
            f"{layer.params:,}",
            f"{layer.multiply_adds:,}",
        )
        for layer in layers
    ]


def _window(window: Window | None) -> tuple[str, str, str]:
    """Kernel, stride and padding; the latter two as one number where they are the same along both axes."""
    if window is None:
        return "", "", ""
    stride, padding = (str(one[0]) if one[0] == one[1] else "×".join(map(str, one)) for one in (window.stride, window.padding))
    return "×".join(map(str, window.kernel)), stride, padding


def table(layers: Sequence[Layer]) -> str:
    """A network's layers as text, a row each, with totals of parameters and multiply-adds."""
    totals = [sum(layer.params for layer in layers), sum(layer.multiply_adds for layer in layers)]
    total = ["total", *[""] * 6, *(f"{number:,}" for number in totals)]
    alignment = ("left", "left", *["right"] * 7)
    return tabulate([*cells(layers), SEPARATING_LINE, total], HEAD, disable_numparse=True, colalign=alignment)
