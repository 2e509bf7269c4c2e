"""What a cell calls: runs of their own, resumes, interrupts that leave a kernel, errors in a line."""

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf.errors import ReadonlyConfigError

import mnist_lightning as ml
from mnist_lightning.config.compose import compose_config
from mnist_lightning.config.errors import ConfigError
from mnist_lightning.notebook.cell import Stopped
from tests.conftest import TINY, assert_same_weights, at_call, throw

TWO_EPOCHS = (*TINY, "trainer.max_epochs=2")


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])


def test_importing_the_package_imports_no_library() -> None:
    slow = {"torch", "lightning", "hydra", "pandas"}
    code = f"import sys, mnist_lightning as ml; print({slow} & {{*sys.modules}}, hasattr(ml, 'x'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set() False"


def test_a_configuration_is_the_command_lines_and_is_read_only() -> None:
    cfg = ml.compose("model=net2", "optimizer.lr=0.02")
    assert cfg.values == compose_config("model=net2", "optimizer.lr=0.02")
    assert cfg.optimizer.lr == 0.02
    assert "lr: 0.02" in cfg._repr_html_()
    with pytest.raises(ReadonlyConfigError):
        cfg.optimizer.lr = 0.1


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("model=net9", "model=net9: there is no such choice"),
        ("optimizer.lr=-1", "optimizer.lr=-1: input should be greater than 0"),
        ("lr=1", "did you mean optimizer.lr?"),
        ("seed=0,1", "seed=0,1: these are several runs; give the same words to sweep(...)"),
        ("sweep=lr", "sweep=lr: these are several runs"),
        ("trainer=ddp", "trainer=ddp: its processes need the command line"),
    ],
)
def test_what_is_refused_is_told_in_a_line_also_by_ipython(override: str, line: str) -> None:
    with pytest.raises(ConfigError) as refused:
        ml.compose(override)
    [shown] = refused.value._render_traceback_()
    assert line in shown
    assert len(shown) <= 200


@pytest.mark.parametrize("word", ["optimizer.lr=-1,0.1", "modell=net1,net2"])
def test_a_sweep_is_refused_before_its_first_job(word: str) -> None:
    with pytest.raises(ConfigError, match=r"optimizer.lr=-1: |did you mean model\?"):
        ml.sweep(*TINY, word)
    assert not list(Path().rglob("config.yaml"))


def test_running_twice_makes_two_equal_runs_and_puts_the_logging_back() -> None:
    handlers, cfg = logging.getLogger().handlers[:], ml.compose(*TINY)
    first, second = ml.run(cfg), ml.run(cfg)
    assert first.directory.parent == second.directory.parent == Path("outputs/net3/lr-0.015/seed-0") / first.directory.parts[-2]
    assert first.directory != second.directory
    assert_same_weights(first.directory, second.directory)
    assert (first.directory / "run.log").exists()
    assert logging.getLogger().handlers == handlers


def test_a_missed_gate_is_a_verdict_and_no_error() -> None:
    run = ml.run(ml.compose(*TINY, "gate.max_params=10"))
    assert run.verdict.status == "missed"
    assert "gate.max_params=10" in run._repr_html_()
    assert run.epochs.empty
    with pytest.raises(ConfigError, match="no epoch was finished"):
        run.curves()
    with pytest.raises(ConfigError, match=r"there is no last\.ckpt"):
        run.mistakes()


def test_an_interrupted_cell_leaves_a_run_that_resumes_bit_for_bit_and_a_kernel_that_can_be_interrupted() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a process in the background has not
    cfg, handler = ml.compose(*TWO_EPOCHS), signal.getsignal(signal.SIGINT)
    straight = ml.run(cfg)
    other = ml.compose(*TWO_EPOCHS, "hydra.run.dir=stopped")
    # In the second of two epochs of five steps; by Python's own handler, as in a kernel.
    with at_call(7, lambda: os.kill(os.getpid(), signal.SIGINT)), pytest.raises(Stopped, match="resume=True goes on"):
        ml.run(other)
    stopped = ml.Run("stopped").verdict
    assert (stopped.status, stopped.reasons, stopped.exit_status) == ("interrupted", ["stopped by SIGINT"], 130)
    assert stopped.epochs == 1
    assert signal.getsignal(signal.SIGINT) is handler
    ml.run(ml.compose(*TWO_EPOCHS, "hydra.run.dir=stopped"), resume=True)
    assert_same_weights(straight.directory, Path("stopped"))
    assert list(ml.Run("stopped").epochs["test/acc"]) == list(straight.epochs["test/acc"])


def test_resume_goes_on_with_the_newest_run_of_the_same_configuration() -> None:
    cfg = ml.compose(*TWO_EPOCHS)
    with at_call(7, lambda: throw(KeyboardInterrupt())), pytest.raises(Stopped):
        ml.run(cfg)
    with at_call(6, lambda: throw(RuntimeError("one epoch was left"))):
        run = ml.run(cfg, resume=True)
    assert run.verdict.epochs == 2
    assert ml.run(cfg, resume=True).directory == run.directory  # kept


def test_a_run_inside_the_handling_of_an_interrupt_is_not_interrupted_itself() -> None:
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert ml.run(ml.compose(*TINY)).verdict.status == "passed"


def test_an_error_of_the_run_is_the_error_itself_and_in_its_log() -> None:
    with at_call(1, lambda: throw(ZeroDivisionError("mine"))), pytest.raises(ZeroDivisionError, match="mine"):
        ml.run(ml.compose(*TINY, "hydra.run.dir=failed"))
    assert "ZeroDivisionError: mine" in Path("failed/run.log").read_text("utf-8")
    assert ml.Run("failed").verdict.status == "error"


def test_a_file_that_was_edited_between_two_cells_is_imported_anew() -> None:
    text = "from torch import nn\ndef net() -> nn.Module:\n    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10{}))\n"
    Path("edited.py").write_text(text.format(""), "utf-8")
    cfg = ml.compose(*TINY, "model._target_=edited.net")
    assert ml.run(cfg).verdict.params == 7850
    Path("edited.py").write_text(text.format(", bias=False"), "utf-8")
    assert ml.run(cfg, resume=True).verdict.params == 7840


def test_a_class_of_a_cell_is_refused_since_no_run_could_be_repeated_by_it() -> None:
    with pytest.raises(ConfigError, match=r"%%writefile NAME\.py") as refused:
        ml.run(ml.compose(*TINY, "model._target_=__main__.Net"))
    assert len(str(refused.value)) <= 200


@pytest.mark.slow
def test_an_interrupted_sweep_ends_at_once_and_goes_on_where_it_was() -> None:
    words = (*TINY, "seed=0,1,2")
    with at_call(7, lambda: throw(KeyboardInterrupt())), pytest.raises(Stopped):  # in the second job of five steps each
        ml.sweep(*words)
    with at_call(11, lambda: throw(RuntimeError("two jobs were left"))):
        sweep = ml.sweep(*words, resume=True)
    assert [run.verdict.status for run in sweep.runs] == ["passed"] * 3
    assert len(list(Path("outputs/sweeps").iterdir())) == 1
