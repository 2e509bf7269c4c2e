"""Runs put together by what their configurations share; and the one way to show a mean with its spread, and a table.

pandas takes half a second to import, which a refused command must not wait for: what makes a table imports it.
"""

import html
import math
import re
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from mnist_lightning.config.errors import ConfigError
from mnist_lightning.evaluation.budgets import BUDGETS
from mnist_lightning.evaluation.run_directories import Run, shown
from mnist_lightning.evaluation.verdict import PASSED
from mnist_lightning.terminal import printable

if TYPE_CHECKING:
    import pandas as pd

Item = TypeVar("Item")
Rows = Sequence[dict[str, str]]  # of a table to show: a mapping of column to text each
MISSING = "–"
MEASURED = ["accuracy", "val", "last_accuracy", "seconds", *(one.size for one in BUDGETS)]
FIELDS = ["accuracy", "best_accuracy", "last_accuracy", "epoch_split", "accuracy_judged", "status", "seconds"]
FIELDS += [one.size for one in BUDGETS]


def aggregate(runs: Sequence[Run], keys: Sequence[str] | None = None) -> "pd.DataFrame":
    """A row per configuration, whatever its seeds, or per combination of the keys' values; runs that cannot be read make none.

    | column                  | content                                                                     |
    | ----------------------- | --------------------------------------------------------------------------- |
    | label                   | what tells the row apart: column to text                                    |
    | runs                    | all of them                                                                 |
    | n, judged, passed       | how many finished; of those, judged by accuracy; of those, passed           |
    | accuracy, best, val     | means and maximum of what follows, fractions                                |
    | accuracies, vals, lasts | of each run: under the gate's rule, best on the hold-out, of the last epoch |
    | params, seconds         | parameters that count, mean wall time                                       |
    | multiply_adds, …        | the other sizes of `BUDGETS`, where there is a limit                        |
    """
    import pandas as pd

    runs = [run for run in runs if run.config]
    configs = values_of(runs)
    table = pd.DataFrame([run.verdict if run.finished else {} for run in runs], columns=FIELDS)
    table["run"], table["n"] = runs, [int(run.finished) for run in runs]
    table["judged"] = table.accuracy_judged.eq(True).astype(int)
    table["passed"] = table.status.eq(PASSED) * table.judged
    table["val"] = table.best_accuracy.where(table.epoch_split == "val")
    table[MEASURED] = table[MEASURED].astype(float)
    table["config"] = [str(values) for values in configs.drop(columns="seed", errors="ignore").to_numpy().tolist()]
    table["label"] = labels(configs, varied_keys(configs) if keys is None else keys)
    # A run that stopped before its parameters were counted goes with the others of its configuration.
    table["params"] = [run.verdict.get("params") or math.nan for run in runs]
    params = table.groupby("config").params
    table["params"] = params.ffill().fillna(params.bfill()).fillna(0)
    rows = table.groupby(["config", "params"] if keys is None else table.label.map(str), sort=False).agg(
        label=("label", "first"),
        runs=("run", list),
        **{name: (name, "sum") for name in ("n", "judged", "passed")},
        **{name: (name, "mean") for name in ("accuracy", "val", "seconds")},
        best=("accuracy", "max"),
        accuracies=("accuracy", list),
        vals=("val", list),
        lasts=("last_accuracy", list),
        **{one.size: (one.size, "max") for one in BUDGETS},
    )
    if keys is None and rows.label.map(str).duplicated().any():  # of two networks with one name, or one that was changed
        rows["label"] = [label | {"params": f"{params:,.0f}"} for label, params in zip(rows.label, rows.params, strict=True)]
    return rows


def values_of(runs: Sequence[Run]) -> "pd.DataFrame":
    """The runs' configurations: a row each, a column per key, values as text."""
    import pandas as pd

    configs = [{key: _text(value) for key, value in run.config.items()} for run in runs]
    return pd.DataFrame(configs, dtype=object).fillna(MISSING)


