"""The publication's figure of four curves, train and test, loss and accuracy, and its animation, a frame per epoch."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.animation import PillowWriter
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from mnist_lightning.study.analysis import Epochs
from mnist_lightning.study.sweep_picture import TARGET_COLOR

PANELS = ("train loss", "train accuracy, %", "test loss", "test accuracy, %")  # in the order of the publication
COLORS = colormaps["tab10"].colors  # type: ignore[attr-defined]
SECONDS_PER_EPOCH, SECONDS_AT_END = 0.4, 3.0
STILL = 0.2  # seconds per frame


@dataclass(frozen=True)
class Group:
    """Runs drawn in one colour: those of one configuration, whatever their seeds."""

    label: str
    runs: Sequence[Epochs]

    def values(self, panel: str) -> list[list[float]]:
        """Of a panel, the values of each run by epoch; accuracies in percent."""
        part, what = panel.split()[:2]
        name, factor = ("loss", 1) if what == "loss" else ("acc", 100)
        # With a hold-out the epochs were evaluated on that.
        return [
            [factor * row.get(f"{part}/{name}", row.get(f"val/{name}", math.nan)) for row in epochs] for epochs in self.runs
        ]

    @property
    def printable(self) -> str:
        """The label in ASCII, which every font has; matplotlib keeps out of legends what begins with _."""
        return self.label.encode("ascii", "backslashreplace").decode().lstrip("_")


def draw(
    groups: Sequence[Group], target: float | None, summarised: bool, bands: bool = True, dpi: int = 110
) -> tuple[Figure, list[Line2D]]:
    """The figure, and its lines, which grow in the animation.

    Args:
        target: Test accuracy to reach, a fraction; None draws none.
        summarised: A line per group, the mean of its runs, in a band from the lowest to the highest; else a line per run.
        bands: Whether to draw those.
    """
    figure = Figure(figsize=(9.6, 6.4), dpi=dpi, layout="constrained")
    lines: list[Line2D] = []
    for axes, panel in zip(figure.subplots(2, 2).flat, PANELS, strict=True):
        later: list[float] = []  # values but for the first epoch's, which would press all others into a corner
        for group, style in zip(groups, _styles(), strict=False):
            values = group.values(panel)
            later += [value for run in values for value in (run[1:] or run) if math.isfinite(value)]
            lines += _draw_mean(axes, values, style, bands) if summarised else _draw_runs(axes, values, style)
        if panel == PANELS[3] and target is not None:
            axes.axhline(100 * target, color=TARGET_COLOR, linewidth=1.2, linestyle=":")
            later.append(100 * target)
        low, high = min(later, default=0.0), max(later, default=1.0)
        room = 0.05 * (high - low) + 1e-3
        axes.set(ylim=(max(0.0, low - room), high + room), xlim=(0.5, _num_epochs(groups) + 0.5))
        axes.set_title(panel, fontsize=10)
        axes.set_xlabel("epoch", fontsize=9)
        axes.tick_params(labelsize=8)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.25)
    handles = [Line2D([], [], **style) for _, style in zip(groups, _styles(), strict=False)]
    names = [group.printable for group in groups]
    place: dict[str, Any] = {"loc": "outside lower center", "ncols": min(4, len(groups)), "frameon": False, "fontsize": 9}
    for text in figure.legend(handles, names, **place).get_texts():
        text.set_parse_math(False)  # a $ is a $
    return figure, lines


def _styles() -> list[dict[str, Any]]:
    dots = {"linewidth": 1.4, "marker": ".", "markersize": 4}
    return [{"color": color, "linestyle": line} | dots for line in ("-", "--") for color in COLORS]


def _num_epochs(groups: Sequence[Group]) -> int:
    return max(len(epochs) for group in groups for epochs in group.runs)


def _draw_runs(axes: Axes, values: Sequence[Sequence[float]], style: dict[str, Any]) -> list[Line2D]:
    return [line for run in values for line in axes.plot(range(1, len(run) + 1), run, **style)]


def _draw_mean(axes: Axes, values: Sequence[Sequence[float]], style: dict[str, Any], band: bool) -> list[Line2D]:
    by_epoch = [[run[k] for run in values if k < len(run)] for k in range(max(map(len, values)))]
    epochs = range(1, len(by_epoch) + 1)
    if band:
        lowest, highest = [*map(min, by_epoch)], [*map(max, by_epoch)]
        axes.fill_between(epochs, lowest, highest, alpha=0.15, color=style["color"], linewidth=0)
    return axes.plot(epochs, [statistics.mean(at) for at in by_epoch], **style)


def animate(groups: Sequence[Group], target: float | None, summarised: bool, path: Path) -> None:
    """Writes the animation as a GIF: curves that grow by an epoch a frame, and the test accuracies beside the labels."""
    figure, lines = draw(groups, target, summarised, bands=False, dpi=75)
    whole = [(line, np.asarray(line.get_xdata()), np.asarray(line.get_ydata())) for line in lines]
    num_epochs = _num_epochs(groups)
    title = figure.suptitle("epoch", fontsize=11)
    figure.draw_without_rendering()  # lays it out, once for all frames
    figure.set_layout_engine("none")
    writer = PillowWriter(fps=round(1 / STILL))
    with writer.saving(figure, str(path), dpi=75):
        for epoch in range(1, num_epochs + 1):
            for line, xs, ys in whole:
                line.set_data(xs[:epoch], ys[:epoch])
            for text, group in zip(figure.legends[0].get_texts(), groups, strict=True):
                reached = [values[min(epoch, len(values)) - 1] for values in group.values(PANELS[3]) if values]
                text.set_text(f"{group.printable}: {statistics.mean(reached):.2f} %")
            title.set_text(f"epoch {epoch} of {num_epochs}")
            seconds = SECONDS_AT_END if epoch == num_epochs else SECONDS_PER_EPOCH
            for _ in range(round(seconds / STILL)):  # equal frames are stored once
                writer.grab_frame()
