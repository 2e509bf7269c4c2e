"""Batch norms folded into convolutions, for a network that is only evaluated from now on.

After a convolution a batch norm is part of it: torch's `fuse_conv_bn_eval`. Before one (Net3 normalises after the ReLU) it
scales the convolution's weights per input channel and shifts its bias.
"""

import copy
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold(net: nn.Module) -> nn.Module:
    """A copy of a network in evaluation mode, without dropout and the batch norms that a convolution can take over exactly.

    A convolution applied several times, each time with another batch norm, becomes as many convolutions. The output of an
    `nn.Sequential` is flattened, as `models.chain.Chain` does; any other network comes back as it is.
    """
    if not isinstance(net, nn.Sequential):
        return copy.deepcopy(net)
    layers: list[nn.Module] = []
    for layer in net:  # not net.children(), which names a layer that is applied again only once
        if isinstance(layer, nn.BatchNorm2d) and layers and isinstance(layers[-1], nn.Conv2d):
            layers[-1] = fuse_conv_bn_eval(layers[-1], layer)
        elif not isinstance(layer, nn.Dropout):
            layers.append(copy.deepcopy(layer))
    for index in reversed(range(len(layers))):
        if isinstance(layers[index], nn.BatchNorm2d) and (folded := _into_next(layers[index:])):
            layers[index:] = folded
    return nn.Sequential(*layers, nn.Flatten())


def _into_next(layers: list[nn.Module]) -> list[nn.Module] | None:
    """Folds the batch norm at the front into the next convolution; None where something between or padding forbids it."""
    norm: Any = layers[0]
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    shift = norm.bias - norm.running_mean * scale
    for layer in layers[1:]:
        if isinstance(layer, nn.Conv2d):
            # Padding is zero after the batch norm, which the shift would not reach.
            if layer.padding != (0, 0) or layer.groups != 1:
                return None
            bias = (layer.weight * shift[:, None, None]).sum((1, 2, 3))
            layer.bias = nn.Parameter(bias if layer.bias is None else layer.bias + bias)
            layer.weight = nn.Parameter(layer.weight * scale[:, None, None])
            return layers[1:]
        # The mean of scaled values is the scaled mean; the largest stays the largest unless the sign turns.
        commutes = isinstance(layer, nn.AvgPool2d) and layer.padding in (0, (0, 0))
        commutes |= isinstance(layer, nn.MaxPool2d) and bool((scale > 0).all())
        if not commutes:
            return None
    return None
