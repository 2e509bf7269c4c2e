"""The front of the README: parameters against test accuracy, every preset over its seeds, beside what others state."""

import statistics
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

from mnist_lightning.study.aggregate import pareto_front
from mnist_lightning.study.published import CLAIMS
from mnist_lightning.study.sweep_picture import DOTS, MEAN_COLOR, TARGET_COLOR

OTHERS = "#8a8a8a"


def picture(sizes: Mapping[str, int], accuracies: Mapping[str, Sequence[float]], target: float) -> Figure:
    """Draws presets by their parameters, on a log axis, and the mean and standard deviation of their accuracies in percent."""
    figure = Figure(figsize=(8.4, 4.6), dpi=120, layout="constrained")
    axes = figure.add_subplot(xscale="log", xlabel="parameters", ylabel="test accuracy, %")
    means = {preset: statistics.mean(values) for preset, values in accuracies.items()}
    on_front = pareto_front(means, sizes.__getitem__, means.__getitem__)
    for presets, color, label in (
        ([preset for preset in means if preset not in on_front], DOTS, "other presets here"),
        (on_front, MEAN_COLOR, "on the front: mean ± s.d., last epoch"),
    ):
        places = [sizes[preset] for preset in presets], [means[preset] for preset in presets]
        bars = [statistics.stdev(accuracies[preset]) if len(accuracies[preset]) > 1 else 0.0 for preset in presets]
        axes.errorbar(*places, bars, fmt="D", color=color, markersize=5, capsize=3, label=label)
    for preset in on_front:
        place = (sizes[preset], means[preset])
        axes.annotate(preset, place, xytext=(6, 5), textcoords="offset points", fontsize=8, color=MEAN_COLOR)
    axes.axhline(target, color=TARGET_COLOR, linewidth=1.2, linestyle="--", zorder=1, label=f"target {target:g} %")
    draw_claims(axes)
    mark_sizes(axes)
    axes.grid(alpha=0.25)
    figure.legend(loc="outside right upper", fontsize=8)
    return figure


def draw_claims(axes: Axes) -> list[float]:
    """Marks other projects' networks with a letter each, which the legend explains; returns their accuracies in percent."""
    for letter, claim in zip("abcdefghijklmnopqrstuvwxyz", CLAIMS, strict=False):
        owner = claim.repository.partition("/")[0]
        marker = rf"$\mathrm{{{letter}}}$"
        axes.plot(
            claim.params, claim.accuracy, linestyle="", marker=marker, color=OTHERS, markersize=6, label=f"{owner}, best epoch"
        )
    return [claim.accuracy for claim in CLAIMS]


def mark_sizes(axes: Axes) -> None:
    """Writes plain numbers along a log axis: 1,000, 2,000, 5,000, 10,000."""
    low, high = axes.get_xlim()
    ticks = [step * 10**power for power in range(2, 8) for step in (1, 2, 5)]
    axes.xaxis.set_major_locator(FixedLocator([tick for tick in ticks if low <= tick <= high]))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
