"""Photos and drawings of digits, prepared as MNIST's images were; ink is float32 `(H, W)` in [0, 1] here.

MNIST's digits were "size normalized to fit in a 20x20 pixel box while preserving their aspect ratio", anti-aliased, then
"centered in a 28x28 image by computing the center of mass of the pixels" (yann.lecun.com/exdb/mnist).
"""

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from mnist_lightning.inference.ink import find_ink
from mnist_lightning.inference.parts import find_digits, keep_digit
from mnist_lightning.inference.pictures import PictureError, Pixels, scale

PHOTO_SIDE, SHEET_SIDE = 256, 1024  # pixels of the longer side in which ink is looked for: of one digit, of many
SIDE, BOX = 28, 20  # pixels of an MNIST image and of the box that holds its digit
SLIM = 5  # times as long as wide: rather a piece of a line than another digit
CENTRE = 14  # pixel on which MNIST's centres of mass lie: 14.0 ± 0.29 along both axes of its test images


def prepare(picture: Pixels) -> tuple[Tensor, int]:
    """A picture `(H, W, 3)` of one digit as an MNIST image, uint8 `(28, 28)`, and how many digits seem to be in it."""
    ink = _ink(picture)
    digit = keep_digit(ink)
    if digit is None:
        raise PictureError("no digit found; what stands out from the background are shadows")
    others = [one for line in find_digits(ink) for one in line if max(one.shape) < SLIM * min(one.shape)]
    return fit(digit), max(1, len(others))


def prepare_sheet(picture: Pixels) -> list[list[Tensor]]:
    """The digits of a picture `(H, W, 3)` as MNIST images, uint8 `(28, 28)` each, in lines, in reading order."""
    lines = find_digits(_ink(picture))
    if not lines:
        raise PictureError("no digit found; what stands out from the background are shadows")
    return [[fit(digit) for digit in line] for line in lines]


def _ink(picture: Pixels) -> Pixels:
    ink = find_ink(picture)
    if ink is None:
        raise PictureError("no digit found; nothing is drawn in it, or too faintly to stand out from its background")
    return ink


def fit(ink: Pixels) -> Tensor:
    """Fits ink into MNIST's format: scaled into the box, centred by its mass; uint8 `(28, 28)`."""
    [box] = ndimage.find_objects((ink > 0).astype(int))
    digit = scale(ink[box], BOX)
    rows, columns = (
        slice(start := min(max(0, round(CENTRE - centre)), SIDE - side), start + side)
        for centre, side in zip(ndimage.center_of_mass(digit), digit.shape, strict=True)
    )
    image = np.zeros((SIDE, SIDE), np.float32)
    image[rows, columns] = digit / digit.max()
    return torch.from_numpy((255 * image).round().astype(np.uint8))
