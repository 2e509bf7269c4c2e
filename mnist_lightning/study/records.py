"""`python -m mnist_lightning results`: finished runs as rows of a CSV, and those CSVs as the README's table.

    python -m mnist_lightning results collect results/default.csv outputs/sweeps/NAME
    python -m mnist_lightning results table

A CSV is named after the preset its runs used (`default`, or one of `conf/experiment`); of others, `--preset` tells.
"""

import csv
import io
import statistics
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from mnist_lightning import files
from mnist_lightning.config.compose import CONF_DIR, compose_config
from mnist_lightning.config.errors import ConfigError
from mnist_lightning.evaluation.run_directories import Run, find_runs, flatten, read_epochs
from mnist_lightning.evaluation.statistics import wilson_interval
from mnist_lightning.study.published import PUBLISHED
from mnist_lightning.terminal import complain

RESULTS_DIR = Path("docs/results")
TARGET = 0.994
PRESETS = ("default", "exp1", "exp2", "exp3", "rotation", "net3_best", "best", "tiny", "fast")  # as in the README


@dataclass
class Row:
    """One finished run. Accuracies are fractions of the test images, or of the hold-out for `val_accuracy`."""

    preset: str
    changed: str
    """What the run's configuration changes in the preset's, as overrides."""
    seed: int
    params: int
    epochs: int
    last_accuracy: float | None
    """Test accuracy of the last epoch's weights; None with a hold-out."""
    best_accuracy: float | None
    """Test accuracy of the best epoch; None with a hold-out."""
    val_accuracy: float | None
    """Accuracy of the last epoch's weights on the hold-out; None without."""
    val_loss: float | None
    """Cross-entropy of the last epoch's weights on the hold-out, which chance moves less than the accuracy; None without."""
    train_accuracy: float | None
    """Of the last epoch, on augmented images, as training went along."""
    seconds: float
    device: str
    python: str
    torch: str
    lightning: str
    git: str


# --- from run directories to a CSV --------------------------------------------------------------------------------------


def collect(directories: list[Path], preset: str) -> list[Row]:
    """A row for every finished run below the directories, by what it changed and by seed; names the others on stderr.

    Raises:
        ConfigError: There is no such preset.
    """
    base = flatten(_compose(preset))
    rows = []
    for run in find_runs(directories):
        if run.finished:
            rows.append(_row(run, preset, base))
        else:
            complain(f"{run.directory}: left out, {run.status}: {run.why}")
    return sorted(rows, key=lambda row: (row.changed, row.seed))


def _compose(preset: str) -> DictConfig:
    if preset == "default":
        return compose_config()
    known = sorted(path.stem for path in (CONF_DIR / "experiment").glob("*.yaml"))
    if preset not in known:
        raise ConfigError(f"preset {preset}: must be one of default, {', '.join(known)}; name it with --preset NAME")
    return compose_config(f"experiment={preset}")


def _row(run: Run, preset: str, base: dict[str, Any]) -> Row:
    changes = {key: value for key, value in run.config.items() if value != base.get(key) and key != "seed"}
    changed = [f"{key}={str(value).replace(' ', '')}" for key, value in changes.items()]
    verdict, versions, end = run.verdict, run.verdict["versions"], _last_epoch(run)
    on_test = verdict["epoch_split"] == "test"
    return Row(
        preset=preset,
        changed=" ".join(changed),
        seed=verdict["seed"],
        params=verdict["params"],
        epochs=verdict["epochs"],
        last_accuracy=verdict["last_accuracy"] if on_test else None,
        best_accuracy=verdict["best_accuracy"] if on_test else None,
        val_accuracy=None if on_test else verdict["last_accuracy"],
        val_loss=end.get("val/loss"),
        train_accuracy=end.get("train/acc"),
        seconds=round(verdict["seconds"], 1),
        device=verdict.get("device", ""),
        python=versions.get("python", ""),
        torch=versions.get("torch", ""),
        lightning=versions.get("lightning", ""),
        git=versions.get("git", ""),
    )