def _text(value: Any) -> str:
    """A value as text, of which equal numbers have one: 0 and 0.0."""
    if isinstance(value, list):
        return f"[{','.join(map(_text, value))}]"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return repr(float(value)).removesuffix(".0")
    return str(value)


def varied_keys(configs: "pd.DataFrame") -> list[str]:
    """Keys, but for the seed, whose values differ and say something new.

    Where a group's target differs (model=net1,net3), a key of that group counts only if it differs for one target too: the
    widths of two networks go with the networks.
    """

    def varies(key: str) -> bool:
        target = f"{key.split('.')[0]}._target_"
        if key == target or target not in configs:
            return bool(configs[key].nunique() > 1)
        return bool(configs.groupby(target)[key].nunique().max() > 1)

    return [key for key in configs if key != "seed" and varies(key)]


def labels(configs: "pd.DataFrame", keys: Sequence[str]) -> list[dict[str, str]]:
    """The keys' values for every run, by short name; classes without their modules, unless two of one name are among them."""
    columns = {}
    for key, name in short_names(keys).items():
        last_parts = configs[key].map(shown if key.endswith("_target_") else str)
        columns[name] = last_parts if last_parts.nunique() == configs[key].nunique() else configs[key]
    return [{name: columns[name][i] for name in columns} for i in configs.index]


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """A column's name for each key: `lr` for optimizer.lr, `model` for model._target_, the whole key where two are alike."""
    short = {key: key.removesuffix("._target_").rpartition(".")[2] for key in keys}
    return {key: name if list(short.values()).count(name) == 1 else key for key, name in short.items()}


def resolve_keys(typed: Sequence[str], runs: Sequence[Run]) -> list[str]:
    """The configuration keys meant by names as typed: `lr`, `optimizer.lr`, `model`; a ConfigError says which ones vary."""
    configs = values_of([run for run in runs if run.config])
    keys = []
    for name in typed:
        exact = [key for key in configs if key in (name, f"{name}._target_")]
        found = exact or [key for key in configs if key.rpartition(".")[2] == name]
        if len(found) != 1:
            rule = f"stands for {cut(found)}" if found else "is in no run's configuration"
            choices = cut([*short_names(varied_keys(configs)).values(), "seed"])
            raise ConfigError(f"--group-by {name}: {name} {rule}; what varies between these runs: {choices}")
        keys.append(found[0])
    return keys


def cut(names: Sequence[str]) -> str:
    """A list for a sentence: of more than five, the first."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def mean_sd(fractions: Iterable[float | None], decimals: int = 2) -> str:
    """In percent: the value, or mean ± standard deviation of several; nothing where none was measured."""
    known = [100 * fraction for fraction in fractions if fraction is not None and not math.isnan(fraction)]
    if not known:
        return ""
    spread = f" ± {statistics.stdev(known):.{decimals}f}" if len(known) > 1 else ""
    return f"{statistics.mean(known):.{decimals}f}{spread}"


def pareto_front(items: Iterable[Item], size: Callable[[Item], float], score: Callable[[Item], float]) -> list[Item]:
    """Those than which none is both no larger and at least as good, the smallest first; of equal ones the first."""
    best: list[Item] = []
    for item in sorted(items, key=lambda item: (size(item), -score(item))):
        if not best or score(item) > score(best[-1]):
            best.append(item)
    return best


def markdown(rows: Rows, plain: Callable[[object], str] = printable) -> str:
    """A table in Markdown whose columns line up in a terminal too; `plain` makes text of the runs harmless."""
    from tabulate import tabulate

    cells = [{plain(column): plain(cell) for column, cell in row.items()} for row in rows]
    return str(tabulate(cells, headers="keys", tablefmt="github", disable_numparse=True))


def escape_markdown(text: object) -> str:
    """Text in which Markdown finds no markup, and no address to make a link of."""
    escaped = html.escape(printable(text), quote=False).replace("://", "&#58;//")
    return re.sub(r"([\\`*_\[\]|~$]|^[#+-](?=\s)|(?<=^\d)\.(?=\s))", r"\\\1", escaped)
