"""The layer table of a network: shapes, receptive fields, parameters and multiply-adds, all from the module itself."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tabulate import SEPARATING_LINE, tabulate
from torch import Tensor, nn

HEAD = ("layer", "output shape", "kernel", "stride", "padding", "RF", "jump", "parameters", "multiply-adds")


@dataclass(frozen=True)
class Layer:
    """One row of the table. Receptive field and jump are in input pixels, per axis, of square windows."""

    index: int
    kind: str
    output_shape: tuple[int, ...]  # channels, height, width
    kernel: int | None
    stride: int | None
    padding: int | None
    receptive_field: int
    jump: int  # between neighbouring outputs: the product of the strides so far
    params: int
    multiply_adds: int  # per image; of convolutions and linear layers, a bias not counted

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.index}"


def summarize(net: nn.Module, input_shape: Sequence[int] = (1, 28, 28)) -> list[Layer]:
    """The leaf modules of a network in the order in which they run; a ValueError where they are no chain.

    Source: the recursion of Araujo, Norris and Sim, 2019, "Computing receptive fields of convolutional neural networks".
    """
    layers: list[Layer] = []
    counted: set[nn.Parameter] = set()
    before, receptive_field, jump = None, 1, 1
    for module, images, output in _calls(net, input_shape):
        if before is not None and images is not before:
            kind, last = type(module).__name__, layers[-1].name
            raise ValueError(f"{kind} does not take the output of {last}: only a chain of layers has one receptive field a row")
        before = output
        kernel = stride = padding = None
        if window := _window(module, images, output):
            kernel, stride, padding, dilation = window
            receptive_field += (kernel - 1) * dilation * jump
            jump *= stride
        # A shared layer's parameters are those of its first row.
        new = {parameter for parameter in module.parameters(recurse=False) if parameter.requires_grad} - counted
        counted |= new
        layers.append(
            Layer(
                index=len(layers) + 1,
                kind=type(module).__name__,
                output_shape=tuple(output.shape[1:]),
                kernel=kernel,
                stride=stride,
                padding=padding,
                receptive_field=receptive_field,
                jump=jump,
                params=sum(parameter.numel() for parameter in new),
                multiply_adds=_multiply_adds(module, output),
            )
        )
    return layers


def _calls(net: nn.Module, input_shape: Sequence[int]) -> list[tuple[nn.Module, Tensor, Tensor]]:
    """The leaf modules in the order in which they run, with their inputs and outputs."""
    calls: list[tuple[nn.Module, Tensor, Tensor]] = []

    def record(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        calls.append((module, inputs[0], output))

    hooks = [module.register_forward_hook(record) for module in net.modules() if not list(module.children())]
    was_training = net.training
    try:
        with torch.no_grad():
            net.eval()(torch.zeros(1, *input_shape))
    finally:
        net.train(was_training)
        for hook in hooks:
            hook.remove()
    return calls


def _window(module: nn.Module, images: Tensor, output: Tensor) -> tuple[int, int, int, int] | None:
    """Kernel, stride, padding and dilation of a layer that has them."""
    if isinstance(module, (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)):
        dilation = getattr(module, "dilation", 1)
        return _side(module.kernel_size), _side(module.stride), _side(module.padding), _side(dilation)
    if isinstance(module, (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)):
        side = images.shape[-1] // output.shape[-1]
        return side, side, 0, 1
    return None


def _side(size: int | str | tuple[int, ...]) -> int:
    """The side of a square window."""
    if isinstance(size, int):
        return size
    if isinstance(size, str) or len(set(size)) != 1:
        raise ValueError(f"the table is for square windows with padding in numbers, not {size!r}")
    return size[0]


def _multiply_adds(module: nn.Module, output: Tensor) -> int:
    if isinstance(module, nn.Conv2d):
        # Every output element sums over one window of the channels of its group.
        return output[0].numel() * module.weight[0].numel()
    return module.weight.numel() if isinstance(module, nn.Linear) else 0


def cells(layers: Sequence[Layer]) -> list[tuple[str, ...]]:
    """The table's rows, a cell for each of `HEAD`, without the totals."""
    return [
        (
            layer.name,
            "×".join(map(str, layer.output_shape)),
            f"{layer.kernel}×{layer.kernel}" if layer.kernel else "",
            str(layer.stride) if layer.kernel else "",
            str(layer.padding) if layer.kernel else "",
            str(layer.receptive_field),
            str(layer.jump),
            f"{layer.params:,}",
            f"{layer.multiply_adds:,}",
        )
        for layer in layers
    ]


def table(layers: Sequence[Layer]) -> str:
    """The layers as text, a row each, with totals of parameters and multiply-adds."""
    totals = [sum(layer.params for layer in layers), sum(layer.multiply_adds for layer in layers)]
    total = ["total", *[""] * 6, *(f"{number:,}" for number in totals)]
    alignment = ("left", "left", *["right"] * 7)
    return tabulate([*cells(layers), SEPARATING_LINE, total], HEAD, disable_numparse=True, colalign=alignment)
