"""One forward pass before anything else: a network that fits the data is told from one that does not, and why."""

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mnist_lightning.config.errors import ConfigError, fitted, one_line
from mnist_lightning.models.trace import evaluating

log = logging.getLogger(__name__)

IMAGE_SHAPE = (1, 28, 28)  # channels, height, width
NUM_CLASSES = 10
OTHER_SHAPES = ((3, 28, 28), (1, 32, 32), (3, 32, 32), (784,))  # of networks made for other data, to say what they take
NUM_IMAGES = 3  # no divisor of a layer's usual sizes, so that a wrong view changes the number of rows


def probe(net: nn.Module) -> nn.Module:
    """The network, its lazy layers made, if it maps images `(N, 1, 28, 28)` to logits `(N, 10)` or `(N, 10, 1, 1)`.

    Raises:
        ConfigError: It does not, and the message says what it does instead.
    """
    name = type(net).__name__
    try:
        output = _pass(net, IMAGE_SHAPE)
    except (Exception, SystemExit) as error:
        start = f"model: {name} cannot take float32 images (N, 1, 28, 28){_what_else(net)}: "
        raise ConfigError(fitted(start, one_line(error))) from error
    if wrong := _what_is_wrong(output):
        raise ConfigError(f"model: {name} {wrong}")
    if not any(parameter.requires_grad for parameter in net.parameters()):
        raise ConfigError(f"model: {name} has no parameter that is trained; set requires_grad of some of them")
    return net


def in_fastest_format(net: nn.Module) -> nn.Module:
    """The network with channels last in memory, or as it was where its `forward` cannot take that (`x.view` of a map).

    It takes a sixth off Net3's step on a CPU (28.4 to 23.8 ms at batch 128, two threads). Its price: torch sums a batch norm's
    statistics there with a relative error of 1e-4 in place of 1e-7.
    """
    net.to(memory_format=torch.channels_last)
    try:
        _pass(net, IMAGE_SHAPE)
    except Exception as error:
        net.to(memory_format=torch.contiguous_format)
        log.info("%s trains with channels first in memory: %s", type(net).__name__, one_line(error))
    return net


def _pass(net: nn.Module, image_shape: Sequence[int]) -> Any:
    some = next((one for one in net.parameters() if not nn.parameter.is_lazy(one)), torch.zeros(()))
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(NUM_IMAGES, *image_shape, generator=generator).to(some.device)
    with evaluating(net):
        return net(images)


def _what_is_wrong(output: Any) -> str:
    """What is wrong with the answer to NUM_IMAGES images; empty where it is logits."""
    wanted = f"wanted are logits (N, {NUM_CLASSES})"
    if not isinstance(output, Tensor):
        size = f" of {len(output)}" if isinstance(output, (tuple, list, dict)) else ""
        return f"returns a {type(output).__name__}{size}; {wanted}: return the logits alone"
    shape = tuple(output.shape)
    if shape not in ((NUM_IMAGES, NUM_CLASSES), (NUM_IMAGES, NUM_CLASSES, 1, 1)):
        return f"returns {shape} for {NUM_IMAGES} images; {wanted}"
    if not output.is_floating_point():
        return f"returns {output.dtype}; {wanted} in floating point"
    rows = output.flatten(1)
    if bool((rows >= 0).all()) and torch.allclose(rows.sum(1), torch.ones_like(rows[:, 0]), atol=1e-4):
        return (
            "returns probabilities, and the loss applies a softmax itself: leave the network's out, or wrap it in YAML by "
            "_target_: mnist_lightning.models.FromProbabilities"
        )
    return ""


def _what_else(net: nn.Module) -> str:
    """The shape that a network takes in place of this project's, if it is a usual one."""
    for shape in OTHER_SHAPES:
        try:
            _pass(net, shape)
        except Exception:
            continue
        return f", only (N, {', '.join(map(str, shape))})"
    return ""


class FromProbabilities(nn.Module):
    """Logits of a network that ends in a softmax, as ports from Keras do: the logarithms of its probabilities `(N, 10)`."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images).clamp_min(1e-12).log()
