"""TwoPool, the study's own network: two 2×2 poolings where the published ones have one; 7,288 parameters by default."""

from collections.abc import Sequence

from torch import nn

from mnist_lightning.models.chain import Chain, exactly
from mnist_lightning.models.layers.batchnorm import BatchNorm2d

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "silu": nn.SiLU}


class TwoPool(Chain):
    """Conv → BatchNorm → activation blocks, padded so that both poolings divide evenly; no bias, no dropout.

    Pooling twice spends the multiply-adds on small maps and the parameters on late, narrow filters. At the end each feature
    weighs the nine places of its map (a global depthwise convolution: Chen et al., 2018, "MobileFaceNets").
    """

    def __init__(self, channels: Sequence[int] = (8, 8, 12, 12, 16, 16), activation: str = "silu") -> None:
        a, b, c, d, e, f = exactly(6, channels)
        act = ACTIVATIONS[activation]
        super().__init__(
            nn.Conv2d(1, a, 3, padding=1, bias=False),  # (N, 8, 28, 28)   rf 3   72
            BatchNorm2d(a),  #                            (N, 8, 28, 28)   rf 3   16
            act(),  #                                     (N, 8, 28, 28)   rf 3   0
            nn.Conv2d(a, b, 3, padding=1, bias=False),  # (N, 8, 28, 28)   rf 5   576
            BatchNorm2d(b),  #                            (N, 8, 28, 28)   rf 5   16
            act(),  #                                     (N, 8, 28, 28)   rf 5   0
            nn.MaxPool2d(2),  #                           (N, 8, 14, 14)   rf 6   0
            nn.Conv2d(b, c, 3, padding=1, bias=False),  # (N, 12, 14, 14)  rf 10  864
            BatchNorm2d(c),  #                            (N, 12, 14, 14)  rf 10  24
            act(),  #                                     (N, 12, 14, 14)  rf 10  0
            nn.Conv2d(c, d, 3, padding=1, bias=False),  # (N, 12, 14, 14)  rf 14  1,296
            BatchNorm2d(d),  #                            (N, 12, 14, 14)  rf 14  24
            act(),  #                                     (N, 12, 14, 14)  rf 14  0
            nn.MaxPool2d(2),  #                           (N, 12, 7, 7)    rf 16  0
            nn.Conv2d(d, e, 3, bias=False),  #            (N, 16, 5, 5)    rf 24  1,728
            BatchNorm2d(e),  #                            (N, 16, 5, 5)    rf 24  32
            act(),  #                                     (N, 16, 5, 5)    rf 24  0
            nn.Conv2d(e, f, 3, bias=False),  #            (N, 16, 3, 3)    rf 32  2,304
            BatchNorm2d(f),  #                            (N, 16, 3, 3)    rf 32  32
            act(),  #                                     (N, 16, 3, 3)    rf 32  0
            nn.Conv2d(f, f, 3, groups=f, bias=False),  #  (N, 16, 1, 1)    rf 40  144
            nn.Conv2d(f, 10, 1, bias=False),  #           (N, 10, 1, 1)    rf 40  160
        )
