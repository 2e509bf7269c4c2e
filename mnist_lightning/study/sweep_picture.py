"""The picture of a sweep: accuracy over what was swept, every seed a dot, the target a line; a heat map of two swept values."""

import math
import statistics
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from mnist_lightning.evaluation.statistics import mean_margin
from mnist_lightning.files import replacing
from mnist_lightning.study.leaderboard import Entry

DOTS, MEAN_COLOR, TARGET_COLOR = "#7a9cc6", "#1b3a5c", "#b5402a"
LOG_SPAN = 8.0  # largest over smallest value from which a numeric axis is logarithmic


def draw_sweep(entries: Sequence[Entry], path: Path) -> bool:
    """Draws the entries of a sweep as a PNG.

    Args:
        entries: With one or two varying keys; what else varies has no picture.
        path: File to write.

    Returns:
        Whether there was something to draw.
    """
    entries = [entry for entry in entries if _accuracies(entry)]
    num_keys = len(entries[0].label) if entries else 0
    if len(entries) < 2 or num_keys not in (1, 2):
        return False
    figure = Figure(figsize=(7.2, 4.4), dpi=120, layout="constrained")
    if num_keys == 1:
        _draw_line(figure, entries)
    else:
        _draw_heat_map(figure, entries)
    with replacing(path) as part:
        figure.savefig(part)
    return True


def _accuracies(entry: Entry) -> list[float]:
    """In percent: on the hold-out where there is one, else on the test images."""
    return [100 * accuracy for accuracy in entry.val_accuracies or entry.accuracies]


def _axis_label(entries: Sequence[Entry]) -> str:
    return "hold-out accuracy, %" if entries[0].val_accuracies else "test accuracy, %"


def _numbers(texts: Sequence[str]) -> list[float] | None:
    """The values as numbers, or None if one is none."""
    try:
        return [float(text) for text in texts]
    except ValueError:
        return None


def _draw_line(figure: Figure, entries: Sequence[Entry]) -> None:
    [name] = entries[0].label
    numbers = _numbers([entry.label[name] for entry in entries])
    if numbers is not None:
        order = sorted(range(len(entries)), key=lambda i: numbers[i])
        entries, positions = [entries[i] for i in order], sorted(numbers)
    else:
        positions = [float(i) for i in range(len(entries))]
    axes = figure.add_subplot()
    values = [_accuracies(entry) for entry in entries]
    for position, accuracies in zip(positions, values, strict=True):
        axes.plot([position] * len(accuracies), accuracies, "o", color=DOTS, markersize=6, markeredgecolor="white", zorder=4)
    means = [statistics.mean(accuracies) for accuracies in values]
    margins = [mean_margin(accuracies) for accuracies in values]
    style = "-" if numbers is not None else ""
    axes.errorbar(
        positions, means, margins, fmt=f"{style}D", color=MEAN_COLOR, markersize=5, linewidth=1.2, capsize=4, zorder=3
    )
    target = 100 * entries[0].finished[0].config["gate.min_accuracy"]
    axes.axhline(target, color=TARGET_COLOR, linewidth=1.2, linestyle="--", zorder=1)
    axes.text(1.01, target, f"target\n{target:g} %", transform=axes.get_yaxis_transform(), color=TARGET_COLOR, va="center")
    if numbers is not None and positions[0] > 0 and positions[-1] / positions[0] >= LOG_SPAN:
        axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(positions))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FixedFormatter([str(entry.label[name]) for entry in entries]))
    # The intervals of two or three seeds are wide: what was measured sets the scale, not they.
    everything = [*(accuracy for accuracies in values for accuracy in accuracies), target]
    room = 0.08 * (max(everything) - min(everything)) + 0.01
    axes.set_ylim(min(everything) - room, max(everything) + room)
    axes.set_xlabel(name)
    axes.set_ylabel(_axis_label(entries))
    counts = sorted({len(accuracies) for accuracies in values})
    runs = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]}–{counts[-1]}"
    axes.set_title(f"every seed a dot (n = {runs}); mean with its 95 % interval", fontsize=10)
    axes.grid(axis="y", alpha=0.25)


def _draw_heat_map(figure: Figure, entries: Sequence[Entry]) -> None:
    down, across = entries[0].label

    def ticks(name: str) -> list[str]:
        texts = list(dict.fromkeys(entry.label[name] for entry in entries))
        numbers = _numbers(texts)
        return sorted(texts, key=float) if numbers is not None else sorted(texts)

    rows, columns = ticks(down), ticks(across)
    grid = [[math.nan] * len(columns) for _ in rows]
    for entry in entries:
        grid[rows.index(entry.label[down])][columns.index(entry.label[across])] = statistics.mean(_accuracies(entry))
    axes = figure.add_subplot()
    image = axes.imshow(grid, aspect="auto", cmap="viridis")
    middle = statistics.mean(image.get_clim())
    for i, row in enumerate(grid):
        for j, value in enumerate(row):
            if not math.isnan(value):
                axes.text(j, i, f"{value:.2f}", ha="center", va="center", color="white" if value < middle else "black")
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xlabel(across)
    axes.set_ylabel(down)
    axes.set_title("mean over the seeds; an empty field was not finished", fontsize=10)
    figure.colorbar(image, label=_axis_label(entries))
