"""The group `logger`: several at once, each told of every epoch once, none of which ends a run."""

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from lightning.pytorch.loggers import CSVLogger, Logger
from omegaconf import OmegaConf

from mnist_lightning.config import check as checks
from mnist_lightning.config.compose import choices, compose_config
from mnist_lightning.config.errors import ConfigError
from mnist_lightning.evaluation.gate import Gate
from mnist_lightning.evaluation.run_directories import settings
from mnist_lightning.training.fit import run
from mnist_lightning.training.loggers import Loggers
from tests.conftest import TINY, Finished, assert_same_weights, killed_at, one_error, own_recipe, read_rows, read_verdict

Cli = Callable[..., Finished]
SMALL = (*TINY, "data.train_images=128", "trainer.max_epochs=2", "gate.on_miss=warn")
HERE = "+logger.mine._target_=" + __name__


def table(directory: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((directory / "csv" / "metrics.csv").read_text("utf-8").splitlines()))


class Notes(Logger):
    """A logger of a user's own."""

    told: Sequence[Any] = ()
    name = version = "notes"

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        pass

    def log_metrics(self, *args: Any, **kwargs: Any) -> None:
        Notes.told = [*Notes.told, args]


class Away(Notes):
    """One whose server is away, from the given call on; of 1 it cannot be opened."""

    def __init__(self, call: int) -> None:
        super().__init__()
        self.calls_left = call

    def _call(self) -> None:
        self.calls_left -= 1
        if self.calls_left <= 0:
            raise ConnectionError("the server is away " * 20)

    @property
    def experiment(self) -> Any:
        if self.calls_left == 1:
            self._call()
        return None

    def log_metrics(self, *args: Any, **kwargs: Any) -> None:
        self._call()

    def finalize(self, status: str) -> None:
        self._call()


def test_several_at_once_have_every_epoch_and_none_leaves_nothing(tmp_path: Path) -> None:
    Notes.told = []
    run(own_recipe(*SMALL, "logger=[tensorboard,csv]", f"{HERE}.Notes"), tmp_path / "all")
    run(compose_config(*SMALL, "logger=none"), tmp_path / "none")
    rows = read_rows(tmp_path / "all")
    for name in ("train/loss", "test/acc"):
        assert [float(row[name]) for row in table(tmp_path / "all")] == [float(row[name]) for row in rows]
        assert [(curves[name], epoch) for curves, epoch in Notes.told] == [
            (float(row[name]), int(row["epoch"])) for row in rows
        ]
    assert [row["step"] for row in table(tmp_path / "all")] == ["1", "2"]
    assert yaml.safe_load((tmp_path / "all" / "csv" / "hparams.yaml").read_text("utf-8"))["optimizer.lr"] == 0.015
    assert list((tmp_path / "all").glob("*tfevents*"))
    written = {path.name for path in (tmp_path / "none").iterdir()}
    assert written == {"config.yaml", "environment.json", "metrics.csv", "best.ckpt", "last.ckpt", "verdict.json", ".lock"}
    assert_same_weights(tmp_path / "all", tmp_path / "none")


def test_a_resumed_run_goes_on_with_other_loggers_and_they_have_all_of_it(tmp_path: Path) -> None:
    with killed_at(2, "on_train_epoch_end", Gate):  # the second epoch was told, and has no checkpoint
        run(compose_config(*SMALL, "logger=csv"), tmp_path)
    assert len(table(tmp_path)) == 2
    Notes.told = []
    run(own_recipe(*SMALL, "logger=csv", f"{HERE}.Notes", "resume=true"), tmp_path)
    assert not list(tmp_path.glob("set-aside-*"))
    assert [row["step"] for row in table(tmp_path)] == ["1", "2"]
    assert [epoch for _, epoch in Notes.told] == [1, 2]
    assert not list(tmp_path.glob("*tfevents*"))


