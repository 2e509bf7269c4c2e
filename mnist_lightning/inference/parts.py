"""Which parts of the ink are digits, and which are lines, frames, shadows, specks or what reaches in from outside."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse.csgraph import connected_components

from mnist_lightning.inference.ink import frame
from mnist_lightning.inference.pictures import Pixels

NEIGHBOURS = np.ones((3, 3))  # of a pixel: diagonals are some
SPECK = 0.05  # of the largest part's area
REACH = 0.5  # of the largest part's longer side: what is farther away, box to box, is of something else
BESIDE, ABOVE = 0.08, 0.15  # the same in a row of digits: parts of one digit, side by side and one above the other
SMALLEST = 0.5  # of the largest digit's longer side
# Shadows are thicker than strokes, leave the picture on a long way, or have soft edges. Of 60 pictures from outside and 1,880
# drawn from MNIST's test images, eight are beyond these bounds; of 125 shadows on blank paper taken for digits before, 80.
THICK, OUTWARD = 0.6, 1.0  # thickness, and length on the picture's edges, of a part's longer side
SOFT, SHARP = 0.09, 1.5  # of the longer side, and pixels in any case, in which an edge rises
SOFT_SHARE = 0.3  # of a part's edge

Mask = NDArray[np.bool_]
Labels = NDArray[np.int32]  # (H, W): the number of the part that a pixel belongs to, 0 for none
Boxes = NDArray[np.int64]  # (N, 4): top, left, bottom, right


def keep_digit(ink: Pixels) -> Pixels | None:
    """The digit alone: the largest part, and what is near; None where there is none."""
    labels, areas = _parts(ink)
    if not areas.any():
        return None
    boxes, largest = _boxes(labels), int(areas[1:].argmax())
    reach = REACH * _sides(boxes)[largest].max()
    near = (_apart(boxes, boxes).max(-1) <= reach) & np.outer(areas[1:], areas[1:]).astype(bool)
    groups = connected_components(near)[1]  # from part to part: a digit may be broken into more than two
    return _only(ink, np.isin(labels, 1 + np.flatnonzero(groups == groups[largest])))


def find_digits(ink: Pixels) -> list[list[Pixels]]:
    """Digits that do not touch each other, each alone: lines from top to bottom, from left to right in a line."""
    labels, areas = _parts(ink)
    if not areas.any():
        return []
    numbers = 1 + np.flatnonzero(areas[1:])
    boxes = _boxes(labels)[numbers - 1]
    groups = connected_components(_of_one_digit(boxes))[1]
    digits = [(numbers[groups == group], _around(boxes[groups == group])) for group in np.unique(groups)]
    longest = max(_sides(box).max() for _, box in digits)
    digits = [digit for digit in digits if _sides(digit[1]).max() >= SMALLEST * longest]
    return [[_only(*_cut(ink, np.isin(labels, own), box)) for own, box in line] for line in _in_lines(digits)]


def _of_one_digit(boxes: Boxes) -> Mask:
    """Which parts `(N, N)` belong together, by their boxes."""
    sides = _sides(boxes)
    longest = sides.max()
    down, across = np.moveaxis(_apart(boxes, boxes), -1, 0)
    narrower = np.minimum.outer(sides[:, 1], sides[:, 1])
    stacked = (across <= -narrower / 2) & (down <= ABOVE * longest)
    beside = np.maximum(down, across) <= BESIDE * longest
    return beside & (across < 0) | beside & (down < 0) | stacked


def _in_lines(digits: Iterable[tuple[Any, Boxes]]) -> list[list[tuple[Any, Boxes]]]:
    lines: list[list[tuple[Any, Boxes]]] = []
    for digit in sorted(digits, key=lambda digit: digit[1][::2].sum()):  # by the middle
        if lines and digit[1][::2].mean() < np.mean([box[2] for _, box in lines[-1]]):
            lines[-1].append(digit)
        else:
            lines.append([digit])
    return [sorted(line, key=lambda digit: digit[1][1]) for line in lines]


def _only(ink: Pixels, kept: Mask) -> Pixels:
    return ink * ndimage.binary_dilation(kept, NEIGHBOURS, iterations=2)  # with the smooth edge around it


def _cut(ink: Pixels, kept: Mask, box: Boxes) -> tuple[Pixels, Mask]:
    where = tuple(slice(max(0, start - 2), stop + 2) for start, stop in zip(box[:2], box[2:], strict=True))
    return ink[where], kept[where]


def _parts(ink: Pixels) -> tuple[Labels, NDArray[Any]]:
    """The connected parts, and the area of each by its number, 0 for what is part of no digit."""
    mask = ink >= 0.5
    for without_lines in (mask & ~edge_lines(mask), mask):
        labels, count = ndimage.label(without_lines, NEIGHBOURS)
        areas = np.bincount(labels.ravel(), minlength=count + 1)
        areas[0] = 0
        shadows = np.append(False, _shadows(ink, labels, count))
        while shadows[largest := areas.argmax()]:
            areas[largest] = 0
        areas[_frames(labels, areas >= SPECK * areas.max())] = 0
        inside = areas.copy()
        inside[frame(labels)] = 0
        if inside.max() >= mask.sum() / 50:  # what reaches in from outside counts where there is nothing else
            areas = inside
            break
    areas[areas < SPECK * areas.max()] = 0
    return labels, areas


def _shadows(ink: Pixels, labels: Labels, count: int) -> Mask:
    if not count:
        return np.zeros(0, bool)
    numbers, longer = np.arange(1, count + 1), _sides(_boxes(labels)).max(1)
    depth = ndimage.distance_transform_edt(np.pad(labels > 0, 1))[1:-1, 1:-1]
    thick = 2 * ndimage.maximum(depth, labels, numbers) > THICK * longer
    outward = np.bincount(frame(labels), minlength=count + 1)[1:] > OUTWARD * longer
    around = np.where(labels > 0, 0, ndimage.grey_dilation(labels, footprint=NEIGHBOURS))
    rise = 1 / np.maximum(np.hypot(*np.gradient(ink)), 1e-6)
    soft = ndimage.mean(rise > SOFT * np.append(0, longer)[around] + SHARP, around, numbers) > SOFT_SHARE
    return thick | outward | soft


def _frames(labels: Labels, asked: Mask) -> list[int]:
    """Those of the parts asked for that go around something of at least a third of their size."""
    longer = np.append(0, _sides(_boxes(labels)).max(1))
    found = []
    for number, box in enumerate(ndimage.find_objects(labels), 1):
        if asked[number]:
            part = labels[box] == number
            held = labels[box][ndimage.binary_fill_holes(part) & ~part]
            if longer[held].max(initial=0) >= longer[number] / 3:
                found.append(number)
    return found


def edge_lines(mask: Mask) -> Mask:
    """Straight lines from edge to edge near the picture's edges, without the strokes that cross them."""
    return _lines_across(mask) | _lines_across(mask.T).T


