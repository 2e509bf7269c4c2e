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
from mnist_lightning.models import Net1, Net2, Net3, count_parameters
from mnist_lightning.models.summary import summarize

NETS = {"net1": Net1, "net2": Net2, "net3": Net3}  # as published

# As published: parameters of all convolutions, and of all batch norms.
PARAMETERS = {
    "net1": ([90, 900, 1800, 200, 900, 1800, 200, 4900], [20, 20, 40, 20, 20, 40, 20]),
    "net3": ([72, 1152, 128, 864, 1728, 2880, 320, 160], [16, 32, 16, 24, 32, 40, 32]),
}

# As published, of convolutions and poolings: kernel, output side, receptive field. Net2's Conv2d-26 in the reading as 1×1.
WINDOWS = {
    "net1": ([3, 3, 3, 2, 1, 3, 3, 1, 7], [26, 24, 22, 11, 11, 9, 7, 7, 1], [3, 5, 7, 8, 8, 12, 16, 16, 28]),
    "net2": ([3, 3, 1, 2, 3, 3, 3, 1, 6, 1], [26, 24, 24, 12, 10, 8, 6, 6, 1, 1], [3, 5, 5, 6, 10, 14, 18, 18, 28, 28]),
    "net3": ([3, 3, 2, 1, 3, 3, 3, 6, 1, 1], [26, 24, 12, 12, 10, 8, 6, 1, 1, 1], [3, 5, 6, 6, 10, 14, 18, 28, 28, 28]),
}


def test_parameters_are_the_published_number() -> None:
    assert [count_parameters(net()) for net in NETS.values()] == [10_970, 7_450, 7_496]


@pytest.mark.parametrize("name", PARAMETERS)
def test_every_layer_has_the_published_parameters(name: str) -> None:
    layers = summarize(NETS[name]())
    for kind, published in zip(("Conv2d", "BatchNorm2d"), PARAMETERS[name], strict=True):
        assert [layer.params for layer in layers if layer.kind == kind] == published


@pytest.mark.parametrize("name", NETS)
def test_windows_and_receptive_fields_are_the_published_ones(name: str) -> None:
    layers = [layer for layer in summarize(NETS[name]()) if layer.kernel]
    assert [layer.kernel for layer in layers] == WINDOWS[name][0]
    assert [layer.output_shape[1] for layer in layers] == WINDOWS[name][1]
    assert [layer.receptive_field for layer in layers] == WINDOWS[name][2]
    # A pooling strides by its window, as torch's do by default; nothing is padded.
    windows = [(layer.kind, layer.window) for layer in layers if layer.window]
    assert all(window.stride == (window.kernel if kind.endswith("Pool2d") else (1, 1)) for kind, window in windows)
    assert {window.padding for _, window in windows} == {(0, 0)}


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("net1", ["Conv2d", "BatchNorm2d", "ReLU"]),
        ("net2", ["Conv2d", "BatchNorm2d", "ReLU", "Dropout"]),
        ("net3", ["Conv2d", "ReLU", "BatchNorm2d", "Dropout"]),
    ],
)
def test_blocks_are_ordered_as_published(name: str, block: list[str]) -> None:
    net = NETS[name]()
    kinds = [layer.kind for layer in summarize(net)]
    assert (kinds[: len(block)], kinds[-1]) == (block, "Conv2d")
    assert not any(module.bias is not None for module in net.modules() if isinstance(module, nn.Conv2d))


@pytest.mark.parametrize("name", NETS)
def test_comments_beside_the_layers_are_true(name: str) -> None:
    source = (Path(models.__file__).parent / f"{name}.py").read_text("utf-8")
    rows = re.findall(
        r"^ +(?:nn\.)?([A-Za-z0-9]+)\w*(?:\(.*)?,  # +\(N, ([\d, ]+)\) +rf (\d+) +([\d,]+)$", source, flags=re.MULTILINE
    )
    layers = summarize(NETS[name]())
    written = [
        (kind, tuple(int(n) for n in shape.split(",")), int(rf), int(params.replace(",", "")))
        for kind, shape, rf, params in rows
    ]
    assert written == [(la.kind, la.output_shape, la.receptive_field, la.params) for la in layers]
    assert f"{count_parameters(NETS[name]()):,} parameters" in source.splitlines()[0]


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
