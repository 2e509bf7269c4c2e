"""The project's statistics: how sure a rate, a mean or a difference is. All intervals are of 95 %.

| question                                        | answer                 |
| ----------------------------------------------- | ---------------------- |
| a rate, of images read right or seeds passed    | Wilson's interval      |
| the mean over a few seeds                       | Student's t            |
| the difference of two recipes, some seeds each  | Welch's interval       |
| the difference of two networks, on one test set | McNemar's exact test   |

SciPy takes a second to import, which no run needs: the functions import it.
"""

import math
import warnings
from collections.abc import Sequence
from statistics import mean, stdev

Z95 = 1.959963984540054  # two-sided point of a normal distribution


def wilson_interval(correct: float, total: int) -> tuple[float, float]:
    """Interval that covers the true rate of a binomial; `correct` may be a mean, and so no whole number.

    Source: Wilson, 1927, "Probable inference, the law of succession, and statistical inference", JASA 22.
    """
    rate, square = correct / total, Z95 * Z95
    centre = rate + square / (2 * total)
    spread = Z95 * math.sqrt(rate * (1 - rate) / total + square / (4 * total * total))
    scale = 1 + square / total
    return (centre - spread) / scale, (centre + spread) / scale


def mean_margin(values: Sequence[float]) -> float:
    """Half the interval of a mean, by Student's t; not a number for a single value, which shows no spread."""
    if len(values) < 2:
        return math.nan
    from scipy.stats import t

    return float(t.ppf(0.975, len(values) - 1)) * stdev(values) / math.sqrt(len(values))


def welch_interval(first: Sequence[float], second: Sequence[float]) -> tuple[float, float] | None:
    """Interval of the difference of two means, first minus second, each with its own spread; None without two values of each.

    Source: Welch, 1947, "The generalization of Student's problem when several different population variances are involved",
        Biometrika 34.
    """
    if min(len(first), len(second)) < 2:
        return None
    if stdev(first) == stdev(second) == 0:  # the limit of ever smaller spreads; SciPy gives NaN
        difference = mean(first) - mean(second)
        return difference, difference
    from scipy.stats import ttest_ind

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # that the values of one group are all equal
        interval = ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
    return float(interval.low), float(interval.high)


def mcnemar(only_first: int, only_second: int) -> float:
    """Two-sided p of McNemar's exact test: how often chance splits so many images at least so unevenly.

    Args:
        only_first: Images that the first network alone reads right; `only_second` likewise.

    Source: McNemar, 1947, "Note on the sampling error of the difference between correlated proportions", Psychometrika 12.
    """
    if only_first + only_second == 0:
        return 1.0
    from scipy.stats import binomtest

    return float(binomtest(only_first, only_first + only_second).pvalue)
