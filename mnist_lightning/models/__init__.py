"""The networks of the study, one file each; every file reads top to bottom as the network's architecture table.

All take float32 images `(N, 1, 28, 28)`, normalised, and return logits `(N, 10)`, no softmax. The comment beside a layer
gives its output shape, its receptive field in input pixels, and its trainable parameters at the default widths.
"""

from mnist_lightning.models.chain import count_parameters
from mnist_lightning.models.net1 import Net1
from mnist_lightning.models.net2 import Net2
from mnist_lightning.models.net3 import Net3
from mnist_lightning.models.plan import Plan
from mnist_lightning.models.probe import FromProbabilities

__all__ = ["FromProbabilities", "Net1", "Net2", "Net3", "Plan", "count_parameters"]
