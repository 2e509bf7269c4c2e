"""Jobs of a sweep that stop early: by the curves of the others, on a hold-out, and kept by a resume."""

import statistics
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mnist_lightning.training import pruning
from mnist_lightning.training.pruning import Pruned, Pruning, sweep_of
from tests.conftest import TINY, Finished, one_error, read_verdict

Cli = Callable[..., Finished]


def leave_curve(run: Path, *accuracies: float) -> Path:
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(f"lr: {run.parent.name}\nseed: {run.name}\n", "utf-8")
    rows = [f"{epoch},{accuracy}" for epoch, accuracy in enumerate(accuracies, 1)]
    (run / "metrics.csv").write_text("\n".join(["epoch,val/acc", *rows, ""]), "utf-8")
    return run


def begin_epoch(run: Path, finished: int, max_epochs: int = 5) -> None:
    trainer: Any = SimpleNamespace(current_epoch=finished, max_epochs=max_epochs)
    sweep = sweep_of(run)
    assert sweep
    Pruning(run, sweep).on_train_epoch_start(trainer, trainer)


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Three configurations that have come to 95.1, 95.2 and 95.3 %."""
    (tmp_path / "sweep.json").touch()
    for number in range(3):
        leave_curve(tmp_path / f"lr-{number}" / "0", 0.90, 0.951 + number / 1000)
    leave_curve(tmp_path / "lr-0" / "0" / "set-aside-1", 1.0, 1.0)
    leave_curve(tmp_path / "lr-0" / "0" / "csv", 1.0, 1.0)
    (tmp_path / "lr-0" / "0" / "csv" / "config.yaml").unlink()  # a logger's
    return tmp_path


def test_a_job_below_the_median_of_the_others_stops_before_its_next_epoch(sweep: Path) -> None:
    mine = leave_curve(sweep / "lr-3" / "0", 0.92, 0.91, 0.91)
    for finished in (0, 1, 3):  # above them; and none has come as far as the third
        begin_epoch(mine, finished)
    begin_epoch(mine, 2, max_epochs=15)  # it is early yet
    line = "at best 92.00 % after epoch 2, is below the median of the sweep's other configurations, 95.20 %"
    with pytest.raises(Pruned, match=line):
        begin_epoch(mine, 2)


def test_a_seed_is_judged_with_the_others_of_its_configuration(sweep: Path) -> None:
    unlucky, lucky = (leave_curve(sweep / "lr-3" / seed, 0.9, best) for seed, best in (("0", 0.94), ("1", 0.97)))
    begin_epoch(unlucky, 2)  # 95.5 % in the mean
    (lucky / "metrics.csv").unlink()
    with pytest.raises(Pruned, match=r"at best 94.00 % after epoch 2"):
        begin_epoch(unlucky, 2)


def test_of_two_configurations_none_is_stopped(sweep: Path) -> None:
    (sweep / "lr-2" / "0" / "metrics.csv").unlink()
    begin_epoch(leave_curve(sweep / "lr-3" / "0", 0.1, 0.1), 2)


@pytest.mark.slow
def test_a_pruned_job_says_so_and_is_kept_until_nothing_is_pruned(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "NUM_OTHERS", 1)
    # The job that comes second lies below the first.
    monkeypatch.setattr(pruning, "statistics", SimpleNamespace(mean=statistics.mean, median=lambda figures: 2.0))
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
        (
            ("--multirun", "optimizer.lr=0.1,0.2"),
            "compares jobs on a hold-out, not on the test images; give data.val_images=5000",
        ),
    ],
)
def test_what_cannot_be_pruned_is_refused(cli: Cli, tmp_path: Path, words: tuple[str, ...], line: str) -> None:
    assert one_error(cli(*TINY, *words, "sweep.prune=true"), 2) == f"sweep.prune=true: {line}"
    assert not list(tmp_path.iterdir())
