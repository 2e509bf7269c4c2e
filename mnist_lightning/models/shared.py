"""Shared, for the fewest parameters: two depthwise-separable convolutions do the work of four; 2,496 parameters by default."""

from torch import nn

from mnist_lightning.models.chain import Chain
from mnist_lightning.models.layers.batchnorm import BatchNorm2d
from mnist_lightning.models.two_pool import ACTIVATIONS


class Shared(Chain):
    """Depthwise 3×3 → pointwise 1×1 → BatchNorm → activation blocks, each pair of convolutions applied twice; no bias.

    Every application has a batch norm of its own, so that the same filters can stand for another feature at every depth. The
    end is TwoPool's: an average would forget the places.
    """

    def __init__(self, width: int = 24, activation: str = "silu") -> None:
        act = ACTIVATIONS[activation]
        depthwise_a, depthwise_b = (nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False) for _ in range(2))
        pointwise_a, pointwise_b = (nn.Conv2d(width, width, 1, bias=False) for _ in range(2))
        super().__init__(
            nn.Conv2d(1, width, 3, padding=1, bias=False),  #        (N, 24, 28, 28)  rf 3   216
            BatchNorm2d(width),  #                                   (N, 24, 28, 28)  rf 3   48
            act(),  #                                                (N, 24, 28, 28)  rf 3   0
            nn.MaxPool2d(2),  #                                      (N, 24, 14, 14)  rf 4   0
            depthwise_a,  #                                          (N, 24, 14, 14)  rf 8   216
            pointwise_a,  #                                          (N, 24, 14, 14)  rf 8   576
            BatchNorm2d(width),  #                                   (N, 24, 14, 14)  rf 8   48
            act(),  #                                                (N, 24, 14, 14)  rf 8   0
            depthwise_a,  #                                          (N, 24, 14, 14)  rf 12  0
            pointwise_a,  #                                          (N, 24, 14, 14)  rf 12  0
            BatchNorm2d(width),  #                                   (N, 24, 14, 14)  rf 12  48
            act(),  #                                                (N, 24, 14, 14)  rf 12  0
            nn.MaxPool2d(2),  #                                      (N, 24, 7, 7)    rf 14  0
            depthwise_b,  #                                          (N, 24, 7, 7)    rf 22  216
            pointwise_b,  #                                          (N, 24, 7, 7)    rf 22  576
            BatchNorm2d(width),  #                                   (N, 24, 7, 7)    rf 22  48
            act(),  #                                                (N, 24, 7, 7)    rf 22  0
            depthwise_b,  #                                          (N, 24, 7, 7)    rf 30  0
            pointwise_b,  #                                          (N, 24, 7, 7)    rf 30  0
            BatchNorm2d(width),  #                                   (N, 24, 7, 7)    rf 30  48
            act(),  #                                                (N, 24, 7, 7)    rf 30  0
            nn.MaxPool2d(2),  #                                      (N, 24, 3, 3)    rf 34  0
            nn.Conv2d(width, width, 3, groups=width, bias=False),  # (N, 24, 1, 1)    rf 50  216
            nn.Conv2d(width, 10, 1, bias=False),  #                  (N, 10, 1, 1)    rf 50  240
        )
