"""A network from a list of short words, such as `[c8,p,d16@a,d16@a,gdc,head]`; what they mean is in docs/networks.md."""

from collections.abc import Sequence

from torch import Tensor, nn

from mnist_lightning.config.plan import KERNELS, Item, Step, steps_of
from mnist_lightning.models.chain import Chain
from mnist_lightning.models.layers.batchnorm import BatchNorm2d
from mnist_lightning.models.layers.dropout import Dropout

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "silu": nn.SiLU, "hardswish": nn.Hardswish}


class Residual(nn.Sequential):
    """Adds what comes in to what its layers make of it: He et al., 2015, "Deep Residual Learning"."""

    def forward(self, images: Tensor) -> Tensor:
        return images + super().forward(images)


class Plan(Chain):
    """Layers in the order of the plan; a convolution brings its batch norm and its activation, and has no bias.

    `activation` is relu, silu or hardswish; `norm_first` puts the batch norm before it. Convolutions of one label are one
    module. Raises a ValueError where the plan cannot be read or does not fit the images.
    """

    def __init__(self, plan: Sequence[str], activation: str = "silu", norm_first: bool = True) -> None:
        shared: dict[str, list[nn.Module]] = {}
        layers: list[nn.Module] = []
        for step in steps_of(plan):
            if step.item.kind not in KERNELS:
                layers.append(_other(step))
                continue
            label = step.item.label or ""
            convolutions = shared.get(label) or _convolutions(step)
            if label:
                shared[label] = convolutions
            block = [*convolutions, *_behind(step.item, activation, norm_first)]
            layers += [Residual(*block)] if step.item.residual else block
        super().__init__(*layers)


def _convolutions(step: Step) -> list[nn.Module]:
    channels, width = step.channels, step.item.width
    kernel, padding = KERNELS[step.item.kind]
    if step.item.kind == "d":  # depthwise separable: Howard et al., 2017, "MobileNets"
        depthwise = nn.Conv2d(channels, channels, kernel, padding=padding, groups=channels, bias=False)
        return [depthwise, nn.Conv2d(channels, width, 1, bias=False)]
    return [nn.Conv2d(channels, width, kernel, padding=padding, bias=False)]


def _behind(item: Item, activation: str, norm_first: bool) -> list[nn.Module]:
    """Batch norm and activation of a convolution, in their order."""
    norm = BatchNorm2d(item.width)
    name = item.activation or activation
    if name == "none":
        return [norm]
    return [norm, ACTIVATIONS[name]()] if norm_first else [ACTIVATIONS[name](), norm]


def _other(step: Step) -> nn.Module:
    channels, side, item = step.channels, step.side, step.item
    match item.kind:
        case "p":
            return nn.MaxPool2d(2)
        case "a":
            return nn.AvgPool2d(2)
        case "gap":
            return nn.AvgPool2d(side)
        case "gdc":  # a weight for each place of each channel: Chen et al., 2018, "MobileFaceNets"
            return nn.Conv2d(channels, channels, side, groups=channels, bias=False)
        case "se":
            from torchvision.ops import SqueezeExcitation  # half a second, which other plans need not wait for

            return SqueezeExcitation(channels, item.width)
        case "o":
            return Dropout(item.number / 100)
        case _:
            return nn.Conv2d(channels, 10, side, bias=False)