def _last_epoch(run: Run) -> dict[str, float]:
    """The last row of a run's metrics.csv; nothing where the table is gone, which the verdict does not need."""
    try:
        return {name: round(value, 5) for name, value in read_epochs(run.directory)[-1].items()}
    except FileNotFoundError:
        return {}


def write_csv(rows: list[Row], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, [field.name for field in fields(Row)], lineterminator="\n")
    writer.writeheader()
    for row in map(asdict, rows):
        writer.writerow(row)
    files.write(path, file.getvalue())


def add_to_csv(rows: list[Row], path: Path) -> int:
    """Writes the rows beside those that are in the CSV already; returns how many it has now.

    Raises:
        ConfigError: A seed was run a second time and came out differently: results are not replaced in silence.
    """
    merged = {(row.changed, row.seed): row for row in (read_csv(path) if path.exists() else [])}
    for row in rows:
        if merged.setdefault((row.changed, row.seed), row) != row:
            changed = f" {row.changed}" if row.changed else ""
            raise ConfigError(
                f"{path}: {row.preset}{changed} seed={row.seed} is there already with other figures; "
                "take its row out of the file to replace it"
            )
    write_csv(sorted(merged.values(), key=lambda row: (row.changed, row.seed)), path)
    return len(merged)


def read_csv(path: Path) -> list[Row]:
    with path.open(newline="", encoding="utf-8") as file:
        return [_parse(values) for values in csv.DictReader(file)]


def _parse(values: dict[str, str]) -> Row:
    measured = ("last_accuracy", "best_accuracy", "val_accuracy", "val_loss", "train_accuracy")
    number = {name: float(values[name]) if values[name] else None for name in measured}
    whole = {name: int(values[name]) for name in ("seed", "params", "epochs")}
    return Row(**(values | number | whole | {"seconds": float(values["seconds"])}))  # type: ignore[arg-type]


# --- from CSVs to the table ---------------------------------------------------------------------------------------------


def table(results_dir: Path) -> str:
    """The README's table, in Markdown: a row per preset that has a CSV."""
    heads = ("preset", "parameters", "epochs", "published: train, best test", "here: train, best test", "**last epoch's test**")
    lines = [f"| {' | '.join(heads)} | lowest | last ≥ 99.40 % |", "| --- " * 8 + "|"]
    for preset in PRESETS:
        path = results_dir / f"{preset}.csv"
        if path.exists():
            lines.append(_table_row(preset, read_csv(path)))
    return "\n".join(lines)


def _table_row(preset: str, rows: list[Row]) -> str:
    last = [row.last_accuracy for row in rows if row.last_accuracy is not None]
    passed = sum(accuracy >= TARGET - 1e-9 for accuracy in last)
    low, high = wilson_interval(passed, len(last))
    spread = f" ± {100 * statistics.stdev(last):.3f}" if len(last) > 1 else ""
    cells = [
        f"`{preset}`",
        f"{rows[0].params:,}",
        str(rows[0].epochs),
        f"{PUBLISHED[preset].train:.2f}, {PUBLISHED[preset].best:.2f} %" if preset in PUBLISHED else "–",
        f"{_mean([row.train_accuracy for row in rows])}, {_mean([row.best_accuracy for row in rows])} %",
        f"**{100 * statistics.mean(last):.3f}**{spread} %",
        f"{100 * min(last):.2f} %",
        f"{passed} of {len(last)} (95 %: {100 * low:.0f}–{100 * high:.0f} %)",
    ]
    return f"| {' | '.join(cells)} |"


def _mean(accuracies: list[float | None]) -> str:
    known = [accuracy for accuracy in accuracies if accuracy is not None]
    return f"{100 * statistics.mean(known):.2f}" if known else "–"
