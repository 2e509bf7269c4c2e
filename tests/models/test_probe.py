"""A network that does not fit is told before anything is trained, and what it does instead; one that fits stays as it is."""

import logging

import pytest
import torch
from torch import nn

from mnist_lightning.config.errors import ConfigError
from mnist_lightning.models import FromProbabilities, Net3
from mnist_lightning.models.probe import in_fastest_format, probe
from tests.models import networks

MESSAGES = {
    "colour": "cannot take float32 images (N, 1, 28, 28), only (N, 3, 28, 28): Given groups=1, weight of size",
    "large": "cannot take float32 images (N, 1, 28, 28), only (N, 1, 32, 32): mat1 and mat2 shapes cannot be multiplied",
    "double": "cannot take float32 images (N, 1, 28, 28): ",
    "tuple": "returns a tuple of 2; wanted are logits (N, 10): return the logits alone",
    "dict": "returns a dict of 1; wanted are logits (N, 10): return the logits alone",
    "eleven": "returns (3, 11) for 3 images; wanted are logits (N, 10)",
    "mixed": "returns (6, 5) for 3 images; wanted are logits (N, 10)",
    "maps": "returns (3, 10, 24, 24) for 3 images; wanted are logits (N, 10)",
    "integers": "returns torch.int64; wanted are logits (N, 10) in floating point",
}


@pytest.mark.parametrize("what", MESSAGES)
def test_what_does_not_fit_is_named(what: str) -> None:
    with pytest.raises(ConfigError) as caught:
        probe(networks.Returns(what))
    assert str(caught.value).startswith(f"model: Returns {MESSAGES[what]}")
    assert len(str(caught.value)) <= 200


def test_probabilities_are_refused_with_the_way_out_and_log_softmax_is_not() -> None:
    with pytest.raises(ConfigError, match=r"returns probabilities.*mnist_lightning.models.FromProbabilities"):
        probe(networks.Softmax())
    images, net = torch.randn(4, 1, 28, 28), networks.Softmax()
    torch.testing.assert_close(probe(FromProbabilities(net))(images).softmax(1), net(images))
    probe(nn.Sequential(nn.Flatten(), nn.Linear(784, 10), nn.LogSoftmax(1)))


def test_a_network_without_anything_to_train_is_refused() -> None:
    with pytest.raises(ConfigError, match="Net3 has no parameter that is trained"):
        probe(Net3().requires_grad_(False))


def test_lazy_layers_are_made_and_nothing_else_changes() -> None:
    torch.manual_seed(0)
    drawn = torch.rand(1)
    torch.manual_seed(0)
    net = probe(networks.Lazy())
    assert sum(parameter.numel() for parameter in net.parameters()) == 5882
    assert net.training
    assert torch.equal(torch.rand(1), drawn)
    net[1].eval()  # part of it, as a frozen batch norm
    probe(net)
    assert [module.training for module in net] == [True, False, True, True, True]


def test_channels_come_last_in_memory_unless_a_view_forbids_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mnist_lightning")
    assert in_fastest_format(networks.Residual()).a.weight.is_contiguous(memory_format=torch.channels_last)
    assert not caplog.records
    net = in_fastest_format(networks.Functional())
    assert all(parameter.is_contiguous() for parameter in net.parameters())
    [record] = caplog.records
    assert record.getMessage().startswith("Functional trains with channels first in memory: view size is not compatible")
