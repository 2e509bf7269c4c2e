"""Finished runs, read for a report: verdict, figures of every epoch, network, predictions; put together by configuration."""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from omegaconf import OmegaConf
from torch import Tensor

from mnist_lightning.config.compose import compose_config
from mnist_lightning.config.errors import ConfigError, one_line
from mnist_lightning.data.mnist_files import MNISTFileError
from mnist_lightning.evaluation.run_directories import Run, flatten, read_epochs, shown
from mnist_lightning.evaluation.verdict import Verdict
from mnist_lightning.inference.load import Trained, load, load_data
from mnist_lightning.study.leaderboard import short_names, varied_keys
from mnist_lightning.study.published import PUBLISHED

MAX_NAME = 60  # characters
RECIPE = ("model.", "optimizer.", "scheduler.", "augmentation.", "data.", "trainer.", "label_smoothing")
EVAL_BATCH_SIZE = 500


@dataclass(frozen=True, eq=False)
class Predictions:
    """Test images uint8 `(N, 28, 28)`, their digits `(N,)` and a network's logits `(N, 10)`."""

    images: Tensor
    targets: Tensor
    logits: Tensor

    @property
    def preds(self) -> Tensor:
        return self.logits.argmax(dim=1)

    @property
    def right(self) -> Tensor:
        return self.preds == self.targets


@dataclass
class Result:
    """A finished run."""

    run: Run
    verdict: Verdict
    epochs: list[dict[str, float]]
    """Rows of metrics.csv; none where it cannot be read."""
    why_no_epochs: str
    trust: bool
    """Whether a network outside this project may be imported."""
    label: str = ""

    @property
    def split(self) -> str:
        """What each epoch was evaluated on: "test" or "val"."""
        return self.verdict.epoch_split

    @property
    def gap(self) -> float:
        """Train minus evaluation accuracy in the last epoch, points."""
        return 100 * (self.epochs[-1]["train/acc"] - self.epochs[-1][f"{self.split}/acc"]) if self.epochs else math.nan

    @cached_property
    def trained(self) -> Trained | str:
        """The network with the weights that the gate judged, or why there is none."""
        try:
            return load(self.run.directory, self.trust)
        except ConfigError as error:
            return one_line(error)

    @cached_property
    def predictions(self) -> Predictions | str:
        """What the network makes of the test images, or why that cannot be told."""
        if isinstance(self.trained, str):
            return self.trained
        try:
            images, targets = _test_images(OmegaConf.to_yaml(self.trained.cfg.data), self.trust)
        except (ConfigError, OSError, MNISTFileError) as error:
            return one_line(error)
        return Predictions(images, targets, torch.cat([self.trained.net(batch) for batch in images.split(EVAL_BATCH_SIZE)]))


@dataclass(frozen=True)
class Configuration:
    """Runs that differ in their seeds alone."""

    name: str
    experiment: str | None
    """The published experiment that has this recipe."""
    results: list[Result]

    @property
    def accuracies(self) -> list[float]:
        """Test accuracies by the gate's rule, %."""
        return [100 * result.verdict.accuracy for result in self.results if result.verdict.accuracy is not None]

    @property
    def mean_accuracy(self) -> float:
        return sum(self.accuracies) / len(self.accuracies) if self.accuracies else 0.0


def read_results(runs: Sequence[Run], trust: bool) -> tuple[list[Result], list[Run]]:
    """The finished runs and those that are no result."""
    results = []
    for run in runs:
        if run.finished:
            verdict = Verdict(**run.verdict)
            epochs, why = _epochs_of(run, verdict.epoch_split)
            results.append(Result(run, verdict, epochs, why, trust))
    return results, [run for run in runs if not run.finished]


def _epochs_of(run: Run, split: str) -> tuple[list[dict[str, float]], str]:
    try:
        epochs = read_epochs(run.directory)
    except (OSError, ValueError) as error:
        return [], one_line(error)
    needed = ("train/loss", "train/acc", f"{split}/loss", f"{split}/acc")
    missing = [name for name in needed if not epochs or name not in epochs[0]]
    return ([], f"metrics.csv has no {', '.join(missing)}") if missing else (epochs, "")


@functools.cache
def _test_images(data: str, trust: bool) -> tuple[Tensor, Tensor]:
    """Images and digits of a test set by the group `data` of a configuration; read once for all runs."""
    cfg = OmegaConf.create({"seed": 0, "data": OmegaConf.create(data)})  # the seed is the hold-out's
    test = load_data(cfg, trust).splits["test"]
    return test.images, test.labels


def configurations_of(results: Sequence[Result]) -> list[Configuration]:
    """The published experiments in their order, then the others, best first; names every configuration and every run."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        # By the whole configuration: `varied_keys` knows only keys that all runs have.
        groups.setdefault(str(sorted((result.run.config | {"seed": None}).items(), key=str)), []).append(result)
    keys = short_names([key for key in varied_keys([result.run for result in results]) if not key.startswith("gate.")])
    names: set[str] = set()
    configurations = []
    for group in groups.values():
        first = group[0]
        experiment = _experiment_of(first.run)
        changes = [f"{name}={shown(first.run.config.get(key))}" for key, name in keys.items() if name != "model"]
        name = _unused(_cut(experiment or ", ".join([first.verdict.model, *changes])), names)
        labels: set[str] = set()
        for result in group:
            result.label = name if len(group) == 1 else _unused(f"{name}, seed {result.verdict.seed}", labels)
        configurations.append(Configuration(name, experiment, group))
    return sorted(configurations, key=lambda one: (one.experiment or "other", -one.mean_accuracy))


def _experiment_of(run: Run) -> str | None:
    ours = {key: value for key, value in run.config.items() if key.startswith(RECIPE)}
    # What a later version added to a recipe has its default there.
    return next((name for name, recipe in _published_recipes().items() if recipe | ours == recipe), None)


@functools.cache
def _published_recipes() -> dict[str, dict[str, object]]:
    """The keys of each published experiment's configuration that its accuracy depends on."""
    configs = {name: flatten(compose_config(f"experiment={name}")) for name in PUBLISHED}
    return {name: {key: value for key, value in cfg.items() if key.startswith(RECIPE)} for name, cfg in configs.items()}


def _cut(name: str) -> str:
    return name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}…"


def _unused(name: str, taken: set[str]) -> str:
    """The name, numbered if it is taken."""
    numbered, number = name, 1
    while numbered in taken:
        number += 1
        numbered = f"{name} ({number})"
    taken.add(numbered)
    return numbered
