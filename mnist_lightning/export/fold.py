"""Batch norms folded into convolutions, for a network that is only evaluated from now on.

After a convolution a batch norm is part of it: torch's `fuse_conv_bn_eval`. Before one (Net3 normalises after the ReLU) it
scales the convolution's weights per input channel and shifts its bias. Both only where the network's graph shows that nothing
else takes what is between them.
"""

import copy
from typing import Any, cast

import torch
from torch import fx, nn
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.utils.fusion import fuse_conv_bn_eval

from mnist_lightning.models.layers.batchnorm import BatchNorm2d
from mnist_lightning.models.trace import is_layer

Layers = dict[fx.Node, nn.Module]
"""The layers of a graph in the order in which they run, each of its own."""


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return is_layer(m)


def fold(net: nn.Module) -> nn.Module:
    """A copy of a network in evaluation mode, without dropout and the batch norms that a convolution can take over exactly.

    A convolution applied several times, each time with another batch norm, becomes as many convolutions. A network without a
    graph, since its `forward` branches on what it sees, comes back as it is.
    """
    net = copy.deepcopy(net).eval()
    try:
        traced = fx.GraphModule(net, _Tracer().trace(net))
    except Exception:  # whatever a network's own code raises where it gets a symbol in place of images
        return net
    layers = _layers(traced)
    layer: Any
    for node, layer in list(layers.items()):
        before: Any = node.args[0]
        if isinstance(layer, _DropoutNd):
            _leave_out(node, layers)
        elif _is_norm(layer) and before in layers and _is_convolution(layers[before]) and len(before.users) == 1:
            layers[before] = fuse_conv_bn_eval(cast(nn.Conv2d, layers[before]), layer)
            _leave_out(node, layers)
    for node in reversed(list(layers)):
        if _is_norm(layers[node]) and _into_next(node, layers):
            _leave_out(node, layers)
    for node, layer in layers.items():
        traced.set_submodule(str(node.target), layer)
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced


def _layers(traced: fx.GraphModule) -> Layers:
    layers: Layers = {}
    for node in traced.graph.nodes:
        if node.op == "call_module":
            layer = traced.get_submodule(node.target)
            if node.target in {other.target for other in layers}:  # applied again
                node.target, layer = f"{node.target.replace('.', '_')}_{len(layers)}", copy.deepcopy(layer)
                traced.add_submodule(node.target, layer)
            layers[node] = layer
    return layers


def _leave_out(node: fx.Node, layers: Layers) -> None:
    node.replace_all_uses_with(node.args[0])  # type: ignore[arg-type]
    node.graph.erase_node(node)
    del layers[node]


def _is_norm(layer: nn.Module) -> bool:
    """Whether it normalises by statistics that it keeps, and not by those of a batch."""
    return type(layer) in (nn.BatchNorm2d, BatchNorm2d) and layer.running_mean is not None


def _is_convolution(layer: nn.Module) -> bool:
    """Whether it does what its weight says: a class derived from it may not, and a hook may make the weight anew."""
    return type(layer) is nn.Conv2d and not layer._forward_pre_hooks and not layer._forward_hooks


def _into_next(node: fx.Node, layers: Layers) -> bool:
    """Folds a batch norm into the next convolution; False where something between or padding forbids it."""
    norm: Any = layers[node]
    scale = torch.rsqrt(norm.running_var + norm.eps) * (1 if norm.weight is None else norm.weight)
    shift = (0 if norm.bias is None else norm.bias) - norm.running_mean * scale
    while len(node.users) == 1:
        node = next(iter(node.users))
        layer: Any = layers.get(node)
        if layer is not None and _is_convolution(layer):
            # Padding is zero after the batch norm, which the shift would not reach.
            if layer.padding not in ((0, 0), "valid") or layer.groups != 1:
                return False
            bias = (layer.weight * shift[:, None, None]).sum((1, 2, 3))
            layer.bias = nn.Parameter(bias if layer.bias is None else layer.bias + bias)
            layer.weight = nn.Parameter(layer.weight * scale[:, None, None])
            return True
        # The mean of scaled values is the scaled mean; the largest stays the largest unless the sign turns.
        commutes = isinstance(layer, nn.AdaptiveAvgPool2d) or (isinstance(layer, nn.AvgPool2d) and layer.padding in (0, (0, 0)))
        commutes |= isinstance(layer, nn.MaxPool2d) and bool((scale > 0).all())
        if not commutes:
            return False
    return False
