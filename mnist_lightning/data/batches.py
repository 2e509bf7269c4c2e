"""Whole batches by index tensors, shared out among processes; a class-balanced hold-out."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, DistributedSampler

NUM_CLASSES = 10

Batch = tuple[Tensor, Tensor]
"""Images uint8 `(N, 28, 28)` or float32 `(N, 1, 28, 28)`, and labels int64 `(N,)`."""


class InMemoryImages(Dataset[Batch]):
    """Two tensors on one device; an index tensor fetches a whole batch at once."""

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
    """Indices of the training and of the hold-out images, ascending; the hold-out is drawn with equally many of each class.

    Where `num_val` is no multiple of ten, the first classes give one image more. The global generator is not touched.
    Raises a ValueError where a class would have no image left to train on.
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
