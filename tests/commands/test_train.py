"""The command line as a user meets it: exit statuses, one-line errors, sweeps, signals, names, other working directories."""

import csv
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra.errors import MissingConfigException
from omegaconf import DictConfig
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

from mnist_lightning.config.errors import ConfigError
from mnist_lightning.config.explain import explain
from mnist_lightning.study import sweep
from tests.conftest import TINY, Finished, finish, only_run, read_verdict, spawn

Cli = Callable[..., Finished]
CHECKOUT = Path(__file__).resolve().parent.parent


def one_error(done: Finished, status: int) -> str:
    """The single line of an error; nothing else was said."""
    assert done.status == status, done.err
    [line] = done.err.splitlines()
    assert line.startswith("error: ")
    return line.removeprefix("error: ")


# --- a run --------------------------------------------------------------------------------------------------------------


def test_a_run_prints_a_line_per_epoch_the_verdict_and_where_it_went(cli: Cli, tmp_path: Path) -> None:
    done = cli(*TINY, "trainer.max_epochs=2")
    assert (done.status, done.err) == (0, "")
    first, second, verdict, *rest = done.out.splitlines()
    for number, line in ((1, first), (2, second)):
        pattern = rf"epoch {number}/2  train loss [\d.]+ acc [\d.]+ %  test loss [\d.]+ acc [\d.]+ %  lr [\d.]+  [\d.]+ s"
        assert re.fullmatch(pattern, line)
    assert re.fullmatch(r"NOT JUDGED  net3 on synthetic, seed 0, 2 epochs, \d+ s", verdict)
    run_dir = only_run(tmp_path / "outputs")
    assert rest[-1].split() == ["outputs", str(run_dir)]
    assert (run_dir / "run.log").exists()


