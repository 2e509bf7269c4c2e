"""`python -m mnist_lightning report outputs/...`: finished runs told as a study, in report.html and report.md.

The experiments beside the published figures; the four curves and their animation; target, result and analysis of every run;
which differences are larger than noise; layers and receptive fields; runs that are no result. More than `MAX_RUNS` runs are
told by configuration.
"""

import copy
import itertools
import math
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from mnist_lightning.config.errors import ConfigError, one_line
from mnist_lightning.evaluation import figures
from mnist_lightning.evaluation.run_directories import Run, shown
from mnist_lightning.evaluation.statistics import mcnemar, welch_interval, wilson_interval
from mnist_lightning.evaluation.verdict import PASSED, percent
from mnist_lightning.models.summary import HEAD, cells, summarize
from mnist_lightning.study import curves
from mnist_lightning.study.analysis import (
    EVALUATED,
    SIGNIFICANCE,
    at_target,
    confusions_text,
    overfitting,
)
from mnist_lightning.study.finished import Configuration, Predictions, Result, configurations_of, read_results
from mnist_lightning.study.leaderboard import failures_of, seeds_verdict
from mnist_lightning.study.published import PUBLISHED
from mnist_lightning.study.report_pages import Picture, Rows, as_picture
from mnist_lightning.terminal import complain

MAX_RUNS = 12  # more are summarised by configuration
MAX_PAIRED = 4  # configurations compared each with each; of more, each with the best


@dataclass(frozen=True)
class Section:
    """One run: what was asked, what was reached, what that shows."""

    label: str
    target: str
    result: list[str]
    analysis: list[str]
    pictures: list[Picture]


@dataclass(frozen=True)
class Network:
    """Layers of one network; receptive fields of those that have a window."""

    name: str
    summary: str
    layers: Rows
    receptive_fields: Rows


@dataclass(frozen=True)
class Report:
    """What the pages show, as text, tables and pictures."""

    title: str
    introduction: str
    experiments: Rows
    notes: list[str]
    curves_caption: str
    curves: list[Picture]
    comparisons: Rows
    comparison_notes: list[str]
    sections: list[Section]
    networks: list[Network]
    failures: Rows
    footer: str

    @property
    def pictures(self) -> list[Picture]:
        return [*self.curves, *(picture for section in self.sections for picture in section.pictures)]


def make_report(runs: Sequence[Run], trust: bool = False) -> Report:
    """The report of runs.

    Args:
        trust: Whether networks outside this project may be imported, which runs their code.

    Raises:
        ConfigError: None of them is finished.
    """
    results, others = read_results(runs, trust)
    for run in others:
        complain(f"{run.directory}: left out, {run.status}: {one_line(run.why)}")
    if not results:
        raise ConfigError("no run is finished (verdict.json), so that there is nothing to report; train one to its end first")
    configurations = configurations_of(results)
    ordered = [result for one in configurations for result in one.results]
    told_singly = len(ordered) <= MAX_RUNS
    caption, pictures = _curves(configurations, told_singly)
    comparisons, comparison_notes = _comparisons(configurations)
    names = [one.name for one in configurations]
    return Report(
        title=f"Study report: {'; '.join(names) if len(names) <= MAX_PAIRED else f'{len(names)} configurations'}",
        introduction=_introduction(ordered, others),
        experiments=_experiments(configurations),
        notes=_notes(configurations),
        curves_caption=caption,
        curves=pictures,
        comparisons=comparisons,
        comparison_notes=comparison_notes,
        sections=[_section(one, result, i) for i, (one, result) in enumerate(_each(configurations), 1)] if told_singly else [],
        networks=_networks(ordered),
        failures=failures_of(others),
        footer=_footer(ordered),
    )


def _each(configurations: Sequence[Configuration]) -> list[tuple[Configuration, Result]]:
    return [(one, result) for one in configurations for result in one.results]


def _introduction(results: Sequence[Result], others: Sequence[Run]) -> str:
    passed = sum(result.verdict.status == PASSED for result in results)
    datasets = ", ".join(sorted({result.verdict.dataset for result in results}))
    text = f"{_count(len(results), 'finished run')} on {datasets}: {passed} passed the gate, {len(results) - passed} missed it."
    if others:
        text += f" {_count(len(others), 'run')} ended without a result: see the end of this page."
    return text


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


# --- the table ----------------------------------------------------------------------------------------------------------


