"""What a report tells of one run: what was asked, what was reached, what that shows; and of one network: its layers."""

from collections.abc import Sequence
from typing import NamedTuple

from mnist_lightning.config.errors import one_line
from mnist_lightning.evaluation import figures
from mnist_lightning.evaluation.budgets import limits_of
from mnist_lightning.evaluation.run_directories import shown
from mnist_lightning.evaluation.statistics import wilson_interval
from mnist_lightning.evaluation.verdict import percent
from mnist_lightning.export.grey_values import GreyValues
from mnist_lightning.models.summary import HEAD, cells, summarize
from mnist_lightning.study.aggregate import Rows
from mnist_lightning.study.analysis import at_target, confusions_text, overfitting
from mnist_lightning.study.finished import Result
from mnist_lightning.study.published import PUBLISHED
from mnist_lightning.study.report_pages import Picture, as_picture


class Section(NamedTuple):
    label: str
    target: str
    result: list[str]
    analysis: list[str]
    pictures: list[Picture]


class Network(NamedTuple):
    name: str
    summary: str
    layers: Rows
    receptive_fields: Rows
    """Of the layers that have a window."""


def section_of(result: Result, experiment: str | None, number: int) -> Section:
    """The section of a run, beside the published experiment of that recipe; its pictures are named by the number."""
    verdict = result.verdict
    target = (
        f"Fewer than {', '.join(limits_of(vars(verdict)))} and at least {percent(verdict.min_accuracy)} test accuracy within "
        f"{verdict.within_epochs} epochs, by the rule {verdict.rule}."
    )
    reached = [" ".join(line.split()) for line in verdict.text().splitlines()]
    places = [f"device {verdict.device or 'not recorded'}", f"directory {result.run.directory}"]
    return Section(result.label, target, reached + places, _analysis(result, experiment), _pictures(result, number))


def _analysis(result: Result, experiment: str | None) -> list[str]:
    verdict, seen = result.verdict, result.predictions
    if result.epochs:
        num_images = verdict.test_images if verdict.epoch_split == "test" else result.run.config.get("data.val_images")
        lines = [
            overfitting(result.epochs, verdict.epoch_split, num_images or 1),
            at_target(result.epochs, verdict.epoch_split, verdict.min_accuracy),
        ]
    else:
        lines = ["No analysis of its epochs: there is no metrics.csv"]
    if experiment:
        lines.append(_beside_published(result, experiment))
    if isinstance(seen, str):
        return [*lines, f"No analysis of its predictions: {seen}"]
    lines.append(confusions_text(seen.preds, seen.targets))
    right = int(seen.right.sum())
    if verdict.rule != "mean_last_3" and verdict.accuracy and right != round(verdict.accuracy * len(seen.targets)):
        lines.append(
            f"Evaluated again, the checkpoint gives {percent(right / len(seen.targets))} in place of the verdict's "
            f"{percent(verdict.accuracy)}: another device or version rounds otherwise, or a file was replaced."
        )
    return lines


def _beside_published(result: Result, experiment: str) -> str:
    published, best, images = PUBLISHED[experiment].best, result.verdict.best_accuracy, result.verdict.test_images
    text = f"Published: {published:.2f} % at the best epoch; {PUBLISHED[experiment].seen}."
    if best is None or not images or result.verdict.epoch_split != "test":
        return text
    low, high = (100 * bound for bound in wilson_interval(best * images, images))
    inside = "inside" if low <= published <= high else "outside"
    return (
        f"{text} Here {percent(best)}, {100 * best - published:+.2f} points: the published figure lies {inside} the 95 % "
        f"interval of ours, {low:.2f} to {high:.2f} %."
    )


def _pictures(result: Result, number: int) -> list[Picture]:
    seen = result.predictions
    if isinstance(seen, str):
        return []
    images = figures.predictions(seen.images, seen.logits, seen.targets)
    confusions = figures.confusion_matrix(seen.logits, seen.targets)
    return [
        as_picture(f"run-{number}-images.png", f"{result.label}: test images with predicted and true digit", images),
        as_picture(f"run-{number}-confusions.png", f"{result.label}: confusion matrix of the test images", confusions),
    ]


def networks_of(results: Sequence[Result]) -> list[Network]:
    """The layers of each network that occurs, once."""
    first: dict[object, Result] = {}
    for result in results:
        model = [item for item in result.run.config.items() if item[0].startswith("model.")]
        first.setdefault((str(model), result.verdict.params), result)
    return [_network(result) for result in first.values()]


def _network(result: Result) -> Network:
    name = f"{shown(result.run.config.get('model._target_'))} ({result.label})"
    if isinstance(result.trained, str):
        return Network(name, f"No table of its layers: {result.trained}", [], [])
    assert isinstance(result.trained.net, GreyValues)  # of a run's directory
    try:
        layers = summarize(result.trained.net.net)
    except Exception as error:  # of a network that cannot be followed
        return Network(name, f"No table of its layers: {one_line(error)}", [], [])
    rows = [dict(zip(HEAD, row, strict=True)) for row in cells(layers)]
    params, multiply_adds = sum(layer.params for layer in layers), sum(layer.multiply_adds for layer in layers)
    field = next((f"{layer.receptive_field} pixels" for layer in reversed(layers) if layer.receptive_field), "not known")
    summary = (
        f"{params:,} parameters, {multiply_adds:,} multiply-adds an image, receptive field {field}. "
        "RF: receptive field after the layer; jump: input pixels between neighbouring outputs."
    )
    return Network(name, summary, rows, [{column: row[column] for column in HEAD[:7]} for row in rows if row["kernel"]])
