"""A run repeated: identical here, told apart elsewhere."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mnist_lightning.config.compose import compose_config
from mnist_lightning.config.errors import ConfigError
from mnist_lightning.study.reproduce import compare, reproduce
from mnist_lightning.training.fit import run
from tests.conftest import TINY, Finished


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("runs") / "original"
    run(compose_config(*TINY, "trainer.accelerator=cpu"), directory)
    return directory


@pytest.fixture(scope="module")
def another(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that differs in its seed."""
    directory = tmp_path_factory.mktemp("runs") / "another"
    run(compose_config(*TINY, "trainer.accelerator=cpu", "seed=1"), directory)
    return directory


def verdict_of(directory: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((directory / "verdict.json").read_text("utf-8"))
    return loaded


def test_a_repetition_is_identical(original: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in original.iterdir()}
    comparison = reproduce(original, tmp_path / "again")
    assert comparison.outcome == "identical"
    assert comparison.lines[1:] == [
        "figures   the same in every epoch",
        "weights   bit-equal",
        "changed   nothing that is recorded",
    ]
    assert {path: path.read_bytes() for path in original.iterdir()} == before


def test_what_changed_is_named(original: Path, another: Path) -> None:
    """Another seed in the place of another machine: other figures, other weights, on few images the same within noise."""
    then = verdict_of(original)
    then["versions"] = then["versions"] | {"torch": "1.0.0", "code": "abc"}
    then["device"] = "another processor, 4 threads"
    comparison = compare(original, then, another, verdict_of(another))
    assert comparison.lines[1:3] == ["figures   differ from epoch 1 on", "weights   differ"]
    assert "device another processor, 4 threads -> " in comparison.lines[3]
    assert f"torch 1.0.0 -> {torch.__version__.split('+')[0]}" in comparison.lines[3]
    assert "code abc -> " in comparison.lines[3]


@pytest.mark.parametrize(("then", "now", "outcome"), [(0.994, 0.9925, "same within noise"), (0.994, 0.991, "different")])
def test_noise_is_that_of_two_measurements(original: Path, another: Path, then: float, now: float, outcome: str) -> None:
    """99.40 and 99.25 % of 10,000 images: by chance up to 0.22 points apart."""
    verdicts = [verdict_of(original) | {"accuracy": accuracy, "test_images": 10_000} for accuracy in (then, now)]
    assert compare(original, verdicts[0], another, verdicts[1]).outcome == outcome


def test_a_directory_without_a_finished_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no finished run to repeat .*No such file.*; name the folder"):
        reproduce(tmp_path / "nothing", tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_the_command(cli: Callable[..., Finished], original: Path, tmp_path: Path) -> None:
    done = cli("reproduce", original, "--into", "kept")
    assert done.status == 0, done.err
    assert f"IDENTICAL  {original}" in done.out
    assert (tmp_path / "kept" / "verdict.json").exists()
    refused = cli("reproduce", "nowhere")
    assert (refused.status, len(refused.err.splitlines())) == (2, 1)