def _experiments(configurations: Sequence[Configuration]) -> Rows:
    """A row per configuration; if one is a published experiment, all three of those, and the published figures beside ours."""
    ran = [one.experiment for one in configurations]
    if not any(ran):
        return [_measured(one) for one in configurations]
    rows = [_beside(_measured(one), one.experiment) for one in configurations]
    missing = dict.fromkeys(_measured(configurations[0]), "–")
    for name in PUBLISHED:
        if name not in ran:
            rows.append(_beside(missing | {"experiment": f"{name}: not run", "network": PUBLISHED[name].network}, name))
    return rows


def _measured(one: Configuration) -> dict[str, str]:
    verdicts = [result.verdict for result in one.results]
    on_test = [verdict for verdict in verdicts if verdict.epoch_split == "test"]
    passed = sum(verdict.status == PASSED for verdict in verdicts)
    return {
        "experiment": one.name,
        "network": shown(one.results[0].run.config.get("model._target_")),
        "verdict": verdicts[0].status if len(verdicts) == 1 else f"{passed} of {len(verdicts)} passed",
        "parameters": "–" if verdicts[0].params is None else f"{verdicts[0].params:,}",
        "train acc %": _mean_and_spread([result.epochs[-1]["train/acc"] for result in one.results if result.epochs]),
        "best test acc %": _mean_and_spread([verdict.best_accuracy for verdict in on_test]),
        "last test acc %": _mean_and_spread([verdict.last_accuracy for verdict in on_test]),
        "judged acc %": _mean_and_spread([verdict.accuracy for verdict in verdicts]),
    }


def _beside(row: dict[str, str], experiment: str | None) -> dict[str, str]:
    """The row with a published figure behind each of ours that has one."""
    published = {}
    if experiment:
        figures = PUBLISHED[experiment]
        published = {"parameters": figures.params, "train acc %": f"{figures.train:.2f}"}
        published["best test acc %"] = f"{figures.best:.2f}"
    widened = {}
    for column, cell in row.items():
        widened[column] = cell
        if column in ("parameters", "train acc %", "best test acc %"):
            widened[f"published {column}"] = published.get(column, "–")
    return widened


def _mean_and_spread(fractions: Sequence[float | None]) -> str:
    """In percent: the value, or mean and standard deviation of several."""
    known = [100 * fraction for fraction in fractions if fraction is not None and not math.isnan(fraction)]
    if not known:
        return "–"
    return f"{statistics.mean(known):.2f}" + (f" ± {statistics.stdev(known):.2f}" if len(known) > 1 else "")


def _notes(configurations: Sequence[Configuration]) -> list[str]:
    """What the table's columns mean, and what several seeds show of the gate."""
    rules = sorted({result.verdict.rule for _, result in _each(configurations)})
    notes = [
        "Train accuracy is that of the last epoch. The judged accuracy is that on the test images by the gate's rule, here "
        f"{' or '.join(rules)}; published is the best epoch, selected on the test images."
    ]
    if any(len(one.results) > 1 for one in configurations):
        notes.append("Of several seeds: mean ± standard deviation.")
    for one in configurations:
        if len(one.results) > 1:
            passed = sum(result.verdict.status == PASSED for result in one.results)
            notes.append(f"{one.name}: {seeds_verdict(passed, len(one.results))}.")
    return notes


# --- curves -------------------------------------------------------------------------------------------------------------


def _curves(configurations: Sequence[Configuration], told_singly: bool) -> tuple[str, list[Picture]]:
    """The figure of four curves and its animation, and what to say of them."""
    drawn = [one for one in configurations if any(result.epochs for result in one.results)]
    best = sorted(drawn, key=lambda one: -one.mean_accuracy)[:MAX_RUNS]
    groups = [
        curves.Group(one.name, [result.epochs for result in one.results if result.epochs]) for one in drawn if one in best
    ]
    if not groups:
        return "", []
    first = drawn[0].results[0].verdict
    target = first.min_accuracy if first.accuracy_judged else None
    caption = "" if target is None else f"The dotted line is the target, {percent(target)}. "
    if any(len(epochs) > 1 for group in groups for epochs in group.runs):
        caption += "The scales leave the first epoch out. "
    caption += (
        "A line per run." if told_singly else "A line per configuration: the mean of its runs, lowest to highest in pale."
    )
    if len(best) < len(drawn):
        caption += f" The {MAX_RUNS} most accurate of {len(drawn)} configurations."
    if any(result.split == "val" for one in best for result in one.results):
        caption += " Of runs with a hold-out, “test” is their hold-out."
    figure = curves.draw(groups, target, not told_singly)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "training.gif"
        curves.animate(groups, target, not told_singly, path)
        animation = Picture(path.name, "The curves, growing epoch by epoch", path.read_bytes())
    return caption, [as_picture("curves.png", "Train and test loss and accuracy by epoch", figure), animation]


# --- a run --------------------------------------------------------------------------------------------------------------


