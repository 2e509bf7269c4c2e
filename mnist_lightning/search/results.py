"""What a search has found so far: the front of size against accuracy, all trials as a CSV, the line after each."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields

from optuna.trial import TrialState

from mnist_lightning import files
from mnist_lightning.evaluation.verdict import PRUNED, percent
from mnist_lightning.search.rules import FINISHED, Search
from mnist_lightning.search.trials import OVERRIDES, SIZE, Trials
from mnist_lightning.study.aggregate import Rows, escape_markdown, markdown, pareto_front
from mnist_lightning.terminal import printable

FAILED, RUNNING = "failed", "running"
STATES = {TrialState.COMPLETE: FINISHED, TrialState.PRUNED: PRUNED, TrialState.FAIL: FAILED, TrialState.RUNNING: RUNNING}


@dataclass(frozen=True)
class Row:
    """A trial as a row of search.csv; accuracy and loss are those on the hold-out after its last epoch."""

    trial: int
    state: str
    accuracy: float | None
    loss: float | None
    params: int
    multiply_adds: int
    activation_bytes: int
    size: int
    epochs: int | None
    overrides: str

    def score(self, search: Search) -> float:
        """The larger the better; of a finished trial."""
        assert self.accuracy is not None
        assert self.loss is not None
        return self.accuracy if search.criterion == "acc" else -self.loss


def rows(trials: Trials) -> list[Row]:
    """Of every trial within the budgets."""
    found = []
    for trial in trials.accepted():
        told = trial.user_attrs
        sizes = (told["params"], told["multiply_adds"], told["activation_bytes"], told[SIZE])
        found.append(
            Row(
                trial.number,
                STATES[trial.state],
                told.get("acc"),
                told.get("loss"),
                *sizes,
                told.get("epochs"),
                told[OVERRIDES],
            )
        )
    return found


def front(table: Sequence[Row], search: Search) -> list[Row]:
    """The finished trials than which none is both smaller and better, the smallest first."""
    finished = [row for row in table if row.state == FINISHED]
    return pareto_front(finished, lambda row: row.size, lambda row: row.score(search))


def progress(number: int, table: Sequence[Row], search: Search) -> str:
    """The line after a trial."""
    row = next(row for row in table if row.trial == number)
    how = "" if row.state == FINISHED else f", {row.state} after epoch {row.epochs}" if row.epochs else f", {row.state}"
    ends = Counter(row.state for row in table)
    line = f"trial {number}: {percent(row.accuracy)}, {row.params:,} parameters{how}; "
    line += f"{len(table) - ends[RUNNING]} of {search.trials} trials, {ends[PRUNED]} pruned"
    if best := front(table, search)[-1:]:
        line += f"; best {percent(best[0].accuracy)} on the hold-out with {best[0].params:,} (trial {best[0].trial})"
    return line


def cells(table: Sequence[Row]) -> Rows:
    """Trials as a table shows them."""
    return [
        {
            "trial": str(row.trial),
            "hold-out acc %": f"{100 * (row.accuracy or 0):.2f}",
            "loss": f"{row.loss:.4f}",
            "parameters": f"{row.params:,}",
            "multiply-adds": f"{row.multiply_adds:,}",
            "bytes": f"{row.activation_bytes:,}",
            "run": row.overrides,
        }
        for row in table
    ]


def write(trials: Trials) -> list[Row]:
    """Writes search.csv, search.md and search.png, each whole; returns their rows. For who holds the turn."""
    import pandas as pd

    from mnist_lightning.search.picture import picture

    table, directory = rows(trials), trials.directory
    csv = pd.DataFrame([asdict(row) for row in table], columns=[field.name for field in fields(Row)])
    files.write(directory / "search.csv", csv.to_csv(index=False, lineterminator="\n"))
    files.write(directory / "search.md", page(table, trials.search, trials.words))
    with files.replacing(directory / "search.png") as part:
        picture(table, front(table, trials.search), trials.cfg, trials.search.objective or "params").savefig(part)
    return table


def summary(table: Sequence[Row], search: Search, plain: Callable[[object], str] = printable) -> str:
    """How many trials ended how, and the front."""
    ends = Counter(row.state for row in table)
    counts = f"{len(table)} of {search.trials} trials: " + ", ".join(f"{number} {state}" for state, number in ends.items())
    note = "Figures are those of the last epoch on the hold-out; the test set was not read."
    return f"{counts}. {note}\n\n{markdown(cells(front(table, search)), plain)}"


def page(table: Sequence[Row], search: Search, words: Sequence[str]) -> str:
    """search.md."""
    command = f"python -m mnist_lightning search {' '.join(words)}".rstrip()
    return f"# `{command}`\n\n{summary(table, search, escape_markdown)}\n\n![front](search.png)\n"
