"""The chunked training step against the plain one on a CPU, and its recording where there is a CUDA device."""

from collections.abc import Callable
from pathlib import Path

import lightning as L
import pytest
import torch

from mnist_lightning.config.build import build
from mnist_lightning.config.compose import compose_config
from mnist_lightning.data.datamodule import DigitsDataModule
from mnist_lightning.training import cuda_graph
from mnist_lightning.training.cuda_graph import GraphedClassifier
from mnist_lightning.training.lit_module import LitClassifier
from mnist_lightning.training.schedules import Schedule
from tests.conftest import Finished, quiet_trainer

OPTIONS = ("data=synthetic", "data.train_images=200", "data.test_images=40", "data.batch_size=16")  # 12 batches of 16, one of 8


def fit(tmp_path: Path, chunk: int, *options: str, accelerator: str = "cpu") -> tuple[L.Trainer, LitClassifier]:
    """Two epochs of Net3 with dropout and augmentation; chunk 0 is the plain module."""
    cfg = compose_config(*OPTIONS, *options)
    torch.manual_seed(0)
    data: DigitsDataModule = build(cfg, "data", seed=0, augmentation=build(cfg, "augmentation"))
    parts = (build(cfg, "model"), build(cfg, "optimizer"), Schedule.of(cfg), cfg.label_smoothing, data.epoch_split)
    classifier = GraphedClassifier(*parts, data=data) if chunk else LitClassifier(*parts)
    trainer = quiet_trainer(tmp_path, 2, accelerator=accelerator)
    trainer.fit(classifier, datamodule=data)
    return trainer, classifier


def assert_same_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int, *options: str, accelerator: str = "cpu", atol: float = 1e-5
) -> None:
    monkeypatch.setattr(cuda_graph, "BATCHES_PER_CHUNK", chunk)
    plain_trainer, plain = fit(tmp_path, 0, *options, accelerator=accelerator)
    trainer, chunked = fit(tmp_path, chunk, *options, accelerator=accelerator)
    for name, weights in plain.net.state_dict().items():
        torch.testing.assert_close(
            chunked.net.state_dict()[name], weights, rtol=1e-3, atol=atol, msg=lambda text, name=name: f"{name}: {text}"
        )
    for name, value in plain_trainer.callback_metrics.items():
        assert trainer.callback_metrics[name].item() == pytest.approx(value.item(), rel=1e-3), name
    assert trainer.global_step == plain_trainer.global_step == 26
    assert float(trainer.optimizers[0].param_groups[0]["lr"]) == plain_trainer.optimizers[0].param_groups[0]["lr"] == 0.0


@pytest.mark.parametrize("chunk", [5, pytest.param(13, marks=pytest.mark.slow)])
def test_a_chunked_run_is_the_plain_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    """The same order, random numbers, learning rates and step count, so the same weights, wherever the chunks end."""
    assert_same_run(tmp_path, monkeypatch, chunk)


@pytest.mark.slow
def test_other_optimizers_and_augmentations_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # AdamW divides rounding errors by gradients near zero; 26 steps at this rate move a weight by up to 8e-3.
    options = ("optimizer=adamw", "optimizer.lr=0.0003", "augmentation=published", "scheduler=cosine")
    assert_same_run(tmp_path, monkeypatch, 4, *options, atol=5e-4)
    # So does Muon, whose step has one size in every direction.
    assert_same_run(tmp_path, monkeypatch, 4, "optimizer=muon", "optimizer.lr=0.0003", atol=5e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="records a CUDA graph: needs a CUDA device")
def test_a_recorded_run_is_the_plain_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_same_run(tmp_path, monkeypatch, 5, accelerator="gpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_device_it_is_refused_in_one_line(cli: Callable[..., Finished]) -> None:
    done = cli("cuda_graph=true", "data=synthetic")
    assert done.status == 2
    assert done.err == "error: cuda_graph=true: needs a CUDA device, and torch finds none; use cuda_graph=false\n"
