"""The name of a run, and so of its directory: what tells it apart.

Names need no quoting, in a shell or in an override of Hydra's, and are legal on Windows: letters, digits and `._+-`.
"""

import hashlib
import re
from collections.abc import Sequence

from omegaconf import DictConfig

# In every run's name, or no part of what a run computes.
UNNAMED = (
    *("model", "optimizer.lr", "seed"),
    *("resume", "ckpt_path", "pictures", "logger", "data.root", "data.places", "data.mirrors"),
    *("sweep", "sweep.jobs", "sweep.prune"),
)
MAX_CHARACTERS = 80  # of one folder's name, so that a whole run's stays below 200


def run_name(root: DictConfig, shared: Sequence[str] = ()) -> str:
    """A run's name, such as `net3/lr-0.015/seed-0/data-synthetic`; `shared` keys of a sweep's jobs need no name."""
    name = [folder_name(str(root.hydra.runtime.choices.get("model")))]
    if root.optimizer.get("lr") is not None:  # torch has optimizers without one
        name.append(f"lr-{root.optimizer.lr}")
    name.append(f"seed-{root.seed}")
    overrides = [override.lstrip("+~") for override in root.hydra.overrides.task]
    named = [override for override in overrides if not override.startswith("logger.")]
    others = [override for override in named if override.split("=")[0] not in (*UNNAMED, *shared)]
    if others:
        name.append(folder_name("+".join(others)))
    return "/".join(name)


def folder_name(text: str) -> str:
    """The text as one folder's name; with a hash where that would be too long, or the same as another text's."""
    name = text.replace("=", "-")
    safe = re.sub(r"[^A-Za-z0-9._+-]+", "_", name).strip("._") or "_"
    if safe == name and len(safe) <= MAX_CHARACTERS:
        return safe
    return f"{safe[: MAX_CHARACTERS - 9]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
