"""A finished run trained again, every figure and every weight of it compared, and what changed since named."""

import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mnist_lightning.config.compose import compose_config, read_config
from mnist_lightning.config.errors import ConfigError
from mnist_lightning.evaluation.run_directories import read_epochs, read_run
from mnist_lightning.evaluation.statistics import Z95
from mnist_lightning.evaluation.verdict import percent

IDENTICAL, WITHIN_NOISE, DIFFERENT = "identical", "same within noise", "different"


class Comparison(NamedTuple):
    outcome: str
    """"identical": every figure of every epoch and every weight; "same within noise": the accuracies differ by less than two
    measurements on that many images do by chance, 95 times in 100; "different"."""
    lines: list[str]
    """What was compared, and what changed between the two."""


def reproduce(directory: Path, into: Path, trust: bool = False) -> Comparison:
    """Trains the finished run of a directory again, into an empty folder.

    Raises:
        ConfigError: There is none, or without `trust` it holds what does not come with this project.
    """
    # torch and lightning take seconds, which a wrong path must not cost.
    from mnist_lightning.config.build import refuse_strangers
    from mnist_lightning.inference.load import with_places_of_here
    from mnist_lightning.training import checkpoints
    from mnist_lightning.training.fit import run

    original = read_run(directory)
    if not original.finished or original.verdict.get("accuracy") is None:
        why = original.why or f"it ended with status {original.status!r} and without an accuracy"
        raise ConfigError(f"{directory}: no finished run to repeat ({why}); name the folder with its verdict.json")
    cfg = with_places_of_here(read_config(directory))
    cfg.logger = compose_config().logger  # a repetition is no run of a study's
    if not trust:
        refuse_strangers(cfg)
    if (checkpoint := directory / "last.ckpt").exists():
        checkpoints.read(checkpoint)  # before the training, not after it
    cfg.resume, cfg.ckpt_path, cfg.pictures = False, None, "none"
    cfg.gate.on_miss = "warn"  # a miss is to be compared too
    repeated = run(cfg, into)
    return compare(directory, original.verdict, into, vars(repeated))


def compare(first: Path, first_verdict: dict[str, Any], second: Path, second_verdict: dict[str, Any]) -> Comparison:
    """Compares two finished runs of one configuration by their files."""
    accuracies = first_verdict["accuracy"], second_verdict["accuracy"]
    lines = [f"accuracy  {percent(accuracies[0])} then, {percent(accuracies[1])} now"]
    epoch = _first_difference(_figures(first), _figures(second))
    lines.append("figures   the same in every epoch" if epoch is None else f"figures   differ from epoch {epoch} on")
    same_weights = _same_weights(first / "last.ckpt", second / "last.ckpt")
    lines.append(
        {True: "weights   bit-equal", False: "weights   differ", None: "weights   no last.ckpt to compare"}[same_weights]
    )
    changes = list(_changes(first_verdict, second_verdict))
    lines.append(f"changed   {'; '.join(changes) or 'nothing that is recorded'}")
    if epoch is None and same_weights is not False:
        return Comparison(IDENTICAL, lines)
    images = first_verdict["test_images"] or 1
    mean = sum(accuracies) / 2
    noise = Z95 * math.sqrt(2 * mean * (1 - mean) / images)
    lines.append(f"noise     two measurements on {images:,} images differ by up to {100 * noise:.2f} points, 95 times in 100")
    return Comparison(WITHIN_NOISE if abs(accuracies[0] - accuracies[1]) <= noise else DIFFERENT, lines)


def _figures(directory: Path) -> list[dict[str, float]]:
    """The rows of a run's metrics.csv without their wall time and what was not measured."""
    rows = read_epochs(directory)
    return [{key: value for key, value in row.items() if key != "seconds" and not math.isnan(value)} for row in rows]


def _first_difference(first: Sequence[object], second: Sequence[object]) -> int | None:
    """The first epoch, counted from 1, whose figures differ; None where none does."""
    pairs = enumerate(itertools.zip_longest(first, second), start=1)
    return next((epoch for epoch, (then, now) in pairs if then != now), None)


def _same_weights(first: Path, second: Path) -> bool | None:
    import torch

    from mnist_lightning.training import checkpoints

    if not first.exists() or not second.exists():
        return None
    states = [checkpoints.read(path)["state_dict"] for path in (first, second)]
    return states[0].keys() == states[1].keys() and all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def _changes(first: dict[str, Any], second: dict[str, Any]) -> Iterator[str]:
    """What a verdict records of its surroundings and what of that is another now."""
    then, now = ({"device": verdict.get("device", "")} | verdict["versions"] for verdict in (first, second))
    for name in sorted(then.keys() | now.keys()):
        if then.get(name) != now.get(name):
            yield f"{name} {then.get(name) or 'not recorded'} -> {now.get(name) or 'not recorded'}"
