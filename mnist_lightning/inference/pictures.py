"""Files, bytes and arrays as pictures: float32 `(H, W, 3)`, red, green and blue in [0, 255], whatever they were stored as."""

import warnings
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from mnist_lightning.config.errors import one_line

# What Pillow decodes by itself; among its other formats are some that start programs (EPS starts Ghostscript).
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".pgm", ".ppm")

Pixels = NDArray[np.float32]


class PictureError(ValueError):
    """No picture of a digit; the message says why, and leaves it to the caller to say which."""


def read(file: Path | BinaryIO, side: int) -> Pixels:
    """A picture, its longer side scaled to `side` pixels; refuses by size before decoding.

    Raises:
        PictureError: It cannot be read as one of FORMATS.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow's, on what is odd in a file
            with Image.open(file, formats=FORMATS) as image:
                image.draft("RGB", (2 * side, 2 * side))  # a large JPEG is decoded at a fraction of its size
                return _colours(ImageOps.exif_transpose(image), side)
    except UnidentifiedImageError:
        raise PictureError(f"is no picture; {', '.join(FORMATS)} are read") from None
    except Exception as error:  # what Pillow raises on a damaged file has no common base
        raise PictureError(f"cannot be read: {getattr(error, 'strerror', None) or one_line(error)}") from None


def _colours(image: Image.Image, side: int) -> Pixels:
    if image.mode.startswith(("I", "F")):  # more than 8 bits, which "RGB" would cut off
        wide = np.asarray(image, np.float32)
        return scale(np.stack(3 * [255 * (wide - wide.min()) / max(1, np.ptp(wide))], axis=-1), side)
    image = image.convert("RGBA").reduce(max(1, max(image.size) // (2 * side)))
    colours, alpha = np.split(np.asarray(image, np.float32), [3], axis=-1)
    # What is transparent becomes black behind light strokes and white behind dark ones.
    behind = np.float32(0 if np.average(as_grey(colours), weights=alpha[..., 0] + 1e-9) > 127 else 255)
    return scale(behind + (colours - behind) * alpha / 255, side)


def from_array(array: NDArray[Any], side: int) -> list[Pixels]:
    """Pictures as of `read`, from uint8 or floats in [0, 1]: `(H, W)`, `(N, H, W)` or, in colour, `(H, W, 3)`.

    Raises:
        PictureError: The array has another shape, type or range.
    """
    array = np.asarray(array)
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise PictureError(f"an array of shape {array.shape} is no picture; give (H, W), (N, H, W) or in colour (H, W, 3)")
    if np.issubdtype(array.dtype, np.floating):
        if not (array.min() >= 0 and array.max() <= 1):  # neither holds for NaN
            raise PictureError(f"floats from {array.min():g} to {array.max():g}; give floats in [0, 1], or uint8")
        array = 255 * array
    elif array.dtype != np.uint8:
        raise PictureError(f"an array of {array.dtype} is no picture; give uint8, or floats in [0, 1]")
    if array.ndim == 3 and array.shape[-1] == 3:
        return [scale(array.astype(np.float32), side)]
    return [scale(np.stack(3 * [grey.astype(np.float32)], axis=-1), side) for grey in array.reshape(-1, *array.shape[-2:])]


def as_grey(colours: Pixels) -> Pixels:
    return colours @ np.array([0.299, 0.587, 0.114], np.float32)  # luma of ITU-R BT.601, as Pillow's and JPEG's


def scale(pixels: Pixels, longer_side: int) -> Pixels:
    """`(H, W)` or `(H, W, C)` anti-aliased, the aspect ratio kept."""
    height, width = (max(1, round(side * longer_side / max(pixels.shape[:2]))) for side in pixels.shape[:2])
    channels = np.atleast_3d(pixels.astype(np.float32))
    scaled = [
        Image.fromarray(channel).resize((width, height), Image.Resampling.BILINEAR) for channel in np.moveaxis(channels, -1, 0)
    ]
    return np.stack([np.asarray(one) for one in scaled], axis=-1).reshape(height, width, *pixels.shape[2:])
