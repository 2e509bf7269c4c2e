"""The pictures of a network, by what is in them."""

import pytest
import torch
from matplotlib.figure import Figure

from mnist_lightning.evaluation import figures
from mnist_lightning.models import Net3
from mnist_lightning.models.summary import summarize


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def logits_for(preds: list[int], confidences: list[float]) -> torch.Tensor:
    """Logits whose softmax gives each prediction its confidence, and the nine others equal shares of the rest."""
    probabilities = torch.tensor([[(1 - confidence) / 9] * 10 for confidence in confidences])
    probabilities[range(len(preds)), preds] = torch.tensor(confidences)
    return probabilities.log()


def test_the_confusion_matrix_counts_and_gives_each_class_its_accuracy() -> None:
    targets = torch.tensor([0] * 3 + [4] * 4)
    figure = figures.confusion_matrix(logits_for([0, 0, 0, 4, 9, 9, 4], [0.9] * 7), targets)
    [axes] = figure.axes
    assert axes.get_title() == "5 of 7 right, 2 wrong"
    placed = {text.get_position(): text.get_text() for text in axes.texts}
    assert (placed[0, 0], placed[4, 4], placed[9, 4]) == ("3", "2", "2")  # (predicted, true)
    assert (4, 9) not in placed
    assert [text for text in texts(figure) if "%" in text] == ["100.00 %", "50.00 %"]  # of the digits that occur


def test_the_most_confident_mistakes_come_first() -> None:
    targets = torch.tensor([4, 1, 7, 5])
    images = torch.zeros(4, 28, 28, dtype=torch.uint8)
    images[3] = 200
    figure = figures.worst_mistakes(images, logits_for([9, 1, 1, 3], [0.6, 0.99, 0.5, 0.97]), targets)
    assert texts(figure) == ["5 → 3  97 %", "4 → 9  60 %", "7 → 1  50 %"]
    assert figure.axes[0].images[0].get_array()[:28, :28].mean() == 200


@pytest.mark.parametrize(("wrong", "shown"), [(0, 0), (36, 36), (50, 36)])
def test_at_most_36_mistakes_are_shown(wrong: int, shown: int) -> None:
    targets = torch.ones(60, dtype=torch.long)
    logits = logits_for([2] * wrong + [1] * (60 - wrong), [0.9] * 60)
    figure = figures.worst_mistakes(torch.zeros(60, 28, 28), logits, targets)
    assert len(texts(figure)) == shown
    assert figure.axes[0].get_title().startswith(f"{shown} of {wrong} mistakes")


def test_before_and_after_stand_side_by_side() -> None:
    before = torch.arange(36.0)[:, None, None].expand(36, 28, 28)
    figure = figures.augmentation(before, before + 100)
    left, right = (axes.images[0].get_array() for axes in figure.axes)
    assert (left[1, 1], left[1, 30], left[30, 1], right[-2, -2]) == (0, 1, 6, 135)


def test_every_filter_is_drawn_on_one_scale() -> None:
    weight = torch.linspace(-2, 1, 10 * 9).view(10, 1, 3, 3)
    image = figures.filters(weight).axes[0].images[0]
    assert image.get_clim() == (-2, 2)
    assert image.get_array().count() == 10 * 9  # the rest is between them


def test_sizes_and_receptive_fields_are_those_of_the_table() -> None:
    axes = figures.receptive_fields(summarize(Net3())).axes[0]
    sides, fields = (list(line.get_ydata()) for line in axes.lines)
    assert sides == [26, 24, 12, 12, 10, 8, 6, 1, 1, 1]
    assert fields == [3, 5, 6, 6, 10, 14, 18, 28, 28, 28]
