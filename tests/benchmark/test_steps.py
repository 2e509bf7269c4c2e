"""The benchmark's contestants do the work they stand for, and its report adds up."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from mnist_lightning.benchmark.steps import contestants, steps, sweeps
from mnist_lightning.benchmark.sweeps import Side
from mnist_lightning.config.build import build
from mnist_lightning.config.compose import compose_config
from mnist_lightning.models import Net1, Net3
from mnist_lightning.models.layers.dropout import Dropout
from tests.conftest import TINY, finish, spawn


@pytest.mark.slow
def test_command_measures_all_contestants_and_writes_json(tmp_path: Path) -> None:
    options = ("rounds=2", "steps=3", "out=bench.json", "data=synthetic", "data.train_images=400", "data.test_images=100")
    done = finish(spawn(*options, "data.batch_size=16", cwd=tmp_path, module="mnist_lightning.benchmark.steps"), timeout_s=200)
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
    assert steps.step_flops(Net3(), 128) / 1e9 == pytest.approx(0.78, abs=0.005)


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


def test_sweeps_are_timed_with_what_their_jobs_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeps, "THROUGHPUT", (Side("joblib", 2, 1),))
    monkeypatch.setattr(sweeps, "OVERHEAD", (Side("basic", 1, 1),))
    monkeypatch.setattr(sweeps, "NUM_JOBS", 2)
    report = sweeps.measure_sweeps(TINY, rounds=1, jobs=1)
    assert (len(report["throughput"][0]), report["sizes"]) == (1, [1])
    [[[(wall, trained)]]] = report["overhead"]
    assert 0 < trained < wall
    assert "| joblib | 2 | 1 |" in sweeps.sweeps_text(report)


def test_a_sweep_that_fails_is_no_measurement() -> None:
    with pytest.raises(RuntimeError, match=r"0 of 1 jobs finished\n(.|\n)*optimizer.lr=-1: optimizer.lr must be"):
        sweeps.sweep_seconds(Side("basic", 1, 1), ["optimizer.lr=-1"], 1)


def test_the_tables_of_sweeps_are_medians() -> None:
    """Of figures that can be worked out by hand."""
    overhead = [[[(5.0, 1.0)], [(9.0, 3.0)]], [[(6.0, 1.0)], [(6.0, 3.0)]]]
    report = {"rounds": 3, "throughput": [[80, 100, 90], [40, 60, 30], [45, 50, 45]], "sizes": [1, 2], "overhead": overhead}
    lines = sweeps.sweeps_text(report).splitlines()
    assert lines[4:7] == [
        "| one after another | 1 | 2 | 90.0 | 80.0–100.0 | 1.00 |",
        "| joblib | 2 | 1 | 40.0 | 30.0–60.0 | 2.00 |",
        "| joblib | 4 | 1 | 45.0 | 45.0–50.0 | 2.00 |",
    ]
    assert lines[-2:] == ["| 1 | 5.0 | 4.00 | 6.0 | 5.00 |", "| 2 | 9.0 | 3.00 | 6.0 | 4.50 |"]


@pytest.mark.parametrize("bad", ["rounds=0", "steps=x", "jobs=0", "table=nosuch", "model=net9"])
def test_bad_input_is_one_line_status_2(tmp_path: Path, bad: str) -> None:
    done = finish(spawn(bad, cwd=tmp_path, module="mnist_lightning.benchmark.steps"))
    assert (done.status, done.out) == (2, "")
    [line] = done.err.splitlines()
    assert line.startswith(f"error: {bad}: ")
