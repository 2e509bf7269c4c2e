"""Sweeps on the command line: every job runs, names tell what varies, presets, resume, the sum of it all."""

import csv
import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

from mnist_lightning.config.compose import CONF_DIR
from tests.conftest import TINY, Finished, finish, one_error, spawn

Cli = Callable[..., Finished]


def test_a_sweep_runs_every_job_and_ends_with_the_worst_status(cli: Cli, tmp_path: Path) -> None:
    done = cli("--multirun", *TINY, "model=net1,net2,net3")
    assert (done.status, done.err) == (3, "")
    verdicts = {path.parent: json.loads(path.read_text("utf-8")) for path in tmp_path.rglob("verdict.json")}
    assert {v["model"]: v["status"] for v in verdicts.values()} == {"net1": "missed", "net2": "passed", "net3": "passed"}
    assert "3 of 3 jobs finished; leaderboard.md, .csv and .png in " in done.out
    [board] = tmp_path.rglob("leaderboard.md")
    assert board.read_text("utf-8").strip() in done.out
    names = [line.split()[1] for line in board.read_text("utf-8").splitlines() if "| Net" in line]
    assert sorted(names) == ["Net1", "Net2", "Net3"]


def test_an_error_in_one_job_is_worse_than_a_miss_and_stops_no_other(cli: Cli, tmp_path: Path) -> None:
    done = cli("--multirun", *TINY, "optimizer.lr=1e30,0.1", "gate.max_params=7000,8000")
    assert done.status == 1
    statuses = sorted(json.loads(path.read_text("utf-8"))["status"] for path in tmp_path.rglob("verdict.json"))
    assert statuses == ["error", "missed", "missed", "passed"]
    assert "3 of 4 jobs finished; leaderboard.md and .csv in " in done.out
    [board] = tmp_path.rglob("leaderboard.md")
    table, failures = board.read_text("utf-8").split("Not counted:")
    assert failures.count("NonFiniteLossError: the training loss is") == failures.count("run.log") == 1
    assert table.count("1e+30") == 2  # a row each; one without figures


def test_a_preset_sweeps_and_the_command_line_wins_over_it(cli: Cli, tmp_path: Path) -> None:
    done = cli(*TINY, "sweep=lr", "seed=5", "optimizer.lr=0.01,0.02")
    assert (done.status, done.err) == (0, "")
    jobs = sorted(str(path.parent.relative_to(tmp_path)) for path in tmp_path.rglob("verdict.json"))
    assert [re.sub(r"^outputs/sweeps/[^/]+/", "", job) for job in jobs] == ["net3/lr-0.01/seed-5", "net3/lr-0.02/seed-5"]
    assert len(list(tmp_path.rglob("leaderboard.csv"))) == 1


@pytest.mark.parametrize(("preset", "num_jobs"), [("lr", 16), ("seeds", 20), ("architecture", 15)])
def test_presets_of_sweeps_are_as_large_as_they_say(preset: str, num_jobs: int) -> None:
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        params = compose("config", overrides=[f"sweep={preset}"], return_hydra_config=True).hydra.sweeper.params
    swept = OverridesParser.create().parse_overrides([f"{key}={value}" for key, value in params.items()])
    assert math.prod(len(list(override.sweep_iterator())) for override in swept) == num_jobs


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["side_by_side", pytest.param("submitit_local", marks=pytest.mark.torture)])
def test_jobs_run_side_by_side_with_a_thread_each(tmp_path: Path, launcher: str) -> None:
    """In processes of their own, with the same table, one failing job among them; and the sweep resumes."""
    words = ("gate.on_miss=warn", "--multirun", "optimizer.lr=0.1,1e30", "seed=0,1", f"hydra/launcher={launcher}")
    command = (*TINY, "sweep.jobs=2", *words)
    done = finish(spawn(*command, cwd=tmp_path, OMP_NUM_THREADS=""))
    assert done.status == 1, done.err
    assert "2 of 4 jobs finished; " in done.out
    assert done.out.count("NonFiniteLossError: the training loss is") == 2
    [board] = tmp_path.rglob("leaderboard.md")
    verdicts = {path: json.loads(path.read_text("utf-8")) for path in tmp_path.rglob("verdict.json")}
    assert len(verdicts) == 4
    assert all(verdict["device"].endswith(", 1 thread") for verdict in verdicts.values())
    again = finish(spawn(*command, "resume=true", cwd=tmp_path))
    assert again.status == 1
    assert len(list(tmp_path.rglob("leaderboard.md"))) == 1
    kept = [path for path, verdict in verdicts.items() if verdict["status"] == "passed"]
    assert len(kept) == 2
    assert len(list(tmp_path.rglob("set-aside-1"))) == 2  # the failed ones ran again
    assert board.exists()


