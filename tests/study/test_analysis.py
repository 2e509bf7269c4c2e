"""What is said of figures and predictions, against values worked out by hand or published."""

import math

import pytest
import torch

from mnist_lightning.study.analysis import at_target, confusions, confusions_text, lasting, overfitting


def epochs(*pairs: tuple[float, float]) -> list[dict[str, float]]:
    return [{"train/acc": train, "test/acc": test} for train, test in pairs]


@pytest.mark.parametrize(
    ("holds", "since"),
    [([], None), ([True, False], None), ([False, True, False, True, True], 4), ([True, True], 1)],
)
def test_since_when_something_lasts(holds: list[bool], since: int | None) -> None:
    assert lasting(holds) == since


def test_a_gap_is_told_with_the_epochs_since_which_it_stands() -> None:
    """On 10,000 images at 99 % the 95 % interval is 98.79 to 99.18 %: noise of 0.195 points."""
    text = overfitting(epochs((0.98, 0.985), (0.991, 0.99), (0.993, 0.99), (0.997, 0.99)), "test", 10_000)
    assert text == (
        "Train accuracy ends at 99.70 %, test accuracy at 99.00 %: a gap of +0.70 points. It stands above zero since epoch 2, "
        "above the noise of 10,000 images (± 0.20 points) since epoch 3: it overfits."
    )


def test_a_gap_within_the_noise_or_below_zero_is_no_overfitting() -> None:
    assert overfitting(epochs((0.991, 0.99)), "test", 10_000).endswith("(± 0.20 points): no overfitting is shown.")
    assert "No overfitting" in overfitting(epochs((0.985, 0.99)), "test", 10_000)
    assert "not measured" in overfitting(epochs((0.985, math.nan)), "test", 10_000)


def test_epochs_at_the_target_are_named() -> None:
    float32 = float(torch.tensor(0.993))
    assert float32 < 0.993  # as metrics.csv has it, and the same count of images
    text = at_target(epochs((0, 0.99), (0, float32), (0, 0.9929), (0, 0.9951)), "test", 0.993)
    assert text == "At or above 99.30 % in 2 of 4 epochs: 2 (99.30 %), 4 (99.51 %)."
    text = at_target(epochs((0, 0.99), (0, 0.9935)), "test", 0.994)
    assert text == "At or above 99.40 % in none of 2 epochs: the best, epoch 2 with 99.35 %, stays 0.05 points below."


def test_confusions_are_counted_by_digit_and_prediction() -> None:
    targets = torch.tensor([4, 4, 4, 9, 7, 7])
    preds = torch.tensor([9, 9, 4, 4, 7, 1])
    assert confusions(preds, targets) == [(4, 9, 2), (7, 1, 1), (9, 4, 1)]
    text = confusions_text(preds, targets)
    assert text == "4 of 6 test images are read wrong; most often 4 as 9 (2×), 7 as 1 (1×), 9 as 4 (1×)."
    assert confusions_text(targets, targets) == "All 6 test images are read right."
