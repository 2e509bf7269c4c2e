"""Ink told from its background, dark on light or light on dark, in uneven light; float32 `(H, W)` in [0, 1]."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_lightning.inference.pictures import Pixels, as_grey

LOWEST_CONTRAST = 20  # grey values between ink and background, of 255
NOISE_CONTRAST = 4  # the same, in standard deviations of the background


def find_ink(colours: Pixels) -> Pixels | None:
    """The ink of a picture `(H, W, 3)`, whichever of ink and background is the darker; None where nothing stands out."""
    ink = _find(as_grey(colours))
    return _find(_strongest_colour(colours)) if ink is None else ink


def _find(grey: Pixels) -> Pixels | None:
    ink = _stands_out(grey - _background(grey))
    if ink is None:  # a digit that fills its picture bends the surface; what is left of the background is at the frame
        ink = _stands_out(grey - np.median(frame(grey)))
    return ink


def frame(pixels: NDArray[Any]) -> NDArray[Any]:
    """The outermost pixels."""
    return np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])


def _strongest_colour(colours: Pixels) -> Pixels:
    """Along the axis of largest variance, on which colours of equal grey differ (yellow on light blue)."""
    above = colours - np.stack([_background(channel) for channel in np.moveaxis(colours, -1, 0)], axis=-1)
    axis: Pixels = np.linalg.eigh(np.cov(above.reshape(-1, 3).T))[1][:, -1].astype(np.float32)
    return above @ axis


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
