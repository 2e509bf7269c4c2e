"""Intervals and tests, against values worked out by hand or published."""

import math

import pytest

from mnist_lightning.evaluation.statistics import mcnemar, mean_margin, welch_interval, wilson_interval


def test_wilson_interval_of_a_known_case() -> None:
    """9,940 of 10,000: 99.23 to 99.53 %, as worked out by hand from Wilson's formula."""
    low, high = wilson_interval(9940, 10_000)
    assert (round(low, 4), round(high, 4)) == (0.9923, 0.9953)


@pytest.mark.parametrize(("correct", "total"), [(0, 10), (10, 10), (1, 3), (9_999, 10_000)])
def test_wilson_interval_solves_its_defining_equation(correct: int, total: int) -> None:
    """Its ends are the rates p from which the observed one is z standard errors away: |o - p| = z √(p(1-p)/n)."""
    observed = correct / total
    for p in wilson_interval(correct, total):
        assert abs(observed - p) == pytest.approx(1.959964 * math.sqrt(max(p * (1 - p), 0) / total), abs=1e-6)


def test_the_margin_of_a_mean_is_students() -> None:
    """Of 1, 2, 3: standard deviation 1, n = 3, t = 4.3027; of a single value there is none."""
    assert mean_margin([1.0, 2.0, 3.0]) == pytest.approx(4.3027 / 3**0.5, rel=1e-4)
    assert math.isnan(mean_margin([1.0]))


def test_the_interval_of_a_difference_is_welchs() -> None:
    """Of 3, 4, 5 and 1, 2, 3: difference 2, variances 1, 4 degrees of freedom, t = 2.7764."""
    margin = 2.7764 * (2 / 3) ** 0.5
    assert welch_interval([3, 4, 5], [1, 2, 3]) == pytest.approx((2 - margin, 2 + margin), abs=1e-4)


def test_spreads_are_not_pooled() -> None:
    """Of 8, 10, 12 and 0, 0, 0: variances 4 and 0, so that 2 degrees of freedom and t = 4.3027; pooled they were 4."""
    margin = 4.3027 * (4 / 3) ** 0.5
    assert welch_interval([8, 10, 12], [0, 0, 0]) == pytest.approx((10 - margin, 10 + margin), rel=1e-4)


def test_twenty_seeds_against_twenty_have_students_interval_and_not_the_normal_one() -> None:
    """Variances 20/19 each, 38 degrees of freedom: t = 2.02439 in the tables, 3 % more than the normal 1.96."""
    first, second = [10.0 + (-1) ** i for i in range(20)], [9.0 + (-1) ** i for i in range(20)]
    margin = 2.02439 * math.sqrt(2 * (20 / 19) / 20)
    assert welch_interval(first, second) == pytest.approx((1 - margin, 1 + margin), rel=1e-5)


def test_without_a_spread_there_is_no_nan() -> None:
    assert welch_interval([99.4], [99.3, 99.5]) is None
    assert welch_interval([], []) is None
    assert welch_interval([99.5, 99.5], [99.25, 99.25]) == (0.25, 0.25)
    assert welch_interval([99.4, 99.4], [99.4, 99.4]) == (0, 0)


@pytest.mark.parametrize(
    ("only_first", "only_second", "p"),
    [
        (0, 0, 1.0),
        (5, 5, 1.0),
        (0, 5, 0.0625),  # 2 / 2**5
        (1, 9, 22 / 1024),  # 2 * (1 + 10) / 2**10
        (9, 1, 22 / 1024),
        (121, 59, 4.434e-6),  # the value in the tests of statsmodels
        (3000, 3100, 0.2052),  # z = -99 / sqrt(6100) with a correction for continuity
    ],
)
def test_mcnemars_p(only_first: int, only_second: int, p: float) -> None:
    assert mcnemar(only_first, only_second) == pytest.approx(p, rel=2e-3)
