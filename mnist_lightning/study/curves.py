"""The publication's figure of four curves, train and test, loss and accuracy, and its animation, a frame per epoch."""

import io
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from PIL import Image

from mnist_lightning.study.analysis import Epochs
from mnist_lightning.study.sweep_picture import TARGET_COLOR

PANELS = ("train loss", "train accuracy, %", "test loss", "test accuracy, %")  # in the order of the publication
COLORS = colormaps["tab10"].colors  # type: ignore[attr-defined]
MS_PER_EPOCH, MS_AT_END = 400, 3000


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

    def name(self, until: int | None) -> str:
        """The label in ASCII, which every font has, and the mean test accuracy of an epoch.

        Matplotlib keeps out of legends what begins with _.
        """
        label = self.label.encode("ascii", "backslashreplace").decode().lstrip("_")
        return f"{label}: {statistics.mean(run[:until][-1] for run in self.values(PANELS[3])):.2f} %" if until else label


def draw(groups: Sequence[Group], target: float | None, summarised: bool, until: int | None = None) -> Figure:
    """The figure.

    Args:
        target: Test accuracy to reach, a fraction; None draws none.
        summarised: A line per group, the mean of its runs, in a band from the lowest to the highest; else a line per run.
        until: Last epoch to draw, on the scales of all; its test accuracies then stand beside the labels.
    """
    figure = Figure(figsize=(9.6, 6.4), dpi=110, layout="constrained")
    num_epochs = max(len(epochs) for group in groups for epochs in group.runs)
    for axes, panel in zip(figure.subplots(2, 2).flat, PANELS, strict=True):
        later = [100 * target] if panel == PANELS[3] and target is not None else []
        for value in later:
            axes.axhline(value, color=TARGET_COLOR, linewidth=1.2, linestyle=":")
        for group, style in zip(groups, _styles(), strict=False):
            values = group.values(panel)
            # But for the first epoch's, which would press all others into a corner.
            later += [value for run in values for value in (run[1:] or run) if math.isfinite(value)]
            _plot(axes, [run[:until] for run in values], style, summarised)
        low, high = min(later, default=0.0), max(later, default=1.0)
        room = 0.05 * (high - low) + 1e-3
        axes.set(ylim=(max(0.0, low - room), high + room), xlim=(0.5, num_epochs + 0.5))
        axes.set_title(panel, fontsize=10)
        axes.set_xlabel("epoch", fontsize=9)
        axes.tick_params(labelsize=8)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.25)
    handles = [Line2D([], [], **style) for _, style in zip(groups, _styles(), strict=False)]
    place: dict[str, Any] = {"loc": "outside lower center", "ncols": min(4, len(groups)), "frameon": False, "fontsize": 9}
    for text in figure.legend(handles, [group.name(until) for group in groups], **place).get_texts():
        text.set_parse_math(False)  # a $ is a $
    if until:
        figure.suptitle(f"epoch {until} of {num_epochs}", fontsize=11)
    return figure


def _styles() -> list[dict[str, Any]]:
    dots = {"linewidth": 1.4, "marker": ".", "markersize": 4}
    return [{"color": color, "linestyle": line} | dots for line in ("-", "--") for color in COLORS]


def _plot(axes: Axes, values: Sequence[Sequence[float]], style: dict[str, Any], summarised: bool) -> None:
    if not summarised:
        for run in values:
            axes.plot(range(1, len(run) + 1), run, **style)
        return
    by_epoch = [[run[k] for run in values if k < len(run)] for k in range(max(map(len, values)))]
    epochs, lowest, highest = range(1, len(by_epoch) + 1), [*map(min, by_epoch)], [*map(max, by_epoch)]
    axes.plot(epochs, [*map(statistics.mean, by_epoch)], **style)
    axes.fill_between(epochs, lowest, highest, alpha=0.15, color=style["color"], linewidth=0)


def animate(groups: Sequence[Group], target: float | None, summarised: bool) -> bytes:
    """A GIF of curves that grow by an epoch a frame."""
    frames = []
    for epoch in range(1, max(len(epochs) for group in groups for epochs in group.runs) + 1):
        figure = draw(groups, target, summarised, epoch)
        figure.set_dpi(75)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        frames.append(Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB"))
    file = io.BytesIO()
    durations = [MS_PER_EPOCH] * (len(frames) - 1) + [MS_AT_END]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0)
    return file.getvalue()
