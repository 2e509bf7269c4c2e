"""A search whose workers are killed goes on by the same command: no trial is lost, and none counts twice."""

import csv
import multiprocessing
import os
import random
import sys
import time
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from mnist_lightning.__main__ import main
from mnist_lightning.search.trials import DATABASE, SIZE
from tests.conftest import ALONE, read_verdict

WORDS = (*ALONE, "trainer.max_epochs=3", "data.val_images=100", "logger=none", "search.name=s")
WORDS += ("search.prune_after=[1]", "search.plan.width={low:4,high:6}")


def worker(cwd: Path, num_trials: int) -> None:
    """The command in a process of its own."""
    os.chdir(cwd)
    output = (cwd / "output.txt").open("a")
    os.dup2(output.fileno(), 1)
    os.dup2(output.fileno(), 2)
    sys.argv = ["mnist_lightning", "search", *WORDS, f"search.trials={num_trials}"]
    main()


def start(cwd: Path, num_trials: int) -> BaseProcess:
    context = multiprocessing.get_context("forkserver")  # has imported torch once, so that a worker is there in a moment
    context.set_forkserver_preload([__name__, "mnist_lightning.commands.search", "mnist_lightning.search.worker"])
    process = context.Process(target=worker, args=(cwd, num_trials))
    process.start()
    return process


@pytest.mark.slow
@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.torture)])
def test_a_search_survives_kills_of_its_workers(kills: int, tmp_path: Path) -> None:
    draw = random.Random(int(os.environ.get("FAULT_SEED", "0")))
    num_trials = 4 + kills
    workers = [start(tmp_path, num_trials), start(tmp_path, num_trials)]
    for number in range(kills):
        time.sleep(draw.uniform(0.1, 4))
        victim = workers[number % 2]
        victim.kill()
        victim.join()
        workers[number % 2] = start(tmp_path, num_trials)
    for process in workers:
        process.join(timeout=200)
    said = (tmp_path / "output.txt").read_text("utf-8")
    assert [process.exitcode for process in workers] == [0, 0], said
    assert_each_counts_once(tmp_path / "outputs" / "search" / "s", num_trials)


def assert_each_counts_once(directory: Path, num_trials: int) -> None:
    [study] = optuna.get_all_study_names(f"sqlite:///{directory / DATABASE}")
    trials = optuna.load_study(study_name=study, storage=f"sqlite:///{directory / DATABASE}").trials
    assert [trial for trial in trials if trial.state == TrialState.RUNNING] == []
    trained = {trial.number: trial.user_attrs["acc"] for trial in trials if SIZE in trial.user_attrs}
    assert len(trained) == num_trials
    runs: Sequence[Path] = sorted(directory.glob("trial-*"))
    assert {int(run.name.removeprefix("trial-")): read_verdict(run)["last_accuracy"] for run in runs} == trained
    with (directory / "search.csv").open(encoding="utf-8") as file:
        assert {int(row["trial"]): float(row["accuracy"]) for row in csv.DictReader(file)} == trained
