"""Shared, for the fewest parameters: one 3×3 convolution does the work of five; 2,490 parameters by default."""

from torch import Tensor, nn

from mnist_lightning.models.batchnorm import BatchNorm2d
from mnist_lightning.models.two_pool import ACTIVATIONS


class Shared(nn.Sequential):
    """Conv → BatchNorm → activation blocks whose convolution is one and the same, before and after the second pooling; no bias.

    Every application has a batch norm of its own, so that the same filters can stand for another feature at every depth; a
    further layer costs two parameters a channel.

    Args:
        width: Channels of every map.
        activation: "relu" or "silu".
        num_classes: Number of logits.
    """

    def __init__(self, width: int = 15, activation: str = "silu", num_classes: int = 10) -> None:
        act = ACTIVATIONS[activation]
        conv = nn.Conv2d(width, width, 3, padding=1, bias=False)
        super().__init__(
            nn.Conv2d(1, width, 3, padding=1, bias=False),  # (N, 15, 28, 28)  rf 3   135
            BatchNorm2d(width),  #                            (N, 15, 28, 28)  rf 3   30
            act(),  #                                         (N, 15, 28, 28)  rf 3   0
            nn.MaxPool2d(2),  #                               (N, 15, 14, 14)  rf 4   0
            conv,  #                                          (N, 15, 14, 14)  rf 8   2,025
            BatchNorm2d(width),  #                            (N, 15, 14, 14)  rf 8   30
            act(),  #                                         (N, 15, 14, 14)  rf 8   0
            conv,  #                                          (N, 15, 14, 14)  rf 12  0
            BatchNorm2d(width),  #                            (N, 15, 14, 14)  rf 12  30
            act(),  #                                         (N, 15, 14, 14)  rf 12  0
            conv,  #                                          (N, 15, 14, 14)  rf 16  0
            BatchNorm2d(width),  #                            (N, 15, 14, 14)  rf 16  30
            act(),  #                                         (N, 15, 14, 14)  rf 16  0
            nn.MaxPool2d(2),  #                               (N, 15, 7, 7)    rf 18  0
            conv,  #                                          (N, 15, 7, 7)    rf 26  0
            BatchNorm2d(width),  #                            (N, 15, 7, 7)    rf 26  30
            act(),  #                                         (N, 15, 7, 7)    rf 26  0
            conv,  #                                          (N, 15, 7, 7)    rf 34  0
            BatchNorm2d(width),  #                            (N, 15, 7, 7)    rf 34  30
            act(),  #                                         (N, 15, 7, 7)    rf 34  0
            nn.AvgPool2d(7),  #                               (N, 15, 1, 1)    rf 58  0
            nn.Conv2d(width, num_classes, 1, bias=False),  #  (N, 10, 1, 1)    rf 58  150
        )

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).flatten(1)  # (N, 10, 1, 1) -> (N, 10)
