"""The benchmark's contestants do the work they stand for, and its report adds up."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from mnist_lightning import benchmark, contestants
from mnist_lightning.config import build, compose_config
from mnist_lightning.models import Net1, Net3
from mnist_lightning.models.dropout import Dropout
from tests.conftest import finish, spawn


@pytest.mark.slow
def test_command_measures_all_contestants_and_writes_json(tmp_path: Path) -> None:
    options = ("rounds=2", "steps=3", "out=bench.json", "data=synthetic", "data.train_images=400", "data.test_images=100")
    done = finish(spawn(*options, "data.batch_size=16", cwd=tmp_path, module="mnist_lightning.benchmark"), timeout_s=200)
    assert done.status == 0, done.err
    report = json.loads((tmp_path / "bench.json").read_text("utf-8"))
    steps = report["ms_per_step"]
    assert list(steps) == list(contestants.CONTESTANTS)
    assert all(len(figures["rounds"]) == 2 and min(figures["rounds"]) > 0 for figures in steps.values())
    ratio = steps["published loop"]["median"] / steps["this project"]["median"]
    assert report["ratios"]["published loop / this project"] == pytest.approx(ratio)
    assert report["steps_per_epoch"] == 25
    for line in (*contestants.CONTESTANTS, "FLOP bound", "published loop / this project", "this project / floor"):
        assert line in done.out


def test_flops_of_a_step_are_the_published_ones() -> None:
    """0.78 GFLOP for Net3 at batch 128, forward and backward."""
    assert benchmark.step_flops(Net3(), 128) / 1e9 == pytest.approx(0.78, abs=0.005)


def test_the_published_network_has_torchs_own_dropout() -> None:
    net = contestants.stock_network(compose_config("model=net3"))
    dropouts = [module for module in net.modules() if isinstance(module, nn.Dropout)]
    assert len(dropouts) == 6
    assert not any(isinstance(module, Dropout) for module in dropouts)
    assert {module.p for module in dropouts} == {0.025}
    assert not any(isinstance(module, nn.Dropout) for module in Net1().modules())


def test_per_image_transforms_are_the_published_ones() -> None:
    data = build(compose_config("data=synthetic", "data.train_images=20"), "data", seed=0, augmentation=nn.Identity())
    data.setup("fit")
    dataset = contestants.PerImage(data.splits["train"].images, data.splits["train"].labels)
    torch.manual_seed(0)
    (first, label), (again, _) = dataset[0], dataset[0]
    assert (first.shape, first.dtype, label) == ((1, 28, 28), torch.float32, int(data.splits["train"].labels[0]))
    assert not torch.equal(first, again)  # every reading draws anew
    assert len(dataset) == 20
    assert first.min() >= -0.1307 / 0.3081 - 1e-6  # black, normalised
    assert first.max() <= (1 - 0.1307) / 0.3081 + 1e-6


@pytest.mark.parametrize("bad", ["rounds=0", "steps=x", "model=net9"])
def test_bad_input_is_one_line_status_2(tmp_path: Path, bad: str) -> None:
    done = finish(spawn(bad, cwd=tmp_path, module="mnist_lightning.benchmark"))
    assert (done.status, done.out) == (2, "")
    [line] = done.err.splitlines()
    assert line.startswith(f"error: {bad}: ")
