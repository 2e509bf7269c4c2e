"""The data modules: split, batches, augmentation on training images only."""

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2

from mnist_lightning.config.build import build
from mnist_lightning.config.compose import compose_config
from mnist_lightning.data import datamodule as data_module
from mnist_lightning.data.batches import InMemoryImages, balanced_split
from mnist_lightning.data.datamodule import DigitsDataModule, MNISTDataModule, SyntheticDataModule, mnist_files, normalize
from tests.conftest import quiet_trainer


def module(**options: Any) -> SyntheticDataModule:
    defaults: dict[str, Any] = {
        "train_images": 200,
        "test_images": 50,
        "batch_size": 32,
        "eval_batch_size": 30,
        "val_images": 0,
        "seed": 0,
        "augmentation": torch.nn.Identity(),
    }
    made = SyntheticDataModule(**(defaults | options))
    made.setup("fit")
    return made


def test_without_a_hold_out_all_images_train_and_epochs_see_the_test_set() -> None:
    data = module()
    assert (data.epoch_split, data.num_images("train"), data.num_images("val"), data.num_images("test")) == ("test", 200, 0, 50)
    assert sum(len(labels) for _, labels in data.val_dataloader()) == 50


def test_a_hold_out_is_balanced_seeded_and_apart_from_training() -> None:
    data = module(val_images=60)
    assert (data.epoch_split, data.num_images("train"), data.num_images("val")) == ("val", 140, 60)
    labels = torch.cat([labels for _, labels in data.val_dataloader()])
    assert torch.equal(torch.bincount(labels), torch.full((10,), 6))
    assert torch.equal(labels, torch.cat([labels for _, labels in module(val_images=60).val_dataloader()]))
    held_out = {bytes(image.flatten().tolist()) for images, _ in data.val_dataloader() for image in images}
    trained = {bytes(image.flatten().tolist()) for images, _ in data.train_dataloader() for image in images}
    assert (len(held_out), len(trained), held_out & trained) == (60, 140, set())


@pytest.mark.parametrize("num_val", [0, 7, 10, 103, 5000])
def test_the_split_is_a_partition_with_equal_classes(num_val: int) -> None:
    labels = torch.randint(10, (20_000,), generator=torch.Generator().manual_seed(0))
    train, val = balanced_split(labels, num_val, seed=1)
    assert torch.equal(torch.cat([train, val]).sort().values, torch.arange(20_000))
    counts = torch.bincount(labels[val], minlength=10)
    assert counts.sum() == num_val
    assert counts.max() - counts.min() <= 1
    if num_val:
        assert not torch.equal(val, balanced_split(labels, num_val, seed=2)[1])


def test_a_hold_out_that_empties_a_class_is_refused() -> None:
    with pytest.raises(ValueError, match="holding out 20 images of digit 0 leaves none of 20 to train on"):
        module(val_images=200)


