"""The network compiled for training by torch's inductor, which fuses the passes over memory between convolutions."""

import torch
from torch import Tensor

from mnist_lightning.config.errors import ConfigError, fitted, one_line
from mnist_lightning.training.lit_module import LitClassifier


def require_compiler(device: torch.device) -> None:
    """Compiles next to nothing; raises a ConfigError where that cannot be done."""
    try:
        torch.compile(torch.square)(torch.ones(1, device=device))
    except Exception as error:  # whatever is missing: a C++ compiler, Python's headers, Triton
        start, end = "compile=true: nothing can be compiled here (", "); install g++, or use compile=false"
        raise ConfigError(fitted(start, one_line(error), end)) from error


class CompiledClassifier(LitClassifier):
    """`LitClassifier` that trains on whole batches by compiled code; `compile=true`. Its checkpoints are the same.

    Dropout draws by a hash there, so its masks are others than without; resumed or not, a run has the same ones.
    """

    def __init__(self, *parts: object, batch_size: int) -> None:  # of all processes together
        super().__init__(*parts)  # type: ignore[arg-type]
        self.batch_size = batch_size
        torch.compiler.reset()  # earlier runs of this process count towards its limit of compilations
        self.compiled = torch.compile(self.net.__call__, dynamic=False)  # not the network itself, which others look into

    def forward(self, images: Tensor) -> Tensor:
        # Evaluated by the code that `evaluate` runs, too; and nothing is compiled for an epoch's one smaller batch.
        if not self.training or len(images) * self.trainer.world_size != self.batch_size:
            return super().forward(images)
        return self.compiled(images).flatten(1)
