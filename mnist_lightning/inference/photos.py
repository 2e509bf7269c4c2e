"""Photos and drawings of a digit, prepared as MNIST's images were; ink is float32 `(H, W)` in [0, 1] here.

MNIST's digits were "size normalized to fit in a 20x20 pixel box while preserving their aspect ratio", anti-aliased, then
"centered in a 28x28 image by computing the center of mass of the pixels" (yann.lecun.com/exdb/mnist).
"""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from scipy import ndimage
from torch import Tensor

from mnist_lightning.config.errors import one_line

# What Pillow decodes by itself; among its other formats are some that start programs (EPS starts Ghostscript).
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".pgm", ".ppm")
WORKING_SIDE = 256  # pixels of the longer side in which ink is looked for
SIDE, BOX = 28, 20  # pixels of an MNIST image and of the box that holds its digit
CENTRE = 14  # pixel on which MNIST's centres of mass lie: 14.0 ± 0.29 along both axes of its test images
LOWEST_CONTRAST = 20  # grey values between ink and background, of 255
NOISE_CONTRAST = 4  # the same, in standard deviations of the background
SPECK = 0.05  # of the largest component's area
NEIGHBOURS = np.ones((3, 3))  # of a pixel: diagonals are some

Pixels = NDArray[np.float32]


class PictureError(ValueError):
    """A file is no picture of a digit; the message says which and why."""


def prepare(path: Path) -> Tensor:
    """Makes a picture of one digit, of any size, dark on light or light on dark, an MNIST image: uint8 `(28, 28)`."""
    ink = find_ink(read(path))
    if ink is None:
        raise PictureError(f"{path}: nothing is drawn in it, or too faintly; a digit must stand out from its background")
    return fit(keep_digit(ink))


def read(path: Path) -> Pixels:
    """Grey values of a picture, `(H, W)` in [0, 255], the longer side WORKING_SIDE; refuses by size before decoding."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow's, on what is odd in a file
            with Image.open(path, formats=FORMATS) as image:
                image.draft("L", (2 * WORKING_SIDE, 2 * WORKING_SIDE))  # a large JPEG is decoded at a fraction of its size
                return _grey(ImageOps.exif_transpose(image))
    except UnidentifiedImageError:
        raise PictureError(f"{path}: is no picture; {', '.join(FORMATS)} are read") from None
    except Exception as error:  # what Pillow raises on a damaged file has no common base
        raise PictureError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or one_line(error)}") from None


def _grey(image: Image.Image) -> Pixels:
    if image.mode.startswith(("I", "F")):  # more than 8 bits, which "L" would cut off
        wide = np.asarray(image, np.float32)
        return _scale(255 * (wide - wide.min()) / max(1, np.ptp(wide)), WORKING_SIDE)
    image = image.convert("LA").reduce(max(1, max(image.size) // (2 * WORKING_SIDE)))
    grey, alpha = np.moveaxis(np.asarray(image, np.float32), -1, 0) / [[[1]], [[255]]]
    # What is transparent becomes black behind light strokes and white behind dark ones.
    behind = 0 if np.average(grey, weights=alpha + 1e-9) > 127 else 255
    return _scale(grey * alpha + behind * (1 - alpha), WORKING_SIDE)


def _scale(pixels: Pixels, longer_side: int) -> Pixels:
    """Anti-aliased, the aspect ratio kept."""
    height, width = (max(1, round(side * longer_side / max(pixels.shape))) for side in pixels.shape)
    return np.asarray(Image.fromarray(pixels.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR))


def find_ink(grey: Pixels) -> Pixels | None:
    """Tells ink from background, whichever is the darker, in uneven light; None where nothing stands out."""
    ink = _stands_out(grey - _background(grey))
    if ink is None:  # a digit that fills its picture bends the surface; what is left of the background is at the frame
        ink = _stands_out(grey - np.median(_frame(grey)))
    return ink


def _frame(pixels: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])


def _stands_out(above: Pixels) -> Pixels | None:
    """The ink by what each pixel has above the background; None where there is no more than noise."""
    ink = above * np.sign((above**3).mean())  # the few pixels that are far off are the strokes
    if np.ptp(ink) < LOWEST_CONTRAST:  # nor two sides to compare
        return None
    threshold = ink.max() / 2
    for _ in range(20):  # halfway between the means of both sides: Ridler and Calvard, 1978
        marked = ink > threshold
        contrast = ink[marked].mean() - ink[~marked].mean()
        threshold = ink[~marked].mean() + contrast / 2
    noise = 1.4826 * np.median(np.abs(ink[~marked]))  # standard deviation of a normal distribution, by its median
    if not contrast > max(LOWEST_CONTRAST, NOISE_CONTRAST * noise):
        return None
    return np.clip(ink / threshold - 0.5, 0, 1)  # half at the threshold: edges stay smooth


def _background(grey: Pixels) -> Pixels:
    """Light on the empty background, `(H, W)`: the quadratic surface nearest to the grey values by their absolute differences.

    Squared ones would let strokes pull it. Found by least squares, each pixel weighed by one over its distance before.
    """
    y, x = np.meshgrid(*(np.linspace(-1, 1, side) for side in grey.shape), indexing="ij")
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1)
    values, known = grey[::4, ::4].ravel(), terms[::4, ::4].reshape(-1, 6)  # each sixteenth pixel is enough
    distance = np.abs(values - np.median(values))
    for _ in range(20):
        weighed = known.T / (distance + 1)  # a difference below one grey value is none
        # The normal equations, six by six: on all pixels BLAS would start threads, which cost more than they save.
        factors = np.linalg.lstsq(weighed @ known, weighed @ values, rcond=None)[0]
        distance = np.abs(values - known @ factors)
    return terms @ factors


def keep_digit(ink: Pixels) -> Pixels:
    """Drops specks, and what reaches into the picture from outside (an edge of the paper, a line) if something lies inside."""
    labels, _ = ndimage.label(ink >= 0.5, NEIGHBOURS)
    areas = np.bincount(labels.ravel())
    areas[0] = 0
    inside = areas.copy()
    inside[_frame(labels)] = 0
    if inside.max() >= areas.sum() / 50:
        areas = inside
    kept = (areas >= SPECK * areas.max())[labels] & (labels > 0)
    return ink * ndimage.binary_dilation(kept, NEIGHBOURS, iterations=2)  # with the smooth edge around it


def fit(ink: Pixels) -> Tensor:
    """Fits ink into MNIST's format: scaled into the box, centred by its mass; uint8 `(28, 28)`."""
    [box] = ndimage.find_objects((ink > 0).astype(int))
    digit = _scale(ink[box], BOX)
    rows, columns = (
        slice(start := min(max(0, round(CENTRE - centre)), SIDE - side), start + side)
        for centre, side in zip(ndimage.center_of_mass(digit), digit.shape, strict=True)
    )
    image = np.zeros((SIDE, SIDE), np.float32)
    image[rows, columns] = digit / digit.max()
    return torch.from_numpy((255 * image).round().astype(np.uint8))