def test_a_sweep_directory_is_honoured_and_never_mixed(cli: Cli, tmp_path: Path) -> None:
    named = f"hydra.sweep.dir={tmp_path / 'mine'}"
    assert cli("--multirun", *TINY, "seed=0,1", named).status == 0
    assert len(list((tmp_path / "mine").rglob("verdict.json"))) == 2
    line = one_error(cli("--multirun", *TINY, "seed=2,3", named), 2)
    assert line.endswith("it holds a sweep already; go on with it by resume=true, or name another")
    assert len(list(tmp_path.rglob("verdict.json"))) == 2


@pytest.mark.slow
def test_jobs_are_named_by_what_varies_whatever_it_is(cli: Cli, tmp_path: Path) -> None:
    widths = "[8,16,8,12,16,20,16]"
    assert cli("--multirun", *TINY, "model.dropout=0,0.1", f"model.channels={widths},[4{widths[2:]}").status == 0
    [sweep] = (tmp_path / "outputs" / "sweeps").iterdir()
    names = [str(path.parent.relative_to(sweep)) for path in sweep.rglob("verdict.json")]
    assert len(names) == 4
    assert all(
        re.fullmatch(r"net3/lr-0.015/seed-0/model.dropout-0(.1)?\+model.channels-_[48]_16_8_12_16_20_16-[0-9a-f]{8}", name)
        for name in names
    )


def test_a_job_gives_the_same_result_alone_and_after_others(cli: Cli, tmp_path: Path) -> None:
    """Jobs of a sweep share a process: what one leaves behind must not reach the next."""
    assert cli("--multirun", *TINY, "seed=0,1", "hydra.sweep.dir=sweep").status == 0
    assert cli(*TINY, "seed=1", "hydra.run.dir=alone").status == 0
    in_sweep = tmp_path / "sweep" / "net3" / "lr-0.015" / "seed-1" / "metrics.csv"

    def losses(path: Path) -> list[str]:
        with path.open(newline="", encoding="utf-8") as file:
            return [row["test/loss"] for row in csv.DictReader(file)]

    assert losses(in_sweep) == losses(tmp_path / "alone" / "metrics.csv")


@pytest.mark.slow
def test_tensorboard_tells_runs_and_sweeps_apart(cli: Cli, tmp_path: Path) -> None:
    cli(*TINY)
    cli("--multirun", *TINY, "optimizer.lr=0.005,0.02", "seed=0,3")
    runs = EventMultiplexer().AddRunsFromDirectory(str(tmp_path / "outputs")).Reload().Runs()
    named = {re.sub(r"^sweeps/[^/]+/", "sweep: ", run) for run in runs}
    singles = {name for name in named if not name.startswith("sweep: ")}
    assert len(runs) == 5
    assert all(name.startswith("net3/lr-0.015/seed-0/data-synthetic+data.train_images-320+") for name in singles)
    assert named - singles == {f"sweep: net3/lr-{lr}/seed-{seed}" for lr in ("0.005", "0.02") for seed in (0, 3)}
    assert all("train/loss" in tags["scalars"] for tags in runs.values())


# --- directories of the user's own --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_hydras_own_idioms_of_directories_hold(cli: Cli, tmp_path: Path) -> None:
    idioms = ("hydra.sweep.subdir=${hydra:job.override_dirname}", "hydra.output_subdir=.hydra", "hydra.job.chdir=true")
    words = ("--multirun", *TINY, "seed=0,1", "hydra.sweep.dir=sweep", *idioms)
    done = cli(*words)
    assert (done.status, done.err) == (0, "")
    assert "2 of 2 jobs finished; leaderboard.md and .csv in sweep" in done.out
    assert len({path.parent for path in tmp_path.rglob("verdict.json")}) == 2
    assert cli(*words, "resume=true").out.count("KEPT  sweep/") == 2


@pytest.mark.parametrize(
    ("words", "directory"),
    [
        (("seed=0,1", "hydra.sweep.subdir=same"), "same"),
        (("seed=0,1", "hydra.sweep.subdir=${model._target_}"), "mnist_lightning.models.Net3"),
        (("seed=0,0",), "net3/lr-0.015/seed-0"),
    ],
)
def test_two_jobs_with_one_directory_are_refused_before_the_first(
    cli: Cli, tmp_path: Path, words: tuple[str, ...], directory: str
) -> None:
    line = one_error(cli("--multirun", *TINY, *words), 2)
    assert line == (
        f"hydra.sweep.subdir: the jobs 0 and 1 have one directory, {directory}; leave out what is asked for twice, or add "
        "${hydra:job.num} to it"
    )
    assert not list(tmp_path.iterdir())


def test_a_directory_that_cannot_be_named_is_refused_before_the_first_job(cli: Cli, tmp_path: Path) -> None:
    assert one_error(cli("--multirun", *TINY, "seed=0,1", "hydra.sweep.subdir=${nowhere}"), 2).startswith(
        "hydra.sweep.subdir: "
    )
    assert not list(tmp_path.iterdir())
