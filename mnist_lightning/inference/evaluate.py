"""A trained network on the test images: accuracy, classes, confusions, calibration."""

from dataclasses import dataclass

import torch
from omegaconf import DictConfig
from torchmetrics.functional.classification import multiclass_calibration_error, multiclass_confusion_matrix

from mnist_lightning.config.errors import ConfigError
from mnist_lightning.data.batches import NUM_CLASSES
from mnist_lightning.data.datamodule import DigitsDataModule
from mnist_lightning.evaluation.budgets import size_lines
from mnist_lightning.evaluation.gate import broken_rules
from mnist_lightning.evaluation.statistics import wilson_interval
from mnist_lightning.evaluation.verdict import not_judged, percent
from mnist_lightning.export.grey_values import GreyValues
from mnist_lightning.export.onnx_file import int8_bytes
from mnist_lightning.inference.load import Trained

BINS = 15  # of the calibration error, as in Guo et al.


@dataclass
class Evaluation:
    """What a network does on the test images; `--json` prints these fields."""

    source: str
    dataset: str
    num_images: int
    accuracy: float
    interval_95: tuple[float, float]  # Wilson's
    accuracy_of_class: list[float]  # recall of each digit
    confusion: list[list[int]]  # images by digit (row) and prediction (column)
    calibration_error: float  # ECE, equation 3 of Guo et al., 2017, "On calibration of modern neural networks"
    reasons: list[str]  # how it breaks the gate's contract; empty when it keeps it
    params: int
    frozen_params: int | None = None
    multiply_adds: int | None = None  # this and what follows: where the gate has a limit
    activation_bytes: int | None = None
    file_bytes: int | None = None


def evaluate(trained: Trained, data: DigitsDataModule) -> Evaluation:
    """Judges this one network by the gate of its run; a ConfigError where its logits are no numbers."""
    targets = data.splits["test"].labels
    batches = data.splits["test"].images.split(data.eval_batch_size)
    logits = torch.cat([trained.net(images) for images in batches])
    # Of logits that are no numbers the highest would be a prediction all the same.
    if wrong := int((~logits.isfinite()).any(1).sum()):
        raise ConfigError(f"{trained.source}: gives NaN or infinite logits for {wrong:,} of {len(targets):,} test images")
    probabilities = logits.softmax(1)
    confusion = multiclass_confusion_matrix(probabilities, targets, NUM_CLASSES)
    correct, total = int(confusion.diag().sum()), len(targets)
    sizes, judged = _sizes(trained, data), data.name == trained.cfg.gate.dataset
    return Evaluation(
        source=trained.source,
        dataset=data.name,
        num_images=total,
        accuracy=correct / total,
        interval_95=wilson_interval(correct, total),
        accuracy_of_class=(confusion.diag() / confusion.sum(1)).tolist(),
        confusion=confusion.tolist(),
        calibration_error=float(multiclass_calibration_error(probabilities, targets, NUM_CLASSES, n_bins=BINS)),
        reasons=broken_rules("the network", sizes, correct / total, trained.cfg.gate, judged),
        **sizes,
    )


def _sizes(trained: Trained, data: DigitsDataModule) -> dict[str, int]:
    """A network's sizes with that of its file, where that has a limit: a file of `export` as it is, else as `export --int8`."""
    if trained.cfg.gate.max_file_bytes is None:
        return trained.sizes
    if isinstance(trained.net, GreyValues):
        return trained.sizes | {"file_bytes": int8_bytes(trained.net.net, trained.cfg, trained.sizes, data)}
    return trained.sizes | {"file_bytes": trained.path.stat().st_size}


def text(evaluation: Evaluation, gate: DictConfig) -> str:
    """The evaluation in a few lines and a table for the terminal."""
    low, high = evaluation.interval_95
    judged = evaluation.dataset == gate.dataset
    why_not = not_judged(gate.min_accuracy, gate.dataset, evaluation.dataset)
    target = f"target {percent(gate.min_accuracy)}" if judged else why_not
    lines = [f"{'MISSED' if evaluation.reasons else 'PASSED' if judged else 'NOT JUDGED'}  {evaluation.source}"]
    lines += [f"  reason       {reason}" for reason in evaluation.reasons]
    lines += [
        f"  accuracy     {percent(evaluation.accuracy)}, 95 % interval {100 * low:.2f} to {100 * high:.2f} % on "
        f"{evaluation.num_images:,} test images of {evaluation.dataset}; {target}",
        *(f"  {name:11}  {size}" for name, size in size_lines(vars(evaluation), gate)),
        f"  calibration  confidence and accuracy differ by {percent(evaluation.calibration_error)} (ECE, {BINS} bins)",
        "",
        f"  digit  accuracy  predicted {' '.join(f'{digit:5}' for digit in range(NUM_CLASSES))}",
    ]
    for digit, row in enumerate(evaluation.confusion):
        cells = " ".join(f"{count or '.':>5}" for count in row)
        lines.append(f"  {digit:5}  {100 * evaluation.accuracy_of_class[digit]:6.2f} %            {cells}")
    return "\n".join(lines)
