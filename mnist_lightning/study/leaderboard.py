"""The table of runs: seeds averaged, the best first, failures named with their logs; every sweep keeps one in its directory."""

import contextlib
import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mnist_lightning import files
from mnist_lightning.config.errors import ConfigError
from mnist_lightning.evaluation.budgets import BUDGETS
from mnist_lightning.evaluation.run_directories import Run, find_runs
from mnist_lightning.evaluation.statistics import wilson_interval
from mnist_lightning.evaluation.verdict import PASSED, PRUNED
from mnist_lightning.study.aggregate import Rows, aggregate, escape_markdown, markdown, mean_sd, resolve_keys
from mnist_lightning.terminal import printable

if TYPE_CHECKING:
    import pandas as pd

PASS_RATE = 0.95  # share of seeds that should pass before a recipe is called reliable
COSTS = (*(one.size for one in BUDGETS), "seconds")
MEASURES = ("accuracy", "val", "best", "passed", *COSTS)  # what a table can be sorted by, beside what varied


def leaderboard(runs: Sequence[Run], group_by: str | None = None, sort_by: str | None = None) -> str:
    """The table for a terminal; arguments as the command takes them."""
    keys = resolve_keys(group_by.split(","), runs) if group_by else None
    return _page(ranked(aggregate(runs, keys), sort_by), runs, printable)


def write(directory: Path, runs: Sequence[Run]) -> str:
    """Writes `leaderboard.csv` and `leaderboard.md` of the runs into the directory; returns the table for a terminal."""
    import pandas as pd

    entries = ranked(aggregate(runs))
    files.write(directory / "leaderboard.csv", pd.DataFrame(rows_of(entries)).to_csv(index=False, lineterminator="\n"))
    files.write(directory / "leaderboard.md", _page(entries, runs, escape_markdown) + "\n")
    return _page(entries, runs, printable)


def keep(directory: Path) -> None:
    """Writes the table of a sweep's runs so far: a killed sweep has its table, too."""
    with contextlib.suppress(OSError):  # it is written again at the end, which tells
        write(directory, find_runs([directory]))


def ranked(entries: "pd.DataFrame", sort_by: str | None = None) -> "pd.DataFrame":
    """The rows of `aggregate`, by default best first: on the hold-out where there is one, else on the test images.

    Raises:
        ConfigError: There is nothing of that name to sort by.
    """
    if not sort_by:  # what is left of a row that lost seeds to pruning are the lucky ones: no rival of a whole row
        best_first = ranked(entries, "val" if entries.val.notna().any() else "accuracy")
        return best_first.iloc[sorted(range(len(entries)), key=lambda i: _lost_some(best_first.runs.iloc[i]))]
    columns = entries.label.iloc[0] if len(entries) else {}
    if sort_by in columns:
        return entries.iloc[sorted(range(len(entries)), key=lambda i: sortable(entries.label.iloc[i][sort_by]))]
    if sort_by not in MEASURES:
        raise ConfigError(f"--sort-by {sort_by}: must be one of {', '.join((*MEASURES, *columns))}")
    measure = entries.passed / entries.judged if sort_by == "passed" else entries[sort_by]
    order = measure.sort_values(ascending=sort_by in COSTS, kind="stable")
    return entries.loc[order.index]


def _lost_some(runs: Sequence[Run]) -> bool:
    return any(run.status == PRUNED for run in runs)


def sortable(text: str) -> tuple[int, float, str]:
    """Numbers by their value, then the rest by the alphabet."""
    try:
        return (0, float(text), "")
    except ValueError:
        return (1, 0.0, text)


def rows_of(entries: "pd.DataFrame") -> Rows:
    """The table: accuracies in percent, seconds of a run's training and evaluation."""
    limited = [one for one in BUDGETS if one.size != "params" and entries[one.size].any()]
    rows = []
    for entry in entries.itertuples():
        columns = {
            "n": str(entry.n),
            "val acc %": mean_sd(entry.vals, 3),
            "test acc %": mean_sd(entry.accuracies, 3),
            "best": mean_sd([entry.best]),
            "last": mean_sd(entry.lasts, 3),
            "passed": _pass_rate(entry.passed, entry.judged, entry.n),
            "params": f"{entry.params:,.0f}" if entry.n else "",
            **{one.unit: _number(getattr(entry, one.size)) for one in limited},
            "seconds": f"{entry.seconds:.0f}" if entry.n else "",
            "status": outcomes(entry.runs),
        }
        if not entries.val.any():
            del columns["val acc %"]
        rows.append((entry.label or {"runs": "all"}) | columns)
    return rows


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:,.0f}"


def _pass_rate(passed: int, judged: int, finished: int) -> str:
    if not judged:
        return "not judged" if finished else ""
    low, high = wilson_interval(passed, judged)
    return f"{passed}/{judged} ({100 * low:.0f}–{100 * high:.0f} %)"


def outcome(run: Run) -> str:
    """How a run ended: its status, but for one that passed without an accuracy to reach."""
    return "not judged" if run.status == PASSED and not run.verdict["accuracy_judged"] else run.status


def outcomes(runs: Sequence[Run]) -> str:
    """How the runs ended, the rarest case not lost among the many."""
    ends = Counter(map(outcome, runs))
    return ", ".join(f"{number} {end}" if len(runs) > 1 else end for end, number in ends.items())


def failures_of(runs: Sequence[Run]) -> Rows:
    """Runs that are no result: which, how they ended, why, and where the log is."""
    return [
        {"run": str(run.directory), "status": run.status, "why": run.why, "log": str(run.directory / "run.log")}
        for run in runs
        if not run.finished
    ]


def seeds_verdict(passed: int, judged: int) -> str:
    """Whether enough seeds passed to call a recipe reliable, by the Wilson interval of the pass rate."""
    if not judged:
        return "not judged: the target is for other data"
    low, high = wilson_interval(passed, judged)
    head = f"{passed} of {judged} pass, 95 % interval {100 * low:.0f}–{100 * high:.0f} %, target {100 * PASS_RATE:.0f} %"
    if low >= PASS_RATE:
        return f"{head}: shown"
    if high < PASS_RATE:
        return f"{head}: missed"
    if passed / judged <= PASS_RATE:
        return f"{head}: not shown, and no number of seeds will at this rate"
    more = 1
    while wilson_interval(passed / judged * (judged + more), judged + more)[0] < PASS_RATE:
        more += 1
    return f"{head}: not shown yet, about {more} more seeds needed at this rate"


def _page(entries: "pd.DataFrame", runs: Sequence[Run], plain: Callable[[object], str]) -> str:
    """The table, the verdict over the seeds of a row with several, and the failures."""
    parts = [markdown(rows_of(entries), plain)] if len(entries) else []
    for entry in entries.itertuples():
        if entry.n > 1:
            name = ", ".join(f"{column}={value}" for column, value in entry.label.items()) or "seeds"
            parts.append(f"{plain(name)}: {seeds_verdict(entry.passed, entry.judged)}")
    if failures := failures_of(runs):
        parts += ["Not counted:", markdown(failures, plain)]
    return "\n\n".join(parts)
