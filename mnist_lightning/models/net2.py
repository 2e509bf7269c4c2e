"""Net2, the study's second version: 7,450 parameters, global average pooling in place of Net1's 7×7 convolution."""

from collections.abc import Sequence

from torch import nn

from mnist_lightning.models.chain import Chain, exactly
from mnist_lightning.models.layers.batchnorm import BatchNorm2d
from mnist_lightning.models.layers.dropout import Dropout


class Net2(Chain):
    """Conv → BatchNorm → ReLU → Dropout blocks around one max pooling, then global average pooling; no bias.

    The published table prints a 3×3 kernel for Conv2d-26. With padding 0 that kernel could not keep 6×6, nor the receptive
    field at 18; as 1×1 every row of the table and the published parameter count hold, and that is what stands here.
    """

    def __init__(self, channels: Sequence[int] = (14, 20, 8, 8, 16, 16, 16), dropout: float = 0.05) -> None:
        a, b, c, d, e, f, g = exactly(7, channels)
        super().__init__(
            nn.Conv2d(1, a, 3, bias=False),  # (N, 14, 26, 26)  rf 3   126
            BatchNorm2d(a),  #                 (N, 14, 26, 26)  rf 3   28
            nn.ReLU(),  #                      (N, 14, 26, 26)  rf 3   0
            Dropout(dropout),  #               (N, 14, 26, 26)  rf 3   0
            nn.Conv2d(a, b, 3, bias=False),  # (N, 20, 24, 24)  rf 5   2,520
            BatchNorm2d(b),  #                 (N, 20, 24, 24)  rf 5   40
            nn.ReLU(),  #                      (N, 20, 24, 24)  rf 5   0
            Dropout(dropout),  #               (N, 20, 24, 24)  rf 5   0
            nn.Conv2d(b, c, 1, bias=False),  # (N, 8, 24, 24)   rf 5   160
            BatchNorm2d(c),  #                 (N, 8, 24, 24)   rf 5   16
            nn.ReLU(),  #                      (N, 8, 24, 24)   rf 5   0
            Dropout(dropout),  #               (N, 8, 24, 24)   rf 5   0
            nn.MaxPool2d(2),  #                (N, 8, 12, 12)   rf 6   0
            nn.Conv2d(c, d, 3, bias=False),  # (N, 8, 10, 10)   rf 10  576
            BatchNorm2d(d),  #                 (N, 8, 10, 10)   rf 10  16
            nn.ReLU(),  #                      (N, 8, 10, 10)   rf 10  0
            Dropout(dropout),  #               (N, 8, 10, 10)   rf 10  0
            nn.Conv2d(d, e, 3, bias=False),  # (N, 16, 8, 8)    rf 14  1,152
            BatchNorm2d(e),  #                 (N, 16, 8, 8)    rf 14  32
            nn.ReLU(),  #                      (N, 16, 8, 8)    rf 14  0
            Dropout(dropout),  #               (N, 16, 8, 8)    rf 14  0
            nn.Conv2d(e, f, 3, bias=False),  # (N, 16, 6, 6)    rf 18  2,304
            BatchNorm2d(f),  #                 (N, 16, 6, 6)    rf 18  32
            nn.ReLU(),  #                      (N, 16, 6, 6)    rf 18  0
            Dropout(dropout),  #               (N, 16, 6, 6)    rf 18  0
            nn.Conv2d(f, g, 1, bias=False),  # (N, 16, 6, 6)    rf 18  256
            BatchNorm2d(g),  #                 (N, 16, 6, 6)    rf 18  32
            nn.ReLU(),  #                      (N, 16, 6, 6)    rf 18  0
            Dropout(dropout),  #               (N, 16, 6, 6)    rf 18  0
            nn.AvgPool2d(6),  #                (N, 16, 1, 1)    rf 28  0
            nn.Conv2d(g, 10, 1, bias=False),  # (N, 10, 1, 1)  rf 28  160
        )
