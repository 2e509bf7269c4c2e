"""The layer table: receptive fields against gradients, multiply-adds against torch's own counter, and the command."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mnist_lightning.models import Net1, Net2, Net3, Plan, count_parameters
from mnist_lightning.models.probe import probe
from mnist_lightning.models.summary import cells, layer_sizes, summarize
from tests.conftest import Finished
from tests.models import networks


def extent_of_gradient(net: nn.Module, side: int) -> int:
    """Width of the input region that the middle output depends on: what a receptive field is, by definition."""
    for parameter in net.parameters():
        nn.init.ones_(parameter)
    images = torch.ones(1, 1, side, side, dtype=torch.float64, requires_grad=True)
    output = net.double()(images)
    middle = output.shape[-1] // 2
    output[0, :, middle, middle].sum().backward()
    assert images.grad is not None
    touched = images.grad[0, 0].abs().sum(dim=0).nonzero()
    return int(touched.max() - touched.min() + 1)


@pytest.mark.parametrize(
    "layers",
    [
        [nn.Conv2d(1, 2, 3), nn.AvgPool2d(2), nn.Conv2d(2, 2, 3)],
        [nn.Conv2d(1, 1, 3, dilation=2), nn.Conv2d(1, 1, 5, stride=2), nn.Conv2d(1, 1, 3, dilation=3)],
        [nn.Conv2d(1, 1, 5, stride=3, padding=2), nn.AvgPool2d(3, stride=2, padding=1), nn.Conv2d(1, 1, 1)],
    ],
)
def test_receptive_field_is_the_extent_of_the_gradient(layers: list[nn.Module]) -> None:
    net = nn.Sequential(*layers)
    assert summarize(net, (1, 61, 61))[-1].receptive_field == extent_of_gradient(net, 61)


def test_adaptive_pooling_counts_as_the_window_it_stands_for() -> None:
    adaptive = summarize(nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1)))
    plain = summarize(nn.Sequential(nn.Conv2d(1, 4, 3), nn.AvgPool2d(26)))
    assert (adaptive[-1].receptive_field, adaptive[-1].jump) == (plain[-1].receptive_field, plain[-1].jump) == (28, 26)


@pytest.mark.parametrize("net", [Net1(), Net2(), Net3()])
def test_multiply_adds_are_half_of_torchs_flops(net: nn.Module) -> None:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net.eval()(torch.zeros(1, 1, 28, 28))
    assert 2 * sum(layer.multiply_adds for layer in summarize(net)) == counter.get_total_flops()


@pytest.mark.parametrize("network", networks.GOOD)
def test_sums_are_the_networks_whatever_its_forward_does(network: type[nn.Module], monkeypatch: pytest.MonkeyPatch) -> None:
    net = probe(network())
    layers = summarize(net)
    assert sum(layer.params for layer in layers) == count_parameters(net, "all")
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)  # an LSTM product by product
    with FlopCounterMode(display=False) as counter:
        net.eval()(torch.zeros(1, 1, 28, 28))
    assert 2 * sum(layer.multiply_adds for layer in layers) == counter.get_total_flops() > 0


@pytest.mark.parametrize("net", [Net1(), Net2(), Net3()])
def test_activations_of_a_chain_are_the_input_and_output_of_its_largest_convolution_or_pooling(net: nn.Module) -> None:
    """Batch norms, activations and dropout write over their input."""
    sums: list[int] = []
    for module in net.modules():
        if isinstance(module, (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)):
            module.register_forward_hook(lambda module, inputs, out: sums.append(4 * (inputs[0].numel() + out.numel())))
    net.eval()(torch.zeros(1, 1, 28, 28))
    assert max(sums) == layer_sizes(summarize(net))["activation_bytes"]


@pytest.mark.parametrize(
    ("network", "values"),
    [
        (networks.Residual, 3 * 4 * 13 * 13),  # in the second convolution of the first branch: its two maps, and x
        (networks.Branches, 2 * (3 + 3) * 28 * 28),  # in the cat: both branches, and the two together
        (networks.Functional, 784 + 4 * 26 * 26),  # in the first convolution: the image counts
        (lambda: Plan(["c8", "d8+", "gap", "head"]), 3 * 8 * 784),  # in the 1×1: its input, its output, and the addend
        (lambda: Plan(["c8", "se4", "p", "gap", "head"]), 8 * 784 + 8 * 196),  # in the pooling: the scaled map is in place
        (networks.Rows, 784 + 28 * 8 + 8 + 8),  # in the LSTM: image, states, the last state and cell; none of its own
    ],
)
def test_activations_of_branches_are_what_a_later_layer_still_reads(network: Callable[[], nn.Module], values: int) -> None:
    assert layer_sizes(summarize(network()))["activation_bytes"] == 4 * values


def test_a_map_that_is_read_again_is_not_written_over() -> None:
    class Rejoined(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([torch.relu(x), x])

    relu, cat = summarize(Rejoined())
    assert (relu.activation_bytes, cat.activation_bytes) == (2 * 3136, 4 * 3136)


def fields(net: nn.Module) -> dict[str, int | None]:
    return {layer.name: layer.receptive_field for layer in summarize(net)}


def test_functions_between_the_layers_are_rows_and_a_flatten_ends_the_receptive_field() -> None:
    rows = {"Conv2d-1": 3, "BatchNorm2d-2": 3, "relu-3": 3, "max_pool2d-4": 4, "Conv2d-5": 8, "relu-6": 8}
    assert fields(networks.Functional()) == rows | {"Linear-7": None, "log_softmax-8": None}


def test_where_branches_meet_the_largest_field_counts() -> None:
    rows = fields(networks.Branches())
    assert (rows["Conv2d-1"], rows["Conv2d-2"], rows["avg_pool2d-3"], rows["cat-4"]) == (3, 7, 9, 9)
    assert rows["mul-9"] == 9 + 27  # weighed by what sees all of the map
    rows = fields(networks.Residual())
    assert (rows["Conv2d-5"], rows["add-6"], rows["add-8"], rows["Linear-10"]) == (15, 15, 19, 19 + 12 * 2)


def test_windows_that_are_not_square_are_shown_as_they_are() -> None:
    wide, high, *_ = cells(summarize(networks.Oblong()))
    assert wide == ("Conv2d-1", "4×28×22", "1×7", "1", "0", "7", "1", "32", "17,248")
    assert high[2] == "3×1"


def test_parameters_that_no_layer_takes_have_a_row_of_their_own() -> None:
    net = networks.Residual()
    net.unused = nn.Linear(3, 3)
    *_, last = summarize(net)
    assert (last.kind, last.params, last.output_shape) == ("elsewhere", 12, ())


def test_summarizing_leaves_the_network_as_it_was() -> None:
    net = Net3().train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    summarize(net)
    assert net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not any(module._forward_hooks for module in net.modules())


def test_a_layer_used_again_costs_its_parameters_once() -> None:
    conv = nn.Conv2d(1, 1, 3, padding=1, bias=False)
    layers = summarize(nn.Sequential(conv, nn.ReLU(), conv))
    assert [(layer.kind, layer.params, layer.receptive_field) for layer in layers] == [
        ("Conv2d", 9, 3),
        ("ReLU", 0, 3),
        ("Conv2d", 0, 5),
    ]
    assert layers[2].multiply_adds == layers[0].multiply_adds > 0


def test_command_prints_a_row_per_layer_and_the_totals_without_data(cli: Callable[..., Finished], tmp_path: Path) -> None:
    done = cli("summary", "model=net1")
    lines = done.out.splitlines()
    assert done.status == 0
    assert len(lines) == 2 + 23 + 2 + 3
    assert lines[24].split() == ["Conv2d-23", "10×1×1", "7×7", "1", "0", "28", "2", "4,900", "4,900"]
    assert lines[-4].split() == ["total", "10,970", "1,650,440"]
    assert lines[-3:] == [
        "parameters: 10,970, budget fewer than 8,000: 2,971 too many",
        "operations: 1,650,440 multiply-adds",
        "memory: 61,760 bytes of activations",
    ]
    assert not list(tmp_path.iterdir())
