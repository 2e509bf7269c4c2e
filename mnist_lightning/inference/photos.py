"""Photos and drawings of a digit, prepared as MNIST's images were.

MNIST comes from forms scanned in black and white: its digits were "size normalized to fit in a 20x20 pixel box while preserving
their aspect ratio" by an anti-aliasing technique, then "centered in a 28x28 image by computing the center of mass of the
pixels, and translating the image so as to position this point at the center" (yann.lecun.com/exdb/mnist). Of a photo the ink
has to be found first. Ink is float32 `(H, W)` in [0, 1] here.
"""

import re
import struct
import warnings
import zlib
from pathlib import Path

import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.functional import pil_to_tensor

from mnist_lightning.config.errors import one_line

# What Pillow decodes by itself; among its other formats are some that start programs (EPS starts Ghostscript).
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".pgm", ".ppm")
SMALLEST_SIDE = 5  # pixels
WORKING_SIDE = 256  # pixels of the longer side in which ink is looked for
SIDE, BOX = 28, 20  # pixels of an MNIST image and of the box that holds its digit
# Index of the pixel on which MNIST's centres of mass lie: 14.0 ± 0.29 along both axes of its test images.
CENTRE = 14
LOWEST_CONTRAST = 20  # grey values between ink and background, of 255
NOISE_CONTRAST = 4  # the same, in standard deviations of the background
SPECK = 0.05  # of the largest component's area
STROKE = 0.09  # of the digit's longer side: the width of the median in MNIST's test images


class PictureError(ValueError):
    """A file is no picture of a digit; the message says which and why."""


def prepare(path: Path) -> Tensor:
    """Reads a picture of one digit and makes it an MNIST image: uint8 `(28, 28)`, light on black.

    Any size, dark on light or light on dark, with transparency or an orientation noted by the camera.

    Raises:
        PictureError: The file is no picture, is damaged, too large or too small, or shows nothing.
    """
    grey = read(path)
    ink = find_ink(grey)
    if ink is None:
        raise PictureError(f"{path}: nothing is drawn in it, or too faintly; a digit must stand out from its background")
    return fit(thicken(keep_digit(ink)))


# --- reading ------------------------------------------------------------------------------------------------------------


