"""Finished runs, read for a report: verdict, figures of every epoch, network, predictions; put together by configuration."""

import functools
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from omegaconf import OmegaConf
from torch import Tensor

from mnist_lightning.config.compose import compose_config
from mnist_lightning.config.errors import ConfigError, one_line
from mnist_lightning.data.mnist_files import MNISTFileError
from mnist_lightning.evaluation.run_directories import Run, read_epochs, settings
from mnist_lightning.evaluation.verdict import Verdict
from mnist_lightning.inference.load import Trained, load, load_data
from mnist_lightning.study.aggregate import aggregate
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
    trust: bool
    """Whether a network outside this project may be imported."""
    label: str

    @cached_property
    def verdict(self) -> Verdict:
        return Verdict(**self.run.verdict)

    @cached_property
    def epochs(self) -> list[dict[str, float]]:
        """Rows of metrics.csv; none where it is gone."""
        return read_epochs(self.run.directory) if (self.run.directory / "metrics.csv").exists() else []

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


@functools.cache
def _test_images(data: str, trust: bool) -> tuple[Tensor, Tensor]:
    """Images and digits of a test set by the group `data` of a configuration; read once for all runs."""
    cfg = OmegaConf.create({"seed": 0, "data": OmegaConf.create(data)})  # the seed is the hold-out's
    test = load_data(cfg, trust).splits["test"]
    return test.images, test.labels


@dataclass(frozen=True)
class Configuration:
    """Finished runs that differ in their seeds alone."""

    name: str
    experiment: str | None
    """The published experiment that has this recipe."""
    results: list[Result]

    @property
    def accuracies(self) -> list[float]:
        """Test accuracies by the gate's rule, %."""
        return [100 * result.verdict.accuracy for result in self.results if result.verdict.accuracy is not None]

    @property
    def passes(self) -> list[bool]:
        """Whether it passed, for every seed whose accuracy was judged."""
        return [result.verdict.passed for result in self.results if result.verdict.accuracy_judged]

    @property
    def mean_accuracy(self) -> float:
        return statistics.mean(self.accuracies or [0.0])


def configurations_of(runs: Sequence[Run], trust: bool) -> list[Configuration]:
    """The runs, all finished: published experiments in their order, then the others, best first, each by a name of its own."""
    names: Counter[str] = Counter()
    configurations = []
    for entry in aggregate(runs).itertuples():
        first = entry.runs[0]
        experiment = _experiment_of(first)
        # A class in full, with its module, is one of several of that name.
        told = [f"{key}={value}" for key, value in entry.label.items() if key != "model" or "." in value]
        name = experiment or ", ".join([first.verdict["model"], *told])
        name = name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}…"
        names[name] += 1
        name = name if names[name] == 1 else f"{name} ({names[name]})"
        seeds = [f", seed {run.verdict['seed']}" if len(entry.runs) > 1 else "" for run in entry.runs]
        results = [Result(run, trust, f"{name}{seed}") for run, seed in zip(entry.runs, seeds, strict=True)]
        configurations.append(Configuration(name, experiment, results))
    return sorted(configurations, key=lambda one: (one.experiment or "other", -one.mean_accuracy))


def _experiment_of(run: Run) -> str | None:
    ours = {key: value for key, value in run.config.items() if key.startswith(RECIPE)}
    # What a later version added to a recipe has its default there.
    return next((name for name, recipe in _published_recipes().items() if recipe | ours == recipe), None)


@functools.cache
def _published_recipes() -> dict[str, dict[str, object]]:
    """The keys of each published experiment's configuration that its accuracy depends on."""
    configs = {name: settings(compose_config(f"experiment={name}")) for name in PUBLISHED}
    return {name: {key: value for key, value in cfg.items() if key.startswith(RECIPE)} for name, cfg in configs.items()}
