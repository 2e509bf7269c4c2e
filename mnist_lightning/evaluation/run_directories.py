"""Reading what runs left behind: configuration and verdict of every run below a folder, and why the others have none.

Imports neither torch nor lightning.
"""

import csv
import functools
import io
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import TypeAdapter, ValidationError
from yaml import YAMLError  # type: ignore[import-untyped]

from mnist_lightning.config.compose import read_config
from mnist_lightning.config.errors import ConfigError, one_line
from mnist_lightning.evaluation.verdict import ERROR, INTERRUPTED, MISSED, PASSED, Verdict
from mnist_lightning.files import Stamp, read_text, stamp

LOCK = ".lock"  # file of a directory in which a command is at work
SET_ASIDE = "set-aside-"  # beginning of the name of a folder with what a resumed run replaced
UNFINISHED, UNREADABLE = "unfinished", "unreadable"
_VERDICT = TypeAdapter(Verdict)
# Where the data lies and what else no result depends on.
IMMATERIAL = (
    *("data.root", "data.places", "data.mirrors", "trainer.accelerator", "gate.on_miss"),
    *("resume", "ckpt_path", "pictures"),
)


def lock(directory: Path) -> FileLock:
    """Takes a directory, made if need be, for this process until `release`, the end of a `with`, or the end of the process.

    Raises:
        ConfigError: Another command has it.
        OSError: The file cannot be made.
    """
    directory.mkdir(parents=True, exist_ok=True)
    taken = FileLock(directory / LOCK)
    try:
        taken.acquire(timeout=0)
    except Timeout:
        raise ConfigError(
            f"{directory}: another command is at work there; "
            "wait for its end, or name another directory with hydra.run.dir=DIR or hydra.sweep.dir=DIR"
        ) from None
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


def find_runs(directories: Iterable[Path]) -> list[Run]:
    """Every run at or below the directories, in the order of their paths; nothing is raised for a damaged one."""
    found = {path.parent for directory in directories for path in directory.rglob("config.yaml")}
    return [read_run(directory) for directory in sorted(found) if not directory.name.startswith(SET_ASIDE)]


def require_runs(directories: Sequence[Path]) -> list[Run]:
    """`find_runs`, for a command that has nothing to do without one.

    Raises:
        ConfigError: There is none.
    """
    if runs := find_runs(directories):
        return runs
    names = ", ".join(map(str, directories))
    raise ConfigError(f"{names}: no run below (no config.yaml); name the folder of a run or of a sweep")


def read_run(directory: Path) -> Run:
    """One run by the `config.yaml`, `verdict.json` and `metrics.csv` in its directory."""
    # A sweep looks at all its runs after every job: a file is read again only where it has changed.
    return _read(directory, *(stamp(directory / name) for name in ("config.yaml", "verdict.json", "metrics.csv")))


@functools.lru_cache(maxsize=4096)
def _read(directory: Path, config_stamp: Stamp, verdict_stamp: Stamp, metrics_stamp: Stamp) -> Run:
    config: dict[str, Any] = {}
    verdict: dict[str, Any] = {}
    try:
        loaded = read_config(directory)
        if not isinstance(loaded.get("seed"), int):
            raise ValueError("config.yaml holds no whole configuration")  # the seed stands below all groups
        config = flatten(loaded)
        if not verdict_stamp:
            return Run(directory, UNFINISHED, config, {}, "no verdict.json: still running, or killed")
        verdict = _read_verdict(directory / "verdict.json")
        status, why = verdict["status"], "; ".join(verdict["reasons"])
        if metrics_stamp and status in (PASSED, MISSED):
            _check_metrics(directory / "metrics.csv", verdict["epochs"])
    except (OSError, ValueError, YAMLError, OmegaConfBaseException) as error:
        return Run(directory, UNREADABLE, config, {}, f"{type(error).__name__}: {one_line(error)}")
    return Run(directory, status, config, verdict, why)


def _read_verdict(path: Path) -> dict[str, Any]:
    """The fields of a `Verdict`.

    Raises:
        ValueError: A field is missing or no value for it; says which.
    """
    try:
        verdict = _VERDICT.validate_json(read_text(path), strict=True)
    except ValidationError as error:
        detail = error.errors()[0]
        raise ValueError(": ".join([path.name, *map(str, detail["loc"]), detail["msg"]])) from None
    if verdict.status not in (PASSED, MISSED, ERROR, INTERRUPTED):
        raise ValueError(f"{path.name}: status: {verdict.status!r} is none")
    if verdict.params is None and verdict.status in (PASSED, MISSED):
        raise ValueError(f"{path.name}: params: a run that was judged has counted them")
    return asdict(verdict)


def _check_metrics(path: Path, epochs: int) -> None:
    """Raises a ValueError for a table without a whole row for every epoch."""
    contents = read_text(path)
    lines = contents.splitlines()
    if len(lines) != 1 + epochs or len({line.count(",") for line in lines}) != 1 or not contents.endswith("\n"):
        raise ValueError(f"{path.name}: not a whole row for each of {epochs} epochs")


def read_epochs(directory: Path) -> list[dict[str, float]]:
    """The rows of a run's metrics.csv; not a number where nothing was measured.

    Raises:
        OSError, ValueError: There is no such file, or it is damaged.
    """
    contents = read_text(directory / "metrics.csv")
    rows = list(csv.DictReader(io.StringIO(contents, newline=""), strict=True))
    if not contents.endswith("\n") or any(None in row or None in row.values() for row in rows):
        raise ValueError("metrics.csv: a row is cut off")
    return [{name: float(value) if value else math.nan for name, value in row.items()} for row in rows]


def flatten(config: DictConfig) -> dict[str, Any]:
    """Every value of a configuration by its dotted key, but for those that no result depends on."""

    def walk(node: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
        for key, value in node.items():
            if isinstance(value, dict):
                yield from walk(value, f"{prefix}{key}.")
            else:
                yield f"{prefix}{key}", value

    container = OmegaConf.to_container(config, resolve=True)
    assert isinstance(container, dict)
    flat = dict(walk({str(key): value for key, value in container.items()}, ""))
    return {key: value for key, value in flat.items() if key not in IMMATERIAL}


def shown(value: Any) -> str:
    """A value as a table shows it: of an import path the last part."""
    text = str(value).replace(" ", "")
    return text.rpartition(".")[2] if isinstance(value, str) and text.replace(".", "").replace("_", "").isalnum() else text
