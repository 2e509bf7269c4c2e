"""A network that takes images as they come."""

from omegaconf import DictConfig
from torch import Tensor, nn

from mnist_lightning.data.datamodule import MEAN, STD, normalize


class GreyValues(nn.Module):
    """A network behind its normalisation: takes grey values as MNIST stores them."""

    def __init__(self, net: nn.Module, mean: float = MEAN, std: float = STD) -> None:
        super().__init__()
        self.net = net
        self.mean, self.std = mean, std

    def normalized(self, images: Tensor) -> Tensor:
        """The network's input `(N, 1, 28, 28)`."""
        # Not images[:, None]: OpenCV cannot run the operation that it is exported as.
        return normalize(images.reshape(-1, 1, 28, 28).float(), self.mean, self.std)

    def forward(self, images: Tensor) -> Tensor:
        return self.net(self.normalized(images)).flatten(1).float()


def behind_normalization(net: nn.Module, cfg: DictConfig) -> GreyValues:
    """A trained network behind the normalisation of its run, to be evaluated only."""
    grey = GreyValues(net, cfg.data.get("mean", MEAN), cfg.data.get("std", STD))  # older runs have no such keys
    return grey.eval().requires_grad_(False)
