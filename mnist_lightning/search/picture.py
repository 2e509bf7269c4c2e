"""The picture of a search: size against accuracy, every finished trial a dot, the front a line, beside what others claim."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, StrMethodFormatter
from omegaconf import DictConfig

from mnist_lightning.evaluation.budgets import BUDGETS
from mnist_lightning.search.results import Row
from mnist_lightning.search.rules import FINISHED
from mnist_lightning.study.published import CLAIMS
from mnist_lightning.study.sweep_picture import DOTS, MEAN_COLOR, TARGET_COLOR

OTHERS = "#8a8a8a"
SPAN, ROOM = 2.0, 0.1  # points of accuracy: what lies farther below the best would press all others together
LABELS = {budget.size: budget.unit for budget in BUDGETS}


def picture(table: Sequence[Row], front: Sequence[Row], cfg: DictConfig, objective: str) -> Figure:
    """Draws trials by what `objective` names, on a log axis, and accuracy on the hold-out in percent."""
    figure = Figure(figsize=(7.2, 4.8), dpi=120, layout="constrained")
    axes = figure.add_subplot(xscale="log", xlabel=LABELS[objective], ylabel="hold-out accuracy after the last epoch, %")
    finished = [row for row in table if row.state == FINISHED]
    axes.plot(*_places(finished), "o", color=DOTS, markersize=5, markeredgecolor="white", label="trial")
    axes.plot(*_places(front), "-D", color=MEAN_COLOR, markersize=5, linewidth=1.2, label="front", drawstyle="steps-post")
    heights = list(_places(front)[1])
    lowest = max(heights, default=100.0) - SPAN
    if cfg.data.get("name", cfg.data._target_.rpartition(".")[2].removesuffix("DataModule")) == cfg.gate.dataset:
        target = 100 * cfg.gate.min_accuracy
        axes.axhline(target, color=TARGET_COLOR, linewidth=1.2, linestyle="--", zorder=1, label=f"target {target:g} %")
        heights.append(target)
        if cfg.gate.dataset == "MNIST" and objective == "params":
            heights += _draw_claims(axes)
        axes.set_ylim(max(min(heights), lowest) - ROOM, max(heights) + ROOM)
    low, high = axes.get_xlim()
    axes.set_xticks(
        [tick for power in range(2, 8) for tick in (10**power, 2 * 10**power, 5 * 10**power) if low <= tick <= high]
    )
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.25)
    axes.legend(loc="lower right", fontsize=8)
    return figure


def _places(table: Sequence[Row]) -> tuple[list[int], list[float]]:
    return [row.size for row in table], [100 * (row.accuracy or 0) for row in table]


def _draw_claims(axes: Axes) -> list[float]:
    """Marks other projects' networks; returns their accuracies."""
    heights = [claim.accuracy for claim in CLAIMS]
    label = "stated by others: test set, best epoch"
    axes.plot([claim.params for claim in CLAIMS], heights, "x", color=OTHERS, label=label)
    for number, claim in enumerate(CLAIMS):  # above and below in turn, since they lie close together
        text: dict[str, Any] = {
            "xytext": (3, -8 if number % 2 else 4),
            "textcoords": "offset points",
            "fontsize": 6,
            "color": OTHERS,
        }
        axes.annotate(claim.repository.partition("/")[0], (claim.params, claim.accuracy), **text)
    return heights
