"""The benchmark's contestants do the work they stand for, and its report adds up."""

import functools
import json
import statistics
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from mnist_lightning.benchmark import contestants, steps
from mnist_lightning.config.compose import compose_config
from mnist_lightning.models import Net3
from mnist_lightning.models.layers.dropout import Dropout
from mnist_lightning.training.fit import quieten
from tests.conftest import Finished

FEW = ("data=synthetic", "data.train_images=400", "data.test_images=100", "data.batch_size=16", "trainer.accelerator=cpu")


@pytest.mark.torture
def test_command_measures_all_contestants_and_writes_json(cli: Callable[..., Finished], tmp_path: Path) -> None:
    done = cli("benchmark", *FEW, "--rounds", 1, "--steps", 2, "--out", "bench.json")
    assert done.status == 0, done.err
    report = json.loads((tmp_path / "bench.json").read_text("utf-8"))
    rounds = {name: figures["s_per_step"] for name, figures in report["contestants"].items()}
    assert list(rounds) == list(contestants.CONTESTANTS)
    assert all(len(seconds) == 1 and min(seconds) > 0 for seconds in rounds.values())
    ratio = statistics.median(rounds["published loop"]) / statistics.median(rounds["this project"])
    assert report["ratios"]["published loop / this project"] == pytest.approx(ratio)
    assert report["steps_per_epoch"] == 25
    for line in (
        *contestants.CONTESTANTS,
        "FLOP bound",
        "published loop / this project",
        "this project / floor",
        "this project / compiled",
    ):
        assert line in done.out


@pytest.mark.parametrize("name", [*contestants.CONTESTANTS, "evaluation"])
def test_a_round_is_seconds_of_one_step(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that ticks once a reading: two readings a round, whatever the number of steps."""
    readings = iter(range(100))
    monkeypatch.setattr(contestants, "now", lambda: float(next(readings)))
    monkeypatch.setattr(contestants, "WORKERS", 0)
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))  # no C++
    monkeypatch.setattr(contestants, "WARM_UP", 2)
    quieten()
    cfg = compose_config(*FEW)
    contestant = (contestants.CONTESTANTS | {"evaluation": contestants.evaluation})[name]
    assert contestant(cfg, steps.data_of(cfg), torch.device("cpu"))(4) == 1 / 4


def test_flops_of_a_step_are_the_published_ones() -> None:
    """0.78 GFLOP for Net3 at batch 128, forward and backward."""
    assert steps.step_flops(Net3(), 128) / 1e9 == pytest.approx(0.78, abs=0.005)


def test_the_published_network_has_torchs_own_layers() -> None:
    net = contestants.stock_network(compose_config("model=net3"))
    assert not any(type(module).__module__.startswith("mnist_lightning.models.layers") for module in net.modules())
    assert [module.p for module in net.modules() if isinstance(module, nn.Dropout)] == [0.025] * 6
    assert any(isinstance(module, Dropout) for module in Net3().modules())


def test_per_image_transforms_are_the_published_ones() -> None:
    data = steps.data_of(compose_config(*FEW))
    dataset = contestants.PerImage(data.splits["train"].images, data.splits["train"].labels)
    torch.manual_seed(0)
    (first, label), (again, _) = dataset[0], dataset[0]
    assert (first.shape, first.dtype, label) == ((1, 28, 28), torch.float32, int(data.splits["train"].labels[0]))
    assert not torch.equal(first, again)  # every reading draws anew
    assert len(dataset) == 400
    assert first.min() >= -0.1307 / 0.3081 - 1e-6  # black, normalised
    assert first.max() <= (1 - 0.1307) / 0.3081 + 1e-6


def test_the_cost_table_has_images_per_second() -> None:
    report = {"ms_per_step": {"net1": dict.fromkeys(steps.BATCH_SIZES, 64.0)}, "device": "cpu", "cores": 2, "versions": {}}
    line = next(line for line in steps.cost_text(report).splitlines() if line.split()[0] == "128")
    assert line.split() == ["128", "64.0", "2,000"]


@pytest.mark.parametrize("words", [("--rounds", "0"), ("--table", "nosuch"), ("model=net9",)])
def test_bad_input_is_status_2(cli: Callable[..., Finished], words: tuple[str, ...]) -> None:
    done = cli("benchmark", *words)
    assert (done.status, done.out) == (2, "")
    assert words[-1] in done.err


def test_an_epoch_too_short_to_be_timed_is_refused() -> None:
    with pytest.raises(ValueError, match=r"data.batch_size=128: an epoch must have more than 5 steps"):
        steps.data_of(compose_config("data=synthetic", "data.train_images=700", "data.batch_size=128"))
