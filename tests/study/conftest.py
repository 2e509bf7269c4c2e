"""What the tests of studies share: the files of finished runs, left in a moment."""

import functools
import json
import tempfile
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from tests.conftest import leave_run, read_verdict


@functools.cache
def _template(groups: tuple[str, ...]) -> tuple[str, dict[str, Any]]:
    """config.yaml and verdict of a run; composed once for all tests."""
    with tempfile.TemporaryDirectory() as folder:
        run = leave_run(Path(folder) / "run", *groups)
        return (run / "config.yaml").read_text("utf-8"), read_verdict(run)


def leave(folder: Path, *overrides: str, epochs: tuple[float, ...] = (), **verdict: Any) -> Path:
    """As `leave_run`; with test accuracies of its epochs also metrics.csv."""
    values = [override for override in overrides if "." in override.split("=")[0] or override.startswith("seed=")]
    text, record = _template(tuple(override for override in overrides if override not in values))
    cfg = OmegaConf.merge(OmegaConf.create(text), OmegaConf.from_dotlist(values))
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(cfg), "utf-8")
    record = record | {"seed": cfg.seed}  # the template stays as it is
    if epochs:
        best = max(epochs)
        record |= {"accuracy": best, "best_accuracy": best, "best_epoch": epochs.index(best) + 1, "last_accuracy": epochs[-1]}
        record |= {"epochs": len(epochs), "rule": "best", "selected_on_test": True, "interval_95": None}
        rows = [f"{epoch},0.1,{accuracy + 0.005},0.2,{accuracy}" for epoch, accuracy in enumerate(epochs, 1)]
        table = "\n".join(["epoch,train/loss,train/acc,test/loss,test/acc", *rows, ""])
        (folder / "metrics.csv").write_text(table, "utf-8")
    record |= {"passed": verdict.get("status", "passed") == "passed"}
    (folder / "verdict.json").write_text(json.dumps(record | verdict), "utf-8")
    return folder
