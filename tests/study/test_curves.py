"""The four curves and their animation."""

from io import BytesIO

import pytest
from PIL import Image

from mnist_lightning.study import curves

EPOCHS = [{"train/loss": 3.0, "train/acc": 0.9, "val/loss": 2.0, "val/acc": 0.8}] * 2
HIGHER = [row | {"val/acc": 0.9} for row in EPOCHS]


def test_the_four_curves_are_the_columns_of_the_epochs() -> None:
    figure = curves.draw([curves.Group("$\\frac", [EPOCHS, HIGHER])], 0.994, summarised=False)
    assert [axes.get_title() for axes in figure.axes] == list(curves.PANELS)
    lines = [[list(line.get_ydata()) for line in axes.lines] for axes in figure.axes]
    assert [drawn[-2] for drawn in lines] == [[3.0, 3.0], [90.0, 90.0], [2.0, 2.0], [80.0, 80.0]]
    assert lines[3][0] == pytest.approx([99.4, 99.4])
    figure.savefig(BytesIO())  # whatever the label holds
    summary = curves.draw([curves.Group("a", [EPOCHS, HIGHER])], None, summarised=True)
    assert [list(line.get_ydata()) for line in summary.axes[3].lines] == [pytest.approx([85.0, 85.0])]


def test_the_animation_has_a_frame_per_epoch_and_is_small() -> None:
    content = curves.animate([curves.Group("a", [EPOCHS])], None, summarised=False)
    assert len(content) < 500_000
    frames = []
    with Image.open(BytesIO(content)) as animation:
        for i in range(animation.n_frames):
            animation.seek(i)
            frames.append((animation.info["duration"], animation.convert("RGB").tobytes()))
    assert [duration for duration, _ in frames] == [400, 3000]
    assert frames[0][1] != frames[1][1]
