"""Finished runs told as a study; more than `MAX_RUNS` of them by configuration alone."""

from collections.abc import Sequence
from typing import Any

from mnist_lightning.config.errors import ConfigError
from mnist_lightning.evaluation.run_directories import Run, shown
from mnist_lightning.evaluation.verdict import percent
from mnist_lightning.study import curves
from mnist_lightning.study.aggregate import MISSING, Rows, cut, mean_sd
from mnist_lightning.study.comparisons import compare_all
from mnist_lightning.study.finished import Configuration, configurations_of
from mnist_lightning.study.leaderboard import failures_of, outcomes, seeds_verdict
from mnist_lightning.study.published import PUBLISHED
from mnist_lightning.study.report_pages import Picture, as_picture
from mnist_lightning.study.sections import networks_of, section_of
from mnist_lightning.terminal import complain

MAX_RUNS = 12  # more are summarised by configuration


def make_report(runs: Sequence[Run], trust: bool = False) -> dict[str, Any]:
    """What the pages show, as text, tables and pictures, by the names that the templates have for it.

    A ConfigError where no run is finished. With `trust`, networks outside this project may be imported, which runs their code.
    """
    finished, others = [run for run in runs if run.finished], [run for run in runs if not run.finished]
    for run in others:
        complain(run.left_out)
    if not finished:
        raise ConfigError("no run is finished (verdict.json), so that there is nothing to report; train one to its end first")
    configurations = configurations_of(finished, trust)
    told = [(result, one.experiment) for one in configurations for result in one.results]
    singly = len(told) <= MAX_RUNS
    sections = [section_of(*of_run, number) for number, of_run in enumerate(told, 1)] if singly else []
    caption, pictures = _curves(configurations, singly)
    comparisons, comparison_notes = compare_all(configurations)
    return {
        "title": f"Study report: {cut([one.name for one in configurations])}",
        "introduction": _introduction(finished, others),
        "experiments": _experiments(configurations),
        "notes": _notes(configurations),
        "curves_caption": caption,
        "curves": pictures,
        "comparisons": comparisons,
        "comparison_notes": comparison_notes,
        "sections": sections,
        "networks": networks_of([result for result, _ in told]),
        "failures": failures_of(others),
        "footer": _footer(finished),
        "pictures": [*pictures, *(picture for section in sections for picture in section.pictures)],
    }


def _introduction(finished: Sequence[Run], others: Sequence[Run]) -> str:
    datasets = ", ".join(sorted({run.verdict["dataset"] for run in finished}))
    text = f"Runs on {datasets}: {outcomes(finished)}."
    return f"{text} Without a result: {len(others)}; see the end of this page." if others else text


def _footer(finished: Sequence[Run]) -> str:
    devices = sorted({run.verdict["device"] or "device not recorded" for run in finished})
    versions = sorted({f"torch {run.verdict['versions'].get('torch', 'not recorded')}" for run in finished})
    return f"Trained on {'; '.join(devices)}; {'; '.join(versions)}. Made by python -m mnist_lightning report."


def _experiments(configurations: Sequence[Configuration]) -> Rows:
    """A row per configuration; if one is a published experiment, what was published of it and of the other two."""
    rows = []
    for one in configurations:
        rows.append(_measured(one))
        if one.experiment:
            rows.append(_published(one.experiment))
    ran = {one.experiment for one in configurations}
    not_run = [name for name in PUBLISHED if name not in ran] if ran != {None} else []
    rows += map(_published, not_run)
    return [{column: row.get(column) or MISSING for column in rows[0]} for row in rows]


def _measured(one: Configuration) -> dict[str, str]:
    verdicts = [result.verdict for result in one.results]
    on_test = [verdict for verdict in verdicts if verdict.epoch_split == "test"]
    return {
        "experiment": one.name,
        "network": shown(one.results[0].run.config.get("model._target_")),
        "verdict": outcomes([result.run for result in one.results]),
        "parameters": f"{verdicts[0].params:,}" if verdicts[0].params else "",
        "train acc %": mean_sd(result.epochs[-1].get("train/acc") for result in one.results if result.epochs),
        "best test acc %": mean_sd(verdict.best_accuracy for verdict in on_test),
        "last test acc %": mean_sd(verdict.last_accuracy for verdict in on_test),
        "judged acc %": mean_sd(verdict.accuracy for verdict in verdicts),
    }


def _published(name: str) -> dict[str, str]:
    known = PUBLISHED[name]
    row = {"experiment": f"{name}, as published", "network": known.network, "parameters": known.params}
    return row | {"train acc %": f"{known.train:.2f}", "best test acc %": f"{known.best:.2f}"}


def _notes(configurations: Sequence[Configuration]) -> list[str]:
    """What the table's columns mean, and what several seeds show of the gate."""
    rules = sorted({result.verdict.rule for one in configurations for result in one.results})
    notes = [
        "Train accuracy is that of the last epoch. The judged accuracy is that on the test images by the gate's rule, here "
        f"{' or '.join(rules)}; published is the best epoch, selected on the test images. Of several seeds: mean ± standard "
        "deviation."
    ]
    several = [one for one in configurations if len(one.results) > 1]
    return notes + [f"{one.name}: {seeds_verdict(sum(one.passes), len(one.passes))}." for one in several]


def _curves(configurations: Sequence[Configuration], singly: bool) -> tuple[str, list[Picture]]:
    """The figure of four curves and its animation, and what to say of them."""
    best = sorted(configurations, key=lambda one: -one.mean_accuracy)[:MAX_RUNS]
    measured = {one.name: [result.epochs for result in one.results if result.epochs] for one in configurations if one in best}
    groups = [curves.Group(name, runs) for name, runs in measured.items() if runs]
    if not groups:
        return "", []
    verdicts = [result.verdict for one in best for result in one.results]
    target = next((verdict.min_accuracy for verdict in verdicts if verdict.accuracy_judged), None)
    captions = [
        "A line per run." if singly else "A line per configuration: the mean of its runs, lowest to highest in pale.",
        f"The dotted line is the target, {percent(target)}." if target else "",
        "The scales leave the first epoch out." if any(verdict.epochs > 1 for verdict in verdicts) else "",
        f"The {MAX_RUNS} most accurate of {len(configurations)} configurations." if len(configurations) > MAX_RUNS else "",
        "Of runs with a hold-out, “test” is their hold-out." if any(one.epoch_split == "val" for one in verdicts) else "",
    ]
    return " ".join(filter(None, captions)), [
        as_picture("curves.png", "Train and test loss and accuracy by epoch", curves.draw(groups, target, not singly)),
        Picture("training.gif", "The curves, growing epoch by epoch", curves.animate(groups, target, not singly)),
    ]
