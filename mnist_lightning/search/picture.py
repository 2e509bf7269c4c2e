"""The picture of a search: size against accuracy, every finished trial a dot, the front a line, beside what others claim."""

from collections.abc import Sequence

from matplotlib.figure import Figure
from omegaconf import DictConfig

from mnist_lightning.evaluation.budgets import BUDGETS
from mnist_lightning.search.results import Row
from mnist_lightning.search.rules import FINISHED
from mnist_lightning.study.front_picture import draw_claims, mark_sizes
from mnist_lightning.study.sweep_picture import DOTS, MEAN_COLOR, TARGET_COLOR

SPAN, ROOM = 2.0, 0.1  # points of accuracy: what lies farther below the best would press all others together
LABELS = {budget.size: budget.unit for budget in BUDGETS}


def picture(table: Sequence[Row], front: Sequence[Row], cfg: DictConfig, objective: str) -> Figure:
    """Draws trials by what `objective` names, on a log axis, and accuracy on the hold-out in percent."""
    figure = Figure(figsize=(8.4, 4.6), dpi=120, layout="constrained")
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
            heights += draw_claims(axes)
        axes.set_ylim(max(min(heights), lowest) - ROOM, max(heights) + ROOM)
    mark_sizes(axes)
    axes.grid(alpha=0.25)
    figure.legend(loc="outside right upper", fontsize=8)
    return figure


def _places(table: Sequence[Row]) -> tuple[list[int], list[float]]:
    return [row.size for row in table], [100 * (row.accuracy or 0) for row in table]
