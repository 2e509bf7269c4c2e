"""One run on processes that torchrun started: what the first of them decides, for all.

Processes that Lightning starts itself (`trainer=ddp` alone) begin after these decisions and need none of this.
"""

import functools
import os
from typing import Any

STARTED = "TORCHELASTIC_RUN_ID" in os.environ
NUM_PROCESSES = int(os.environ["WORLD_SIZE"]) if STARTED else 1
NUM_HERE = int(os.environ["LOCAL_WORLD_SIZE"]) if STARTED else 1  # on this machine
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
