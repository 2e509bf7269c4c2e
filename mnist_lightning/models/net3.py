"""Net3, the study's best version: 7,496 parameters, channels that grow gradually, pooling where the receptive field is 5."""

from collections.abc import Sequence

from torch import nn

from mnist_lightning.models.chain import Chain, exactly
from mnist_lightning.models.layers.batchnorm import BatchNorm2d
from mnist_lightning.models.layers.dropout import Dropout


class Net3(Chain):
    """Conv → ReLU → BatchNorm → Dropout blocks, in this order as published; no bias, no dropout in the 1×1 transition."""

    def __init__(self, channels: Sequence[int] = (8, 16, 8, 12, 16, 20, 16), dropout: float = 0.025) -> None:
        a, b, c, d, e, f, g = exactly(7, channels)
        super().__init__(
            nn.Conv2d(1, a, 3, bias=False),  # (N, 8, 26, 26)   rf 3   72
            nn.ReLU(),  #                      (N, 8, 26, 26)   rf 3   0
            BatchNorm2d(a),  #                 (N, 8, 26, 26)   rf 3   16
            Dropout(dropout),  #               (N, 8, 26, 26)   rf 3   0
            nn.Conv2d(a, b, 3, bias=False),  # (N, 16, 24, 24)  rf 5   1,152
            nn.ReLU(),  #                      (N, 16, 24, 24)  rf 5   0
            BatchNorm2d(b),  #                 (N, 16, 24, 24)  rf 5   32
            Dropout(dropout),  #               (N, 16, 24, 24)  rf 5   0
            nn.MaxPool2d(2),  #                (N, 16, 12, 12)  rf 6   0
            nn.Conv2d(b, c, 1, bias=False),  # (N, 8, 12, 12)   rf 6   128
            nn.ReLU(),  #                      (N, 8, 12, 12)   rf 6   0
            BatchNorm2d(c),  #                 (N, 8, 12, 12)   rf 6   16
            nn.Conv2d(c, d, 3, bias=False),  # (N, 12, 10, 10)  rf 10  864
            nn.ReLU(),  #                      (N, 12, 10, 10)  rf 10  0
            BatchNorm2d(d),  #                 (N, 12, 10, 10)  rf 10  24
            Dropout(dropout),  #               (N, 12, 10, 10)  rf 10  0
            nn.Conv2d(d, e, 3, bias=False),  # (N, 16, 8, 8)    rf 14  1,728
            nn.ReLU(),  #                      (N, 16, 8, 8)    rf 14  0
            BatchNorm2d(e),  #                 (N, 16, 8, 8)    rf 14  32
            Dropout(dropout),  #               (N, 16, 8, 8)    rf 14  0
            nn.Conv2d(e, f, 3, bias=False),  # (N, 20, 6, 6)    rf 18  2,880
            nn.ReLU(),  #                      (N, 20, 6, 6)    rf 18  0
            BatchNorm2d(f),  #                 (N, 20, 6, 6)    rf 18  40
            Dropout(dropout),  #               (N, 20, 6, 6)    rf 18  0
            nn.AvgPool2d(6),  #                (N, 20, 1, 1)    rf 28  0
            nn.Conv2d(f, g, 1, bias=False),  # (N, 16, 1, 1)    rf 28  320
            nn.ReLU(),  #                      (N, 16, 1, 1)    rf 28  0
            BatchNorm2d(g),  #                 (N, 16, 1, 1)    rf 28  32
            Dropout(dropout),  #               (N, 16, 1, 1)    rf 28  0
            nn.Conv2d(g, 10, 1, bias=False),  # (N, 10, 1, 1)  rf 28  160
        )
