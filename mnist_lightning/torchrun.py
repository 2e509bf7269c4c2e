"""One run on processes that torchrun started: what the first of them decides, for all.

Processes that Lightning starts itself (`trainer=ddp` alone) begin after these decisions and need none of this.
"""

import functools
import os
from typing import Any

from omegaconf import DictConfig

from mnist_lightning.config import ConfigError

STARTED = "TORCHELASTIC_RUN_ID" in os.environ
FIRST = not STARTED or os.environ["RANK"] == "0"


def agree(name: str, value: str) -> str:
    """The first process's value, in every process that torchrun started; the value itself in any other."""
    if not STARTED:
        return value
    if FIRST:
        _store().set(name, value)
    return str(_store().get(name).decode())  # waits for it


@functools.cache  # a store is gone with the object, and the first process may be the one that serves it
def _store() -> Any:
    from torch.distributed.rendezvous import rendezvous  # takes seconds, which a launch without torchrun need not wait for

    store, _, _ = next(rendezvous("env://"))
    return store


def check_processes(cfg: DictConfig) -> None:
    """Refuses a run that would not share its batches between all processes.

    Raises:
        ConfigError: `trainer` asks for another number of them than torchrun has started.
    """
    asked = cfg.trainer.devices if isinstance(cfg.trainer.devices, int) else len(cfg.trainer.devices)
    asked *= cfg.trainer.get("num_nodes", 1)
    if STARTED and asked != int(os.environ["WORLD_SIZE"]):
        started, each = int(os.environ["WORLD_SIZE"]), int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = f" +trainer.num_nodes={started // each}" if started > each else ""
        raise ConfigError(
            f"trainer.devices={cfg.trainer.devices}: torchrun has started {started} processes for one run, which would use "
            f"{asked}; give trainer=ddp trainer.devices={each}{nodes}"
        )
