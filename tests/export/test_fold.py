"""A folded network gives the same logits, has no batch norm where one can be folded, and leaves the original alone."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

from mnist_lightning.export.fold import fold
from mnist_lightning.models import Net1, Net2, Net3, Plan
from mnist_lightning.models.probe import probe
from tests.models import networks


def lived_in(net: nn.Module, negative: bool = False) -> nn.Module:
    """In double precision, with statistics and weights that no batch norm has at its start."""
    generator = torch.Generator().manual_seed(0)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            for name, low in {"weight": 0.5, "bias": -0.5, "running_mean": -0.5, "running_var": 0.5}.items():
                values = getattr(module, name)
                if values is None:  # no affine map, no statistics
                    continue
                values.data = low + torch.rand(values.shape, generator=generator)
            if negative:
                module.weight.data[::2] *= -1
    return net.double().eval()


def count_norms(net: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in net.modules())


def two_pool() -> Plan:
    return Plan(["c8", "c8", "p", "c12", "c12", "p", "v16", "v16", "gdc", "head"])


def every_word() -> Plan:
    return Plan(["k4", "se2", "p", "w8:none", "d8@a", "d8+@a", "o5", "a", "c8+@b:hardswish", "c8@b", "gap", "head"])


@pytest.mark.parametrize("network", [Net1, Net2, Net3, two_pool, every_word])
@pytest.mark.parametrize("negative", [False, True])
def test_logits_stay(network: Callable[[], nn.Module], negative: bool) -> None:
    torch.manual_seed(0)
    net = lived_in(network(), negative)
    before, images = copy.deepcopy(net.state_dict()), torch.randn(5, 1, 28, 28, dtype=torch.float64)
    folded = fold(net).eval()
    torch.testing.assert_close(folded(images), net(images), rtol=1e-9, atol=1e-9)
    # Only Net3 has a batch norm in front of a max pooling, with which a negative factor does not commute.
    assert count_norms(folded) == (1 if negative and network is Net3 else 0)
    assert all(torch.equal(values, before[name]) for name, values in net.state_dict().items())


def test_padding_keeps_a_batch_norm_in_front_of_its_convolution() -> None:
    """The padding is zero behind the batch norm; folded, it would be shifted too."""
    net = lived_in(nn.Sequential(nn.ReLU(), nn.BatchNorm2d(1), nn.Conv2d(1, 2, 3, padding=1)))
    folded, images = fold(net), torch.randn(2, 1, 5, 5, dtype=torch.float64)
    assert count_norms(folded) == 1
    torch.testing.assert_close(folded(images), net(images))


@pytest.mark.parametrize("network", networks.GOOD)
def test_networks_of_any_kind_give_the_same_logits(network: type[nn.Module]) -> None:
    torch.manual_seed(0)
    net, images = lived_in(probe(network())), torch.randn(5, 1, 28, 28, dtype=torch.float64)
    torch.testing.assert_close(fold(net)(images), net(images), rtol=1e-9, atol=1e-9)


def test_only_what_the_graph_shows_is_folded() -> None:
    norms = {network: count_norms(fold(lived_in(network()))) for network in (networks.NoAffine, networks.NewWeightNorm)}
    assert norms == {networks.NoAffine: 0, networks.NewWeightNorm: 1}  # a weight that is made anew at every call


class Both(nn.Sequential):
    """Takes the output of the convolution twice."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        before = self[0](x)
        return self[1](before) + before


def test_a_batch_norm_stays_where_something_else_sees_its_input() -> None:
    assert count_norms(fold(lived_in(Both()))) == 1


def test_a_network_that_is_no_chain_stays_as_it_is() -> None:
    assert isinstance(fold(nn.TransformerEncoderLayer(4, 2)), nn.TransformerEncoderLayer)
