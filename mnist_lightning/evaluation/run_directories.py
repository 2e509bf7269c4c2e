"""Reading what runs left behind: configuration and verdict of every run below a folder, and why the others have none.

Imports neither torch nor lightning nor pandas.
"""

import functools
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from pydantic import TypeAdapter, ValidationError
from yaml import YAMLError  # type: ignore[import-untyped]

from mnist_lightning.config.compose import flatten, read_config
from mnist_lightning.config.errors import ConfigError, fitted, named
from mnist_lightning.evaluation.verdict import MISSED, PASSED, Verdict
from mnist_lightning.files import Stamp, read_text, stamp

SWEEP = "sweep.json"  # of a sweep's directory: what the command line asked for
LOCK = ".lock"  # file of a directory in which a command is at work
SET_ASIDE = "set-aside-"  # beginning of the name of a folder with what a resumed run replaced
UNFINISHED, UNREADABLE = "unfinished", "unreadable"
DAMAGE = (OSError, ValueError, RecursionError, YAMLError, OmegaConfBaseException)
IMMATERIAL = {  # no result depends on them
    *("data.root", "data.places", "data.mirrors", "trainer.accelerator", "gate.on_miss"),
    *("resume", "ckpt_path", "pictures", "sweep.jobs", "sweep.prune"),
}
_VERDICT = TypeAdapter(Verdict)


def lock(directory: Path) -> FileLock:
    """Takes a directory, made if need be, until released or the process ends; a ConfigError where another command has it."""
    directory.mkdir(parents=True, exist_ok=True)
    taken = FileLock(directory / LOCK)
    try:
        taken.acquire(timeout=0)
    except Timeout:
        way_out = "wait for its end, or name another directory with hydra.run.dir=DIR or hydra.sweep.dir=DIR"
        raise ConfigError(f"{directory}: another command is at work there; {way_out}") from None
    return taken


@dataclass(frozen=True)
class Run:
    """One run directory. Without a verdict, `why` tells what is the matter with it."""

    directory: Path
    status: str
    """As the verdict has it, or "unfinished" (running or killed), or "unreadable" (a file is cut off or damaged)."""
    config: dict[str, Any]
    """Every value by its dotted key, but for those that no result depends on."""
    verdict: dict[str, Any]
    why: str = ""

    @property
    def finished(self) -> bool:
        """Whether it is a result: trained to the end and judged."""
        return self.status in (PASSED, MISSED)

    @property
    def left_out(self) -> str:
        """What is said of a run that is no result."""
        return fitted(f"{self.directory}: left out, {self.status}: ", self.why)


def find_runs(directories: Iterable[Path]) -> list[Run]:
    """Every run at or below the directories, once, in the order of their paths; nothing is raised for a damaged one.

    Links are followed, as TensorBoard follows them. Without a verdict, a config.yaml makes a run only if a run wrote it.
    """
    runs = map(read_run, sorted(_folders_of_runs(directories)))
    return [run for run in runs if run.config or (run.directory / "verdict.json").exists()]


def _folders_of_runs(directories: Iterable[Path]) -> Iterator[Path]:
    seen: set[Path] = set()
    for name, below, files in chain.from_iterable(os.walk(directory, followlinks=True) for directory in directories):
        folder = Path(name)
        if folder.resolve() in seen:  # by another way; links may lead round in a circle
            below.clear()
            continue
        seen.add(folder.resolve())
        below[:] = [child for child in below if child != ".hydra" and not child.startswith(SET_ASIDE)]
        below.sort(key=lambda child: (folder / child).is_symlink())  # a run goes by its own name where it has two
        if "config.yaml" in files and ("verdict.json" in files or "hydra.yaml" not in files):
            yield folder


def require_runs(directories: Sequence[Path]) -> list[Run]:
    """`find_runs`, for a command that has nothing to do without one: raises a ConfigError."""
    runs = find_runs(directories)
    if not runs:
        names = ", ".join(map(str, directories))
        raise ConfigError(f"{names}: no run below (no config.yaml); name the folder of a run or of a sweep")
    return runs


def read_run(directory: Path) -> Run:
    """One run by the `config.yaml`, `verdict.json` and `metrics.csv` in its directory."""
    # A sweep looks at all its runs after every job: a file is read again only where it has changed.
    return _read(directory, *(stamp(directory / name) for name in ("config.yaml", "verdict.json", "metrics.csv")))


@functools.lru_cache(maxsize=4096)
def _read(directory: Path, config_stamp: Stamp, verdict_stamp: Stamp, metrics_stamp: Stamp) -> Run:
    config: dict[str, Any] = {}
    try:
        config = _read_values(directory)
        if not verdict_stamp:
            return Run(directory, UNFINISHED, config, {}, "no verdict.json: still running, or killed")
        verdict = _read_verdict(directory / "verdict.json")
        run = Run(directory, verdict["status"], config, verdict, "; ".join(verdict["reasons"]))
        if metrics_stamp and run.finished and len(read_epochs(directory)) != verdict["epochs"]:
            raise ValueError(f"metrics.csv: not a row for each of {verdict['epochs']} epochs")
    except DAMAGE as error:
        return Run(directory, UNREADABLE, config, {}, named(error))
    return run


def _read_values(directory: Path) -> dict[str, Any]:
    loaded = read_config(directory)
    # The seed stands below all groups, and so is missing where the file was cut off.
    if not (isinstance(loaded, DictConfig) and isinstance(loaded.get("seed"), int) and "gate" in loaded):
        raise ValueError("config.yaml holds no whole configuration")
    return settings(loaded)


def _read_verdict(path: Path) -> dict[str, Any]:
    try:
        return asdict(_VERDICT.validate_json(read_text(path), strict=True))
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(": ".join([path.name, *map(str, first["loc"]), first["msg"]])) from None


def read_epochs(directory: Path) -> list[dict[str, float]]:
    """The rows of a run's metrics.csv, not a number where nothing was measured; a ValueError if it is damaged."""
    contents = read_text(directory / "metrics.csv")
    names, *rows = [line.split(",") for line in contents.splitlines()] or [[]]
    if not contents.endswith("\n") or any(len(row) != len(names) for row in rows):
        raise ValueError("metrics.csv: a row is cut off")
    return [dict(zip(names, (float(value or "nan") for value in row), strict=True)) for row in rows]


def settings(config: DictConfig) -> dict[str, Any]:
    """Every value of a configuration by its dotted key, but for those that no result depends on."""
    values = flatten(config)
    return {key: value for key, value in values.items() if key not in IMMATERIAL and not key.startswith("logger.")}


def shown(value: Any) -> str:
    """A value as a table shows it: of an import path the last part."""
    text = str(value).replace(" ", "")
    return text.rpartition(".")[2] if isinstance(value, str) and text.replace(".", "").replace("_", "").isalnum() else text
