"""The digit in photos, drawings and arrays, with its probability and runner-up."""

import io
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mnist_lightning.inference.photos import PHOTO_SIDE, SHEET_SIDE, prepare, prepare_sheet
from mnist_lightning.inference.pictures import SUFFIXES, PictureError, from_array, read

STANDARD_INPUT = Path("-")
# Of 1,928 pictures, 60 from outside and the others drawn from MNIST's test images with lines, frames and shadows, a default
# Net3 read 99.3 % right with at least this confidence, and with less 44 of 82.
SURE = 0.9


def predict(net: nn.Module, paths: Sequence[Path], sheet: bool = False) -> tuple[list[dict[str, Any]], list[str]]:
    """A record per digit in files, folders of such and `-`, standard input; and a line per path that shows none.

    Without `sheet` a picture holds one digit. With it, each record has its `line` and `place` in it, from 1.
    """
    records, refused = [], []
    for path in paths:
        found = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES) if path.is_dir() else [path]
        if not found:
            refused.append(f"{path}: the folder holds no pictures ({', '.join(SUFFIXES)})")
        for file in found:
            source = io.BytesIO(sys.stdin.buffer.read()) if file == STANDARD_INPUT else file
            try:
                if sheet:
                    answers = _read_sheet(net, prepare_sheet(read(source, SHEET_SIDE)))
                else:
                    answers = _read_each(net, [prepare(read(source, PHOTO_SIDE))])
            except PictureError as error:
                refused.append(f"{file}: {error}")
            else:
                records += [{"file": str(file), **answer} for answer in answers]
    return records, refused


def predict_array(net: nn.Module, array: NDArray[Any]) -> list[dict[str, Any]]:
    """A record per picture of one digit in an array: `(H, W)`, `(N, H, W)` or, in colour, `(H, W, 3)`.

    Pictures are of any size, uint8 or floats in [0, 1], dark on light or light on dark; `net` is of `inference.load.load`.

    Raises:
        PictureError: Another shape, type or range, or no digit in one of them, which the message names.
    """
    prepared = []
    for number, picture in enumerate(pictures := from_array(array, PHOTO_SIDE), 1):
        try:
            prepared.append(prepare(picture))
        except PictureError as error:
            raise PictureError(f"picture {number} of {len(pictures)}: {error}") from None
    return _read_each(net, prepared)


def _read_each(net: nn.Module, prepared: Iterable[tuple[Tensor, int]]) -> list[dict[str, Any]]:
    images, counts = zip(*prepared, strict=True)
    return [_record(row, count) for row, count in zip(_probabilities(net, images), counts, strict=True)]


def _read_sheet(net: nn.Module, lines: list[list[Tensor]]) -> list[dict[str, Any]]:
    rows = iter(_probabilities(net, [image for line in lines for image in line]))
    return [
        {"line": number, "place": place, **_record(next(rows))}
        for number, line in enumerate(lines, 1)
        for place in range(1, len(line) + 1)
    ]


def _probabilities(net: nn.Module, images: Sequence[Tensor]) -> list[list[float]]:
    return net(torch.stack(tuple(images))).softmax(1).tolist()


def _record(probabilities: list[float], count: int = 1) -> dict[str, Any]:
    first, second = sorted(range(len(probabilities)), key=lambda digit: -probabilities[digit])[:2]
    doubts = [f"{count} digits in one picture: use --sheet"] if count > 1 else []
    if probabilities[first] < SURE:
        doubts.append(f"could be {second}")
    return {
        "digit": first,
        "confidence": probabilities[first],
        "runner_up": second,
        "runner_up_confidence": probabilities[second],
        "not_sure": "; ".join(doubts),
        "probabilities": probabilities,
    }
