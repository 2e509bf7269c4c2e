"""A trial becomes a preset of one's own: its plan and its recipe as conf/experiment/NAME.yaml."""

import csv
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from omegaconf import DictConfig, OmegaConf

from mnist_lightning import files
from mnist_lightning.config.compose import choices, compose_config, compose_job, without_hydra
from mnist_lightning.config.errors import ConfigError
from mnist_lightning.evaluation.run_directories import settings
from mnist_lightning.search.rules import FINISHED

SEARCHES = Path("outputs/search")
RECORD = "search.json"  # of a search's directory: the words of its command, and what they composed
NO_GROUPS = ("experiment", "sweep", "logger")  # that a preset chooses
# The network is trained on all training images, so that the hold-out stays with the search.
NOT_ADOPTED = re.compile(r"[+~]*(search[=.]|data\.val_images=)")


def newest() -> Path:
    """The search that was at work last; a ConfigError where there is none."""
    found = max(SEARCHES.glob("*/search.csv"), key=lambda path: path.stat().st_mtime, default=None)
    if not found:
        raise ConfigError(f"search adopt: there is no search in {SEARCHES}; begin one, or name its directory with --from DIR")
    return found.parent


def adopt(directory: Path, number: int | None, name: str) -> tuple[Path, int]:
    """Writes the preset; returns its path and the number of the trial, of which None asks for the best.

    That is the smallest, by search.objective, with gate.min_accuracy on the hold-out; where none has it, the most accurate.
    """
    path = _free(name)
    try:
        words = json.loads(files.read_text(directory / RECORD))["words"]
        trials = [*csv.DictReader(files.read_text(directory / "search.csv").splitlines())]
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"{directory}: holds no search with a finished trial; name another with --from DIR") from error
    kept = [word for word in words if not NOT_ADOPTED.match(word)]
    trial = _chosen(trials, number, float(compose_config(*kept).gate.min_accuracy))
    command = " ".join(["search", *words])
    told = f"{100 * float(trial['accuracy']):.2f} % on the hold-out, {int(trial['params']):,} parameters"
    head = f"# @package _global_\n# Trial {trial['trial']} of `{command}`: {told}.\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write(path, f"{head}#   python -m mnist_lightning experiment={name}\n{preset([*kept, *trial['overrides'].split()])}")
    return path, int(trial["trial"])


def _free(name: str) -> Path:
    """The preset's path; refuses a name that is taken, or that needs quoting."""
    path = Path("conf/experiment") / f"{name}.yaml"
    if not re.fullmatch(r"\w+", name, re.ASCII):
        raise ConfigError(f"--name {name}: use letters, digits and _, as in my_net")
    if path.exists() or name in choices("experiment"):
        raise ConfigError(f"--name {name}: experiment={name} is there already and is not overwritten; use another name")
    return path


def _chosen(trials: Sequence[dict[str, str]], number: int | None, target: float) -> dict[str, str]:
    finished = [trial for trial in trials if trial["state"] == FINISHED and number in (None, int(trial["trial"]))]
    if not finished:
        which = "no trial" if number is None else f"no trial {number}"
        raise ConfigError(f"search adopt: {which} finished there; search.md has the best, search.csv all")
    reached = [trial for trial in finished if float(trial["accuracy"]) >= target]
    if reached:
        return min(reached, key=lambda trial: (int(trial["size"]), -float(trial["accuracy"])))
    return max(finished, key=lambda trial: (float(trial["accuracy"]), -int(trial["size"])))


def preset(words: Sequence[str]) -> str:
    """The YAML by which `experiment=NAME` composes what the words do: the choices of groups, then what differs from them."""
    job = compose_job(*words)
    usual = _choices(compose_job())
    chosen = {group: choice for group, choice in _choices(job).items() if choice != usual.get(group)}
    base = settings(compose_config(*(f"{group}={choice}" for group, choice in chosen.items())))
    different = DictConfig({})
    for key, value in settings(without_hydra(job)).items():
        if key not in base or base[key] != value:
            OmegaConf.update(different, key, value)
    defaults = "".join(f"  - override /{group}: {choice}\n" for group, choice in chosen.items())
    # Lists and groups of plain values in a line each.
    values = yaml.safe_dump(OmegaConf.to_container(different), sort_keys=False, width=128, default_flow_style=None)
    return (f"defaults:\n{defaults}\n" if defaults else "") + values


def _choices(job: Any) -> Mapping[str, str]:
    """What a composed job has chosen for the groups that a preset can choose."""
    chosen = dict(job.hydra.runtime.choices)
    return {group: choice for group, choice in chosen.items() if not group.startswith("hydra/") and group not in NO_GROUPS}
