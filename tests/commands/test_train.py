"""The command line as a user meets it: exit statuses, one-line errors, sweeps, signals, names, other working directories."""

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
from hydra.errors import HydraException, MissingConfigException

from mnist_lightning import __version__
from mnist_lightning.config.explain import explain
from tests.conftest import TINY, Finished, finish, one_error, only_run, read_verdict, spawn

Cli = Callable[..., Finished]
CHECKOUT = Path(__file__).resolve().parents[2]


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
    assert rest[-1].split() == ["outputs", run_dir.relative_to(tmp_path).as_posix()]
    assert (run_dir / "run.log").exists()


@pytest.mark.slow
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


@pytest.mark.slow
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


def test_the_path_that_a_run_prints_can_be_given_back(cli: Cli, tmp_path: Path) -> None:
    printed = cli(*TINY, "+optimizer.dampening=0").out.split()[-1]
    again = cli(*TINY, "+optimizer.dampening=0", "resume=true", f"hydra.run.dir={printed}")
    assert (again.status, again.out.split()[:2]) == (0, ["KEPT", f"{printed}:"])
    assert cli("leaderboard", printed).status == 0
    assert cli(*TINY, "+optimizer.dampening=0", "resume=true").out.split()[1] == f"{printed}:"  # found by the same command
    assert only_run(tmp_path) == tmp_path / printed


# --- bad input ----------------------------------------------------------------------------------------------------------

BAD = {
    "model=net9": "there is no such choice; model must be one of net1, net2, net3, plan, shared, ",
    "experiment=exp4": "there is no such choice; experiment must be one of best, exp1, exp2, exp3, fast, net3_best, ",
    "optimizer=null": "there is no such choice; optimizer must be one of adamw, muon, sgd",
    "modell=net3": "there is no key modell; did you mean model?; +modell=net3 adds an argument of the class",
    "lr=0.1": "there is no key lr; did you mean optimizer.lr?; +lr=0.1 adds an argument of the class",
    "optimizer.learning_rate=1": "there is no key learning_rate; optimizer has lr, momentum, nesterov, weight_decay; +",
    "trainer.limit_train_batches=3": "there is no key limit_train_batches; trainer has max_epochs, accelerator, devices, "
    "strategy, precision, ...; +trainer.limit_train_batches=3 adds an argument of the class",
    "trainer.max_epochs=0": "input should be greater than or equal to 1",
    "optimizer.lr=[": "cannot be read as key=value (",
    "seed=${nowhere}": "Interpolation key 'nowhere' not found",
}


@pytest.mark.parametrize("override", BAD)
def test_bad_input_is_one_line_status_2_and_nothing_made(cli: Cli, tmp_path: Path, override: str) -> None:
    line = one_error(cli(override), 2)
    assert line.startswith(f"{override.split('=')[0]}")
    assert BAD[override] in line
    assert not list(tmp_path.iterdir())


def test_a_bad_value_anywhere_in_a_sweep_is_refused_before_the_first_job(cli: Cli, tmp_path: Path) -> None:
    assert one_error(cli("--multirun", *TINY, "optimizer.lr=0.1,-1"), 2).startswith("optimizer.lr=-1: ")
    assert one_error(cli("--multirun", *TINY, "model=net3,net9"), 2).startswith("model=net9: ")
    assert not list(tmp_path.iterdir())


def test_an_argument_that_the_trainer_does_not_take_is_status_2(cli: Cli) -> None:
    assert one_error(cli(*TINY, "+trainer.max_epoch=3"), 2).startswith("trainer.max_epoch=3: Trainer takes no max_epoch")


def test_overrides_may_stand_on_both_sides_of_an_option(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "own.yaml").write_text("# @package _global_\nseed: 7\n", "utf-8")
    done = cli(*TINY, "--config-dir", "mine", "experiment=own", "--cfg", "job", "gate.on_miss=warn")
    assert (done.status, "seed: 7\n" in done.out, "on_miss: warn" in done.out) == (0, True, True)


def test_a_wrong_flag_is_status_2(cli: Cli) -> None:
    assert cli("--mulltirun").status == 2


def test_an_output_directory_that_cannot_be_written_is_status_1(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "file/run" in one_error(cli(*TINY, "hydra.run.dir=file/run"), 1)


def test_full_errors_are_shown_where_they_are_asked_for_alone(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    assert one_error(cli("model=net9", full_error="0"), 2).startswith("model=net9: ")
    with pytest.raises(HydraException):
        cli("model=net9", full_error="1")


def test_no_mnist_and_no_network_is_status_1_and_three_lines(cli: Cli) -> None:
    done = cli("data.root=nowhere", "data.places=[elsewhere]", "data.mirrors=['http://127.0.0.1:9/']")
    assert done.status == 1
    assert [line.split(" ")[:3] for line in done.err.splitlines()] == [
        ["error:", "MNIST", "was"],
        ["error:", "looked", "in"],
        ["error:", "download", "failed:"],
    ]


def test_a_damaged_file_is_status_1_and_stays(cli: Cli, miniature: Path) -> None:
    path = miniature / "MNIST" / "raw" / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:100])
    done = cli(f"data.root={miniature}")
    assert (done.status, done.err.splitlines()[0][: len(str(path)) + 24]) == (1, f"error: {path}: cannot be read:")
    assert path.stat().st_size == 100


def test_a_launcher_that_is_not_installed_is_named_with_its_extra() -> None:
    error = MissingConfigException("", missing_cfg_file="hydra/launcher/ray", options=["basic"])
    assert explain(error, []) == (
        "hydra/launcher=ray: there is no such choice; hydra/launcher must be one of basic; "
        "ray comes with pip install 'mnist-lightning[ray]'"
    )


@pytest.mark.skipif(shutil.which("srun") is not None, reason="this machine has Slurm")
def test_a_launcher_that_fails_is_status_1(cli: Cli) -> None:
    line = one_error(cli("--multirun", *TINY, "seed=0,1", "hydra/launcher=submitit_slurm"), 1)
    assert line.startswith('RuntimeError: Could not detect "srun"')


# --- signals ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "status", "sweep"),
    [(signal.SIGINT, 130, ()), (signal.SIGTERM, 143, ("--multirun", "seed=0,1")), (signal.SIGHUP, 129, ())],
)
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
def test_a_run_imports_nothing_that_it_does_not_use(tmp_path: Path) -> None:
    """Lightning imports torchmetrics, which would import some of these."""
    code = (
        "import sys, runpy\n"
        "try: runpy.run_module('mnist_lightning', run_name='__main__')\n"
        "except SystemExit as end: assert end.code == 0, end.code\n"
        "print({'matplotlib', 'scipy', 'torchvision', 'pandas', 'onnx', 'flask'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code, *TINY]
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "set()"


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
    for name in ("conf/config.yaml", "inference/page/index.html", "inference/page/page.js", "study/templates/report.html"):
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


def test_version_names_what_a_report_of_a_fault_needs(cli: Cli) -> None:
    done = cli("--version")
    assert (done.status, done.err) == (0, "")
    assert [line.split()[0] for line in done.out.splitlines()] == ["mnist-lightning", "torch", "lightning"]
    assert done.out.splitlines()[0].split()[1] == __version__


def test_hydras_completion_knows_groups_and_choices(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    line = "mnist-lightning logger="
    monkeypatch.setenv("COMP_LINE", line)
    monkeypatch.setenv("COMP_POINT", str(len(line)))
    done = cli("-sc", "query=bash")
    assert done.out.split() == [f"logger={name}" for name in ("csv", "mlflow", "none", "tensorboard", "wandb")]
