"""What of the ink is a digit."""

import numpy as np

from mnist_lightning.inference.parts import find_digits, keep_digit


def test_what_reaches_in_from_outside_counts_where_there_is_nothing_else() -> None:
    ink = np.zeros((100, 100), np.float32)
    ink[:, 40:50] = 1
    assert keep_digit(ink).sum() == 1000
    ink[20:60, 70:80] = 1
    assert keep_digit(ink)[:, 30:60].sum() == 0


def test_a_digit_in_more_than_two_parts_is_kept_whole() -> None:
    ink = np.zeros((200, 200), np.float32)
    for top in (20, 60, 100, 140):  # the last one is far from the first
        ink[top : top + 20, 60:110] = 1
    ink[30:90, 190:195] = 1
    assert keep_digit(ink)[:, :150].sum() == 4000
    assert keep_digit(ink)[:, 150:].sum() == 0


def test_strokes_that_cross_a_line_stay_whole() -> None:
    ink = np.zeros((200, 200), np.float32)
    ink[170:174] = 1
    ink[60:190, 90:100] = 1
    assert keep_digit(ink)[60:190, 90:100].all()
    assert keep_digit(ink)[:, 120:].sum() == 0


def test_what_is_smooth_or_thick_is_no_digit() -> None:
    y, x = np.mgrid[-1:1:200j, -1:1:200j]
    assert keep_digit(np.clip(1.2 - 1.2 * np.hypot(x, 2 * y), 0, 1).astype(np.float32)) is None
    disc = (np.hypot(x, y) < 0.4).astype(np.float32)
    assert keep_digit(disc) is None
    assert find_digits(disc) == []
