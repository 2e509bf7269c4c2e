"""Jobs of a sweep that stop early: by the curves of the others, on a hold-out, and kept by a resume."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mnist_lightning.training import pruning
from mnist_lightning.training.pruning import Pruned, Pruning, median_of_others, sweep_of
from tests.conftest import TINY, Finished, one_error, read_verdict

Cli = Callable[..., Finished]


def leave_curve(run: Path, *accuracies: float) -> Path:
    run.mkdir(parents=True)
    (run / "config.yaml").touch()
    rows = [f"{epoch},{accuracy}" for epoch, accuracy in enumerate(accuracies, 1)]
    (run / "metrics.csv").write_text("\n".join(["epoch,val/acc", *rows, ""]), "utf-8")
    return run


def begin_epoch(run: Path, sweep: Path, finished: int) -> None:
    trainer: Any = SimpleNamespace(current_epoch=finished)
    Pruning(run, sweep).on_train_epoch_start(trainer, trainer)


def test_the_median_is_of_the_best_figures_of_those_that_came_as_far(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "NUM_OTHERS", 3)
    curves = [[0.9, 0.8, 0.99], [0.5, 0.7], [0.6, 0.6], [0.99]]
    assert median_of_others(curves, 2) == 0.7
    assert median_of_others(curves, 3) is None  # of one: it says too little


def test_a_job_below_the_others_stops_before_its_next_epoch(tmp_path: Path) -> None:
    (tmp_path / "sweep.json").touch()
    for number in range(5):
        leave_curve(tmp_path / f"lr-{number}" / "seed-0", 0.90, 0.95 + number / 1000)
    leave_curve(tmp_path / "lr-0" / "seed-0" / "set-aside-1", 1.0, 1.0)
    leave_curve(tmp_path / "lr-0" / "seed-0" / "csv", 1.0, 1.0)
    (tmp_path / "lr-0" / "seed-0" / "csv" / "config.yaml").unlink()
    mine = leave_curve(tmp_path / "mine", 0.92, 0.91)
    assert sweep_of(mine) == tmp_path
    begin_epoch(mine, tmp_path, 0)
    begin_epoch(mine, tmp_path, 1)
    with pytest.raises(Pruned, match=r"at best 92.00 % after epoch 2, is below the median of the sweep's other jobs, 95.20 %"):
        begin_epoch(mine, tmp_path, 2)


def test_a_pruned_job_says_so_and_is_kept_until_nothing_is_pruned(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "median_of_others", lambda curves, epochs: 2.0 if curves else None)
    sweep = ("--multirun", *TINY, "data.val_images=50", "trainer.max_epochs=2", "gate.on_miss=warn", "hydra.sweep.dir=sweep")
    words = (*sweep, "logger=none", "optimizer.lr=0.1,0.2")
    done = cli(*words, "sweep.prune=true")
    assert (done.status, done.err) == (0, "")
    verdicts = [read_verdict(path.parent) for path in tmp_path.rglob("verdict.json")]
    [pruned] = [verdict for verdict in verdicts if verdict["status"] == "pruned"]
    assert (pruned["epochs"], pruned["accuracy"], pruned["exit_status"]) == (1, None, 0)
    assert "PRUNED  net3 on synthetic, seed 0, 1 of 2 epochs" in done.out
    assert "1 of 2 jobs finished, 1 pruned; " in done.out
    again = cli(*words, "sweep.prune=true", "resume=true")
    assert (again.status, again.out.count("finished already"), again.out.count("pruned already")) == (0, 1, 1)
    whole = cli(*words, "resume=true")
    assert (whole.status, whole.out.count("KEPT"), "2 of 2 jobs finished" in whole.out) == (0, 1, True)
    assert not list(tmp_path.rglob("set-aside-*"))


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("data.val_images=50",), "stops jobs of a sweep, and this is one run; add --multirun or sweep=lr"),
        (
            ("sweep=seeds", "data.val_images=50"),
            "these jobs differ in their seeds alone, which are measured, not chosen; leave it out",
        ),
        (("--multirun", "optimizer.lr=0.1,0.2"), "compares jobs on a hold-out, not on the test images; give data.val_images=5000"),
    ],
)
def test_what_cannot_be_pruned_is_refused(cli: Cli, tmp_path: Path, words: tuple[str, ...], line: str) -> None:
    assert one_error(cli(*TINY, *words, "sweep.prune=true"), 2) == f"sweep.prune=true: {line}"
    assert not list(tmp_path.iterdir())
