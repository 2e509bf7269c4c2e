"""The fault harness: numbered trials with a seed, few of them in `make test`, all of them in `make torture`.

FAULTS=all asks for all trials, FAULT_SEED for a seed other than 0, FAULT_TRIAL for one trial alone. A trial draws from a
generator of its own, made of the seed, the test and the trial's number, so that a trial that failed can be repeated alone.
"""

import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import lightning as L
import pytest

from mnist_lightning.evaluation.gate import Gate, measure
from mnist_lightning.training.lit_module import LitClassifier

ALL = os.environ.get("FAULTS") == "all"
SEED = int(os.environ.get("FAULT_SEED", "0"))
ALONE = os.environ.get("FAULT_TRIAL")


@dataclass
class Trial:
    """One injected fault: its number, from 0, and its own random numbers."""

    number: int
    rng: random.Random


Trials = Callable[..., Iterator[Trial]]
FIGURES: list[str] = []  # lines that a test adds to the summary
_TABLE: dict[str, dict[str, float]] = {}  # area -> trials, failed, seconds


def pytest_report_header() -> str:
    return f"faults: seed {SEED} (FAULT_SEED), {'all' if ALL else 'few'} trials (FAULTS=all)"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if ALL:  # a test of 2,000 trials takes longer than the limit of one in `make test`
        for item in items:
            item.add_marker(pytest.mark.timeout(7200))


@pytest.fixture
def trials(request: pytest.FixtureRequest) -> Iterator[Trials]:
    """`for trial in trials("area", few=5, all=100)`: the trials of a test, counted under its area's name."""
    running: dict[str, int] = {}
    area_name = ""
    start = time.perf_counter()

    def count(area: str, *, few: int, all: int) -> Iterator[Trial]:
        nonlocal area_name
        area_name = area
        name = request.node.nodeid.partition("tests/faults/")[2]
        row = _TABLE.setdefault(area, {"trials": 0, "failed": 0, "seconds": 0.0})
        numbers = range(all if ALL else few) if ALONE is None else [int(ALONE)]
        for number in numbers:
            running["number"] = number
            row["trials"] += 1
            yield Trial(number, random.Random(f"{SEED}/{name}/{number}"))
        running.clear()

    yield count
    if area_name:
        _TABLE[area_name]["seconds"] += time.perf_counter() - start
    if running:  # the loop was left in the middle
        _TABLE[area_name]["failed"] += 1
        again = f"FAULT_SEED={SEED} FAULT_TRIAL={running['number']} python -m pytest '{request.node.nodeid}'"
        request.node.add_report_section("teardown", "trial", f"again: {again}")


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs end where training would begin, as if they had trained."""

    def fit(trainer: L.Trainer, classifier: LitClassifier, **kwargs: object) -> None:
        [gate] = [callback for callback in trainer.callbacks if isinstance(callback, Gate)]
        gate.sizes, gate.dataset, gate.epochs = measure(classifier.net, gate.contract), "nothing", 1

    monkeypatch.setattr(L.Trainer, "fit", fit)
    monkeypatch.setattr(L.Trainer, "test", lambda *args, **kwargs: None)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not _TABLE:
        return
    terminalreporter.section(f"faults, seed {SEED}")
    for area, row in _TABLE.items():
        line = f"{area:<45}{row['trials']:>6.0f} trials  {row['failed']:>3.0f} failed  {row['seconds']:8.1f} s"
        terminalreporter.write_line(line)
    for line in FIGURES:
        terminalreporter.write_line(line)