@pytest.mark.skipif(shutil.which("script") is None, reason="needs script(1) for a terminal")
def test_a_terminal_gets_a_progress_bar(tmp_path: Path) -> None:
    command = shlex.join([sys.executable, "-m", "mnist_lightning", *TINY, "data.train_images=2000", "trainer.max_epochs=2"])
    shown = subprocess.run(
        ["script", "-qec", f"stty rows 40 cols 100; {command}", "/dev/null"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert re.search(r"epoch 1/2:\s+\d+%\|.*\| 20/32 \[", shown)
    assert re.search(r"epoch 2/2  train loss ", shown)
    assert "Validation" not in shown


def test_a_missed_gate_is_status_3_with_a_verdict_and_no_stack_trace(cli: Cli, tmp_path: Path) -> None:
    done = cli(*TINY, "model=net1")
    assert (done.status, done.err) == (3, "")
    assert "reason      net1 has 10,970 trainable parameters; gate.max_params=8000 wants fewer" in done.out
    assert read_verdict(only_run(tmp_path))["exit_status"] == 3


def test_a_miss_that_only_warns_is_status_0(cli: Cli, tmp_path: Path) -> None:
    done = cli(*TINY, "model=net1", "gate.on_miss=warn")
    assert done.status == 0
    assert "MISSED  net1" in done.out
    assert read_verdict(only_run(tmp_path))["passed"] is False


def test_an_accuracy_below_the_target_on_mnist_is_status_3(cli: Cli, miniature: Path) -> None:
    done = cli(f"data.root={miniature}", "trainer.max_epochs=1", "trainer.accelerator=cpu")
    assert (done.status, done.err) == (3, "")
    assert re.search(r"reason      test accuracy 0\.\d{4} by the rule 'last' is below gate.min_accuracy=0.994", done.out)


def test_a_crash_is_status_1_with_its_traceback_in_the_log_alone(cli: Cli, tmp_path: Path) -> None:
    done = cli(*TINY, "optimizer.lr=1e30")
    line = one_error(done, 1)
    assert line.startswith("NonFiniteLossError: the training loss is nan at epoch 1, step")
    log = (only_run(tmp_path) / "run.log").read_text("utf-8")
    assert "Traceback (most recent call last)" in log
    assert "NonFiniteLossError" in log


def test_two_launches_in_one_second_have_their_own_directories(tmp_path: Path) -> None:
    for process in [spawn(*TINY, cwd=tmp_path) for _ in range(3)]:
        assert finish(process).status == 0
    assert len(list(tmp_path.rglob("verdict.json"))) == 3


def test_a_named_run_directory_is_honoured_and_never_reused(cli: Cli, tmp_path: Path) -> None:
    named = f"hydra.run.dir={tmp_path / 'mine'}"
    assert cli(*TINY, named).status == 0
    before = (tmp_path / "mine" / "verdict.json").read_bytes()
    assert "the directory holds a run already" in one_error(cli(*TINY, named), 2)
    assert (tmp_path / "mine" / "verdict.json").read_bytes() == before


# --- bad input ----------------------------------------------------------------------------------------------------------

BAD = {
    "model=net9": "model=net9: there is no such choice; model must be one of net1, net2, net3, shared, two_pool",
    "experiment=exp4": "experiment=exp4: there is no such choice; experiment must be one of best, exp1, exp2, exp3, fast, "
    "net3_best, rotation, tiny",
    "optimizer=null": "optimizer=null: there is no such choice; optimizer must be one of adamw, muon, sgd",
    "modell=net3": "modell=net3: there is no key modell; there are augmentation, ckpt_path, cuda_graph, data, experiment, "
    "gate, label_smoothing, model, optimizer, pictures, resume, scheduler, seed, sweep, trainer (did you mean model?)",
    "optimizer.learning_rate=0.1": "optimizer.learning_rate=0.1: there is no key optimizer.learning_rate; optimizer has lr, "
    "momentum, nesterov, weight_decay (did you mean optimizer.lr?)",
    "trainer.max_epochs=0": "trainer.max_epochs=0: trainer.max_epochs must be an integer of at least 1; "
    "try trainer.max_epochs=15",
    "optimizer.lr=nan": "optimizer.lr=nan: optimizer.lr must be a number above 0, at most 1e30; try optimizer.lr=0.015",
    "ckpt_path=runs/last.ckpt": "ckpt_path=runs/last.ckpt: ckpt_path must be last, to go on as by resume=true with the same "
    "command's newest run or that in hydra.run.dir, or null; try ckpt_path=last",
    "gate.min_accuracy=99.4": "gate.min_accuracy=99.4: gate.min_accuracy must be a fraction above 0 and at most 1 "
    "(99.4 % is 0.994); try gate.min_accuracy=0.994",
    "optimizer.lr=[": "optimizer.lr=[: cannot be read as key=value (",
}


@pytest.mark.parametrize("override", BAD)
def test_bad_input_is_one_line_status_2_and_nothing_made(cli: Cli, tmp_path: Path, override: str) -> None:
    assert one_error(cli(override), 2).startswith(BAD[override])
    assert not list(tmp_path.iterdir())


def test_a_bad_value_anywhere_in_a_sweep_is_refused_before_the_first_job(cli: Cli, tmp_path: Path) -> None:
    assert one_error(cli("--multirun", *TINY, "optimizer.lr=0.1,-1"), 2).startswith("optimizer.lr=-1: ")
    assert one_error(cli("--multirun", *TINY, "model=net3,net9"), 2).startswith("model=net9: ")
    assert not list(tmp_path.iterdir())


def test_an_argument_that_the_trainer_does_not_take_is_status_2(cli: Cli) -> None:
    assert one_error(cli(*TINY, "+trainer.max_epoch=3"), 2).startswith("trainer.max_epoch=3: Trainer takes no max_epoch")


def test_a_wrong_flag_is_status_2(cli: Cli) -> None:
    assert cli("--mulltirun").status == 2


@pytest.mark.parametrize("where", ["hydra.run.dir=file/run", "hydra.run.dir=/proc/run"])
def test_an_output_directory_that_cannot_be_written_is_status_1(cli: Cli, tmp_path: Path, where: str) -> None:
    (tmp_path / "file").touch()
    line = one_error(cli(*TINY, where), 1)
    assert line.startswith("the output directory cannot be written: ")
    assert where.removeprefix("hydra.run.dir=").removesuffix("/run") in line
    assert line.endswith("name another with hydra.run.dir=DIR or hydra.sweep.dir=DIR")


def test_no_mnist_and_no_network_is_status_1_and_names_the_way_out(cli: Cli, tmp_path: Path) -> None:
    line = one_error(cli("data.root=nowhere", "data.places=[elsewhere]", "data.mirrors=['http://127.0.0.1:9/']"), 1)
    assert line.startswith("MNISTNotFoundError: MNIST was not found in nowhere/MNIST/raw, ")
    assert "elsewhere/MNIST/raw" in line
    assert "train on drawn digits with data=synthetic" in line


def test_a_damaged_file_is_status_1_and_stays(cli: Cli, miniature: Path) -> None:
    path = miniature / "MNIST" / "raw" / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:100])
    line = one_error(cli(f"data.root={miniature}"), 1)
    assert line.startswith(f"MNISTFileError: {path}: expected a whole gzip file, found 100 bytes that do not unpack")
    assert path.stat().st_size == 100