def _section(one: Configuration, result: Result, number: int) -> Section:
    verdict = result.verdict
    target = f"Fewer than {verdict.max_params:,} parameters and at least {percent(verdict.min_accuracy)} test accuracy within "
    target += f"{_count(verdict.within_epochs, 'epoch')}, by the rule {verdict.rule}."
    if not verdict.accuracy_judged:
        target += f" The accuracy is not judged: the images are {verdict.dataset}, not MNIST."
    return Section(result.label, target, _result_lines(result), _analysis_lines(one, result), _pictures(result, number))


def _result_lines(result: Result) -> list[str]:
    verdict = result.verdict
    lines = [": ".join([verdict.status.capitalize(), *(["; ".join(verdict.reasons)] if verdict.reasons else [])])]
    if verdict.accuracy is not None:
        lines.append(f"Test accuracy {percent(verdict.accuracy)}")
        if verdict.interval_95 and verdict.test_images:
            low, high = verdict.interval_95
            lines[-1] += f", 95 % interval {100 * low:.2f} to {100 * high:.2f} % on {verdict.test_images:,} images"
    if verdict.best_epoch is not None:
        lines.append(
            f"Best {EVALUATED[result.split]} accuracy {percent(verdict.best_accuracy)} (epoch {verdict.best_epoch}), "
            f"last {percent(verdict.last_accuracy)} (epoch {verdict.epochs})"
        )
    if verdict.params is not None:
        lines.append(f"{verdict.params:,} parameters")
    lines.append(f"{_count(verdict.epochs, 'epoch')}, {verdict.seconds:.0f} s, {verdict.device or 'device not recorded'}")
    lines.append(f"Directory {result.run.directory}")
    return lines


def _analysis_lines(one: Configuration, result: Result) -> list[str]:
    verdict, lines = result.verdict, []
    if result.epochs:
        num_images = verdict.test_images if result.split == "test" else result.run.config.get("data.val_images")
        lines.append(overfitting(result.epochs, result.split, num_images or 1))
        lines.append(at_target(result.epochs, result.split, verdict.min_accuracy))
    else:
        lines.append(f"No analysis of its epochs: {result.why_no_epochs}")
    if one.experiment:
        lines.append(_against_published(one.experiment, result))
    if verdict.selected_on_test:
        lines.append("The epoch was selected on the test images: the accuracy is optimistic.")
    seen = result.predictions
    if isinstance(seen, str):
        lines.append(f"No analysis of its predictions: {seen}")
        return lines
    lines.append(confusions_text(seen.preds, seen.targets))
    right, accuracy = int(seen.right.sum()), verdict.accuracy
    if verdict.rule != "mean_last_3" and accuracy is not None and right != round(accuracy * len(seen.targets)):
        lines.append(
            f"Evaluated again, the checkpoint gives {percent(right / len(seen.targets))} in place of the verdict's "
            f"{percent(accuracy)}: another device or version rounds otherwise, or a file was replaced."
        )
    return lines


def _against_published(experiment: str, result: Result) -> str:
    published, best, images = PUBLISHED[experiment].best, result.verdict.best_accuracy, result.verdict.test_images
    text = f"Published: {published:.2f} % at the best epoch; {PUBLISHED[experiment].seen}."
    if best is None or not images or result.split != "test":
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
    return [
        as_picture(
            f"run-{number}-images.png",
            f"{result.label}: test images with predicted and true digit",
            figures.predictions(seen.images, seen.logits, seen.targets),
        ),
        as_picture(
            f"run-{number}-confusions.png",
            f"{result.label}: confusion matrix of the test images",
            figures.confusion_matrix(seen.logits, seen.targets),
        ),
    ]


# --- differences --------------------------------------------------------------------------------------------------------


def _comparisons(configurations: Sequence[Configuration]) -> tuple[Rows, list[str]]:
    """Configurations in pairs: whether their difference is larger than noise, by what, and what that means."""
    judged = [one for one in configurations if one.accuracies]
    if len(judged) <= MAX_PAIRED:
        pairs = list(itertools.combinations(judged, 2))
    else:
        best = max(judged, key=lambda one: one.mean_accuracy)
        others = sorted((one for one in judged if one is not best), key=lambda one: -one.mean_accuracy)
        pairs = [(best, other) for other in others[: MAX_RUNS - 1]]
    rows, tests = [], set()
    for first, second in pairs:
        test, evidence, larger = _by_seeds(first, second) or _by_predictions(first, second)
        tests.add(test)
        rows.append(
            {
                "first": first.name,
                "second": second.name,
                "difference, points": f"{first.mean_accuracy - second.mean_accuracy:+.2f}",
                "larger than noise": {True: "yes", False: "not shown", None: "not known"}[larger],
                "evidence": evidence,
                "by": test,
            }
        )
    notes = [EXPLANATIONS[test] for test in EXPLANATIONS if test in tests]
    if len(rows) > 1 and notes:
        notes.append(f"Of comparisons without any true difference, 1 in {1 / SIGNIFICANCE:.0f} comes out as “yes” by chance.")
    if len(pairs) < len(judged) - 1:
        notes.append(f"The best configuration against the next {MAX_RUNS - 1} of {len(judged) - 1}.")
    return rows, notes


