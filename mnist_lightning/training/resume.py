"""Going on with what a run left in its directory; files of a run that is started over move to `set-aside-N` beside it."""

import json
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from mnist_lightning.config.errors import ConfigError
from mnist_lightning.evaluation.run_directories import LOCK, SET_ASIDE, UNFINISHED, Run, read_run, settings
from mnist_lightning.evaluation.verdict import ERROR, INTERRUPTED, PRUNED
from mnist_lightning.files import read_text, remove_parts
from mnist_lightning.training import checkpoints
from mnist_lightning.training.environment import code_hash


@dataclass
class Taken:
    """What a directory holds for a run that is to go on there; nothing of either for one that starts."""

    checkpoint: Path | None = None  # the end of the last whole epoch, to continue from
    epochs: int = 0  # finished before it
    finished: Run | None = None  # a result for exactly this configuration and code: nothing is left to do


def take_up(directory: Path, cfg: DictConfig) -> Taken:
    """Looks at a directory, of which the caller holds the lock, and sets aside what does not go on there."""
    remove_parts(directory)
    taken = look(directory, cfg)
    if taken == Taken() and (directory / "config.yaml").exists():
        set_aside(directory)
    return taken


def look(directory: Path, cfg: DictConfig) -> Taken:
    """What of a directory counts for a configuration; changes nothing.

    A finished run of this configuration and this code is kept; one that was interrupted, killed or ended by an error (a full
    disk, another process of the run that died) continues from `last.ckpt` where that is sound; nothing else counts. A pruned
    one is kept, too, and continues without `sweep.prune`.
    """
    if not (directory / "config.yaml").exists():
        return Taken()
    run = read_run(directory)
    if run.config != settings(cfg) or code_of(directory) != code_hash(cfg):
        return Taken()
    if run.finished or (run.status == PRUNED and cfg.sweep.prune):
        return Taken(finished=run)
    last, best = directory / "last.ckpt", directory / "best.ckpt"
    if run.status not in (UNFINISHED, INTERRUPTED, ERROR, PRUNED) or (best.exists() and not _epochs(best)):
        return Taken()
    epochs = _epochs(last)
    return Taken(checkpoint=last, epochs=epochs) if epochs else Taken()


def code_of(directory: Path) -> str | None:
    """The code that a run began with, or None if it does not say."""
    try:
        return str(json.loads(read_text(directory / "environment.json"))["versions"]["code"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _epochs(checkpoint: Path) -> int:
    """The epochs after which it was written; 0 where it cannot be read or holds a NaN, from which nothing is learned."""
    try:
        loaded = checkpoints.read(checkpoint)
        sound = all(bool(values.isfinite().all()) for values in loaded["state_dict"].values())
        return int(loaded["epoch"]) + 1 if sound else 0
    except (ConfigError, AttributeError, KeyError, TypeError, ValueError):
        return 0


def set_aside(directory: Path) -> None:
    """Moves a run's files into a folder of their own beside the ones to come; the log goes on."""
    number = 1 + sum(path.name.startswith(SET_ASIDE) for path in directory.iterdir())
    folder = directory / f"{SET_ASIDE}{number}"
    folder.mkdir()
    moved = [path for path in directory.iterdir() if not path.name.startswith(SET_ASIDE) and path.name not in ("run.log", LOCK)]
    # Killed on the way, the rest must still count as a run, by config.yaml, and as none to go on with, without last.ckpt.
    for path in sorted(moved, key=lambda path: {"last.ckpt": 0, "config.yaml": 2}.get(path.name, 1)):
        # Under another name TensorBoard takes no events for a run of their own.
        path.rename(folder / path.name.replace("tfevents", "set-aside"))