def test_a_launcher_that_is_not_installed_is_named_with_its_extra() -> None:
    error = MissingConfigException("", missing_cfg_file="hydra/launcher/ray", options=["basic"])
    assert explain(error, []) == (
        "hydra/launcher=ray: there is no such choice; hydra/launcher must be one of basic; "
        "ray comes with pip install 'mnist-lightning[ray]'"
    )


@pytest.mark.skipif(shutil.which("srun") is not None, reason="this machine has Slurm")
def test_a_launcher_that_fails_is_status_1(cli: Cli) -> None:
    line = one_error(cli(*TINY, "--multirun", "seed=0,1", "hydra/launcher=submitit_slurm"), 1)
    assert line.startswith('hydra/launcher=submitit_slurm: the launcher has failed: RuntimeError: Could not detect "srun"')


# --- sweeps -------------------------------------------------------------------------------------------------------------


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
    assert [re.sub(r"^outputs/sweeps/[^/]+/", "", job) for job in jobs] == ["net3/lr=0.01/seed=5", "net3/lr=0.02/seed=5"]
    assert len(list(tmp_path.rglob("leaderboard.csv"))) == 1


@pytest.mark.parametrize(("preset", "num_jobs"), [("lr", 16), ("seeds", 20), ("architecture", 15)])
def test_presets_of_sweeps_are_as_large_as_they_say(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, preset: str, num_jobs: int
) -> None:
    """All jobs are checked before the first: a rule that none keeps counts them without running any."""
    checked = []

    def refuse(cfg: DictConfig) -> None:
        checked.append((cfg.model._target_, cfg.optimizer.lr, cfg.seed))
        raise ConfigError("refused")

    monkeypatch.setattr(sweep, "check", refuse)
    assert one_error(cli(*TINY, f"sweep={preset}"), 2) == "refused"
    assert len(checked) == len(set(checked)) == num_jobs
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_jobs_run_side_by_side_with_a_thread_each(tmp_path: Path, launcher: str) -> None:
    """In processes of their own, with the same table, one failing job among them; and the sweep resumes."""
    command = (*TINY, "gate.on_miss=warn", "--multirun", "optimizer.lr=0.1,1e30", "seed=0,1", f"hydra/launcher={launcher}")
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
    assert line.endswith("the directory holds a sweep already; go on with it by resume=true, or name another")
    assert len(list(tmp_path.rglob("verdict.json"))) == 2


def test_jobs_are_named_by_what_varies_whatever_it_is(cli: Cli, tmp_path: Path) -> None:
    widths = "[8,16,8,12,16,20,16]"
    assert cli("--multirun", *TINY, "model.dropout=0,0.1", f"model.channels={widths},[4{widths[2:]}").status == 0
    [sweep] = (tmp_path / "outputs" / "sweeps").iterdir()
    names = [str(path.parent.relative_to(sweep)) for path in sweep.rglob("verdict.json")]
    assert len(names) == 4
    assert all(
        re.fullmatch(r"net3/lr=0.015/seed=0/model.dropout=0(.1)?,model.channels=\[[48],16,8,12,16,20,16\]", name)
        for name in names
    )


def test_a_job_gives_the_same_result_alone_and_after_others(cli: Cli, tmp_path: Path) -> None:
    """Jobs of a sweep share a process: what one leaves behind must not reach the next."""
    assert cli("--multirun", *TINY, "seed=0,1", "hydra.sweep.dir=sweep").status == 0
    assert cli(*TINY, "seed=1", "hydra.run.dir=alone").status == 0
    in_sweep = tmp_path / "sweep" / "net3" / "lr=0.015" / "seed=1" / "metrics.csv"

    def losses(path: Path) -> list[str]:
        with path.open(newline="", encoding="utf-8") as file:
            return [row["test/loss"] for row in csv.DictReader(file)]

    assert losses(in_sweep) == losses(tmp_path / "alone" / "metrics.csv")


