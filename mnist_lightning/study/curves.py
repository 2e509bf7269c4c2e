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


def draw(groups: Sequence[Group], target: float | None, summarised: bool) -> Figure:
    """The figure.

    Args:
        target: Test accuracy to reach, a fraction; None draws none.
        summarised: A line per group, the mean of its runs, in a band from the lowest to the highest; else a line per run.
    """
    return _draw(groups, target, summarised)[0]


def animate(groups: Sequence[Group], target: float | None, summarised: bool, path: Path) -> None:
    """Writes the animation as a GIF: curves that grow by an epoch a frame, and the test accuracies beside the labels."""
    figure, lines = _draw(groups, target, summarised, bands=False, dpi=75)
    legend = figure.legends[0]
    whole = [(line, np.asarray(line.get_xdata()), np.asarray(line.get_ydata())) for line in lines]
    num_epochs = max(len(epochs) for group in groups for epochs in group.runs)
    title = figure.suptitle("epoch", fontsize=11)
    figure.draw_without_rendering()  # lays it out, once for all frames
    figure.set_layout_engine("none")
    writer = PillowWriter(fps=round(1 / STILL))
    with writer.saving(figure, str(path), dpi=75):
        for epoch in range(1, num_epochs + 1):
            for line, xs, ys in whole:
                line.set_data(xs[:epoch], ys[:epoch])
            for text, group in zip(legend.get_texts(), groups, strict=True):
                reached = [values[min(epoch, len(values)) - 1] for values in group.values(PANELS[3]) if values]
                text.set_text(f"{_drawable(group.label)}: {statistics.mean(reached):.2f} %")
            title.set_text(f"epoch {epoch} of {num_epochs}")
            seconds = SECONDS_AT_END if epoch == num_epochs else SECONDS_PER_EPOCH
            for _ in range(round(seconds / STILL)):  # equal frames are stored once
                writer.grab_frame()


def _draw(
    groups: Sequence[Group], target: float | None, summarised: bool, bands: bool = True, dpi: int = 110
) -> tuple[Figure, list[Line2D]]:
    """The figure and the lines that grow in the animation."""
    figure = Figure(figsize=(9.6, 6.4), dpi=dpi, layout="constrained")
    lines: list[Line2D] = []
    handles = [Line2D([], [], **_style(i)) for i in range(len(groups))]
    for axes, panel in zip(figure.subplots(2, 2).flat, PANELS, strict=True):
        later: list[float] = []  # values but for the first epoch's, which would press all others into a corner
        for i, group in enumerate(groups):
            values = group.values(panel)
            later += [value for run in values for value in (run[1:] or run) if math.isfinite(value)]
            by_epoch = [[run[k] for run in values if k < len(run)] for k in range(max(map(len, values)))]
            epochs = range(1, len(by_epoch) + 1)
            if summarised:
                lines += axes.plot(epochs, [statistics.mean(at) for at in by_epoch], **_style(i))
                if bands:
                    axes.fill_between(
                        epochs,
                        [min(at) for at in by_epoch],
                        [max(at) for at in by_epoch],
                        alpha=0.15,
                        color=_style(i)["color"],
                        linewidth=0,
                    )
            else:
                for run in values:
                    lines += axes.plot(range(1, len(run) + 1), run, **_style(i))
        if panel == PANELS[3] and target is not None:
            axes.axhline(100 * target, color=TARGET_COLOR, linewidth=1.2, linestyle=":")
            later.append(100 * target)
        low, high = min(later, default=0.0), max(later, default=1.0)
        room = 0.05 * (high - low) + 1e-3
        axes.set_ylim(max(0.0, low - room), high + room)
        axes.set_xlim(0.5, max(len(epochs) for group in groups for epochs in group.runs) + 0.5)
        axes.set_title(panel, fontsize=10)
        axes.set_xlabel("epoch", fontsize=9)
        axes.tick_params(labelsize=8)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.25)
    legend = figure.legend(
        handles,
        [_drawable(group.label) for group in groups],
        loc="outside lower center",
        ncols=min(4, len(groups)),
        frameon=False,
        fontsize=9,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)  # a $ is a $
    return figure, lines


def _style(i: int) -> dict[str, Any]:
    return {"color": COLORS[i % 10], "linestyle": "-" if i < 10 else "--", "linewidth": 1.4, "marker": ".", "markersize": 4}


def _drawable(label: str) -> str:
    """A label as the font has it: anything but ASCII as its escape; matplotlib keeps out of legends what begins with _."""
    return label.encode("ascii", "backslashreplace").decode().lstrip("_")