@pytest.mark.parametrize("call", [1, 2, 3], ids=["when opened", "in the first epoch", "in the second"])
def test_a_logger_that_fails_is_told_of_in_a_line_and_the_run_goes_on(cli: Cli, tmp_path: Path, call: int) -> None:
    done = cli(*SMALL, f"{HERE}.Away", f"+logger.mine.call={call}", f"hydra.run.dir={tmp_path / 'run'}")
    assert (done.status, done.err) == (0, "")
    [line] = [line for line in done.out.splitlines() if "logger" in line]
    assert line.startswith("the logger mine failed, and the run goes on without it: the server is away")
    assert len(line) <= 200
    assert "ConnectionError" in (tmp_path / "run" / "run.log").read_text("utf-8")
    assert list((tmp_path / "run").glob("*tfevents*"))
    assert len(read_rows(tmp_path / "run")) == read_verdict(tmp_path / "run")["epochs"] == 2


REFUSED = {
    "+trainer.logger=false": "trainer.logger=false: loggers are a group: logger=none, logger=[tensorboard,csv], or ",
    "+trainer.logger=true": "trainer.logger=true: loggers are a group: ",
    "+trainer.logger=[{_target_:torch.nn.Identity}]": "trainer.logger.0._target_=torch.nn.Identity: is no ",
    "logger=nothing": "logger=nothing: there is no such choice; logger must be one of csv, mlflow, none, tensorboard, wandb",
    "+logger.mine=3": "logger.mine=3: must be keys with values",
    "+logger.mine._target_=torch.nn.Linear": "logger.mine._target_=torch.nn.Linear: is no lightning.pytorch.loggers.Logger",
    "+logger.mine._target_=lightning.pytorch.loggers.CSVLogger": "logger.mine.save_dir: CSVLogger needs it; give +logger.",
}


@pytest.mark.parametrize("word", REFUSED)
def test_what_is_no_logger_is_refused_in_a_line(cli: Cli, word: str) -> None:
    line = one_error(cli(*TINY, word), 2)
    assert line.startswith(REFUSED[word])
    assert len(line) <= 200


@pytest.mark.parametrize(
    "words",
    [("logger=mlflow",), ("logger=[tensorboard,mlflow]", "-m", "seed=0,1"), ("gate.max_file_bytes=9",)],
    ids=["run", "sweep", "file"],
)
def test_a_missing_extra_is_named_before_anything_is_made(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setattr(checks, "find_spec", lambda name: None)
    line = one_error(cli(*TINY, *words), 2)
    key, extra = ("logger=mlflow", "mlflow") if "mlflow" in words[0] else (words[0], "onnx")
    assert line == f"{key}: needs an extra that is not installed; pip install 'mnist-lightning[{extra}]'"
    assert list(tmp_path.iterdir()) == [] or {path.name for path in tmp_path.iterdir()} == {"outputs"}
    assert not list(tmp_path.rglob("config.yaml"))


@pytest.mark.parametrize("name", choices("logger"))
def test_no_result_depends_on_a_logger_and_no_name_has_one(name: str) -> None:
    assert settings(compose_config(f"logger={name}")) == settings(compose_config())


def test_an_older_run_has_no_such_group(tmp_path: Path) -> None:
    cfg = OmegaConf.create({key: value for key, value in compose_config(*TINY).items() if key != "logger"})
    checks.check(cfg)
    assert Loggers(cfg, tmp_path).by_name == {}


def test_lightnings_own_takes_its_own_arguments(tmp_path: Path) -> None:
    cfg = own_recipe(
        "logger=none", "+logger.mine._target_=lightning.pytorch.loggers.CSVLogger", f"+logger.mine.save_dir={tmp_path}"
    )
    assert [type(logger) for logger in Loggers(cfg, tmp_path).for_trainer()] == [CSVLogger]


def test_a_class_that_refuses_its_arguments_says_so_and_the_run_has_a_verdict(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^logger\.mine\.other=2: Away takes no other"):
        run(own_recipe(*SMALL, f"{HERE}.Away", "+logger.mine.call=1", "+logger.mine.other=2"), tmp_path)
    assert json.loads((tmp_path / "verdict.json").read_text("utf-8"))["exit_status"] == 2