def test_tensorboard_tells_runs_and_sweeps_apart(cli: Cli, tmp_path: Path) -> None:
    cli(*TINY)
    cli("--multirun", *TINY, "optimizer.lr=0.005,0.02", "seed=0,3")
    runs = EventMultiplexer().AddRunsFromDirectory(str(tmp_path / "outputs")).Reload().Runs()
    named = {re.sub(r"^sweeps/[^/]+/", "sweep: ", run) for run in runs}
    singles = {name for name in named if not name.startswith("sweep: ")}
    assert len(runs) == 5
    assert [re.sub(r"/\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d-[0-9a-f]{6}$", "", name) for name in singles] == [
        f"net3/lr=0.015/seed=0/{','.join(option for option in TINY if not option.startswith('pictures'))}"
    ]
    assert named - singles == {f"sweep: net3/lr={lr}/seed={seed}" for lr in ("0.005", "0.02") for seed in (0, 3)}
    assert all("train/loss" in tags["scalars"] for tags in runs.values())


# --- signals ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("sweep", [(), ("--multirun", "seed=0,1")], ids=["run", "sweep"])
def test_a_signal_ends_with_its_status_and_an_interrupted_verdict(
    tmp_path: Path, number: signal.Signals, status: int, sweep: tuple[str, ...]
) -> None:
    process = spawn(*TINY, "trainer.max_epochs=15", "data.train_images=3000", *sweep, cwd=tmp_path)
    deadline = time.monotonic() + 90
    while not list(tmp_path.rglob("last.ckpt")):  # an epoch is over
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(number)
    done = finish(process, timeout_s=30)
    assert done.status == status
    assert "Traceback" not in done.err
    verdict = read_verdict(only_run(tmp_path))
    assert (verdict["status"], verdict["passed"], verdict["exit_status"]) == ("interrupted", False, status)
    assert verdict["reasons"] == [f"stopped by {number.name}"]
    assert 1 <= verdict["epochs"] < 15
    assert "INTERRUPTED" in done.out


# --- where it runs ------------------------------------------------------------------------------------------------------


def test_help_and_errors_do_not_wait_for_torch(tmp_path: Path) -> None:
    code = (
        "import sys, runpy; sys.argv[1:] = [{!r}]\n"
        "try: runpy.run_module('mnist_lightning', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "assert not {{'torch', 'lightning'}} & set(sys.modules), 'torch was imported'"
    )
    for argument in ("--help", "--cfg=job", "optimizer.lr=-1"):
        subprocess.run([sys.executable, "-c", code.format(argument)], cwd=tmp_path, check=True, capture_output=True)


@pytest.mark.slow
def test_an_installed_wheel_works_without_the_checkout(tmp_path: Path) -> None:
    """Builds the wheel, installs it alone into a fresh environment beside this one's libraries, and runs it elsewhere."""
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--quiet",
            "--no-deps",
            "--no-build-isolation",
            "--wheel-dir",
            str(tmp_path),
            str(CHECKOUT),
        ],
        check=True,
        capture_output=True,
    )
    [wheel] = tmp_path.glob("mnist_lightning-*.whl")
    target = tmp_path / "site"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), str(wheel)],
        check=True,
        capture_output=True,
    )
    for name in ("conf/config.yaml", "page/index.html", "page/page.js", "page/page.css", "page/icon.svg"):
        assert (target / "mnist_lightning" / name).exists()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    # PYTHONPATH comes before the editable install of the checkout.
    done = finish(spawn(*TINY, cwd=elsewhere, PYTHONPATH=str(target)))
    assert done.status == 0, done.err
    where = subprocess.run(
        [sys.executable, "-c", "import mnist_lightning.config.compose as c; print(c.CONF_DIR)"],
        cwd=elsewhere,
        env=os.environ | {"PYTHONPATH": str(target)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(where.stdout.strip()) == target / "mnist_lightning" / "conf"
