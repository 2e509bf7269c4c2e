"""Networks as safetensors files: what was trained is what is loaded, a changed byte is found, and what comes along works."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors import safe_open

from mnist_lightning.inference import weights
from mnist_lightning.inference.evaluate import evaluate
from mnist_lightning.inference.load import load, load_data
from mnist_lightning.inference.shipped import DEFAULT, SHIPPED
from mnist_lightning.models import count_parameters
from tests.conftest import Finished, one_error, read_verdict


@pytest.fixture(scope="module")
def seven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture of a seven, dark on light."""
    strokes = torch.full((40, 40), 255, dtype=torch.uint8)
    strokes[8:11, 10:30] = 0
    for row in range(8, 34):
        middle = 29 - (row - 8) // 2
        strokes[row, middle - 2 : middle + 2] = 0
    path = tmp_path_factory.mktemp("pictures") / "seven.png"
    Image.fromarray(strokes.numpy()).save(path)
    return path


def test_an_exported_network_is_evaluated_as_its_run(trained_run: Path, tmp_path: Path, cli: Callable[..., Finished]) -> None:
    done = cli("export", trained_run, "--format", "safetensors", "--out", "net.safetensors")
    verdict = read_verdict(trained_run)
    assert (done.status, done.err) == (0, "")
    accuracy = f"{100 * verdict['accuracy']:.2f} % test accuracy on synthetic, seed 0"
    assert done.out.splitlines()[1] == f"  network      7288 parameters, {accuracy}"
    assert cli("evaluate", "net.safetensors").out.splitlines()[1:] == cli("evaluate", trained_run).out.splitlines()[1:]
    line = one_error(cli("export", trained_run, "--format", "safetensors", "--out", "net.safetensors"), 2)
    assert line == "net.safetensors: exists already and is not overwritten; name another file with --out FILE"


def test_a_run_without_a_verdict_is_not_exported(trained_run: Path, tmp_path: Path, cli: Callable[..., Finished]) -> None:
    shutil.copytree(trained_run, tmp_path / "run")
    (tmp_path / "run" / "verdict.json").unlink()
    line = one_error(cli("export", "run", "--format", "safetensors"), 2)
    assert line.startswith("run: holds no finished run (no verdict.json: still running, or killed)")


@pytest.mark.parametrize("place", [5, 3000, -1])
def test_a_changed_byte_is_found(place: int, tmp_path: Path, cli: Callable[..., Finished]) -> None:
    contents = bytearray(SHIPPED[DEFAULT].read_bytes())
    contents[place] ^= 1
    (tmp_path / "net.safetensors").write_bytes(contents)
    assert one_error(cli("evaluate", "net.safetensors"), 2).startswith("net.safetensors: ")


def test_a_file_of_somebody_else_is_refused(tmp_path: Path, cli: Callable[..., Finished]) -> None:
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(2)}, tmp_path / "other.safetensors")
    line = one_error(cli("predict", "other.safetensors", "a.png"), 2)
    assert line == "other.safetensors: is damaged, or no file of `export --format safetensors`; write it again"


def test_no_model_is_the_one_that_comes_along(seven: Path, cli: Callable[..., Finished]) -> None:
    for arguments in ((seven,), (DEFAULT, seven), (seven.parent,)):
        done = cli("predict", *arguments)
        assert (done.status, done.err) == (0, "")
        head, answer = done.out.splitlines()
        assert head == f"by {DEFAULT}.safetensors, trained with seed 0"
        assert answer.split()[1] == "7"
    line = one_error(cli("predict", "nowhere", seven), 2)
    assert line.endswith(f"there is no such file or folder; name a run directory, a file of `export`, or {', '.join(SHIPPED)}")


@pytest.mark.parametrize("name", SHIPPED)
def test_what_comes_along_is_within_the_budget_and_tells_nothing_of_the_machine(name: str) -> None:
    trained = load(Path(name))
    assert count_parameters(trained.net) == 0  # only evaluates
    assert trained.sizes["params"] < 8000
    assert SHIPPED[name].stat().st_size < 50_000
    with safe_open(SHIPPED[name], "pt") as opened:
        notes = opened.metadata()
    assert {"accuracy", "seed", "config", "code", weights.HASH} <= notes.keys()
    assert "/" not in notes["config"]


@pytest.mark.mnist
@pytest.mark.parametrize("name", SHIPPED)
def test_what_comes_along_reaches_what_it_says(name: str, real_mnist: Sequence[str]) -> None:
    trained = load(Path(name))
    trained.cfg.data.root = real_mnist[0].partition("=")[2]
    evaluation = evaluate(trained, load_data(trained.cfg))
    with safe_open(SHIPPED[name], "pt") as opened:
        assert evaluation.accuracy == pytest.approx(float(opened.metadata()["accuracy"]), abs=2e-4)  # another processor
    assert evaluation.reasons == []
