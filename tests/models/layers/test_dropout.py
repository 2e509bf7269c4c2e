"""The fast dropouts against what dropout is: independent draws, scaled, with the matching gradient."""

import math
from collections.abc import Callable

import pytest
import torch
from scipy.stats import chi2
from torch import Tensor

from mnist_lightning.models.layers.dropout import Dropout, drop_by_hash, dropped_positions, hashed

# Of two calls as a run makes them, and of calls whose keys differ by a bit or are each other's, for which a weak hash fails.
KEYS = [(-1340, 2**30 + 7), (77, -(2**29)), (0, 0), (0, 1), (0, -(2**31)), (-(2**31), 0), (2**30 + 7, -1340)]


def masks(p: float, num: int) -> Tensor:
    """What is dropped for each of KEYS, float32 `(7, num)`."""
    words = torch.stack([hashed(num, torch.tensor(key, dtype=torch.int32)) for key in KEYS])
    return (words < round(p * 2**32) - 2**31).float()


@pytest.mark.parametrize("p", [0.025, 0.3, 0.9])
def test_elements_are_dropped_independently_with_probability_p(p: float) -> None:
    """Each p of the time, pairs at any distance p² of it, and the number dropped is binomial."""
    num, draws, rounds = 60, 3000, 30_000
    torch.manual_seed(0)
    dropped = torch.zeros(draws, num * rounds // draws)
    for mask in dropped:
        mask[dropped_positions(len(mask), p)] = 1
    dropped = dropped.view(rounds, num)
    assert ((dropped.mean(0) - p).abs() < 5 * math.sqrt(p * (1 - p) / rounds)).all()  # 60 elements, 5 standard errors
    together = (dropped.T @ dropped / rounds)[~torch.eye(num, dtype=torch.bool)]
    assert ((together - p * p).abs() < 6 * math.sqrt(p * p * (1 - p * p) / rounds)).all()  # 1,770 pairs, 6 standard errors
    assert dropped.sum(1).var().item() == pytest.approx(num * p * (1 - p), rel=0.05)


def test_gaps_are_geometric_far_into_the_tail() -> None:
    p = 0.025
    torch.manual_seed(0)
    gaps = dropped_positions(40_000_000, p).diff().double()
    n = len(gaps)
    for k in (1, 10, 100, 300, 400):
        expected = (1 - p) ** k
        share = (gaps > k).double().mean().item()
        assert abs(share - expected) < 5 * math.sqrt(expected * (1 - expected) / n), k


def test_positions_are_ascending_unique_and_inside() -> None:
    for num in (1, 2, 1000):
        for _ in range(50):
            positions = dropped_positions(num, 0.5)
            assert (positions.diff() > 0).all()
            assert len(positions) == 0 or (positions[0] >= 0 and positions[-1] < num)


def test_more_gaps_are_drawn_when_the_first_do_not_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnist_lightning.models.layers.dropout.math.sqrt", lambda x: -x / 5.5)  # about 11 gaps at a time
    torch.manual_seed(0)
    positions = dropped_positions(100_000, 0.025)
    assert (positions.diff() > 0).all()
    assert len(positions) == pytest.approx(2500, rel=0.1)


@pytest.mark.parametrize("drop", [Dropout(0.25), lambda values: drop_by_hash(values, 0.25)], ids=["gaps", "hash"])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_values_are_scaled_and_the_gradient_has_the_same_mask(
    drop: Callable[[Tensor], Tensor], memory_format: torch.memory_format
) -> None:
    torch.manual_seed(0)
    values = torch.rand(8, 6, 10, 10) + 1
    values = values.contiguous(memory_format=memory_format).requires_grad_()
    out = drop(values)
    assert out.is_contiguous(memory_format=memory_format)
    kept = out != 0
    assert 0.7 < kept.float().mean() < 0.8
    torch.testing.assert_close(out[kept], (values / 0.75)[kept])
    upstream = torch.rand(8, 6, 10, 10)  # contiguous: the gradient may come in another memory format
    out.backward(upstream)
    torch.testing.assert_close(values.grad, upstream * kept / 0.75)


def test_dimensions_other_than_four_work() -> None:
    values = torch.ones(100, 30, requires_grad=True)
    out = Dropout(0.5)(values.T)
    out.sum().backward()
    assert torch.equal(values.grad, out.detach().T)


def test_it_is_nn_dropout_in_evaluation_and_at_the_ends() -> None:
    values = torch.rand(4, 4)
    assert torch.equal(Dropout(0.5).eval()(values), values)
    assert torch.equal(Dropout(0.0)(values), values)
    assert not Dropout(1.0)(values).any()


def test_hashed_words_are_uniform() -> None:
    """By chi-square over 256 bins of the high, the middle and the low bits, for every key."""
    for key in KEYS:
        words = hashed(2**18, torch.tensor(key, dtype=torch.int32))
        assert len(words.unique()) == 2**18  # a bijection: over all 2^32 places exactly round(p · 2^32) are dropped
        for shift in (24, 12, 0):
            counts = torch.bincount(words >> shift & 0xFF, minlength=256).double()
            statistic = ((counts - 2**10) ** 2 / 2**10).sum().item()
            assert 1e-6 < chi2.sf(statistic, 255) < 1 - 1e-6, (key, shift)


@pytest.mark.parametrize("p", [0.025, 0.3])
def test_what_is_dropped_by_hash_is_independent(p: float) -> None:
    """Of what comes a few elements, a row or a map later in the same call, and of the same element and its like in others."""
    num, bound = 2**20, 5 * math.sqrt(2**20) * p * (1 - p)  # five standard errors of a sum of products
    centred = masks(p, num) - p
    assert (centred.sum(1).abs() < 5 * math.sqrt(num * p * (1 - p))).all()
    for lag in (1, 2, 3, 8, 16, 208, 1024, 5408, 2**16):
        products = centred @ centred.roll(lag, dims=1).T  # a map of another layer or step may lie elsewhere in memory
        assert (products.abs() < bound).all(), lag
    assert (((centred @ centred.T)[~torch.eye(len(KEYS), dtype=torch.bool)]).abs() < bound).all()


def test_every_call_draws_its_own_mask_from_the_generator() -> None:
    """So layers and steps differ, and an epoch's seed gives the same ones again."""
    torch.manual_seed(0)
    first, second = (drop_by_hash(torch.ones(10_000), 0.3) for _ in range(2))
    torch.manual_seed(0)
    assert torch.equal(drop_by_hash(torch.ones(10_000), 0.3), first)
    assert pytest.approx(((first == 0) != (second == 0)).double().mean().item(), abs=0.03) == 2 * 0.3 * 0.7
