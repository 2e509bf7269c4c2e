"""The data modules: MNIST and its kind with their official splits, and drawn digits in their place.

Images are uint8 `(N, 28, 28)` in memory and float32 `(N, 1, 28, 28)`, normalised, for the network; labels are int64 `(N,)`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from mnist_lightning.config.errors import ConfigError
from mnist_lightning.data import mnist_files, synthetic
from mnist_lightning.data.augmentation import LabelMix, of_batches
from mnist_lightning.data.batches import Batch, IndexBatches, InMemoryImages, balanced_split
from mnist_lightning.data.data_sets import DATA_SETS

# Mean and standard deviation of MNIST's 60,000 training images in [0, 1].
MEAN, STD = 0.1307, 0.3081


class DigitsDataModule(L.LightningDataModule):
    """Digit images held in memory, augmented and normalised a batch at a time on the batch's device.

    Without a hold-out the network trains on all training images and each epoch is evaluated on the test images, as
    published; with one, each epoch is evaluated on the hold-out and the test images wait for `trainer.test`.
    """

    name: str
    """What the verdict calls the data; the accuracy is judged where `gate.dataset` is the same."""

    def __init__(
        self,
        batch_size: int,  # of all processes together
        eval_batch_size: int,  # of each process
        val_images: int,  # training images to hold out
        seed: int,  # of the hold-out and of the order of the training images
        augmentation: Callable[..., Any],  # as `of_batches` takes it; for training batches only
        mean: float = MEAN,  # of the training images in [0, 1]
        std: float = STD,
    ) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.val_images = val_images
        self.seed = seed
        self.augmentation = of_batches(augmentation)
        self.mean, self.std = mean, std
        self.next_epoch = 0  # counted from 0: that training starts with
        self.splits: dict[str, InMemoryImages] = {}

    @property
    def epoch_split(self) -> str:
        """The images that each epoch is evaluated on."""
        return "val" if self.val_images else "test"

    def load(self) -> dict[str, Batch]:
        """Reads or draws "train" and "test": uint8 images `(N, 28, 28)` and int64 labels `(N,)`."""
        raise ConfigError(f"data: {type(self).__name__} has no method load, which returns its images and labels")

    def setup(self, stage: str) -> None:
        if self.splits:  # fit, then test: read once
            return
        data = self.load()
        if not self.name:
            raise ConfigError(f"data: {type(self).__name__} has no name, by which a gate knows it; give the class a `name`")
        _check(type(self).__name__, data)
        images, labels = data["train"]
        train, val = balanced_split(labels, self.val_images, self.seed)
        splits = {"train": (images[train], labels[train]), "val": (images[val], labels[val]), "test": data["test"]}
        # 47 MB of uint8: small enough to live where the network does, so that no batch is ever copied there.
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        self.splits = {name: InMemoryImages(*(tensor.to(device) for tensor in split)) for name, split in splits.items()}

    def num_images(self, split: str) -> int:
        """Images in "train", "val" or "test"; known after `setup`."""
        return len(self.splits[split])

    def _loader(self, split: str, batch_size: int, shuffle: bool) -> DataLoader[Batch]:
        batches = IndexBatches(
            self.splits[split],
            batch_size,
            num_replicas=self.trainer.world_size if self.trainer else 1,
            rank=self.trainer.global_rank if self.trainer else 0,
            shuffle=shuffle,
            seed=self.seed,
        )
        # Its own generator: every pass draws a seed for worker processes, which must not move the random numbers of training.
        return DataLoader(self.splits[split], batch_size=None, sampler=batches, generator=torch.Generator())

    def train_dataloader(self) -> DataLoader[Batch]:
        num_processes = self.trainer.world_size if self.trainer else 1
        loader = self._loader("train", self.batch_size // num_processes, shuffle=True)
        # Lightning takes the first batches of a resumed run before it tells the sampler which epoch it is.
        loader.sampler.set_epoch(self.next_epoch)  # type: ignore[attr-defined]
        return loader

    def state_dict(self) -> dict[str, Any]:
        """Goes into the checkpoint, written at the end of an epoch."""
        return {"next_epoch": self.trainer.current_epoch + 1 if self.trainer else 0}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.next_epoch = state_dict["next_epoch"]

    def val_dataloader(self) -> DataLoader[Batch]:
        return self._loader(self.epoch_split, self.eval_batch_size, shuffle=False)

    def test_dataloader(self) -> DataLoader[Batch]:
        return self._loader("test", self.eval_batch_size, shuffle=False)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        images, labels = batch
        training = bool(self.trainer and self.trainer.training)
        if training and isinstance(self.augmentation, LabelMix):
            images, labels = self.augmentation.with_labels(images[:, None].float(), labels)
            return self._fitted(normalize(images, self.mean, self.std)), labels
        return self._fitted(self.prepare(images, augment=training)), labels

    def _fitted(self, images: Tensor) -> Tensor:
        """Images in the precision of the network's weights, where `trainer.precision` makes that another."""
        return images.to(self.trainer.lightning_module.dtype) if self.trainer else images

    def prepare(self, images: Tensor, augment: bool = True) -> Tensor:
        """The network's input: uint8 `(N, 28, 28)` to float32 `(N, 1, 28, 28)`, augmented if asked, normalised."""
        images = images[:, None].float()
        return normalize(self.augmentation(images) if augment else images, self.mean, self.std)


