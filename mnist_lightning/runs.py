"""Reading what runs left behind: configuration and verdict of every run below a folder, and why the others have none.

Imports neither torch nor lightning.
"""

import csv
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped]

from mnist_lightning.config import one_line
from mnist_lightning.verdict import MISSED, PASSED

SET_ASIDE = "set-aside-"  # beginning of the name of a folder with what a resumed run replaced
UNFINISHED, UNREADABLE = "unfinished", "unreadable"
# Where the data lies and what else no result depends on.
IMMATERIAL = ("data.root", "data.places", "data.mirrors", "trainer.accelerator", "gate.on_miss", "resume", "pictures")


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


def read_run(directory: Path) -> Run:
    """One run by the `config.yaml` and `verdict.json` in its directory."""
    config: dict[str, Any] = {}
    verdict: dict[str, Any] = {}
    try:
        loaded = OmegaConf.load(directory / "config.yaml")
        if not isinstance(loaded, DictConfig) or not loaded:
            raise ValueError("config.yaml holds no configuration")
        config = flatten(loaded)
        if not (directory / "verdict.json").exists():
            return Run(directory, UNFINISHED, config, {}, "no verdict.json: still running, or killed")
        verdict = json.loads((directory / "verdict.json").read_text("utf-8"))
        status = str(verdict["status"])
        why = "; ".join(map(str, verdict["reasons"]))
    except (OSError, ValueError, KeyError, TypeError, YAMLError, OmegaConfBaseException) as error:
        return Run(directory, UNREADABLE, config, {}, f"{type(error).__name__}: {one_line(error)}")
    return Run(directory, status, config, verdict, why)


def read_epochs(directory: Path) -> list[dict[str, float]]:
    """The rows of a run's metrics.csv; not a number where nothing was measured.

    Raises:
        OSError, ValueError: There is no such file, or it is damaged.
    """
    with (directory / "metrics.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, strict=True))
    if any(None in row or None in row.values() for row in rows):
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
