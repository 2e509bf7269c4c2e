"""What a trained network sees and gets wrong, as figures: confusion matrix, worst mistakes, augmentation, filters, layers.

Images are grey values `(N, 28, 28)`, logits `(N, 10)`, targets `(N,)`.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional
from torchmetrics.functional.classification import multiclass_confusion_matrix
from torchvision.utils import make_grid

from mnist_lightning.data.batches import NUM_CLASSES
from mnist_lightning.models.summary import Layer

NUM_MISTAKES = 36  # six rows of six
NUM_SHOWN = 24  # four rows of six, as published
NUM_COLUMNS = 6
CENTRED: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 8}
SIDE_COLOR, FIELD_COLOR = "#7a9cc6", "#b5402a"


def confusion_matrix(logits: Tensor, targets: Tensor) -> Figure:
    """Counts of every true and predicted digit, and beside each row the share of that digit classified right."""
    counts = multiclass_confusion_matrix(logits, targets, NUM_CLASSES)
    mistakes = counts.float().fill_diagonal_(0)
    most = max(10.0, float(mistakes.max()))
    figure, axes = _canvas(5.2, f"{int(counts.trace()):,} of {len(targets):,} right, {int(mistakes.sum()):,} wrong")
    # The colours are of the mistakes alone, on a log scale: on one scale with the hits they would all look like none.
    axes.imshow(mistakes.where(mistakes > 0, math.nan).numpy(), cmap="Reds", norm=LogNorm(1, most))
    for i, j in counts.nonzero().tolist():
        color = "white" if i != j and counts[i, j] > math.sqrt(most) else "black"
        axes.text(j, i, f"{counts[i, j]:,}", **CENTRED, color=color, fontweight="bold" if i == j else "normal")
    for i, count in enumerate(counts.sum(dim=1).tolist()):
        if count:
            axes.text(NUM_CLASSES + 0.1, i, f"{100 * int(counts[i, i]) / count:.2f} %", **CENTRED)
    axes.text(NUM_CLASSES + 0.1, -0.75, "right", **CENTRED)
    axes.set(xticks=range(NUM_CLASSES), yticks=range(NUM_CLASSES), xlim=(-0.5, NUM_CLASSES + 0.6))
    axes.set(xlabel="predicted", ylabel="true")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def worst_mistakes(images: Tensor, logits: Tensor, targets: Tensor) -> Figure:
    """The images that the network got wrong with the highest confidence, each with true and predicted digit and confidence."""
    confidences, preds = logits.float().softmax(dim=1).max(dim=1)
    wrong = (preds != targets).nonzero().squeeze(1)
    worst = wrong[confidences[wrong].argsort(descending=True)[:NUM_MISTAKES]]
    labels = [f"{int(targets[i])} → {int(preds[i])}  {100 * float(confidences[i]):.0f} %" for i in worst.tolist()]
    title = f"{len(worst)} of {len(wrong)} mistakes, the most confident first: true → predicted"
    return _labelled(title, images[worst], labels, ["black"] * len(worst))


def predictions(images: Tensor, logits: Tensor, targets: Tensor) -> Figure:
    """The first 24 images, each with predicted and true digit, as published; a wrong prediction in red."""
    pairs = list(zip(logits.argmax(dim=1).tolist(), targets.tolist(), strict=True))[:NUM_SHOWN]
    labels = [f"{pred} ({truth})" for pred, truth in pairs]
    colors = ["black" if pred == truth else FIELD_COLOR for pred, truth in pairs]
    return _labelled(f"the first {len(pairs)} test images: predicted (true)", images[:NUM_SHOWN], labels, colors)


def _canvas(height: float, title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5.8, height), dpi=130, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=9)
    return figure, axes


def _labelled(title: str, images: Tensor, labels: Sequence[str], colors: Sequence[str]) -> Figure:
    """Grey images `(N, 28, 28)` in rows of `NUM_COLUMNS`, each above its label."""
    figure, axes = _canvas(0.5 + 1.08 * -(-len(images) // NUM_COLUMNS), title)
    axes.set_axis_off()
    if len(images) == 0:
        return figure
    side, gap = images.shape[-1], 10  # the gap holds the label
    tiles = functional.pad(images.float(), (0, 4, 0, gap), value=math.nan)
    axes.imshow(_mosaic(tiles, NUM_COLUMNS, gap=0), cmap="gray_r", vmin=0, vmax=255)
    for place, (label, color) in enumerate(zip(labels, colors, strict=True)):
        row, column = divmod(place, NUM_COLUMNS)
        axes.text(column * (side + 4) + side / 2, row * (side + gap) + side + 4, label, **CENTRED, color=color)
    return figure


def augmentation(before: Tensor, after: Tensor) -> Figure:
    """Training images before and after augmentation, the same place in both halves."""
    figure = Figure(figsize=(8.0, 4.3), dpi=110, layout="constrained")
    for axes, images, title in zip(figure.subplots(1, 2), (before, after), ("as they are", "augmented"), strict=True):
        axes.imshow(_mosaic(images, NUM_COLUMNS), cmap="gray_r", vmin=0, vmax=255)
        axes.set_axis_off()
        axes.set_title(title, fontsize=9)
    return figure


def filters(weight: Tensor) -> Figure:
    """The kernels `(C, 1, K, K)` of a first convolution, negative weights blue and positive ones red."""
    columns = min(8, len(weight))
    title = f"{len(weight)} filters of {weight.shape[-2]}×{weight.shape[-1]} pixels"
    figure, axes = _canvas(0.6 + 0.8 * -(-len(weight) // columns), title)
    limit = float(weight.abs().max())
    image = axes.imshow(_mosaic(weight[:, 0], columns), cmap="RdBu_r", vmin=-limit, vmax=limit)
    axes.set_axis_off()
    figure.colorbar(image, shrink=0.9)
    return figure


def receptive_fields(layers: Sequence[Layer]) -> Figure:
    """Side of the feature maps and receptive field, both in pixels, after every convolution and pooling."""
    layers = [layer for layer in layers if layer.window and layer.receptive_field]  # the others change neither
    names = [layer.name for layer in layers]
    figure, axes = _canvas(4.2, "after every convolution and pooling")
    axes.plot(names, [layer.output_shape[-1] for layer in layers], "o-", color=SIDE_COLOR, label="side of the feature maps")
    axes.plot(names, [layer.receptive_field or 0 for layer in layers], "s-", color=FIELD_COLOR, label="receptive field")
    axes.tick_params(axis="x", rotation=45)
    axes.set_ylim(0)
    axes.set_ylabel("pixels")
    axes.grid(axis="y", alpha=0.25)
    axes.legend(frameon=False)
    return figure


def _mosaic(images: Tensor, columns: int, gap: int = 1) -> np.ndarray:
    """Images `(N, H, W)` in rows of `columns`, lines of NaN around and between them, as one."""
    return make_grid(images[:, None].float(), columns, padding=gap, pad_value=math.nan)[0].numpy()
