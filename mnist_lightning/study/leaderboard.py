"""`python -m mnist_lightning leaderboard outputs/...`: runs put together, seeds averaged, failures named with their logs.

Runs whose configurations differ in the seed alone are one row. Every sweep ends with this table, and keeps it as
`leaderboard.csv` and `leaderboard.md` in its directory from its first finished job on.
"""

import csv
import html
import io
import math
import re
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnist_lightning import files
from mnist_lightning.config.errors import ConfigError
from mnist_lightning.evaluation.run_directories import Run, shown
from mnist_lightning.evaluation.statistics import wilson_interval
from mnist_lightning.evaluation.verdict import PASSED
from mnist_lightning.terminal import printable

PASS_RATE = 0.95  # share of seeds that should pass before a recipe is called reliable
MEASURES = ("accuracy", "val", "best", "passed", "params", "seconds")  # what a table can be sorted by, beside what varied


# --- putting runs together ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """One row: all runs of one configuration, whatever their seeds. Accuracies are fractions."""

    label: dict[str, Any]
    """What tells the row apart: key and value."""
    runs: list[Run]

    @property
    def finished(self) -> list[Run]:
        return [run for run in self.runs if run.finished]

    @property
    def accuracies(self) -> list[float]:
        """Test accuracies under the gate's rule, of the finished runs."""
        return [run.verdict["accuracy"] for run in self.finished if run.verdict["accuracy"] is not None]

    @property
    def val_accuracies(self) -> list[float]:
        """Best accuracies on the hold-out, of the finished runs that had one."""
        with_hold_out = [run.verdict for run in self.finished if run.verdict["epoch_split"] == "val"]
        return [verdict["best_accuracy"] for verdict in with_hold_out if verdict["best_accuracy"] is not None]

    @property
    def passed(self) -> int:
        return sum(run.status == PASSED for run in self.finished)

    def value(self, measure: str) -> float:
        """A figure to sort by; not a number where nothing was measured."""
        values: dict[str, list[float]] = {
            "accuracy": self.accuracies,
            "val": self.val_accuracies,
            "best": [max(self.accuracies)] if self.accuracies else [],
            "passed": [self.passed / len(self.finished)] if self.finished else [],
            "params": [run.verdict["params"] for run in self.finished],
            "seconds": [run.verdict["seconds"] for run in self.finished],
        }
        return statistics.mean(values[measure]) if values[measure] else math.nan


def varied_keys(runs: Sequence[Run]) -> list[str]:
    """Keys, but for the seed, whose values differ between runs and say something new.

    Where a group's target differs (model=net1,net3), a key of that group counts only if it differs for one target too: the
    widths of two networks go with the networks.
    """
    configs = [run.config for run in runs if run.config]
    if not configs:
        return []
    # In the order of their appearance; what some runs have no key for (a constant schedule has no warm-up) can vary, too.
    keys = [key for key in dict.fromkeys(key for config in configs for key in config) if key != "seed"]

    def differs(key: str, among: Sequence[dict[str, Any]]) -> bool:
        return any(config.get(key) != among[0].get(key) for config in among)

    def says_something(key: str) -> bool:
        target = f"{key.split('.')[0]}._target_"
        if key == target or not any(target in config for config in configs):
            return differs(key, configs)
        by_target: dict[str | None, list[dict[str, Any]]] = {}
        for config in configs:
            by_target.setdefault(config.get(target), []).append(config)
        return any(differs(key, alike) for alike in by_target.values())

    return [key for key in keys if says_something(key)]


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """A column's name for each key: `lr` for optimizer.lr, `model` for model._target_, the whole key where two are alike."""
    short = {key: key.removesuffix("._target_").rpartition(".")[2] for key in keys}
    return {key: name if list(short.values()).count(name) == 1 else key for key, name in short.items()}


