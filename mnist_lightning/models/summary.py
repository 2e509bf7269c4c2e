"""`python -m mnist_lightning summary model=net3`: the layer table of a network, its totals and its room under the budget.

Everything is computed from the module itself: one forward pass gives the shapes, and kernel, stride, padding and dilation of
convolutions and poolings give the receptive fields. Needs no data.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

WINDOWED = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)
HEAD = ("layer", "output shape", "kernel", "stride", "padding", "RF", "jump", "parameters", "multiply-adds")


@dataclass(frozen=True)
class Layer:
    """One row of the table. Receptive field and jump are in input pixels, per axis, of square windows."""

    index: int
    kind: str
    output_shape: tuple[int, ...]
    """Without the batch: (channels, height, width)."""
    kernel: int | None
    stride: int | None
    padding: int | None
    receptive_field: int
    jump: int
    """Input pixels between neighbouring outputs: the product of the strides so far."""
    params: int
    multiply_adds: int
    """Per image; of convolutions and linear layers, a bias not counted."""

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.index}"


def summarize(net: nn.Module, input_shape: Sequence[int] = (1, 28, 28)) -> list[Layer]:
    """Lists the layers of a network that is one chain, in the order in which they run.

    Args:
        net: Its leaf modules are the layers.
        input_shape: Channels, height and width of one image.

    Raises:
        ValueError: A layer does not take the output of the one before: a branching network has no single receptive field
            per row.

    Source: the recursion of Araujo, Norris and Sim, 2019, "Computing receptive fields of convolutional neural networks".
    """
    layers: list[Layer] = []
    outputs: list[Tensor] = []

    counted: set[nn.Parameter] = set()

    def count_new(module: nn.Module) -> int:
        """Trainable elements of the layer that no row before it has: a shared layer's are those of its first row."""
        new = {parameter for parameter in module.parameters(recurse=False) if parameter.requires_grad} - counted
        counted.update(new)
        return sum(parameter.numel() for parameter in new)

    def record(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if outputs and inputs[0] is not outputs[-1]:
            raise ValueError(
                f"{type(module).__name__} does not take the output of {layers[-1].name}: "
                "receptive fields are defined here for networks that are one chain of layers"
            )
        outputs.append(output)
        receptive_field, jump = (layers[-1].receptive_field, layers[-1].jump) if layers else (1, 1)
        kernel = stride = padding = None
        if isinstance(module, WINDOWED):
            kernel, stride, padding = (_side(getattr(module, name)) for name in ("kernel_size", "stride", "padding"))
            dilation = _side(getattr(module, "dilation", 1))
            receptive_field += (kernel - 1) * dilation * jump
            jump *= stride
        elif isinstance(module, (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)):
            kernel = stride = inputs[0].shape[-1] // output.shape[-1]
            padding = 0
            receptive_field += (kernel - 1) * jump
            jump *= stride
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
                params=count_new(module),
                multiply_adds=_multiply_adds(module, output),
            )
        )

    leaves = [module for module in net.modules() if not list(module.children())]
    hooks = [module.register_forward_hook(record) for module in leaves]
    was_training = net.training
    try:
        with torch.no_grad():
            net.eval()(torch.zeros(1, *input_shape))
    finally:
        net.train(was_training)
        for hook in hooks:
            hook.remove()
    return layers


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
            "" if layer.stride is None else str(layer.stride),
            "" if layer.padding is None else str(layer.padding),
            str(layer.receptive_field),
            str(layer.jump),
            f"{layer.params:,}",
            f"{layer.multiply_adds:,}",
        )
        for layer in layers
    ]


def table(layers: Sequence[Layer]) -> str:
    """The layers as text, a row each, with totals of parameters and multiply-adds."""
    rows = cells(layers)
    params, multiply_adds = sum(layer.params for layer in layers), sum(layer.multiply_adds for layer in layers)
    total = ("total", *[""] * 6, f"{params:,}", f"{multiply_adds:,}")
    widths = [max(len(row[i]) for row in [HEAD, *rows, total]) for i in range(len(HEAD))]

    def line(row: Sequence[str]) -> str:
        first, *numbers = (
            cell.ljust(width) if i < 2 else cell.rjust(width) for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        return "  ".join([first, *numbers]).rstrip()

    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    return "\n".join([line(HEAD), rule, *map(line, rows), rule, line(total)])
