"""Which differences between configurations are larger than noise: by their seeds' spread, or by two networks' predictions."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch

from mnist_lightning.evaluation.statistics import mcnemar, welch_interval
from mnist_lightning.study.aggregate import Rows
from mnist_lightning.study.finished import Configuration

MAX_PAIRED = 4  # configurations compared each with each; of more, the best with the next
MAX_NEXT = 11
SIGNIFICANCE = 0.05
SEEDS, MCNEMAR = "Welch’s test between seeds", "McNemar’s exact test"
EXPLANATIONS = {
    SEEDS: "Welch’s test between seeds: Student’s t on the accuracies of the seeds, each configuration with its own spread. "
    "“Yes” where the 95 % interval of the difference does not hold 0: other seeds would show a difference, too.",
    MCNEMAR: "McNemar’s exact test, for one run each: both networks read the same test images, and only those count that one "
    "of them alone reads right. p: how often chance would split these at least so unevenly between equal networks; “yes” below "
    f"{SIGNIFICANCE}. It tells two trained networks apart, not two recipes: another seed can turn the difference around.",
}


class Answer(NamedTuple):
    test: str
    evidence: str
    larger: str = "not known"


def compare_all(configurations: Sequence[Configuration]) -> tuple[Rows, list[str]]:
    """Configurations in pairs: whether their difference is larger than noise, by what, and what that means."""
    judged = sorted((one for one in configurations if one.accuracies), key=lambda one: -one.mean_accuracy)
    pairs = list(itertools.combinations(judged, 2))
    if len(judged) > MAX_PAIRED:
        pairs = [(judged[0], other) for other in judged[1 : MAX_NEXT + 1]]
    answers = [_compare(first, second) for first, second in pairs]
    rows = [
        {
            "first": first.name,
            "second": second.name,
            "difference, points": f"{first.mean_accuracy - second.mean_accuracy:+.2f}",
            "larger than noise": answer.larger,
            "evidence": answer.evidence,
            "by": answer.test,
        }
        for (first, second), answer in zip(pairs, answers, strict=True)
    ]
    notes = [text for test, text in EXPLANATIONS.items() if any(answer.test == test for answer in answers)]
    if len(rows) > 1 and notes:
        notes.append(f"Of comparisons without any true difference, 1 in {1 / SIGNIFICANCE:.0f} comes out as “yes” by chance.")
    if len(judged) > MAX_PAIRED:
        notes.append(f"The best of {len(judged)} configurations against the next, at most {MAX_NEXT}.")
    return rows, notes


def _compare(first: Configuration, second: Configuration) -> Answer:
    numbers = len(first.accuracies), len(second.accuracies)
    if interval := welch_interval(first.accuracies, second.accuracies):
        low, high = interval
        evidence = f"95 % interval {low:+.2f} to {high:+.2f} points, {numbers[0]} and {numbers[1]} seeds"
        return Answer(SEEDS, evidence, "not shown" if low <= 0 <= high else "yes")
    if max(numbers) > 1:
        return Answer("–", "to tell their spread takes two seeds of each, and of one there is one")
    one, other = (configuration.results[0].predictions for configuration in (first, second))
    if isinstance(one, str) or isinstance(other, str):
        return Answer("–", "the predictions of both are needed, and one has none")
    if not torch.equal(one.targets, other.targets):
        return Answer("–", "they were not tested on the same images")
    only_one, only_other = int((one.right & ~other.right).sum()), int((other.right & ~one.right).sum())
    p = mcnemar(only_one, only_other)
    text = "p < 0.0001" if p < 1e-4 else f"p = {p:.4f}"
    evidence = f"only the first right on {only_one}, only the second on {only_other}; {text}"
    return Answer(MCNEMAR, evidence, "yes" if p < SIGNIFICANCE else "not shown")
