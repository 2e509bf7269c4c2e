"""A run or a sweep goes on where it stopped, whatever stopped it, and ends as if nothing had."""

import json
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mnist_lightning.config.check import check
from mnist_lightning.config.compose import compose_config
from mnist_lightning.config.errors import ConfigError
from mnist_lightning.evaluation.run_directories import LOCK
from mnist_lightning.evaluation.verdict import Verdict
from mnist_lightning.training import fit
from mnist_lightning.training.fit import run
from mnist_lightning.training.resume import Taken, take_up
from mnist_lightning.training.signals import Interrupted
from tests.conftest import (
    TINY,
    Finished,
    assert_same_weights,
    at_call,
    finish,
    killed_at,
    read_rows,
    read_verdict,
    spawn,
    throw,
    wait_for,
)

FOUR = (*TINY, "trainer.max_epochs=4", "trainer.accelerator=cpu", "model.dropout=0.1", "gate.on_miss=warn")
IN_THE_THIRD = 12  # step, the second of an epoch's five


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(("optimizer=muon", "augmentation.anneal_from=0"), marks=pytest.mark.slow),
        ("optimizer=adamw", "augmentation=published", "data.val_images=50"),
    ],
    ids=["muon", "hold-out"],
)
def test_two_and_two_epochs_are_four(tmp_path: Path, options: tuple[str, ...]) -> None:
    """Bit-equal weights, the same rows, the same verdict: order, augmentation, dropout, schedule and gate all go on."""
    straight = run(compose_config(*FOUR, *options), tmp_path / "straight")
    with killed_at(IN_THE_THIRD):
        run(compose_config(*FOUR, *options), tmp_path / "resumed")
    assert len(read_rows(tmp_path / "resumed")) == 2
    resumed = run(compose_config(*FOUR, *options, "resume=true"), tmp_path / "resumed")
    assert_same_weights(tmp_path / "resumed", tmp_path / "straight")
    assert read_rows(tmp_path / "resumed") == read_rows(tmp_path / "straight")
    assert vars(resumed) | {"seconds": 0} == vars(straight) | {"seconds": 0}
    assert not list(tmp_path.rglob("set-aside-*"))


def test_a_row_without_its_checkpoint_is_written_again(half: Path, tmp_path: Path) -> None:
    """Killed between the row of an epoch and its checkpoint."""
    shutil.copytree(half, tmp_path, dirs_exist_ok=True)
    with (tmp_path / "metrics.csv").open("a", encoding="utf-8") as file:
        file.write("3,30,9,9,9,9,9,9\n")
    run(compose_config(*FOUR, "resume=true"), tmp_path)
    assert [row["epoch"] for row in read_rows(tmp_path)] == ["1", "2", "3", "4"]
    assert read_rows(tmp_path)[2]["train/loss"] != "9"


def test_a_run_killed_between_its_last_checkpoint_and_its_verdict_gets_the_same(tmp_path: Path) -> None:
    first = run(compose_config(*TINY), tmp_path)
    (tmp_path / "verdict.json").unlink()
    again = run(compose_config(*TINY, "resume=true"), tmp_path)
    assert vars(first) | {"seconds": 0} == vars(again) | {"seconds": 0}
    assert len(read_rows(tmp_path)) == 1


def test_a_finished_run_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = run(compose_config(*TINY), tmp_path)
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    capsys.readouterr()
    assert run(compose_config(*TINY, "resume=true"), tmp_path).accuracy == first.accuracy
    assert capsys.readouterr().out == f"KEPT  {tmp_path}: finished already, by the same configuration and code\n"
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == stamps