def read(path: Path) -> Tensor:
    """Grey values of a picture, float32 `(H, W)` in [0, 255], the longer side WORKING_SIDE; refuses by size before decoding."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow's, on what is odd in a file
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as image:
                if min(image.size) < SMALLEST_SIDE:
                    width, height = image.size
                    raise PictureError(f"{path}: has {width}×{height} pixels; a digit needs at least {SMALLEST_SIDE} a side")
                image.draft("L", (2 * WORKING_SIDE, 2 * WORKING_SIDE))  # a large JPEG is decoded at a fraction of its size
                return _grey(ImageOps.exif_transpose(image))
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        [pixels] = re.findall(r"\((\d+) pixels\)", str(error))
        limit = Image.MAX_IMAGE_PIXELS
        raise PictureError(f"{path}: has {int(pixels):,} pixels; at most {limit:,} are decoded: scale it down") from None
    except UnidentifiedImageError:
        raise PictureError(f"{path}: is no picture; {', '.join(FORMATS)} are read") from None
    except FileNotFoundError:
        raise PictureError(f"{path}: there is no such file") from None
    except PictureError:
        raise
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, MemoryError) as error:
        raise PictureError(f"{path}: is damaged: {one_line(error)}") from None


def _grey(image: Image.Image) -> Tensor:
    mode = "LA" if image.has_transparency_data else "L"
    if image.mode.startswith(("I", "F")):  # more than 8 bits, which "L" would cut off
        wide = pil_to_tensor(image).float()
        bands = 255 * (wide - wide.min()) / (wide.max() - wide.min()).clamp_min(1)
    else:
        image = image.convert(mode)
        bands = pil_to_tensor(image.reduce(max(1, max(image.size) // (2 * WORKING_SIDE)))).float()
    grey = bands[0]
    if mode == "LA":
        alpha = bands[1] / 255
        # What is transparent becomes black behind light strokes and white behind dark ones.
        mean = (grey * alpha).sum() / alpha.sum().clamp_min(1)
        grey = grey * alpha + (0.0 if mean > 127 else 255.0) * (1 - alpha)
    return _scale(grey, WORKING_SIDE)


def _scale(image: Tensor, longer_side: int) -> Tensor:
    """Anti-aliased, the aspect ratio kept."""
    factor = longer_side / max(image.shape)
    size = [max(1, round(side * factor)) for side in image.shape]
    return F.interpolate(image[None, None], size, mode="bilinear", antialias=True)[0, 0]


# --- ink and background -------------------------------------------------------------------------------------------------


def find_ink(grey: Tensor) -> Tensor | None:
    """Tells ink from background, whichever is the darker, under light that need not be even.

    Args:
        grey: `(H, W)` in [0, 255].

    Returns:
        Ink, or None where nothing stands out.
    """
    ink = _stands_out(grey - _background(grey))
    if ink is None:  # a digit that fills its picture bends the surface; what is left of the background is at the frame
        ink = _stands_out(grey - torch.cat([grey[0], grey[-1], grey[:, 0], grey[:, -1]]).median())
    return ink


def _stands_out(above: Tensor) -> Tensor | None:
    """The ink by what each pixel has above the background; None where there is no more than noise."""
    ink = above * above.pow(3).mean().sign()  # the few pixels that are far off are the strokes
    threshold = ink.max() / 2
    for _ in range(20):  # halfway between the means of both sides: Ridler and Calvard, 1978
        marked = ink > threshold
        contrast = ink[marked].mean() - ink[~marked].mean()
        threshold = ink[~marked].mean() + contrast / 2
    noise = 1.4826 * ink[~marked].abs().median()  # standard deviation of a normal distribution, by its median
    if not contrast > max(LOWEST_CONTRAST, NOISE_CONTRAST * float(noise)):
        return None
    return (ink / threshold - 0.5).clamp(0, 1)  # half at the threshold: edges stay smooth


def _background(grey: Tensor) -> Tensor:
    """Light on the empty background, `(H, W)`: the quadratic surface nearest to the grey values by their absolute differences.

    Absolute, not squared: the surface then follows the majority of the pixels, and strokes do not pull it up or down. Found by
    least squares, each pixel weighed by one over its distance to the surface before.
    """
    y, x = torch.meshgrid(*(torch.linspace(-1, 1, side) for side in grey.shape), indexing="ij")
    terms = torch.stack([torch.ones_like(x), x, y, x * x, x * y, y * y], dim=-1)
    some = (slice(None, None, 4), slice(None, None, 4))  # of these pixels each sixteenth is enough
    values, known = grey[some].reshape(-1, 1), terms[some].reshape(-1, 6)
    distance = (values - values.median()).abs()
    for _ in range(20):
        weights = 1 / (distance + 1)  # a difference below one grey value is none
        factors = torch.linalg.lstsq(weights.sqrt() * known, weights.sqrt() * values).solution
        distance = (values - known @ factors).abs()
    return (terms @ factors)[..., 0]


def keep_digit(ink: Tensor) -> Tensor:
    """Drops specks, and what reaches into the picture from outside (an edge of the paper, a line) if something lies inside."""
    coarse = F.max_pool2d((ink >= 0.5)[None, None].float(), 2, ceil_mode=True)[0, 0]  # an eighth of the time
    labels = _components(coarse)
    areas = labels.flatten().bincount()
    areas[0] = 0
    inside = areas.clone()
    inside[torch.cat([labels[0], labels[-1], labels[:, 0], labels[:, -1]]).unique()] = 0
    if inside.max() >= areas.sum() / 50:
        areas = inside
    kept = (areas >= SPECK * areas.max())[labels] & (labels > 0)
    near = F.max_pool2d(kept[None, None].float(), 3, 1, 1)  # with the smooth edge around it
    return ink * F.interpolate(near, scale_factor=2.0)[0, 0, : ink.shape[0], : ink.shape[1]]


def _components(mask: Tensor) -> Tensor:
    """Numbers the connected regions of a mask, diagonals included: int64 `(H, W)`, 0 outside."""
    labels = torch.arange(1.0, mask.numel() + 1).view_as(mask) * mask
    while True:  # the highest number of a region spreads through it
        spread = F.max_pool2d(labels[None, None], 3, 1, 1)[0, 0] * mask
        if torch.equal(spread, labels):
            return labels.long()
        labels = spread


def thicken(ink: Tensor) -> Tensor:
    """Widens strokes that would fade in a box of 20 pixels, a ball pen's, to the usual width in MNIST."""
    mask = F.pad(ink >= 0.5, (1, 1, 1, 1))[None, None].float()
    eroded = -F.max_pool2d(-mask, 3, 1, 1)
    area, edge = mask.sum(), (mask - eroded).sum()
    stroke = 2 * area / edge  # a stroke of length l and width w has the area l·w and 2·l pixels of edge
    rows, columns = _extent(ink)
    missing = STROKE * max(rows.stop - rows.start, columns.stop - columns.start) - stroke
    reach = max(0, round(float(missing) / 2))
    padded = F.pad(ink, (reach,) * 4)
    return F.max_pool2d(padded[None, None], 2 * reach + 1, 1, reach)[0, 0]


# --- as MNIST -----------------------------------------------------------------------------------------------------------


def fit(ink: Tensor) -> Tensor:
    """Fits ink into MNIST's format: scaled into the box, centred by its mass; uint8 `(28, 28)`."""
    digit = _scale(ink[_extent(ink)], BOX)
    digit = digit / digit.max()
    image = torch.zeros(SIDE, SIDE)
    height, width = digit.shape
    top, left = (_start(digit.sum(1 - axis)) for axis in (0, 1))
    image[top : top + height, left : left + width] = digit
    return (255 * image).round().to(torch.uint8)


def _extent(ink: Tensor) -> tuple[slice, slice]:
    """Rows and columns that hold ink."""
    rows, columns = (ink.amax(dim).nonzero().squeeze(1) for dim in (1, 0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _start(mass: Tensor) -> int:
    """Where a digit begins along an axis whose mass this is, so that the centre of mass lies at CENTRE."""
    centre = float((mass * torch.arange(len(mass))).sum() / mass.sum())
    return min(max(0, round(CENTRE - centre)), SIDE - len(mass))
