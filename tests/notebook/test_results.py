"""What runs, sweeps and networks show of themselves in a cell."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

import mnist_lightning as ml
from mnist_lightning.config.errors import ConfigError
from mnist_lightning.data.datamodule import synthetic
from mnist_lightning.evaluation.run_directories import read_epochs
from tests.conftest import TINY, leave_run, read_verdict

PNG = b"\x89PNG"


def test_a_run_has_the_figures_of_its_files(trained_run: Path) -> None:
    run = ml.Run(trained_run)
    assert run.verdict.accuracy == read_verdict(trained_run)["accuracy"]
    assert run.epochs.to_dict("records") == read_epochs(trained_run)
    assert list(run.epochs.epoch) == [1, 2, 3, 4]
    assert run.curves()._repr_png_().startswith(PNG)
    wrong = round((1 - run.verdict.accuracy) * 200)
    assert run.mistakes().axes[0].get_title().startswith(f"{wrong} of {wrong} mistakes")


def test_a_verdict_shows_itself_as_a_table_of_what_its_text_says(trained_run: Path) -> None:
    verdict = ml.Run(trained_run).verdict
    head, *lines = verdict.text().splitlines()
    shown = verdict._repr_html_()
    assert shown.startswith(f"<table><caption><b>{head}</b>")
    assert shown.count("<tr>") == len(lines)


def test_a_name_in_a_verdict_is_text_and_no_markup(tmp_path: Path) -> None:
    run = ml.Run(leave_run(tmp_path / "run", model="<script>", reasons=["<b>"], passed=False, status="missed"))
    assert "<script>" not in run._repr_html_()
    assert "<td>&lt;b&gt;</td>" in run._repr_html_()


def test_a_folder_without_a_verdict_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="name the folder of a run that has ended"):
        _ = ml.Run(tmp_path).verdict


@pytest.mark.slow
def test_a_sweep_has_its_runs_their_table_and_picture(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    sweep = ml.sweep(*TINY, "optimizer.lr=0.01,0.02", "gate.max_params=10,8000")
    assert sweep.directory.parent == Path("outputs/sweeps")
    assert sorted(run.verdict.status for run in sweep.runs) == ["missed", "missed", "passed", "passed"]
    assert set(sweep.table.columns) > {"lr", "max_params", "test acc %"}
    assert len(sweep.table) == 4
    assert "<table" in sweep._repr_html_()
    assert sweep.picture()._repr_png_().startswith(PNG)
    assert ml.sweep(*TINY, "optimizer.lr=0.01,0.02", "gate.max_params=10,8000", resume=True).directory == sweep.directory


def test_a_picture_is_read_alike_from_a_file_an_image_and_an_array(trained_run: Path, tmp_path: Path) -> None:
    image = Image.new("L", (90, 90), 255)
    ImageDraw.Draw(image).line([(45, 15), (45, 75)], fill=0, width=9)
    image.save(tmp_path / "one.png")
    network = ml.load(trained_run)
    tables = [network.predict(picture) for picture in (str(tmp_path / "one.png"), image, np.asarray(image), image.convert("P"))]
    for table in tables:
        assert table.probabilities[0] == pytest.approx(tables[0].probabilities[0], abs=1e-3)


def test_several_arrays_make_a_row_each(trained_run: Path) -> None:
    images, digits = synthetic.draw(20, seed=5)
    table = ml.load(ml.Run(trained_run)).predict(images)  # a tensor
    assert (torch.tensor(table.digit) == digits).float().mean() > 0.7
    assert len(table) == 20


def test_what_is_no_picture_is_told(trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = ml.load(trained_run)
    for picture in (np.zeros((28, 28), np.uint8), np.zeros((2, 2, 2, 2), np.uint8), tmp_path / "no.png", tmp_path):
        with pytest.raises(ConfigError):
            network.predict(picture)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    Image.fromarray(255 - synthetic.draw(1, seed=0)[0][0].numpy()).save(tmp_path / "good.png")
    assert len(network.predict(tmp_path)) == 1
    assert "broken.png: is no picture" in capsys.readouterr().err