def resolve_keys(typed: Sequence[str], runs: Sequence[Run]) -> list[str]:
    """The configuration keys meant by names as a user types them: `lr`, `optimizer.lr`, `model`.

    Raises:
        ConfigError: No run has such a key; says which ones vary.
    """
    known = sorted({key for run in runs for key in run.config})
    keys = []
    for name in typed:
        exact = [key for key in known if key in (name, f"{name}._target_")]
        found = exact or [key for key in known if key.rpartition(".")[2] == name]
        if len(found) != 1:
            rule = f"stands for {', '.join(found)}" if found else "is in no run's configuration"
            choices = ", ".join(short_names(varied_keys(runs)).values()) or "nothing but the seed"
            raise ConfigError(f"--group-by {name}: {name} {rule}; what varies between these runs: {choices}, seed")
        keys.append(found[0])
    return keys


def entries_of(runs: Sequence[Run], keys: Sequence[str], sort_by: str | None = None) -> list[Entry]:
    """A row for every combination of the keys' values that occurs, best first.

    Args:
        runs: Those without a readable configuration make no row.
        keys: Configuration keys.
        sort_by: One of `MEASURES` or of the columns; by default "val" where there is a hold-out, else "accuracy".

    Raises:
        ConfigError: There is nothing of that name to sort by.
    """
    names = short_names(keys)
    groups: dict[tuple[str, ...], Entry] = {}
    for run in runs:
        if run.config:
            label = {names[key]: shown(run.config[key]) if key in run.config else "–" for key in keys}
            groups.setdefault(tuple(label.values()), Entry(label, [])).runs.append(run)
    entries = list(groups.values())
    if sort_by is None:
        sort_by = "val" if any(entry.val_accuracies for entry in entries) else "accuracy"
    if sort_by in names.values():
        return sorted(entries, key=lambda entry: _sortable(entry.label[sort_by]))
    if sort_by not in MEASURES:
        raise ConfigError(f"--sort-by {sort_by}: must be one of {', '.join((*MEASURES, *names.values()))}")
    ascending = sort_by in ("params", "seconds")

    def rank(entry: Entry) -> float:
        value = entry.value(sort_by)
        return math.inf if math.isnan(value) else (value if ascending else -value)

    return sorted(entries, key=rank)


def _sortable(text: str) -> tuple[int, float, str]:
    """Numbers by their value, then the rest by the alphabet."""
    try:
        return (0, float(text), "")
    except ValueError:
        return (1, 0.0, text)


# --- the verdict over seeds ---------------------------------------------------------------------------------------------


def seeds_verdict(passed: int, num_runs: int, rate: float = PASS_RATE) -> str:
    """Whether enough seeds passed to call a recipe reliable, by the Wilson interval of the pass rate."""
    low, high = wilson_interval(passed, num_runs)
    head = f"{passed} of {num_runs} pass, 95 % interval {100 * low:.0f}–{100 * high:.0f} %, target {100 * rate:.0f} %"
    if low >= rate:
        return f"{head}: shown"
    if high < rate:
        return f"{head}: missed"
    if passed / num_runs <= rate:
        return f"{head}: not shown, and no number of seeds will at this rate"
    more = 1
    while wilson_interval(passed / num_runs * (num_runs + more), num_runs + more)[0] < rate:
        more += 1
    return f"{head}: not shown yet, about {more} more seeds needed at this rate"


# --- showing them -------------------------------------------------------------------------------------------------------


def rows_of(entries: Sequence[Entry]) -> list[dict[str, str]]:
    """The table, a mapping of column to text per row; accuracies in percent, seconds of a run's training and evaluation."""
    with_val = any(entry.val_accuracies for entry in entries)
    rows = []
    for entry in entries:
        row = dict(entry.label) or {"runs": "all"}
        row["n"] = str(len(entry.finished))
        if with_val:
            row["val acc %"] = _mean_and_spread(entry.val_accuracies)
        row["test acc %"] = _mean_and_spread(entry.accuracies)
        row["best"] = f"{100 * max(entry.accuracies):.2f}" if entry.accuracies else ""
        row["last"] = _mean_and_spread([r.verdict["last_accuracy"] for r in entry.finished if r.verdict["last_accuracy"]])
        row["passed"] = _pass_rate(entry)
        row["params"] = f"{entry.finished[0].verdict['params']:,}" if entry.finished else ""
        row["seconds"] = f"{entry.value('seconds'):.0f}" if entry.finished else ""
        row["status"] = _statuses(entry)
        rows.append(row)
    return rows


