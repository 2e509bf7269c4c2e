"""Images: where they come from, how they are batched and augmented."""

from mnist_lightning.data.datamodule import DigitsDataModule, MNISTDataModule, SyntheticDataModule

__all__ = ["DigitsDataModule", "MNISTDataModule", "SyntheticDataModule"]
