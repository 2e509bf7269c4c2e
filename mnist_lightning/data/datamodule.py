"""The data modules: MNIST with its official split, and drawn digits in its place; train-only augmentation; whole-batch loaders.

Shape letters: N images, side 28. Images are uint8 `(N, 28, 28)` in memory and float32 `(N, 1, 28, 28)`, normalised, on the
device; labels are int64 `(N,)`.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from mnist_lightning.data import mnist_files, synthetic

# Mean and standard deviation of the 60,000 training images in [0, 1].
MEAN, STD = 0.1307, 0.3081
NUM_CLASSES = 10

Batch = tuple[Tensor, Tensor]


class InMemoryImages(Dataset[Batch]):
    """Images and labels as two tensors on one device; an index tensor fetches a whole batch at once."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images = images
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int | Tensor) -> Batch:
        return self.images[index], self.labels[index]


def num_training_batches(num_images: int, batch_size: int) -> int:
    """How many `training_batches` there are."""
    return max(1, -(-(num_images - 1) // batch_size))


def training_batches(items: Tensor, batch_size: int) -> tuple[Tensor, ...]:
    """Batches along the first dimension; the last may be smaller, and a last one of a single image joins the one before.

    A batch norm over a 1×1 map would have one value and nothing to compare it with.
    """
    num_whole = num_training_batches(len(items), batch_size) - 1
    return items.split([batch_size] * num_whole + [len(items) - num_whole * batch_size])


class IndexBatches(DistributedSampler[Batch]):
    """Deals out indices a batch at a time, as tensors on the images' device: shuffled, those are `training_batches`.

    The order of an epoch depends on seed and epoch alone (Lightning calls `set_epoch`). Of several processes each gets a share:
    shuffled, all get equally many, a few images twice; in order, every image goes to one process only, so that an evaluation
    counts it once. A DataLoader takes it as its `sampler`, with `batch_size=None`.

    Args:
        dataset: Images to index.
        batch_size: Images per batch of this process.
        **order: As `DistributedSampler`: shuffle, seed, num_replicas, rank.
    """

    def __init__(self, dataset: InMemoryImages, batch_size: int, **order: Any) -> None:
        super().__init__(dataset, **order)
        self.batch_size = batch_size
        self.device = dataset.labels.device
        self.in_order = range(self.rank, len(dataset), self.num_replicas)

    def __len__(self) -> int:
        if self.shuffle:
            return num_training_batches(self.num_samples, self.batch_size)
        return -(-len(self.in_order) // self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        indices = list(super().__iter__()) if self.shuffle else list(self.in_order)
        # One copy to the device an epoch, and no Python integers a step: 0.1 ms a step less than torch's batch sampler.
        items = torch.tensor(indices, device=self.device)
        return iter(training_batches(items, self.batch_size) if self.shuffle else items.split(self.batch_size))


def balanced_split(labels: Tensor, num_val: int, seed: int) -> tuple[Tensor, Tensor]:
    """Splits indices into training and hold-out, the hold-out drawn at random with equally many images of each class.

    Args:
        labels: `(N,)`, classes 0 … 9.
        num_val: Images to hold out; where it is no multiple of ten, the first classes give one image more.
        seed: Of the draw alone: it does not touch the global generator.

    Returns:
        Indices of the training and of the hold-out images, each in ascending order.

    Raises:
        ValueError: A class would have no image left to train on.
    """
    generator = torch.Generator().manual_seed(seed)
    held_out = torch.zeros(len(labels), dtype=torch.bool)
    for digit in range(NUM_CLASSES):
        members = (labels == digit).nonzero().squeeze(1)
        num_held_out = num_val // NUM_CLASSES + (digit < num_val % NUM_CLASSES)
        if num_held_out >= len(members) and num_val > 0:
            raise ValueError(f"holding out {num_held_out} images of digit {digit} leaves none of {len(members)} to train on")
        held_out[members[torch.randperm(len(members), generator=generator)[:num_held_out]]] = True
    return (~held_out).nonzero().squeeze(1), held_out.nonzero().squeeze(1)


class DigitsDataModule(L.LightningDataModule):
    """Digit images held in memory, augmented and normalised a batch at a time on the batch's device.

    Without a hold-out the network trains on all training images and each epoch is evaluated on the test images, as
    published; with one, each epoch is evaluated on the hold-out and the test images wait for `trainer.test`.

    Args:
        batch_size: Images per training step, of all processes together; a last step of one image is part of the one before.
        eval_batch_size: Images per evaluation step of each process.
        val_images: Training images to hold out, class-balanced.
        seed: Of the hold-out and of the order of the training images.
        augmentation: Maps float images `(N, 1, 28, 28)` in [0, 255] to the same; applied to training batches only.
    """

    name: str
    """What the verdict calls the data; the accuracy target is judged on MNIST alone."""

    def __init__(
        self,
        batch_size: int,
        eval_batch_size: int,
        val_images: int,
        seed: int,
        augmentation: Callable[[Tensor], Tensor],
    ) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.val_images = val_images
        self.seed = seed
        self.augmentation = augmentation
        self.next_epoch = 0
        """Epoch, counted from 0, that training starts with."""
        self.splits: dict[str, InMemoryImages] = {}

    @property
    def epoch_split(self) -> str:
        """The images that each epoch is evaluated on: "test" as published, or "val" with a hold-out."""
        return "val" if self.val_images else "test"

    def load(self) -> dict[str, Batch]:
        """Reads or draws "train" and "test": uint8 images `(N, 28, 28)` and int64 labels `(N,)`."""
        raise NotImplementedError

    def setup(self, stage: str) -> None:
        if self.splits:  # fit, then test: read once
            return
        data = self.load()
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
        training = self.trainer is not None and self.trainer.training
        images, labels = batch
        return self.prepare(images, augment=training), labels

    def prepare(self, images: Tensor, augment: bool = True) -> Tensor:
        """The network's input: uint8 `(N, 28, 28)` to float32 `(N, 1, 28, 28)`, augmented if asked, normalised."""
        images = images[:, None].float()
        return normalize(self.augmentation(images) if augment else images)


def normalize(images: Tensor) -> Tensor:
    """Maps grey values in [0, 255] to zero mean and unit variance over MNIST's training images."""
    return (images / 255 - MEAN) / STD


class MNISTDataModule(DigitsDataModule):
    """MNIST: 60,000 training and 10,000 test images, split as published.

    Args:
        root: First folder to look in for the four files, and the folder to download to.
        places: Other folders to look in before downloading.
        mirrors: Base addresses to download from, in order.
        **loading: As `DigitsDataModule`.
    """

    name = "MNIST"

    def __init__(self, root: str, places: Sequence[str], mirrors: Sequence[str], **loading: Any) -> None:
        super().__init__(**loading)
        self.root = root
        self.places = places
        self.mirrors = mirrors

    def prepare_data(self) -> None:
        mnist_files.locate(self.root, self.places, self.mirrors)  # downloads once per machine, before any process reads

    def load(self) -> dict[str, Batch]:
        return mnist_files.load(self.root, self.places, self.mirrors)


class SyntheticDataModule(DigitsDataModule):
    """Digits that the project draws itself, in MNIST's format; needs neither files nor network.

    Args:
        train_images: Training images to draw.
        test_images: Test images to draw, from another seed.
        **loading: As `DigitsDataModule`.
    """

    name = "synthetic"

    def __init__(self, train_images: int, test_images: int, **loading: Any) -> None:
        super().__init__(**loading)
        self.train_images = train_images
        self.test_images = test_images

    def load(self) -> dict[str, Batch]:
        # Fixed seeds: the digits are a data set; `seed` varies what is trained on it, not the set itself.
        return {"train": _draw_once(self.train_images, 1), "test": _draw_once(self.test_images, 2)}


@functools.lru_cache(maxsize=2)  # training and test images
def _draw_once(num_images: int, seed: int) -> Batch:
    """`synthetic.draw`, which takes seconds, once for all jobs of a sweep that follow one another."""
    return synthetic.draw(num_images, seed=seed)
