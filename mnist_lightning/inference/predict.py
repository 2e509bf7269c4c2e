"""The digit in photos and drawings, with its probability and runner-up."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mnist_lightning.inference.photos import SUFFIXES, PictureError, prepare


def predict(net: nn.Module, paths: Sequence[Path]) -> tuple[list[dict[str, Any]], list[str]]:
    """A record per picture of a digit in the files and folders, and a line per path that shows none."""
    files, refused = [], []
    for path in paths:
        found = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES) if path.is_dir() else [path]
        files += found
        if not found:
            refused.append(f"{path}: the folder holds no pictures ({', '.join(SUFFIXES)})")
    images, shown = [], []
    for file in files:
        try:
            images.append(prepare(file))
            shown.append(file)
        except PictureError as error:
            refused.append(str(error))
    if not images:
        return [], refused
    probabilities = net(torch.stack(images)).softmax(1)
    return [_record(file, row.tolist()) for file, row in zip(shown, probabilities, strict=True)], refused


def _record(file: Path, probabilities: list[float]) -> dict[str, Any]:
    first, second = sorted(range(len(probabilities)), key=lambda digit: -probabilities[digit])[:2]
    return {
        "file": str(file),
        "digit": first,
        "confidence": probabilities[first],
        "runner_up": second,
        "runner_up_confidence": probabilities[second],
        "probabilities": probabilities,
    }
