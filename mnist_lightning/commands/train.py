"""Trains: a run, or a sweep of several. Composes the configuration, runs it, and ends with the status it deserves."""

import contextlib
import logging
import os
import sys
from pathlib import Path

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig

from mnist_lightning.config.compose import CONF_DIR, use_directories, with_plan
from mnist_lightning.config.errors import UserError, named
from mnist_lightning.status import OK
from mnist_lightning.study.sweep import Refused, Study
from mnist_lightning.terminal import complain, path_as_typed

log = logging.getLogger(__name__)


def main(arguments: list[str]) -> int:
    # argparse takes overrides from one side of an option only: `seed=0 -m model=net1,net2` would be refused.
    given = get_args_parser().parse_intermixed_args(arguments)
    sys.argv[1:] = [*(argument for argument in arguments if argument not in given.overrides), *with_plan(given.overrides)]
    use_directories(given.config_dir, given.overrides, given.config_name)
    try:
        job()  # leaves by SystemExit, from Study's hooks, but for --help and the like
    except Refused as refusal:
        if type(refusal.error) in (ValueError, TypeError, UnicodeDecodeError):  # of a job: see `compose_config`
            raise HydraException(str(refusal.error)) from refusal.error
        raise refusal.error from refusal.error.__cause__
    except (ValueError, TypeError) as error:
        if isinstance(error.__cause__, OSError):  # run.log cannot be opened
            raise error.__cause__ from None
        raise HydraException(str(error)) from error  # as above, of a single run
    finally:
        if Study.lock:
            Study.lock.release()
    return OK


@hydra.main(version_base="1.3", config_path=str(CONF_DIR), config_name="config")
def job(cfg: DictConfig) -> int:
    """One run; returns its exit status and raises nothing but a stop by signal, so that a sweep goes on."""
    launcher = HydraConfig.get().launcher
    if not launcher._target_.endswith((".BasicLauncher", ".SideBySide")) and not os.environ.get("OMP_NUM_THREADS"):
        # Jobs of other launchers: a thread for each processor that a job has asked for; read when torch is imported, below.
        os.environ["OMP_NUM_THREADS"] = str(launcher.get("cpus_per_task") or 1)
    # torch and lightning take seconds to import: --help and a bad value must not wait for them.
    from mnist_lightning.training import lean  # noqa: F401  # first
    from mnist_lightning.training.fit import exit_status, run

    output_dir = Path(HydraConfig.get().runtime.output_dir)
    try:
        return run(cfg, output_dir).exit_status
    except Exception as error:
        _tell(error, output_dir)
        return exit_status(error)


def _tell(error: Exception, output_dir: Path) -> None:
    """Says what ended a run: the terminal gets a line, run.log the traceback."""
    from mnist_lightning.evaluation.gate import GateError
    from mnist_lightning.training.pruning import Pruned

    if isinstance(error, UserError):
        complain(str(error))
    elif not isinstance(error, (GateError, Pruned)):  # of which the verdict has told
        with contextlib.suppress(OSError):  # a full disk
            log.info("the run ended with an error", exc_info=error)
        complain(f"{named(error)} (traceback in {path_as_typed(output_dir / 'run.log')})")