def _check(name: str, data: Any) -> None:
    """Refuses what a class of the user's own loads where it is not what `load` promises; a ConfigError says what it is."""
    for split in ("train", "test"):
        try:
            images, labels = data[split]
            count = len(images)
        except (LookupError, TypeError, ValueError):
            raise ConfigError(
                f'data: {name}.load must return {{"train": (images, labels), "test": (images, labels)}}'
            ) from None
        wanted = (("images", images, torch.uint8, (count, 28, 28)), ("labels", labels, torch.int64, (count,)))
        for what, part, dtype, shape in wanted:
            if not isinstance(part, Tensor) or part.dtype != dtype or part.shape != shape:
                found = f"{part.dtype} {tuple(part.shape)}" if isinstance(part, Tensor) else type(part).__name__
                raise ConfigError(f"data: {name}.load: {split} {what} are {found}; wanted are {dtype} {shape}")
        if not count:
            raise ConfigError(f"data: {name}.load: there are no {split} images")
        if labels.min() < 0 or labels.max() > 9:
            raise ConfigError(f"data: {name}.load: {split} labels go from {labels.min()} to {labels.max()}; wanted are 0 to 9")


def normalize(images: Tensor, mean: float = MEAN, std: float = STD) -> Tensor:
    """Maps grey values in [0, 255] to zero mean and unit variance over the training images, by default MNIST's."""
    return (images / 255 - mean) / std


class MNISTDataModule(DigitsDataModule):
    """MNIST, or another data set in its kind of files, split as published; arguments as of `mnist_files.locate`.

    Raises a ValueError for a name that is none of theirs.
    """

    def __init__(self, root: str, places: Sequence[str], mirrors: Sequence[str], name: str = "MNIST", **loading: Any) -> None:
        super().__init__(**loading)
        if name not in DATA_SETS:
            raise ValueError(f"data.name={name}: must be one of {', '.join(DATA_SETS)}")
        self.name = name
        self.source = (root, places, mirrors, name)

    def prepare_data(self) -> None:
        mnist_files.locate(*self.source)  # downloads once per machine, before any process reads

    def load(self) -> dict[str, Batch]:
        return mnist_files.load(*self.source)


class SyntheticDataModule(DigitsDataModule):
    """Digits that the project draws itself, in MNIST's format; needs neither files nor network."""

    name = "synthetic"

    def __init__(self, train_images: int, test_images: int, **loading: Any) -> None:
        super().__init__(**loading)
        self.train_images = train_images
        self.test_images = test_images

    def load(self) -> dict[str, Batch]:
        # Fixed seeds: the digits are a data set; `seed` varies what is trained on it, not the set itself.
        return {"train": synthetic.draw(self.train_images, seed=1), "test": synthetic.draw(self.test_images, seed=2)}
