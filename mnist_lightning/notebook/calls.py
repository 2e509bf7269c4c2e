"""Compose, run, sweep, load: what a cell calls."""

import html
import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from mnist_lightning.commands.arguments import quoted
from mnist_lightning.commands.train import job
from mnist_lightning.config.check import check
from mnist_lightning.config.compose import compose_job, hydra_of_conf, log_into, use_directories, without_hydra
from mnist_lightning.config.errors import ConfigError
from mnist_lightning.config.trainer import is_ddp
from mnist_lightning.notebook.cell import in_a_cell
from mnist_lightning.notebook.results import Network, Run, Sweep
from mnist_lightning.study.sweep import Study
from mnist_lightning.training.signals import Interrupted

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Configuration:
    """What overrides compose, to read (`cfg.optimizer.lr`) and to run; another one is composed, not changed."""

    composed: DictConfig  # with Hydra's own node, which knows how it was composed

    @cached_property
    def values(self) -> DictConfig:
        values = without_hydra(self.composed)
        OmegaConf.set_readonly(values, True)
        return values

    def __getattr__(self, group: str) -> Any:
        if group.startswith("_"):  # what a notebook asks every object for
            raise AttributeError(group)
        return getattr(self.values, group)

    def __str__(self) -> str:
        return OmegaConf.to_yaml(self.values, resolve=True)

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


def compose(*overrides: str) -> Configuration:
    """The configuration that `python -m mnist_lightning OVERRIDES` runs; a ConfigError in one line where it breaks a rule."""
    with in_a_cell(overrides):
        use_directories(None, overrides)
        for word in OverridesParser.create().parse_overrides(list(overrides)):
            if word.is_sweep_override() or word.key_or_group == "sweep":
                raise ConfigError(f"{word.input_line}: these are several runs; give the same words to sweep(...)")
        composed = compose_job(*overrides)
        cfg = Configuration(composed)
        check(cfg.values)
    if is_ddp(cfg.trainer.strategy):
        raise ConfigError("trainer=ddp: its processes need the command line: python -m mnist_lightning trainer=ddp ...")
    return cfg


def run(cfg: Configuration, resume: bool = False) -> Run:
    """Trains in a directory of its own, and judges; a missed gate is a verdict like any other.

    With `resume` it goes on, bit for bit, with the newest run of the same configuration.

    Raises:
        ConfigError: The recipe is refused, before it has trained.
        Stopped: The cell was interrupted; the run has the verdict "interrupted".
    """
    from mnist_lightning.evaluation.gate import GateError
    from mnist_lightning.training import fit

    composed = cfg.composed.copy()  # when and where it is composed anew for every run
    composed.resume = resume or composed.resume
    with in_a_cell(composed.hydra.overrides.task):
        directory = Path(composed.hydra.run.dir)
        log_into(composed, directory)
        try:
            fit.run(without_hydra(composed), directory)
        except GateError:
            pass
        except Exception as error:
            log.info("the run ended with an error", exc_info=error)
            raise
    return Run(directory, trust=True)  # its code has just run here


def sweep(*overrides: str, resume: bool = False) -> Sweep:
    """Runs every combination: `sweep("optimizer.lr=0.01,0.02", "seed=0,1")`, as the command line does by `--multirun`.

    With `resume` it goes on with the newest sweep of the same words. A job that fails is a row of the table.

    Raises:
        ConfigError: A job's configuration breaks a rule; none has run.
        Stopped: The cell was interrupted.
    """
    words = [*overrides, *(["resume=true"] if resume else [])]
    with in_a_cell(words), hydra_of_conf():
        use_directories(None, words)
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        directory = str(hydra.compose_config("config", words, RunMode.MULTIRUN).hydra.sweep.dir)
        try:
            hydra.multirun("config", job, [*words, f"hydra.sweep.dir={quoted(directory)}"])
        except Interrupted:
            raise
        except SystemExit:  # by which a sweep ends with its status
            pass
        finally:
            if Study.lock:
                Study.lock.release()
    return Sweep(Path(directory))


def load(source: str | Path | Run, trust: bool = False) -> Network:
    """The trained network of a run, its directory, a checkpoint or an .onnx file; `trust` as `Run` has it."""
    from mnist_lightning.inference.load import load as load_trained

    if isinstance(source, Run):
        return Network(load_trained(source.directory, source.trust))
    return Network(load_trained(Path(source), trust))
