"""Two epochs of every preset on drawn digits against committed figures: what is meant to change nothing must keep them.

`golden.csv` was written by the code before it moved into rooms; on one machine the figures come out equal to the last bit.
"""

import csv
from pathlib import Path

import pytest
import torch

from mnist_lightning.config.compose import compose_config
from mnist_lightning.training.fit import run
from tests.conftest import assert_same_weights, read_rows

TWO_EPOCHS = ("data=synthetic", "data.train_images=640", "data.test_images=200", "trainer.max_epochs=2")
TWO_EPOCHS += ("trainer.accelerator=cpu", "gate.on_miss=warn", "pictures=none")
NETWORKS = {"small_recipe": ("model=shared", "data.batch_size=32")}  # forty steps, after which it has learned something
ROWS = list(csv.DictReader(Path(__file__).with_name("golden.csv").read_text("utf-8").splitlines()))
# Other processors and versions of torch add up in another order, and 20 steps make more of a last bit; a wrong learning rate,
# augmentation or order of images moves a loss by far more.
LOSS, IMAGES = {"rel": 1e-2}, {"abs": 0.02}


def train(preset: str, directory: Path) -> list[dict[str, str]]:
    """The rows of a run's metrics.csv."""
    experiment = [] if preset == "default" else [f"experiment={preset}"]
    run(compose_config(*experiment, *NETWORKS.get(preset, ()), *TWO_EPOCHS), directory)
    return read_rows(directory)


@pytest.mark.parametrize("preset", dict.fromkeys(row["preset"] for row in ROWS))
def test_two_epochs_are_as_ever(preset: str, tmp_path: Path) -> None:
    measured = train(preset, tmp_path)
    expected = [row for row in ROWS if row["preset"] == preset]
    for got, want in zip(measured, expected, strict=True):
        for name in ("train/loss", "test/loss", "train/acc", "test/acc"):
            tolerance = LOSS if name.endswith("loss") else IMAGES
            assert float(got[name]) == pytest.approx(float(want[name]), **tolerance), (name, got["epoch"])


def test_the_same_command_twice_gives_bit_equal_weights(tmp_path: Path) -> None:
    for name in ("once", "again"):
        torch.rand(3)  # what ran before in the process must not matter
        train("best", tmp_path / name)
    assert_same_weights(tmp_path / "once", tmp_path / "again")