def test_splitting_leaves_the_global_generator_alone() -> None:
    state = torch.get_rng_state()
    balanced_split(torch.arange(100) % 10, 20, seed=0)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_batch_is_one_indexing_operation(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    original = InMemoryImages.__getitem__
    monkeypatch.setattr(InMemoryImages, "__getitem__", lambda self, index: calls.append(len(index)) or original(self, index))
    for images, labels in module().train_dataloader():
        assert images.dtype == torch.uint8
        assert len(images) == len(labels)
    assert calls == [32] * 6 + [8]


def test_every_epoch_has_its_own_order_and_the_seed_repeats_it() -> None:
    def order(data: DigitsDataModule, epoch: int) -> Tensor:
        loader = data.train_dataloader()
        loader.sampler.set_epoch(epoch)
        return torch.cat([labels for _, labels in loader])

    data = module()
    assert torch.equal(order(data, 0), order(module(), 0))
    assert not torch.equal(order(data, 0), order(data, 1))
    assert not torch.equal(order(data, 0), order(module(seed=1), 0))
    assert torch.equal(order(data, 0).sort().values, order(data, 1).sort().values)


def test_normalisation_is_the_published_one() -> None:
    torch.testing.assert_close(normalize(torch.tensor([0.0, 255.0])), torch.tensor([-0.1307 / 0.3081, (1 - 0.1307) / 0.3081]))


def test_every_image_is_normalised_by_the_data_sets_own_figures() -> None:
    data = module(mean=0.25, std=0.5)
    white = torch.full((2, 28, 28), 255, dtype=torch.uint8)
    assert torch.equal(data.prepare(white), torch.full((2, 1, 28, 28), 1.5))
    assert torch.equal(data.on_after_batch_transfer((white, torch.zeros(2)), 0)[0], data.prepare(white))


def test_mixed_labels_are_for_training_alone(tmp_path: Path) -> None:
    recorder = Recorder()
    trainer = quiet_trainer(tmp_path, max_epochs=1)
    data = module(augmentation=v2.MixUp(num_classes=10), batch_size=32)
    labels: dict[str, list[int]] = {"train": [], "val": []}
    recorder.training_step = lambda batch, batch_idx: labels["train"].append(batch[1].dim()) or recorder.weight.sum()
    recorder.validation_step = lambda batch, batch_idx: labels["val"].append(batch[1].dim())
    trainer.fit(recorder, datamodule=data)
    assert {split: set(dims) for split, dims in labels.items()} == {"train": {2}, "val": {1}}


class Recorder(L.LightningModule):
    """Keeps the batches that training and evaluation hand to the network."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.batches: dict[str, list[Tensor]] = {"train": [], "val": [], "test": []}

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        self.batches["train"].append(batch[0])
        return self.weight.sum()

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        self.batches["val"].append(batch[0])

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.batches["test"].append(batch[0])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_only_training_batches_are_augmented(tmp_path: Path) -> None:
    recorder = Recorder()
    data = module(augmentation=lambda images: torch.full_like(images, 255.0), val_images=50)
    trainer = quiet_trainer(tmp_path, max_epochs=2)
    trainer.fit(recorder, datamodule=data)
    trainer.test(recorder, datamodule=data, verbose=False)
    white = normalize(torch.tensor(255.0))
    assert all((batch == white).all() for batch in recorder.batches["train"])
    for split, dataset in (("val", data.splits["val"]), ("test", data.splits["test"])):
        plain = normalize(dataset.images[:, None].float())
        seen = torch.cat(recorder.batches[split])
        assert seen.shape == (len(seen), 1, 28, 28)
        assert torch.equal(seen, plain.repeat(len(seen) // len(plain), 1, 1, 1))


def test_mnist_is_read_from_the_configured_place(miniature: Path) -> None:
    cfg = compose_config("data=mnist", f"data.root={miniature}", "data.val_images=20")
    data = build(cfg, "data", seed=0, augmentation=torch.nn.Identity())
    assert isinstance(data, MNISTDataModule)
    data.prepare_data()
    data.setup("fit")
    assert (data.name, data.num_images("train"), data.num_images("val"), data.num_images("test")) == ("MNIST", 180, 20, 100)


def test_the_environment_names_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MNIST_ROOT", raising=False)
    assert compose_config().data.root == "data"
    monkeypatch.setenv("MNIST_ROOT", "elsewhere")
    assert compose_config().data.root == "elsewhere"


@pytest.mark.mnist
def test_the_real_split_is_the_official_one(real_mnist: list[str]) -> None:
    cfg = compose_config(*real_mnist, "data.val_images=5000")
    data = build(cfg, "data", seed=0, augmentation=torch.nn.Identity())
    data.setup("fit")
    assert [data.num_images(split) for split in ("train", "val", "test")] == [55_000, 5_000, 10_000]
    assert torch.equal(torch.bincount(data.splits["val"].labels), torch.full((10,), 500))
    images = mnist_files.load(cfg.data.root, cfg.data.places, [])["train"][0].float() / 255
    assert images.mean().item() == pytest.approx(data_module.MEAN, abs=5e-5)
    assert images.std().item() == pytest.approx(data_module.STD, abs=5e-5)
