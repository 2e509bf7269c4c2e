"""What a trained network sees and gets wrong, as figures: confusion matrix, worst mistakes, augmentation, filters, layers.

Shape letters: N images, side 28; C channels of a convolution, K its kernel's side.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from torch import Tensor
from torchmetrics.functional.classification import multiclass_confusion_matrix

from mnist_lightning.data.datamodule import NUM_CLASSES
from mnist_lightning.models.summary import Layer

NUM_MISTAKES = 36  # six rows of six
NUM_SHOWN = 24  # four rows of six, as published
NUM_COLUMNS = 6
SIDE_COLOR, FIELD_COLOR = "#7a9cc6", "#b5402a"


def confusion_matrix(logits: Tensor, targets: Tensor) -> Figure:
    """Counts of every true and predicted digit, and beside each row the share of that digit classified right.

    Args:
        logits: `(N, 10)`.
        targets: `(N,)`.
    """
    counts = multiclass_confusion_matrix(logits, targets, NUM_CLASSES)
    right, per_class = counts.diagonal(), counts.sum(dim=1)
    figure = Figure(figsize=(5.8, 5.2), dpi=130, layout="constrained")
    axes = figure.add_subplot()
    mistakes = counts.float().fill_diagonal_(0)
    # The colours are of the mistakes alone, on a log scale: on one scale with the hits they would all look like none.
    axes.imshow(mistakes.where(mistakes > 0, math.nan).numpy(), cmap="Reds", norm=LogNorm(1, max(10, float(mistakes.max()))))
    dark = math.sqrt(max(10.0, float(mistakes.max())))
    for i in range(NUM_CLASSES):
        for j in range(NUM_CLASSES):
            count = int(counts[i, j])
            if count:
                color = "white" if i != j and count > dark else "black"
                weight = "bold" if i == j else "normal"
                axes.text(j, i, f"{count:,}", ha="center", va="center", fontsize=8, color=color, fontweight=weight)
        if per_class[i]:
            share = f"{100 * float(right[i] / per_class[i]):.2f} %"
            axes.text(NUM_CLASSES + 0.1, i, share, ha="center", va="center", fontsize=8)
    axes.text(NUM_CLASSES + 0.1, -0.75, "right", ha="center", va="center", fontsize=8)
    axes.set_xticks(range(NUM_CLASSES))
    axes.set_yticks(range(NUM_CLASSES))
    axes.set_xlim(-0.5, NUM_CLASSES + 0.6)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(f"{int(right.sum()):,} of {len(targets):,} right, {int(mistakes.sum()):,} wrong", fontsize=9)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure


def worst_mistakes(images: Tensor, logits: Tensor, targets: Tensor) -> Figure:
    """The images that the network got wrong with the highest confidence, each with true and predicted digit and confidence.

    Args:
        images: Grey values `(N, 28, 28)`.
        logits: `(N, 10)`.
        targets: `(N,)`.
    """
    confidences, preds = logits.float().softmax(dim=1).max(dim=1)
    wrong = (preds != targets).nonzero().squeeze(1)
    worst = wrong[confidences[wrong].argsort(descending=True)[:NUM_MISTAKES]]
    num_rows = -(-len(worst) // NUM_COLUMNS)
    figure = Figure(figsize=(5.8, 0.5 + 1.08 * num_rows), dpi=130, layout="constrained")
    axes = figure.add_subplot()
    axes.set_axis_off()
    axes.set_title(f"{len(worst)} of {len(wrong)} mistakes, the most confident first: true → predicted", fontsize=9)
    labels = [f"{int(targets[i])} → {int(preds[i])}  {100 * float(confidences[i]):.0f} %" for i in worst.tolist()]
    _labelled(axes, images[worst], labels, ["black"] * len(worst))
    return figure


def predictions(images: Tensor, logits: Tensor, targets: Tensor) -> Figure:
    """The first 24 images, each with predicted and true digit, as published; a wrong prediction in red.

    Args:
        images: Grey values `(N, 28, 28)`.
        logits: `(N, 10)`.
        targets: `(N,)`.
    """
    preds = logits.argmax(dim=1)[:NUM_SHOWN].tolist()
    truths = targets[:NUM_SHOWN].tolist()
    num_rows = -(-len(truths) // NUM_COLUMNS)
    figure = Figure(figsize=(5.8, 0.5 + 1.08 * num_rows), dpi=130, layout="constrained")
    axes = figure.add_subplot()
    axes.set_axis_off()
    axes.set_title(f"the first {len(truths)} test images: predicted (true)", fontsize=9)
    labels = [f"{pred} ({truth})" for pred, truth in zip(preds, truths, strict=True)]
    colors = ["black" if pred == truth else FIELD_COLOR for pred, truth in zip(preds, truths, strict=True)]
    _labelled(axes, images[:NUM_SHOWN], labels, colors)
    return figure


def _labelled(axes: Axes, images: Tensor, labels: Sequence[str], colors: Sequence[str]) -> None:
    """Draws grey images `(N, 28, 28)` in rows of `NUM_COLUMNS`, each above its label."""
    if len(images) == 0:
        return
    side, gap = images.shape[-1], 10  # the gap holds the label
    num_rows = -(-len(images) // NUM_COLUMNS)
    canvas = torch.full((num_rows * (side + gap), NUM_COLUMNS * (side + 4)), math.nan)
    for place, (image, label, color) in enumerate(zip(images, labels, colors, strict=True)):
        top, left = place // NUM_COLUMNS * (side + gap), place % NUM_COLUMNS * (side + 4)
        canvas[top : top + side, left : left + side] = image
        axes.text(left + side / 2, top + side + 4, label, ha="center", va="center", fontsize=8, color=color)
    axes.imshow(canvas.numpy(), cmap="gray_r", vmin=0, vmax=255)


def augmentation(before: Tensor, after: Tensor) -> Figure:
    """Training images before and after augmentation, the same place in both halves.

    Args:
        before: Grey values `(N, 28, 28)`.
        after: The same images augmented.
    """
    figure = Figure(figsize=(8.0, 4.3), dpi=110, layout="constrained")
    for axes, images, title in zip(figure.subplots(1, 2), (before, after), ("as they are", "augmented"), strict=True):
        axes.imshow(_mosaic(images, NUM_COLUMNS), cmap="gray_r", vmin=0, vmax=255)
        axes.set_axis_off()
        axes.set_title(title, fontsize=9)
    return figure


def filters(weight: Tensor) -> Figure:
    """The kernels of a first convolution, negative weights blue and positive ones red.

    Args:
        weight: `(C, 1, K, K)`.
    """
    num = len(weight)
    columns = min(8, num)
    figure = Figure(figsize=(5.8, 0.6 + 0.8 * -(-num // columns)), dpi=130, layout="constrained")
    axes = figure.add_subplot()
    limit = float(weight.abs().max())
    image = axes.imshow(_mosaic(weight[:, 0], columns), cmap="RdBu_r", vmin=-limit, vmax=limit)
    axes.set_axis_off()
    axes.set_title(f"{num} filters of {weight.shape[-2]}×{weight.shape[-1]} pixels", fontsize=9)
    figure.colorbar(image, shrink=0.9)
    return figure


def receptive_fields(layers: Sequence[Layer]) -> Figure:
    """Side of the feature maps and receptive field, both in pixels, after every convolution and pooling."""
    layers = [layer for layer in layers if layer.kernel is not None]  # the others change neither
    names = [layer.name for layer in layers]
    figure = Figure(figsize=(5.8, 4.2), dpi=130, layout="constrained")
    axes = figure.add_subplot()
    axes.plot(names, [layer.output_shape[-1] for layer in layers], "o-", color=SIDE_COLOR, label="side of the feature maps")
    axes.plot(names, [layer.receptive_field for layer in layers], "s-", color=FIELD_COLOR, label="receptive field")
    axes.tick_params(axis="x", rotation=45)
    axes.set_ylim(0)
    axes.set_ylabel("pixels")
    axes.grid(axis="y", alpha=0.25)
    axes.legend(frameon=False)
    return figure


def _mosaic(images: Tensor, columns: int) -> np.ndarray:
    """Images `(N, H, W)` in rows of `columns`, a row or column of NaN between them, as one."""
    num, height, width = images.shape
    rows = -(-num // columns)
    canvas = torch.full((rows * columns, height + 1, width + 1), math.nan)
    canvas[:num, :height, :width] = images
    tiles = canvas.view(rows, columns, height + 1, width + 1).transpose(1, 2)
    return tiles.reshape(rows * (height + 1), columns * (width + 1))[:-1, :-1].numpy()