def test_a_missed_run_is_kept_with_its_status(tmp_path: Path) -> None:
    strict = (*(option for option in FOUR if not option.startswith("gate.on_miss")), "gate.max_params=100")
    with pytest.raises(fit.GateError):
        run(compose_config(*strict), tmp_path)
    assert run(compose_config(*strict, "resume=true"), tmp_path).exit_status == 3


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was killed after two of its four epochs; tests only copy it."""
    directory = tmp_path_factory.mktemp("half") / "run"
    with killed_at(IN_THE_THIRD):
        run(compose_config(*FOUR), directory)
    return directory


@pytest.mark.parametrize(
    "damage", ["config", "code", "half a verdict", "half a checkpoint", "a NaN in a checkpoint", "half a configuration"]
)
def test_anything_else_is_set_aside(half: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    directory = Path(shutil.copytree(half, tmp_path / "run"))
    assert take_up(directory, compose_config(*FOUR)).epochs == 2
    if damage == "config":
        (directory / "config.yaml").write_text((half / "config.yaml").read_text("utf-8").replace("seed: 0", "seed: 1"), "utf-8")
    elif damage == "code":
        monkeypatch.setattr("mnist_lightning.training.resume.code_hash", lambda cfg: "another")
    elif damage == "half a verdict":
        (directory / "verdict.json").write_text('{"status": "pas', "utf-8")
    elif damage == "a NaN in a checkpoint":
        checkpoint = torch.load(directory / "last.ckpt", weights_only=True)
        next(iter(checkpoint["state_dict"].values())).view(-1)[0] = float("nan")
        torch.save(checkpoint, directory / "last.ckpt")
    else:
        path = directory / {"half a checkpoint": "last.ckpt", "half a configuration": "config.yaml"}[damage]
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    # Events under a name that TensorBoard does not know, or it would show a run of the past.
    before = {p.name.replace("tfevents", "set-aside"): p.read_bytes() for p in directory.iterdir() if p.name != LOCK}
    assert take_up(directory, compose_config(*FOUR)) == Taken()
    assert {path.name: path.read_bytes() for path in (directory / "set-aside-1").iterdir()} == before
    assert {path.name for path in directory.iterdir()} <= {LOCK, "set-aside-1"}


def test_a_run_that_ended_by_an_error_goes_on(tmp_path: Path) -> None:
    """As one does whose disk was full, or of whose processes another was killed."""
    with at_call(1, lambda: throw(OSError("no space")), "validation_step"), pytest.raises(OSError, match="no space"):
        run(compose_config(*TINY), tmp_path)
    assert read_verdict(tmp_path)["status"] == "error"
    assert run(compose_config(*TINY, "resume=true"), tmp_path).passed


def test_a_stop_stays_a_stop_where_its_verdict_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error in its place would let a sweep begin its next job."""
    monkeypatch.setattr(Verdict, "write", lambda *args: throw(OSError("no space")))
    with at_call(1, lambda: throw(Interrupted(signal.SIGTERM))), pytest.raises(Interrupted):
        run(compose_config(*TINY), tmp_path)


def test_a_second_set_aside_has_a_folder_of_its_own(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / "config.yaml").write_text("broken: [", "utf-8")
        assert take_up(tmp_path, compose_config(*FOUR)).checkpoint is None
        assert (tmp_path / f"set-aside-{number}" / "config.yaml").exists()


# --- the command line ---------------------------------------------------------------------------------------------------


def test_ckpt_path_last_is_resume_in_lightnings_word() -> None:
    assert (compose_config().resume, compose_config("ckpt_path=last").resume) == (False, True)
    with pytest.raises(ConfigError, match=r"resume=false: contradicts ckpt_path=last, .*; leave one out"):
        check(compose_config("ckpt_path=last", "resume=false"))


@pytest.mark.slow
def test_the_same_command_finds_its_run(tmp_path: Path) -> None:
    command = (*FOUR, "trainer.max_epochs=25", "gate.within_epochs=25")
    process = spawn(*command, cwd=tmp_path)
    wait_for(process, tmp_path, "last.ckpt")
    process.kill()
    process.communicate()  # also closes its pipes
    done = finish(spawn(*command, "resume=true", cwd=tmp_path))
    assert done.status == 0, done.err
    [directory] = {path.parent for path in tmp_path.rglob("config.yaml")}
    assert read_verdict(directory)["epochs"] == 25
    assert "epoch  1/25" not in done.out


@pytest.mark.slow
def test_the_same_sweep_command_finds_its_directory(cli: Callable[..., Finished], tmp_path: Path) -> None:
    command = ("--multirun", *TINY, "gate.on_miss=warn", "seed=0,1")
    assert cli(*command).status == 0
    [last, _] = sorted(tmp_path.rglob("verdict.json"), key=lambda path: -path.stat().st_mtime_ns)
    last.unlink()
    done = cli(*command, "resume=true")
    assert (done.status, done.out.count("KEPT")) == (0, 1), done.err
    assert len(list((tmp_path / "outputs" / "sweeps").iterdir())) == 1
    assert json.loads(last.read_text("utf-8"))["status"] == "passed"


@pytest.mark.torture
def test_a_sweep_killed_at_random_moments_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    """Six jobs; the process is killed, and resumed, until it gets through."""
    command = ("--multirun", *FOUR, "optimizer.lr=0.01,0.05,0.1", "seed=0,1")
    unbroken = finish(spawn(*command, "hydra.sweep.dir=unbroken", cwd=tmp_path))
    assert unbroken.status == 0, unbroken.err
    moments = random.Random(0)
    finished_at: dict[Path, int] = {}
    for _ in range(3):
        process = spawn(*command, "hydra.sweep.dir=broken", "resume=true", cwd=tmp_path)
        time.sleep(moments.uniform(2.0, 9.0))
        process.kill()
        process.communicate()
        for path in (tmp_path / "broken").rglob("verdict.json"):
            stamp = path.stat().st_mtime_ns
            assert finished_at.setdefault(path, stamp) == stamp, f"{path} was run again after it had finished"
    done = finish(spawn(*command, "hydra.sweep.dir=broken", "resume=true", cwd=tmp_path))
    assert done.status == 0, done.err
    assert "6 of 6 jobs finished" in done.out
    results = [sorted((read_verdict(path.parent)["seed"], read_verdict(path.parent)["accuracy"])
               for path in (tmp_path / sweep).rglob("verdict.json")) for sweep in ("broken", "unbroken")]  # fmt: skip
    assert results[0] == results[1]
