"""What the figures and predictions of a run say: overfitting, epochs at the target, confusions.

Accuracies are fractions, not a number where unmeasured; gaps are in percentage points. `epochs` are the rows of a run's
metrics.csv; `split` is what each epoch was evaluated on, "test" or "val".
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mnist_lightning.data.batches import NUM_CLASSES
from mnist_lightning.evaluation.statistics import wilson_interval
from mnist_lightning.evaluation.verdict import percent

NUM_CONFUSIONS = 5  # named in a sentence
FLOAT32 = 1e-6  # metrics.csv keeps accuracies in single precision: far below one image in 10,000
EVALUATED = {"test": "test", "val": "hold-out"}

Epochs = Sequence[dict[str, float]]


def lasting(holds: Sequence[bool]) -> int | None:
    """The first epoch, counted from 1, from which on something holds in every epoch; None if not in the last."""
    since = None
    for epoch, true in enumerate(holds, start=1):
        since = (since or epoch) if true else None
    return since


def overfitting(epochs: Epochs, split: str, num_images: int) -> str:
    """The gap of train minus evaluation accuracy, since when it stands, and whether the noise of so many images explains it."""
    accuracies = [row.get(f"{split}/acc", math.nan) for row in epochs]
    gaps = [100 * (row.get("train/acc", math.nan) - accuracy) for row, accuracy in zip(epochs, accuracies, strict=True)]
    if not gaps or math.isnan(gaps[-1]):
        return "The gap between train and evaluation accuracy was not measured in the last epoch."
    low, high = wilson_interval(accuracies[-1] * num_images, num_images)
    noise = 100 * (high - low) / 2
    text = (
        f"Train accuracy ends at {percent(epochs[-1]['train/acc'])}, {EVALUATED[split]} accuracy at {percent(accuracies[-1])}: "
        f"a gap of {gaps[-1]:+.2f} points."
    )
    since, clearly_since = lasting([gap > 0 for gap in gaps]), lasting([gap > noise for gap in gaps])
    if since is None:
        return f"{text} No overfitting: training, under dropout and augmentation if there are any, is the harder of the two."
    text += f" It stands above zero since epoch {since}"
    if clearly_since is None:
        return f"{text}, within the noise of {num_images:,} images (± {noise:.2f} points): no overfitting is shown."
    return f"{text}, above the noise of {num_images:,} images (± {noise:.2f} points) since epoch {clearly_since}: it overfits."


def at_target(epochs: Epochs, split: str, target: float) -> str:
    """The epochs whose evaluation accuracy is at or above the target, or how far the best one stays below."""
    accuracies = {epoch: row.get(f"{split}/acc", math.nan) for epoch, row in enumerate(epochs, start=1)}
    reached = [f"{epoch} ({percent(accuracy)})" for epoch, accuracy in accuracies.items() if accuracy >= target - FLOAT32]
    if reached:
        return f"At or above {percent(target)} in {len(reached)} of {len(epochs)} epochs: {', '.join(reached)}."
    measured = {epoch: accuracy for epoch, accuracy in accuracies.items() if not math.isnan(accuracy)}
    if not measured:
        return f"No {EVALUATED[split]} accuracy was measured."
    best = max(measured, key=lambda epoch: measured[epoch])
    return (
        f"At or above {percent(target)} in none of {len(epochs)} epochs: the best, epoch {best} with "
        f"{percent(measured[best])}, stays {100 * (target - measured[best]):.2f} points below."
    )


def confusions(preds: Tensor, targets: Tensor) -> list[tuple[int, int, int]]:
    """Every confusion of predicted and true digits, `(N,)` each, as (digit, read as, images), the most frequent first."""
    counts = torch.bincount(targets * NUM_CLASSES + preds, minlength=NUM_CLASSES**2).view(NUM_CLASSES, NUM_CLASSES)
    found = [(i, j, int(counts[i, j])) for i, j in counts.nonzero().tolist() if i != j]
    return sorted(found, key=lambda confusion: -confusion[2])


def confusions_text(preds: Tensor, targets: Tensor) -> str:
    """How many images are read wrong, and as what most often."""
    found = confusions(preds, targets)
    if not found:
        return f"All {len(targets):,} test images are read right."
    most = ", ".join(f"{digit} as {pred} ({count}×)" for digit, pred, count in found[:NUM_CONFUSIONS])
    return f"{sum(count for *_, count in found):,} of {len(targets):,} test images are read wrong; most often {most}."