SEEDS, MCNEMAR = "spread between seeds", "McNemar’s exact test"
EXPLANATIONS = {
    SEEDS: "Spread between seeds: Welch’s test on the accuracies of the seeds, each configuration with its own spread. “Yes” "
    "where the 95 % interval of the difference does not hold 0: other seeds would show a difference too, on these test images.",
    MCNEMAR: "McNemar’s exact test, for one run each: both networks read the same test images, and only those count that one "
    "of them alone reads right. p: how often chance would split these at least so unevenly between equal networks; “yes” below "
    f"{SIGNIFICANCE}. It tells two trained networks apart, not two recipes: another seed can turn the difference around.",
}


def _by_seeds(first: Configuration, second: Configuration) -> tuple[str, str, bool | None] | None:
    """Test, evidence and answer, if there are seeds enough to tell their spread."""
    numbers = len(first.accuracies), len(second.accuracies)
    if max(numbers) < 2:
        return None
    interval = welch_interval(first.accuracies, second.accuracies)
    if interval is None:
        return "–", "two seeds of each are needed, and of one there is one; train another", None
    low, high = interval
    evidence = f"95 % interval {low:+.2f} to {high:+.2f} points, {numbers[0]} and {numbers[1]} seeds"
    return SEEDS, evidence, not low <= 0 <= high


def _by_predictions(first: Configuration, second: Configuration) -> tuple[str, str, bool | None]:
    """Test, evidence and answer from the predictions of one run each."""
    (one, other) = (configuration.results[0].predictions for configuration in (first, second))
    if not isinstance(one, Predictions) or not isinstance(other, Predictions):
        return "–", "the predictions of both are needed, and one has none", None
    if not torch.equal(one.targets, other.targets):
        return "–", "they were not tested on the same images", None
    only_one, only_other = int((one.right & ~other.right).sum()), int((other.right & ~one.right).sum())
    p = mcnemar(only_one, only_other)
    evidence = (
        f"only the first right on {only_one}, only the second on {only_other}; p {'< 0.0001' if p < 1e-4 else f'= {p:.4f}'}"
    )
    return MCNEMAR, evidence, p < SIGNIFICANCE


# --- networks -----------------------------------------------------------------------------------------------------------


def _networks(results: Sequence[Result]) -> list[Network]:
    """The layers of each network that occurs, once."""
    networks: dict[str, Network] = {}
    for result in results:
        key = str(sorted((key, str(value)) for key, value in result.run.config.items() if key.startswith("model.")))
        if key not in networks:
            networks[key] = _network(result)
    return list(networks.values())


def _network(result: Result) -> Network:
    name = f"{shown(result.run.config.get('model._target_'))} ({result.label})"
    if isinstance(result.trained, str):
        return Network(name, f"No table of its layers: {result.trained}", [], [])
    try:
        # The network takes images as MNIST stores them; loaded, it is frozen, and frozen parameters are not counted.
        layers = summarize(copy.deepcopy(result.trained.net).requires_grad_(True), (28, 28))
    except ValueError as error:
        return Network(name, f"No table of its layers: {one_line(error)}", [], [])
    rows = [dict(zip(HEAD, row, strict=True)) for row in cells(layers)]
    params, multiply_adds = sum(layer.params for layer in layers), sum(layer.multiply_adds for layer in layers)
    summary = (
        f"{params:,} parameters, {multiply_adds:,} multiply-adds an image, receptive field {layers[-1].receptive_field} "
        "pixels. RF: receptive field after the layer; jump: input pixels between neighbouring outputs."
    )
    fields = [{column: row[column] for column in HEAD[:7]} for row in rows if row["kernel"]]
    return Network(name, summary, rows, fields)


def _footer(results: Sequence[Result]) -> str:
    devices = sorted({result.verdict.device or "device not recorded" for result in results})
    versions = sorted({f"torch {result.verdict.versions.get('torch', 'not recorded')}" for result in results})
    return f"Trained on {'; '.join(devices)}; {'; '.join(versions)}. Made by python -m mnist_lightning report."
