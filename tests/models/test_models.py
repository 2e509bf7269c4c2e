"""The published networks against the published tables, and the comments in all networks' files against the networks."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

import mnist_lightning.models as models
from mnist_lightning.config.build import build
from mnist_lightning.config.compose import compose_config
from mnist_lightning.config.errors import ConfigError
from mnist_lightning.models import Net1, Net2, Net3, Shared, TwoPool, count_parameters
from mnist_lightning.models.summary import summarize

NETS = {"net1": Net1, "net2": Net2, "net3": Net3}  # as published
ALL_NETS = NETS | {"two_pool": TwoPool, "shared": Shared}

# As published: layer, output shape, parameters.
NET3_LAYERS = [
    ("Conv2d-1", (8, 26, 26), 72),
    ("ReLU-2", (8, 26, 26), 0),
    ("BatchNorm2d-3", (8, 26, 26), 16),
    ("Dropout-4", (8, 26, 26), 0),
    ("Conv2d-5", (16, 24, 24), 1152),
    ("ReLU-6", (16, 24, 24), 0),
    ("BatchNorm2d-7", (16, 24, 24), 32),
    ("Dropout-8", (16, 24, 24), 0),
    ("MaxPool2d-9", (16, 12, 12), 0),
    ("Conv2d-10", (8, 12, 12), 128),
    ("ReLU-11", (8, 12, 12), 0),
    ("BatchNorm2d-12", (8, 12, 12), 16),
    ("Conv2d-13", (12, 10, 10), 864),
    ("ReLU-14", (12, 10, 10), 0),
    ("BatchNorm2d-15", (12, 10, 10), 24),
    ("Dropout-16", (12, 10, 10), 0),
    ("Conv2d-17", (16, 8, 8), 1728),
    ("ReLU-18", (16, 8, 8), 0),
    ("BatchNorm2d-19", (16, 8, 8), 32),
    ("Dropout-20", (16, 8, 8), 0),
    ("Conv2d-21", (20, 6, 6), 2880),
    ("ReLU-22", (20, 6, 6), 0),
    ("BatchNorm2d-23", (20, 6, 6), 40),
    ("Dropout-24", (20, 6, 6), 0),
    ("AvgPool2d-25", (20, 1, 1), 0),
    ("Conv2d-26", (16, 1, 1), 320),
    ("ReLU-27", (16, 1, 1), 0),
    ("BatchNorm2d-28", (16, 1, 1), 32),
    ("Dropout-29", (16, 1, 1), 0),
    ("Conv2d-30", (10, 1, 1), 160),
]

# As published: layer, output side, kernel, stride, padding, receptive field. Net2's Conv2d-26 in the reading as 1×1; the
# stride of Net3's average pooling as the 6 that a default AvgPool2d has.
RECEPTIVE_FIELDS = {
    "net1": [
        ("Conv2d-1", 26, 3, 1, 0, 3),
        ("Conv2d-4", 24, 3, 1, 0, 5),
        ("Conv2d-7", 22, 3, 1, 0, 7),
        ("MaxPool2d-10", 11, 2, 2, 0, 8),
        ("Conv2d-11", 11, 1, 1, 0, 8),
        ("Conv2d-14", 9, 3, 1, 0, 12),
        ("Conv2d-17", 7, 3, 1, 0, 16),
        ("Conv2d-20", 7, 1, 1, 0, 16),
        ("Conv2d-23", 1, 7, 1, 0, 28),
    ],
    "net2": [
        ("Conv2d-1", 26, 3, 1, 0, 3),
        ("Conv2d-5", 24, 3, 1, 0, 5),
        ("Conv2d-9", 24, 1, 1, 0, 5),
        ("MaxPool2d-13", 12, 2, 2, 0, 6),
        ("Conv2d-14", 10, 3, 1, 0, 10),
        ("Conv2d-18", 8, 3, 1, 0, 14),
        ("Conv2d-22", 6, 3, 1, 0, 18),
        ("Conv2d-26", 6, 1, 1, 0, 18),
        ("AvgPool2d-30", 1, 6, 6, 0, 28),
        ("Conv2d-31", 1, 1, 1, 0, 28),
    ],
    "net3": [
        ("Conv2d-1", 26, 3, 1, 0, 3),
        ("Conv2d-5", 24, 3, 1, 0, 5),
        ("MaxPool2d-9", 12, 2, 2, 0, 6),
        ("Conv2d-10", 12, 1, 1, 0, 6),
        ("Conv2d-13", 10, 3, 1, 0, 10),
        ("Conv2d-17", 8, 3, 1, 0, 14),
        ("Conv2d-21", 6, 3, 1, 0, 18),
        ("AvgPool2d-25", 1, 6, 6, 0, 28),
        ("Conv2d-26", 1, 1, 1, 0, 28),
        ("Conv2d-30", 1, 1, 1, 0, 28),
    ],
}


@pytest.mark.parametrize(("name", "params"), [("net1", 10_970), ("net2", 7_450), ("net3", 7_496)])
def test_parameters_are_the_published_number(name: str, params: int) -> None:
    assert count_parameters(NETS[name]()) == params


def test_net1_splits_its_parameters_as_published() -> None:
    layers = summarize(Net1())
    assert [la.params for la in layers if la.kind == "Conv2d"] == [90, 900, 1800, 200, 900, 1800, 200, 4900]
    assert [la.params for la in layers if la.kind == "BatchNorm2d"] == [20, 20, 40, 20, 20, 40, 20]


def test_net3_is_the_published_table_layer_by_layer() -> None:
    assert [(la.name, la.output_shape, la.params) for la in summarize(Net3())] == NET3_LAYERS


@pytest.mark.parametrize("name", NETS)
def test_receptive_fields_are_the_published_ones(name: str) -> None:
    rows = [
        (la.name, la.output_shape[1], la.kernel, la.stride, la.padding, la.receptive_field)
        for la in summarize(NETS[name]())
        if la.kernel
    ]
    assert rows == RECEPTIVE_FIELDS[name]


@pytest.mark.parametrize("name", NETS)
def test_blocks_are_ordered_as_published(name: str) -> None:
    kinds = [la.kind for la in summarize(NETS[name]())]
    block = {
        "net1": ["Conv2d", "BatchNorm2d", "ReLU"],
        "net2": ["Conv2d", "BatchNorm2d", "ReLU", "Dropout"],
        "net3": ["Conv2d", "ReLU", "BatchNorm2d", "Dropout"],
    }[name]
    assert kinds[: len(block)] == block
    assert kinds[-1] == "Conv2d"
    assert not any(m.bias is not None for m in NETS[name]().modules() if isinstance(m, nn.Conv2d))


@pytest.mark.parametrize("name", ALL_NETS)
def test_comments_beside_the_layers_are_true(name: str) -> None:
    source = (Path(models.__file__).parent / f"{name}.py").read_text("utf-8")
    rows = re.findall(
        r"^ +(?:nn\.)?([A-Za-z0-9]+)\w*(?:\(.*)?,  # +\(N, ([\d, ]+)\) +rf (\d+) +([\d,]+)$", source, flags=re.MULTILINE
    )
    layers = summarize(ALL_NETS[name]())
    # An argument of the network, by its default, and convolutions that are used again.
    kind_of = {"act": "SiLU", "depthwise": "Conv2d", "pointwise": "Conv2d"}
    written = [
        (kind_of.get(kind, kind), tuple(int(n) for n in shape.split(",")), int(rf), int(params.replace(",", "")))
        for kind, shape, rf, params in rows
    ]
    assert written == [(la.kind, la.output_shape, la.receptive_field, la.params) for la in layers]
    assert f"{count_parameters(ALL_NETS[name]()):,} parameters" in source.splitlines()[0]


@pytest.mark.parametrize("name", NETS)
def test_logits_are_one_row_per_image(name: str) -> None:
    assert NETS[name]()(torch.zeros(5, 1, 28, 28)).shape == (5, 10)


def test_dropout_and_widths_come_from_the_configuration() -> None:
    net = build(compose_config("model=net3", "model.dropout=0", "model.channels=[4,8,8,8,8,8,8]"), "model")
    assert {m.p for m in net.modules() if isinstance(m, nn.Dropout)} == {0}
    assert summarize(net)[0].output_shape == (4, 26, 26)


@pytest.mark.parametrize("name", NETS)
def test_a_wrong_number_of_widths_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"channels=\[8, 16\] must be a list of 7 widths, not of 2"):
        build(compose_config(f"model={name}", "model.channels=[8,16]"), "model")


def test_only_net1_is_over_the_budget() -> None:
    budget = compose_config().gate.max_params
    assert [name for name, net in NETS.items() if count_parameters(net()) >= budget] == ["net1"]