def _mean_and_spread(fractions: Sequence[float]) -> str:
    if not fractions:
        return ""
    spread = f" ± {100 * statistics.stdev(fractions):.3f}" if len(fractions) > 1 else ""
    return f"{100 * statistics.mean(fractions):.3f}{spread}"


def _pass_rate(entry: Entry) -> str:
    if not entry.finished:
        return ""
    low, high = wilson_interval(entry.passed, len(entry.finished))
    return f"{entry.passed}/{len(entry.finished)} ({100 * low:.0f}–{100 * high:.0f} %)"


def _statuses(entry: Entry) -> str:
    """How the runs ended, the rarest case not lost among the many."""
    names = [run.status for run in entry.runs]
    return ", ".join(f"{names.count(name)} {name}" if len(names) > 1 else name for name in dict.fromkeys(names))


def failures_of(runs: Sequence[Run]) -> list[dict[str, str]]:
    """Runs that are no result: which, how they ended, why, and where the log is."""
    return [
        {"run": str(run.directory), "status": run.status, "why": run.why, "log": str(run.directory / "run.log")}
        for run in runs
        if not run.finished
    ]


def markdown(rows: Sequence[dict[str, str]]) -> str:
    """Rows of printable text as a Markdown table whose columns line up in a terminal too."""
    columns = list(rows[0])
    widths = {column: max(len(column), *(len(row[column]) for row in rows)) for column in columns}

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.ljust(widths[column]) for cell, column in zip(cells, columns, strict=True)) + " |"

    rule = "| " + " | ".join("-" * widths[column] for column in columns) + " |"
    return "\n".join([line(columns), rule, *(line([row[column] for column in columns]) for row in rows)])


def escape_markdown(text: object) -> str:
    """Text in which Markdown finds no markup, and no address to make a link of."""
    escaped = html.escape(printable(text), quote=False).replace("://", "&#58;//")
    return re.sub(r"([\\`*_\[\]|~$]|^[#+-](?=\s)|(?<=^\d)\.(?=\s))", r"\\\1", escaped)


def text(entries: Sequence[Entry], runs: Sequence[Run], plain: Callable[[str], str] = printable) -> str:
    """The whole report: the table, the verdict over the seeds of a row with several, and the failures.

    Args:
        plain: Makes text of the runs harmless: for a terminal, or for a Markdown file.
    """

    def table(rows: Sequence[dict[str, str]]) -> str:
        return markdown([{plain(column): plain(cell) for column, cell in row.items()} for row in rows])

    parts = [table(rows_of(entries))] if entries else []
    parts += [
        plain(", ".join(f"{name}={value}" for name, value in entry.label.items()) or "seeds")
        + f": {seeds_verdict(entry.passed, len(entry.finished))}"
        for entry in entries
        if len(entry.finished) > 1
    ]
    if failures := failures_of(runs):
        parts += ["Not counted:", table(failures)]
    return "\n\n".join(parts)


def write(directory: Path, runs: Sequence[Run]) -> str:
    """Writes `leaderboard.csv` and `leaderboard.md` of the runs into the directory; returns the report."""
    entries = entries_of(runs, varied_keys(runs))
    rows = rows_of(entries)
    file = io.StringIO(newline="")
    if rows:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([rows[0], *(row.values() for row in rows)])
    page = text(entries, runs, escape_markdown)
    for name, content in (("leaderboard.csv", file.getvalue()), ("leaderboard.md", page + "\n")):
        files.write(directory / name, content)
    return text(entries, runs)
