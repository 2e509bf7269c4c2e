"""The LightningModule against the same computation without Lightning."""

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mnist_lightning.config.build import build
from mnist_lightning.config.compose import compose_config
from mnist_lightning.data.datamodule import SyntheticDataModule, normalize
from mnist_lightning.training.lit_module import LitClassifier, decay_groups
from mnist_lightning.training.schedules import Schedule
from tests.conftest import quiet_trainer


def fit(tmp_path: Path, net: nn.Module, *overrides: str) -> tuple[L.Trainer, Any, Any]:
    cfg = compose_config("data=synthetic", "data.train_images=96", "data.test_images=40", *overrides)
    data: SyntheticDataModule = build(cfg, "data", seed=0, augmentation=nn.Identity())
    classifier = LitClassifier(net, build(cfg, "optimizer"), Schedule.of(cfg), cfg.label_smoothing, data.epoch_split)
    trainer = quiet_trainer(tmp_path, 2)
    trainer.fit(classifier, datamodule=data)
    return trainer, classifier, data


def small_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))


def test_training_is_the_plain_loop(tmp_path: Path) -> None:
    """Two epochs of SGD written out by hand give the same weights: the module adds nothing to them."""
    net = small_net()
    plain = small_net()
    sgd = ("optimizer.lr=0.1", "optimizer.momentum=0.9", "optimizer.weight_decay=0")
    options = ("scheduler=linear", "scheduler.warmup=0", "data.batch_size=32", *sgd)
    _, _, data = fit(tmp_path, net, *options)
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    loader, step = data.train_dataloader(), 0
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)
        for images, targets in loader:
            optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / 6)
            loss = F.cross_entropy(plain(normalize(images[:, None].float())), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
    assert step == 6
    for ours, theirs in zip(net.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_logged_loss_and_accuracy_are_means_over_the_images(tmp_path: Path) -> None:
    trainer, classifier, data = fit(tmp_path, small_net(), "data.eval_batch_size=17")  # 17 + 17 + 6 images
    images, targets = data.splits["test"].images, data.splits["test"].labels
    logits = classifier(normalize(images[:, None].float()))
    assert trainer.callback_metrics["test/acc"].item() == pytest.approx((logits.argmax(1) == targets).float().mean().item())
    assert trainer.callback_metrics["test/loss"].item() == pytest.approx(F.cross_entropy(logits, targets).item(), rel=1e-5)
    assert {"train/loss", "train/acc"} <= set(trainer.callback_metrics)


def test_weight_decay_acts_on_convolutions_and_linear_layers_alone() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3, bias=True), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    net[3].bias.requires_grad_(False)
    decayed, others = decay_groups(net)
    assert {id(p) for p in decayed["params"]} == {id(net[0].weight), id(net[3].weight)}
    assert {id(p) for p in others["params"]} == {id(net[0].bias), id(net[1].weight), id(net[1].bias)}
    optimizer = torch.optim.SGD(decay_groups(net), lr=0.1, weight_decay=0.5)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.5, 0.0]
    assert len(decay_groups(nn.Linear(3, 2, bias=False))) == 1


def test_label_smoothing_is_for_training_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of uniform logits the smoothed loss is the same, of a sure and right answer it is not."""
    _, classifier, _ = fit(tmp_path, small_net(), "label_smoothing=0.2")
    images, targets = torch.zeros(1, 1, 28, 28), torch.tensor([3])
    logits = torch.full((1, 10), -5.0).index_fill_(1, targets, 5.0)
    monkeypatch.setattr(classifier, "forward", lambda images: logits)
    plain = F.cross_entropy(logits, targets).item()
    assert classifier.eval().loss_and_logits((images, targets))[0].item() == pytest.approx(plain)
    # A share of 0.2 over ten classes: 0.82 of the right one, 0.02 of every other, each 10 further down.
    assert classifier.train().loss_and_logits((images, targets))[0].item() == pytest.approx(plain + 9 * 0.02 * 10)


def test_of_mixed_images_the_larger_share_is_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, classifier, _ = fit(tmp_path, small_net())
    shares = torch.zeros(2, 10)
    shares[:, 3], shares[:, 7] = torch.tensor([0.7, 0.4]), torch.tensor([0.3, 0.6])
    logits = torch.zeros(2, 10).index_fill_(1, torch.tensor([3]), 5.0)
    monkeypatch.setattr(classifier, "forward", lambda images: logits)
    loss = classifier._step((torch.zeros(2, 1, 28, 28), shares), "train")
    log_probabilities = logits.log_softmax(1)
    assert loss.item() == pytest.approx(-(shares * log_probabilities).sum(1).mean().item())
    [(_, _, targets)] = classifier.seen["train"]
    assert targets.tolist() == [3, 7]
