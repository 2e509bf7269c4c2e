"""How a search begins, and begins again: its words are checked, its directory is found, its workers are started."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from filelock import FileLock
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict

from mnist_lightning import files
from mnist_lightning.config.check import EXTRAS, check, require_extras, validated
from mnist_lightning.config.compose import compose_config, flatten
from mnist_lightning.config.errors import ConfigError, fitted, one_line, typed
from mnist_lightning.config.run_name import folder_name
from mnist_lightning.config.trainer import is_ddp
from mnist_lightning.evaluation.run_directories import settings
from mnist_lightning.search.adopt import RECORD, SEARCHES
from mnist_lightning.search.rules import Range, Search, Searching, composable

ONLY_HERE = ("search.trials", "search.workers", "search.storage")  # may differ when the same search goes on
NO_WORDS = ("sweep=", "sweep.", "resume=", "ckpt_path=", "hydra.run.", "hydra.sweep.", "hydra.mode=", "hydra/launcher=")


@dataclass(frozen=True)
class Launch:
    """A search as its command line describes it."""

    words: list[str]
    cfg: DictConfig  # of its runs
    search: Search
    directory: Path


def prepare(words: list[str]) -> Launch:
    """Checks the words of a search, and makes its directory; a ConfigError where they cannot be searched with."""
    for word in words:
        if word.lstrip("+").startswith(NO_WORDS):
            raise ConfigError(
                f"{word}: goes with a run or a sweep; a search always goes on, in the directory of search.name=NAME"
            )
    kept = sorted(word for word in words if not word.lstrip("+").startswith(tuple(f"{key}=" for key in ONLY_HERE)))
    cfg = compose_config(*composable(words))
    search = validated(Searching, OmegaConf.masked_copy(cfg, "search")).search
    with open_dict(cfg):
        node = cfg.pop("search")
    check(cfg)
    require_extras(cfg)
    _check(cfg, search, words)
    directory = SEARCHES / (search.name or (folder_name("+".join(kept)) if kept else "default"))
    asked = settings(cfg) | {
        key: value for key, value in flatten(OmegaConf.create({"search": node})).items() if key not in ONLY_HERE
    }
    _take(directory, kept, asked)
    return Launch(words, cfg, search, directory)


def _check(cfg: DictConfig, search: Search, words: Sequence[str]) -> None:
    if not all(map(find_spec, EXTRAS["search"])):
        raise ConfigError("search: needs an extra that is not installed; pip install 'mnist-lightning[search]'")
    if not cfg.data.val_images:
        raise ConfigError("data.val_images=0: a search compares on a hold-out, never on the test set; try data.val_images=5000")
    if cfg.gate.max_file_bytes:
        raise ConfigError(
            f"gate.max_file_bytes={cfg.gate.max_file_bytes}: is judged by an export, which no trial makes; leave it out"
        )
    if is_ddp(cfg.trainer.strategy):
        raise ConfigError("trainer=ddp: a trial is one process; search on one device, with several trials by search.workers=2")
    from mnist_lightning.search.space import space

    space(search)
    words = [*composable(words), *(["model.plan=[head]"] if search.plan else [])]
    for key, values in search.vary.items():
        first = typed(values.low if isinstance(values, Range) else values[0])
        try:
            compose_config(*words, f"{key}={first}")
        except HydraException as error:
            raise ConfigError(fitted(f"search.vary: {key}={first}: ", one_line(error), "; name a key of a run")) from error


def _take(directory: Path, words: list[str], asked: dict[str, Any]) -> None:
    """Makes the directory this search's, unless it is so already; refuses that of another."""
    directory.mkdir(parents=True, exist_ok=True)
    record = directory / RECORD
    asked = json.loads(json.dumps(asked))
    with FileLock(directory / ".turn.lock"):
        if not record.exists():
            files.write(record, json.dumps({"words": words, "asked": asked}, indent=2) + "\n")
        there = json.loads(files.read_text(record))["asked"]
    if differing := [key for key in sorted(there.keys() | asked.keys()) if there.get(key) != asked.get(key)]:
        key = differing[0]
        raise ConfigError(
            f"{directory}: holds a search with {key}={typed(there.get(key))}, not {typed(asked.get(key))}; "
            "name another directory with search.name=NAME"
        )


def side_by_side(arguments: Sequence[str], workers: int) -> bool:
    """Runs the same command in several processes, a thread each; returns whether all of them ended well."""
    command = [sys.executable, "-m", "mnist_lightning", "search", *arguments, "--worker"]
    env = os.environ | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS") or "1"}
    # Not in the terminal's group, whose Ctrl-C they would get beside our signal: a second one ends a process at once.
    processes = [subprocess.Popen(command, env=env, start_new_session=True) for _ in range(workers)]
    try:
        statuses = [process.wait() for process in processes]
        return not any(statuses)
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()
