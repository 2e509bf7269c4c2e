"""A trained network measured again: the figures of its run, and of an independent count."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from mnist_lightning.config.compose import compose_config
from mnist_lightning.data.datamodule import DigitsDataModule
from mnist_lightning.inference import evaluate
from mnist_lightning.inference.load import Trained, load_data
from tests.conftest import Finished, read_verdict
from tests.inference.test_load import change


class Oracle(nn.Module):
    """Sure of the label that the first pixel holds, by a confidence that one knows."""

    def forward(self, images: Tensor) -> Tensor:
        logits = torch.zeros(len(images), 10)
        logits[torch.arange(len(images)), images[:, 0, 0].long()] = torch.tensor(81.0).log()  # 81 of 90
        return logits


@pytest.fixture
def marked() -> DigitsDataModule:
    """Images whose first pixel holds their label, but for one in five, which holds the next digit."""
    words = ("data=synthetic", "data.train_images=200", "data.test_images=100", "data.eval_batch_size=30")
    data = load_data(compose_config(*words))
    test = data.splits["test"]
    test.images[:, 0, 0] = test.labels.to(torch.uint8)
    wrong = torch.arange(0, 100, 5)
    test.images[wrong, 0, 0] = ((test.labels[wrong] + 1) % 10).to(torch.uint8)
    return data


def gate(**values: object) -> object:
    limits = ("max_multiply_adds", "max_activation_bytes", "max_file_bytes")
    defaults = {"max_params": 8000, "count": "trainable", "dataset": "MNIST", "min_accuracy": 0.8, "on_miss": "fail"}
    return OmegaConf.create({"gate": defaults | dict.fromkeys(limits) | values})


def test_figures(marked: DigitsDataModule) -> None:
    trained = Trained("a file", Path("a"), Oracle(), gate(), {"params": 7999})  # type: ignore[arg-type]
    evaluation = evaluate.evaluate(trained, marked)
    assert (evaluation.accuracy, evaluation.num_images, evaluation.reasons) == (0.8, 100, [])
    assert evaluation.interval_95 == pytest.approx((0.7112, 0.8666), abs=1e-4)
    assert evaluation.calibration_error == pytest.approx(0.1, abs=1e-5)  # 90 % sure, 80 % right
    assert sum(map(sum, evaluation.confusion)) == 100
    for digit, row in enumerate(evaluation.confusion):
        assert row[digit] + row[(digit + 1) % 10] == sum(row) == 10
        assert evaluation.accuracy_of_class[digit] == pytest.approx(row[digit] / 10)


def test_the_gate_of_the_run_judges_the_size_and_on_mnist_the_accuracy(marked: DigitsDataModule) -> None:
    trained = Trained("a file", Path("a"), Oracle(), gate(min_accuracy=0.81), {"params": 8000})  # type: ignore[arg-type]
    too_large = "the network has 8,000 trainable parameters; gate.max_params=8000 wants fewer"
    assert evaluate.evaluate(trained, marked).reasons == [too_large]
    marked.name = "MNIST"
    inaccurate = "test accuracy 0.8000 is below gate.min_accuracy=0.81"
    assert evaluate.evaluate(trained, marked).reasons == [too_large, inaccurate]


def test_command_finds_the_accuracy_of_the_run(trained_run: Path, cli: Callable[..., Finished]) -> None:
    done = cli("evaluate", trained_run, "--json")
    assert (done.status, done.err) == (0, "")
    assert json.loads(done.out)["accuracy"] == read_verdict(trained_run)["accuracy"]
    shown = cli("evaluate", trained_run)
    assert shown.status == 0
    assert shown.out.startswith(f"NOT JUDGED  {trained_run}/last.ckpt, weights of the last epoch: gate.rule=last\n")
    assert "200 test images of synthetic; not judged: the target of 99.40 % is for MNIST, not for synthetic" in shown.out
    assert len(shown.out.splitlines()) == 16


def test_a_missed_gate_is_the_exit_status(trained_run: Path, tmp_path: Path, cli: Callable[..., Finished]) -> None:
    shutil.copytree(trained_run, tmp_path / "run")
    change(tmp_path / "run", gate__max_params=5000, gate__on_miss="fail")
    done = cli("evaluate", tmp_path / "run")
    reason = "  reason       the network has 7,288 trainable parameters; gate.max_params=5000 wants fewer"
    assert (done.status, done.out.splitlines()[1]) == (3, reason)


def test_the_best_checkpoint_has_the_accuracy_of_its_epoch(trained_run: Path, cli: Callable[..., Finished]) -> None:
    with (trained_run / "metrics.csv").open(encoding="utf-8") as file:
        accuracies = [float(row["test/acc"]) for row in csv.DictReader(file)]
    done = cli("evaluate", trained_run / "best.ckpt", "--json")
    assert json.loads(done.out)["accuracy"] == pytest.approx(max(accuracies), abs=1e-6)


@pytest.mark.mnist
def test_mnist_lies_where_it_does_now(real_mnist: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A run whose MNIST has moved is measured on this machine's."""
    monkeypatch.setenv("MNIST_ROOT", real_mnist[0].partition("=")[2])
    data = load_data(compose_config("data.root=/nowhere/mnist", "data.places=[]", "data.mirrors=[]"))
    assert data.num_images("test") == 10_000