def _lines_across(mask: Mask) -> Mask:
    height, width = mask.shape
    runs, _ = ndimage.label(ndimage.binary_opening(mask, np.ones((1, max(3, width // 8)))), NEIGHBOURS)
    lines = np.zeros_like(mask)
    for number, (top, left, bottom, right) in enumerate(_boxes(runs), 1):
        if right - left < 0.9 * width or (top <= 0.7 * height and bottom >= 0.3 * height):  # a stroke of a digit may
            continue
        line = runs == number
        thickness = np.median(line.sum(0)[line.any(0)])
        crossing = ndimage.binary_opening(mask, np.ones((int(1.5 * thickness) + 3, 1)))
        lines |= ndimage.binary_dilation(line, np.ones((3, 1))) & ~crossing
    return lines


def _boxes(labels: Labels) -> Boxes:
    found = ndimage.find_objects(labels)
    return np.array([(rows.start, columns.start, rows.stop, columns.stop) for rows, columns in found], np.int64).reshape(-1, 4)


def _around(boxes: Boxes) -> Boxes:
    return np.append(boxes[:, :2].min(0), boxes[:, 2:].max(0))


def _sides(boxes: Boxes) -> Boxes:
    """Heights and widths."""
    return boxes[..., 2:] - boxes[..., :2]


def _apart(one: Boxes, other: Boxes) -> Boxes:
    """Pixels between boxes, down and across `(N, M, 2)`; negative where they overlap."""
    gap: Boxes = np.maximum(one[:, None, :2] - other[None, :, 2:], other[None, :, :2] - one[:, None, 2:])
    return gap
