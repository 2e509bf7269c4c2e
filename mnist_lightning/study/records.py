"""Finished runs as rows of a CSV, and those CSVs as the README's table; `docs/results.md` says more."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from mnist_lightning import files
from mnist_lightning.config.compose import choices, compose_config
from mnist_lightning.config.errors import ConfigError
from mnist_lightning.evaluation.run_directories import Run, find_runs, read_epochs, settings
from mnist_lightning.evaluation.statistics import wilson_interval
from mnist_lightning.study.aggregate import MISSING, markdown, mean_sd
from mnist_lightning.study.published import PUBLISHED
from mnist_lightning.terminal import complain

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

RESULTS_DIR = Path("docs/results")
TARGET = 0.994
PRESETS = (  # in the README's order
    *("default", "exp1", "exp2", "exp3", "rotation", "net3_best", "best"),
    *("params_4000", "tiny", "params_1500", "params_1000", "params_700", "fast"),
)


def collect(directories: Iterable[Path], preset: str) -> "pd.DataFrame":
    """A row of text for every finished run below the directories; complains of the others."""
    import pandas as pd

    base = settings(_compose(preset))
    rows = []
    for run in find_runs(directories):
        if run.finished:
            changes = {key: value for key, value in run.config.items() if value != base.get(key) and key != "seed"}
            changed = " ".join(f"{key}={str(value).replace(' ', '')}" for key, value in changes.items())
            rows.append({"preset": preset, "changed": changed} | _measured(run))
        else:
            complain(run.left_out)
    return pd.DataFrame([{key: "" if value is None else str(value) for key, value in row.items()} for row in rows])


def _compose(preset: str) -> DictConfig:
    if preset == "default":
        return compose_config()
    if preset not in choices("experiment"):
        known = ", ".join(["default", *choices("experiment")])
        raise ConfigError(f"preset {preset}: must be one of {known}; name it with --preset NAME")
    return compose_config(f"experiment={preset}")


def _measured(run: Run) -> dict[str, object]:
    """The columns of a CSV but for the first two; None for what was not measured."""
    verdict, versions = run.verdict, run.verdict["versions"]
    on_test = verdict["epoch_split"] == "test"
    epochs = read_epochs(run.directory) if (run.directory / "metrics.csv").exists() else []
    end = {name: round(value, 5) for name, value in epochs[-1].items()} if epochs else {}
    return {
        "seed": verdict["seed"],
        "params": verdict["params"],
        "epochs": verdict["epochs"],
        "last_accuracy": verdict["last_accuracy"] if on_test else None,
        "best_accuracy": verdict["best_accuracy"] if on_test else None,
        "val_accuracy": None if on_test else verdict["last_accuracy"],
        "val_loss": end.get("val/loss"),
        "train_accuracy": end.get("train/acc"),
        "seconds": round(verdict["seconds"], 1),
        "device": verdict["device"],
        **{name: versions.get(name) for name in ("python", "torch", "lightning", "git")},
    }


def add_to_csv(rows: "pd.DataFrame", path: Path) -> int:
    """Writes the rows beside those in the CSV; returns how many it has now. A ConfigError if a seed came out differently."""
    import pandas as pd

    merged = pd.concat([read_csv(path), rows] if path.exists() else [rows]).drop_duplicates()
    twice = merged[merged.duplicated(["changed", "seed"])]
    if len(twice):
        run = " ".join([twice.preset.iloc[0], twice.changed.iloc[0], f"seed={twice.seed.iloc[0]}"]).replace("  ", " ")
        raise ConfigError(f"{path}: {run} is there already with other figures; take its row out of the file to replace it")
    path.parent.mkdir(parents=True, exist_ok=True)
    ordered = merged.assign(number=merged.seed.astype(int)).sort_values(["changed", "number"]).drop(columns="number")
    files.write(path, ordered.to_csv(index=False, lineterminator="\n"))
    return len(merged)


def read_csv(path: Path) -> "pd.DataFrame":
    """The rows of a CSV, as text: 3.10 is a version, and no number."""
    import pandas as pd

    return pd.read_csv(path, dtype=str, keep_default_na=False)


def measured_presets(results_dir: Path) -> "dict[str, pd.DataFrame]":
    """The rows of every preset that has a CSV, in the README's order. A ConfigError where none has."""
    paths = {preset: results_dir / f"{preset}.csv" for preset in PRESETS}
    measured = {preset: read_csv(path) for preset, path in paths.items() if path.exists()}
    if not measured:
        raise ConfigError(f"{results_dir}: no CSV of a preset there; give the command in a checkout, or collect runs first")
    return measured


def table(results_dir: Path) -> str:
    """The README's table, in Markdown: a row per preset that has a CSV."""
    return markdown([_table_row(preset, rows) for preset, rows in measured_presets(results_dir).items()])


def front(results_dir: Path) -> "Figure":
    """The README's picture of size against accuracy; `fast` is left out, since it is `best` in fewer epochs."""
    from mnist_lightning.study.front_picture import picture

    presets = measured_presets(results_dir)
    sizes = {preset: int(rows.params[0]) for preset, rows in presets.items()}
    accuracies = {preset: [100 * float(text) for text in rows.last_accuracy] for preset, rows in presets.items()}
    return picture(sizes, accuracies, 100 * TARGET)


def _table_row(preset: str, rows: "pd.DataFrame") -> dict[str, str]:
    last, best, train = ([float(text) for text in rows[f"{name}_accuracy"] if text] for name in ("last", "best", "train"))
    passed = sum(accuracy >= TARGET - 1e-9 for accuracy in last)
    low, high = wilson_interval(passed, len(last))
    published = PUBLISHED.get(preset)
    mean, plus_minus, spread = mean_sd(last, 3).partition(" ± ")
    return {
        "preset": f"`{preset}`",
        "parameters": f"{int(rows.params[0]):,}",
        "epochs": rows.epochs[0],
        "published: train, best test": f"{published.train:.2f}, {published.best:.2f} %" if published else MISSING,
        "here: train, best test": f"{mean_sd(train).partition(' ')[0] or MISSING}, {mean_sd(best).partition(' ')[0]} %",
        "**last epoch's test**": f"**{mean}**{plus_minus}{spread} %",
        "lowest": f"{100 * min(last):.2f} %",
        "last ≥ 99.40 %": f"{passed} of {len(last)} (95 %: {100 * low:.0f}–{100 * high:.0f} %)",
    }
