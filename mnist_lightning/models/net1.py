"""Net1, the study's first version: 10,970 parameters, a 7×7 convolution as its classifier; breaks the 8,000 budget."""

from collections.abc import Sequence

from torch import nn

from mnist_lightning.models.chain import Chain, exactly
from mnist_lightning.models.layers.batchnorm import BatchNorm2d


class Net1(Chain):
    """Conv → BatchNorm → ReLU blocks around one max pooling, closed by a 7×7 convolution; no bias, no dropout."""

    def __init__(self, channels: Sequence[int] = (10, 10, 20, 10, 10, 20, 10)) -> None:
        a, b, c, d, e, f, g = exactly(7, channels)
        super().__init__(
            nn.Conv2d(1, a, 3, bias=False),  # (N, 10, 26, 26)  rf 3   90
            BatchNorm2d(a),  #                 (N, 10, 26, 26)  rf 3   20
            nn.ReLU(),  #                      (N, 10, 26, 26)  rf 3   0
            nn.Conv2d(a, b, 3, bias=False),  # (N, 10, 24, 24)  rf 5   900
            BatchNorm2d(b),  #                 (N, 10, 24, 24)  rf 5   20
            nn.ReLU(),  #                      (N, 10, 24, 24)  rf 5   0
            nn.Conv2d(b, c, 3, bias=False),  # (N, 20, 22, 22)  rf 7   1,800
            BatchNorm2d(c),  #                 (N, 20, 22, 22)  rf 7   40
            nn.ReLU(),  #                      (N, 20, 22, 22)  rf 7   0
            nn.MaxPool2d(2),  #                (N, 20, 11, 11)  rf 8   0
            nn.Conv2d(c, d, 1, bias=False),  # (N, 10, 11, 11)  rf 8   200
            BatchNorm2d(d),  #                 (N, 10, 11, 11)  rf 8   20
            nn.ReLU(),  #                      (N, 10, 11, 11)  rf 8   0
            nn.Conv2d(d, e, 3, bias=False),  # (N, 10, 9, 9)    rf 12  900
            BatchNorm2d(e),  #                 (N, 10, 9, 9)    rf 12  20
            nn.ReLU(),  #                      (N, 10, 9, 9)    rf 12  0
            nn.Conv2d(e, f, 3, bias=False),  # (N, 20, 7, 7)    rf 16  1,800
            BatchNorm2d(f),  #                 (N, 20, 7, 7)    rf 16  40
            nn.ReLU(),  #                      (N, 20, 7, 7)    rf 16  0
            nn.Conv2d(f, g, 1, bias=False),  # (N, 10, 7, 7)    rf 16  200
            BatchNorm2d(g),  #                 (N, 10, 7, 7)    rf 16  20
            nn.ReLU(),  #                      (N, 10, 7, 7)    rf 16  0
            nn.Conv2d(g, 10, 7, bias=False),  # (N, 10, 1, 1)  rf 28  4,900
        )
