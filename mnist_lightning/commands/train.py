"""Trains: a run, or a sweep of several. Composes the configuration, runs it, and returns the exit status it deserves."""

import logging
import os
import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from mnist_lightning.config.compose import CONF_DIR
from mnist_lightning.config.errors import ConfigError, one_line
from mnist_lightning.terminal import complain

log = logging.getLogger(__name__)


@hydra.main(version_base="1.3", config_path=str(CONF_DIR), config_name="config")
def job(cfg: DictConfig) -> int:
    """One run; returns its exit status and raises nothing but a stop by signal, so that a sweep goes on."""
    launcher = HydraConfig.get().launcher
    if not launcher._target_.endswith(".BasicLauncher") and not os.environ.get("OMP_NUM_THREADS"):
        # Jobs side by side: a thread for each processor that a job has asked for; read when torch is imported, below.
        os.environ["OMP_NUM_THREADS"] = str(launcher.get("cpus_per_task") or 1)
    # torch and lightning take seconds to import: --help and a bad value must not wait for them.
    from mnist_lightning.evaluation.gate import GateError
    from mnist_lightning.training.fit import exit_status, run

    output_dir = Path(HydraConfig.get().runtime.output_dir)
    try:
        return run(cfg, output_dir).exit_status
    except GateError as error:
        return exit_status(error)  # the verdict has said why
    except ConfigError as error:
        complain(str(error))
        return exit_status(error)
    except Exception as error:
        where = f"traceback in {output_dir}/run.log"
        try:
            log.info("the run ended with an error", exc_info=error)  # the file alone: the terminal gets one line
        except OSError:
            where = "run.log takes no traceback either"
        complain(f"{type(error).__name__}: {one_line(error)} ({where})")
        return exit_status(error)


def main(arguments: list[str]) -> int:
    sys.argv = [sys.argv[0], *arguments]
    job()
    return 0
