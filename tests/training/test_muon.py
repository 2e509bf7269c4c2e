"""Muon against torch's own, against SGD, and against the orthogonal matrices that its steps should be."""

import pytest
import torch
from torch import nn

from mnist_lightning.config.build import build
from mnist_lightning.config.compose import compose_config
from mnist_lightning.training.lit_module import decay_groups
from mnist_lightning.training.muon import Muon, orthogonalize


@pytest.mark.parametrize("shape", [(8, 9), (16, 72), (10, 16), (40, 9), (1, 5), (5, 1), (12, 12)])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_a_step_is_about_the_nearest_orthogonal_matrix(shape: tuple[int, int], scale: float) -> None:
    torch.manual_seed(0)
    matrix = scale * torch.randn(shape)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    result = orthogonalize(matrix)
    values = left.T @ result @ right.T  # in the singular vectors of the input: diagonal, if they are kept
    assert values.diagonal().min() > 0.5
    assert values.diagonal().max() < 1.3
    assert (values - values.diagonal().diag()).abs().max() < 1e-3


def test_zero_gradients_move_nothing() -> None:
    assert orthogonalize(torch.zeros(3, 4)).eq(0).all()


def random_steps(optimizer: torch.optim.Optimizer, parameter: nn.Parameter, num_steps: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    for _ in range(num_steps):
        parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()
    return parameter.detach()


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch.optim.Muon came with torch 2.9")
@pytest.mark.parametrize("shape", [(6, 20), (20, 6)])
def test_torchs_own_takes_the_same_steps(shape: tuple[int, int]) -> None:
    """Torch's computes in bfloat16, which has two to three digits."""
    start = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    random_steps(Muon([ours], lr=0.02, momentum=0.9, weight_decay=0.5), ours, 5)
    random_steps(torch.optim.Muon([theirs], lr=0.02, momentum=0.9, weight_decay=0.5), theirs, 5)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=4e-3)
    assert (ours - start).abs().max() > 0.03  # ten times that: the steps were seen


def test_a_kernel_is_a_row_per_output_channel() -> None:
    start = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    kernel, matrix = nn.Parameter(start.clone()), nn.Parameter(start.flatten(1).clone())
    generator = torch.Generator().manual_seed(1)
    kernel.grad = torch.randn(4, 3, 3, 3, generator=generator).to(memory_format=torch.channels_last)
    matrix.grad = kernel.grad.flatten(1).clone()
    for parameter in (kernel, matrix):
        Muon([parameter], lr=0.1).step()
    torch.testing.assert_close(kernel.flatten(1), matrix)


def test_vectors_take_steps_of_sgd_with_a_learning_rate_of_their_own() -> None:
    start = torch.randn(7, generator=torch.Generator().manual_seed(0))
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    random_steps(Muon([ours], lr=0.02, momentum=0.9, weight_decay=0.5, others=5.0), ours, 4)
    random_steps(torch.optim.SGD([theirs], lr=0.1, momentum=0.9, nesterov=True), theirs, 4)
    torch.testing.assert_close(ours, theirs)


def test_the_group_muon_takes_a_network_as_the_study_groups_it() -> None:
    net = build(compose_config(), "model")
    optimizer = build(compose_config("optimizer=muon", "optimizer.weight_decay=0.5"), "optimizer")(decay_groups(net))
    before = {name: weights.clone() for name, weights in net.named_parameters()}
    net(torch.randn(8, 1, 28, 28)).square().sum().backward()
    optimizer.step()
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.5, 0.0]
    assert all((weights - before[name]).abs().max() > 0 for name, weights in net.named_parameters())
