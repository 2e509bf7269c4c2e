"""The row-wise batch norm against torch's own, in double precision where figures are compared."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mnist_lightning.models import Net3
from mnist_lightning.models.layers import batchnorm
from mnist_lightning.models.layers.batchnorm import BatchNorm2d

SHAPES = [(6, 8, 26, 26), (5, 3, 2, 2), (1, 4, 5, 7), (128, 16, 8, 8)]


def channels_last(shape: tuple[int, ...], seed: int) -> Tensor:
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 3 + 2  # far from normalised
    return values.contiguous(memory_format=torch.channels_last)


def pair(channels: int, **options: Any) -> tuple[BatchNorm2d, nn.BatchNorm2d]:
    """Ours, and torch's in double precision, with the same weights."""
    ours, reference = BatchNorm2d(channels, **options), nn.BatchNorm2d(channels, **options).double()
    with torch.no_grad():
        ours.weight.copy_(torch.linspace(-1, 2, channels))  # negative and positive slopes
        ours.bias.copy_(torch.linspace(0.5, -0.5, channels))
    reference.load_state_dict(ours.state_dict())
    return ours, reference


@pytest.fixture
def rows_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often the row-wise way was taken."""
    taken: list[int] = []
    original = batchnorm._Normalize.apply
    monkeypatch.setattr(batchnorm._Normalize, "apply", lambda *args: taken.append(1) or original(*args))
    return taken


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("momentum", [0.1, None])
def test_output_gradients_and_statistics_are_torchs(
    shape: tuple[int, ...], momentum: float | None, rows_read: list[int]
) -> None:
    ours, reference = pair(shape[1], momentum=momentum)
    for seed in range(3):  # the running statistics of three batches
        images = channels_last(shape, seed)
        exact = images.double().requires_grad_()
        images.requires_grad_()
        out, expected = ours(images), reference(exact)
        upstream = channels_last(shape, seed + 10)
        ours.zero_grad(), reference.zero_grad()
        out.backward(upstream)
        expected.backward(upstream.double())
        torch.testing.assert_close(out.double(), expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(images.grad.double(), exact.grad, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(ours.weight.grad.double(), reference.weight.grad, rtol=5e-5, atol=1e-3)
        torch.testing.assert_close(ours.bias.grad.double(), reference.bias.grad, rtol=1e-5, atol=1e-4)
        assert out.is_contiguous(memory_format=torch.channels_last)
    for name, value in reference.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name].double(), value.double(), rtol=1e-5, atol=1e-6, msg=name)
    assert rows_read == [1, 1, 1]


def test_statistics_are_more_exact_than_torchs_for_channels_last(rows_read: list[int]) -> None:
    images = channels_last((128, 8, 26, 26), seed=0)
    errors = {}
    for norm in (BatchNorm2d(8), nn.BatchNorm2d(8)):
        norm(images)
        mean = images.double().mean((0, 2, 3))
        errors[type(norm)] = ((norm.running_mean.double() / 0.1 - mean) / mean).abs().max().item()
    assert errors[BatchNorm2d] < 1e-6
    assert errors[BatchNorm2d] <= errors[nn.BatchNorm2d]
    assert rows_read == [1]


def test_a_gradient_in_another_memory_format_is_the_same() -> None:
    ours, _ = pair(6)
    grads = []
    for memory_format in (torch.channels_last, torch.contiguous_format):
        images = channels_last((4, 6, 5, 5), seed=0).requires_grad_()
        ours(images).backward(channels_last((4, 6, 5, 5), seed=1).contiguous(memory_format=memory_format))
        grads.append(images.grad)
    assert torch.equal(*grads)


@pytest.mark.parametrize(
    ("module", "images"),
    [
        (BatchNorm2d(4).eval(), channels_last((2, 4, 6, 6), 0)),
        (BatchNorm2d(4), channels_last((2, 4, 6, 6), 0).contiguous()),
        (BatchNorm2d(4).double(), channels_last((2, 4, 6, 6), 0).double()),
        (BatchNorm2d(4), channels_last((2, 4, 1, 1), 0)),
        (BatchNorm2d(4, affine=False), channels_last((2, 4, 6, 6), 0)),
        (BatchNorm2d(4, track_running_stats=False), channels_last((2, 4, 6, 6), 0)),
    ],
    ids=["evaluation", "contiguous", "float64", "1x1", "no weights", "no running statistics"],
)
def test_everything_else_is_torchs_own(module: BatchNorm2d, images: Tensor, rows_read: list[int]) -> None:
    options = {name: getattr(module, name) for name in ("affine", "track_running_stats")}
    stock = nn.BatchNorm2d(4, **options).to(images.dtype).train(module.training)
    assert torch.equal(module(images), stock(images))
    assert not rows_read


def test_gradients_are_those_of_finite_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the arithmetic itself, in double precision, which `BatchNorm2d` leaves to torch."""
    images = channels_last((3, 2, 4, 3), seed=0).double().requires_grad_()
    weight, bias = torch.tensor([0.5, -1.5]).double().requires_grad_(), torch.tensor([0.1, 0.2]).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda *args: batchnorm._Normalize.apply(*args, 1e-5)[0], (images, weight, bias))


def test_net3_in_channels_last_takes_the_rows(rows_read: list[int]) -> None:
    net = Net3().to(memory_format=torch.channels_last)
    net(torch.randn(4, 1, 28, 28))
    assert len(rows_read) == 6  # all but the one on 1×1 maps
