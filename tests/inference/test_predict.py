"""The digits of several pictures, and a line for every file that is none."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageOps
from torchvision.transforms.functional import pil_to_tensor

from mnist_lightning.data.datamodule import synthetic
from mnist_lightning.inference import predict
from mnist_lightning.inference.load import load
from tests.conftest import Finished


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Ten drawn digits, enlarged, dark on light, off centre and in uneven light, named by what they show."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    images, labels = synthetic.draw(10, seed=7)
    for image, label in zip(images, labels.tolist(), strict=True):
        enlarged = Image.fromarray(image.numpy()).resize((200, 200), Image.Resampling.BICUBIC)
        margins = (9 * label, 21 * label % 100, 99 - 9 * label, 33 * label % 100)
        paper = 1 - 0.8 * pil_to_tensor(ImageOps.expand(enlarged, margins))[0] / 255
        light = torch.linspace(120, 240, paper.shape[1])
        Image.fromarray((paper * light).byte().numpy()).save(folder / f"{label}.png")
    return folder


def test_pictures_are_read(trained_run: Path, pictures: Path) -> None:
    records, refused = predict.predict(load(trained_run).net, [pictures])
    assert refused == []
    assert [Path(record["file"]).name for record in records] == [f"{digit}.png" for digit in range(10)]
    assert sum(record["digit"] == digit for digit, record in enumerate(records)) >= 9
    for record in records:
        ranked = sorted(record["probabilities"], reverse=True)
        assert sum(ranked) == pytest.approx(1, abs=1e-5)
        assert [record["confidence"], record["runner_up_confidence"]] == ranked[:2]
        assert record["digit"] != record["runner_up"]


def test_the_others_are_predicted_where_one_file_is_no_picture(
    trained_run: Path, pictures: Path, cli: Callable[..., Finished]
) -> None:
    (pictures / "list.png").write_text("eggs, milk", "utf-8")
    (pictures / "notes.txt").write_text("no picture by its name", "utf-8")
    (pictures / "empty").mkdir()
    done = cli("predict", trained_run, pictures, pictures / "empty", pictures / "gone.png")
    assert done.status == 2
    lines = done.out.splitlines()
    assert lines[0] == f"by {trained_run}/last.ckpt, weights of the last epoch: gate.rule=last"
    assert len(lines) == 11
    refused = [line.removeprefix("error: ").split(": ")[0] for line in done.err.splitlines()]
    assert refused == [str(pictures / name) for name in ("empty", "list.png", "gone.png")]


def test_json(trained_run: Path, pictures: Path, cli: Callable[..., Finished]) -> None:
    done = cli("predict", trained_run, pictures / "3.png", "--json")
    assert (done.status, done.err) == (0, "")
    [record] = json.loads(done.out)
    assert record["digit"] == 3
    assert set(record) == {"file", "digit", "confidence", "runner_up", "runner_up_confidence", "probabilities"}
    refused = cli("predict", trained_run, "gone.png", "--json")
    assert (refused.status, refused.out) == (2, "[]\n")
