"""The picture of a sweep: accuracy over what was swept, every seed a dot, the target a line; a heat map of two swept values."""

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from mnist_lightning.evaluation.run_directories import Run
from mnist_lightning.evaluation.statistics import mean_margin
from mnist_lightning.files import replacing
from mnist_lightning.study.aggregate import aggregate
from mnist_lightning.study.leaderboard import ranked, sortable

DOTS, MEAN_COLOR, TARGET_COLOR = "#7a9cc6", "#1b3a5c", "#b5402a"
LOG_SPAN = 8.0  # largest over smallest value from which a numeric axis is logarithmic


def draw_sweep(runs: Sequence[Run], path: Path) -> bool:
    """Writes the picture of a sweep as a PNG; returns whether there was something to draw."""
    figure = picture(runs)
    if figure is None:
        return False
    with replacing(path) as part:
        figure.savefig(part)
    return True


def picture(runs: Sequence[Run]) -> Figure | None:
    """Draws the runs of a sweep of one or two keys; None where there is nothing to draw."""
    entries = list(ranked(aggregate(runs)).itertuples())
    with_val = any(entry.val > 0 for entry in entries)
    measured = [(entry, entry.vals if with_val else entry.accuracies) for entry in entries]
    percents = [(entry, [100 * value for value in values if not math.isnan(value)]) for entry, values in measured]
    drawn = [(entry, values) for entry, values in percents if values]
    names = list(drawn[0][0].label) if drawn else []
    if len(drawn) < 2 or len(names) not in (1, 2):
        return None
    figure = Figure(figsize=(7.2, 4.4), dpi=120, layout="constrained")
    scale = "hold-out accuracy, %" if with_val else "test accuracy, %"
    if len(names) == 1:
        values_of = {entry.label[names[0]]: values for entry, values in drawn}
        judged = [run for entry, _ in drawn for run in entry.runs if run.verdict.get("accuracy_judged")]
        axes = _draw_line(figure, values_of, 100 * judged[0].config["gate.min_accuracy"] if judged else None)
        axes.set(xlabel=names[0], ylabel=scale)
    else:
        _draw_heat_map(figure, names, {tuple(entry.label.values()): statistics.mean(values) for entry, values in drawn}, scale)
    return figure


def _draw_line(figure: Figure, values_of: dict[str, list[float]], target: float | None) -> Axes:
    """Accuracies in percent over the value of one key: numbers to scale, names side by side in the given order."""
    numeric = all(sortable(text)[0] == 0 for text in values_of)
    texts = sorted(values_of, key=float) if numeric else list(values_of)
    positions = [float(text) for text in texts] if numeric else [float(i) for i in range(len(texts))]
    values = [values_of[text] for text in texts]
    axes = figure.add_subplot()
    for position, dots in zip(positions, values, strict=True):
        axes.plot([position] * len(dots), dots, "o", color=DOTS, markersize=6, markeredgecolor="white", zorder=4)
    bars: dict[str, Any] = {"fmt": "-D" if numeric else "D", "markersize": 5, "linewidth": 1.2, "capsize": 4, "zorder": 3}
    axes.errorbar(positions, [*map(statistics.mean, values)], [*map(mean_margin, values)], color=MEAN_COLOR, **bars)
    # The intervals of two or three seeds are wide: what was measured sets the scale, not they.
    shown = [value for dots in values for value in dots]
    if target is not None:
        axes.axhline(target, color=TARGET_COLOR, linewidth=1.2, linestyle="--", zorder=1)
        axes.text(1.01, target, f"target\n{target:g} %", transform=axes.get_yaxis_transform(), color=TARGET_COLOR, va="center")
        shown.append(target)
    room = 0.08 * (max(shown) - min(shown)) + 0.01
    axes.set_ylim(min(shown) - room, max(shown) + room)
    if numeric and positions[0] > 0 and positions[-1] / positions[0] >= LOG_SPAN:
        axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(positions))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FixedFormatter(texts))
    seeds = "–".join(map(str, sorted({min(map(len, values)), max(map(len, values))})))
    axes.set_title(f"every seed a dot (n = {seeds}); mean with its 95 % interval", fontsize=10)
    axes.grid(axis="y", alpha=0.25)
    return axes


def _draw_heat_map(figure: Figure, names: Sequence[str], means: dict[tuple[str, ...], float], scale: str) -> None:
    """Mean accuracies in percent by the values of two keys, the first one downward."""
    rows, columns = (sorted({label[i] for label in means}, key=sortable) for i in (0, 1))
    grid = [[means.get((row, column), math.nan) for column in columns] for row in rows]
    axes = figure.add_subplot()
    image = axes.imshow(grid, aspect="auto", cmap="viridis")
    middle = statistics.mean(image.get_clim())
    for i, row in enumerate(grid):
        for j, value in enumerate(row):
            if not math.isnan(value):
                axes.text(j, i, f"{value:.2f}", ha="center", va="center", color="white" if value < middle else "black")
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.set(xlabel=names[1], ylabel=names[0])
    axes.set_title("mean over the seeds; an empty field was not finished", fontsize=10)
    figure.colorbar(image, label=scale)
