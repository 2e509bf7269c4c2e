"""Images: where they come from, how they are batched and augmented."""

from mnist_lightning.data.datamodule import MNISTDataModule, SyntheticDataModule

__all__ = ["MNISTDataModule", "SyntheticDataModule"]
