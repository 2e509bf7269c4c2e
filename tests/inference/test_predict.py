"""The digits of several pictures, and a line for every file that is none."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torchvision.transforms.functional import pil_to_tensor

from mnist_lightning.data.datamodule import synthetic
from mnist_lightning.inference import predict
from mnist_lightning.inference.load import load
from mnist_lightning.inference.pictures import PictureError
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
    assert refused == [str(pictures / name) for name in ("list.png", "empty", "gone.png")]


def test_json(trained_run: Path, pictures: Path, cli: Callable[..., Finished]) -> None:
    done = cli("predict", trained_run, pictures / "3.png", "--json")
    assert (done.status, done.err) == (0, "")
    [record] = json.loads(done.out)
    assert record["digit"] == 3
    assert set(record) == {"file", "digit", "confidence", "runner_up", "runner_up_confidence", "not_sure", "probabilities"}
    refused = cli("predict", trained_run, "gone.png", "--json")
    assert (refused.status, refused.out) == (2, "[]\n")


def test_a_picture_is_read_from_standard_input(
    trained_run: Path, pictures: Path, cli: Callable[..., Finished], monkeypatch: pytest.MonkeyPatch
) -> None:
    for given, status in ((pictures / "3.png").read_bytes(), 0), (b"", 2):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(given)))
        done = cli("predict", trained_run, "-")
        assert done.status == status
    assert done.err == "error: -: is no picture; PNG, JPEG, WEBP, GIF, BMP, TIFF, PPM are read\n"


def numbers(folder: Path) -> Path:
    """Two lines of digits on one sheet: 274, 30."""
    images, labels = synthetic.draw(10, seed=7)
    paper = Image.new("L", (500, 400), 255)
    for row, line in enumerate([[2, 7, 4], [3, 0]]):
        for column, digit in enumerate(line):
            large = Image.fromarray(images[labels == digit][0].numpy()).resize((150, 150), Image.Resampling.BICUBIC)
            paper.paste(20, (20 + 150 * column, 20 + 180 * row + 8 * column), mask=large)
    paper.save(folder / "numbers.png")
    return folder / "numbers.png"


def test_a_sheet_is_read_in_reading_order(trained_run: Path, tmp_path: Path, cli: Callable[..., Finished]) -> None:
    sheet = numbers(tmp_path)
    done = cli("predict", trained_run, sheet, "--sheet", "--json")
    assert (done.status, done.err) == (0, "")
    records = json.loads(done.out)
    assert [(one["line"], one["place"]) for one in records] == [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2)]
    assert sum(one["digit"] == digit for one, digit in zip(records, (2, 7, 4, 3, 0), strict=True)) >= 4
    digits = [str(one["digit"]) for one in records]
    lines = cli("predict", trained_run, sheet, "--sheet").out.splitlines()[1:]
    assert lines[0].startswith(f"{sheet} line 1  {' '.join(digits[:3])}")
    assert lines[1].startswith(f"{sheet} line 2  {' '.join(digits[3:])}")


def test_several_digits_in_one_picture_are_said(trained_run: Path, tmp_path: Path, cli: Callable[..., Finished]) -> None:
    done = cli("predict", trained_run, numbers(tmp_path))
    assert done.status == 0
    assert "   not sure: 5 digits in one picture: use --sheet" in done.out


def test_a_low_confidence_is_told() -> None:
    def record(confidence: float) -> object:
        return predict._record([0.0, 1 - confidence, confidence, *[0.0] * 7])["not_sure"]

    assert record(0.95) == ""
    assert record(0.85) == "could be 1"


def test_arrays_are_read(trained_run: Path, pictures: Path) -> None:
    net = load(trained_run).net
    shown = [np.asarray(Image.open(pictures / f"{digit}.png").resize((220, 220))) for digit in range(10)]
    stack = predict.predict_array(net, np.stack(shown))
    assert sum(record["digit"] == digit for digit, record in enumerate(stack)) >= 9
    for array in (shown[3], shown[3] / 255, np.stack([shown[3]] * 3, axis=-1)):
        [record] = predict.predict_array(net, array)
        assert record["probabilities"] == pytest.approx(stack[3]["probabilities"], abs=1e-3)
    with pytest.raises(PictureError, match=r"^picture 2 of 2: no digit found; nothing is drawn"):
        predict.predict_array(net, np.stack([shown[3], np.full_like(shown[3], 200)]))
