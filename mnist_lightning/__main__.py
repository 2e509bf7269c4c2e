"""`python -m mnist_lightning`: composes the configuration, runs it, and ends with the status the run deserves.

Exit status: 0 passed; 3 the gate was missed; 1 an error; 2 a bad command line or configuration; 130 Ctrl-C; 143 SIGTERM.
"""

import logging
import os
import re
import sys
from pathlib import Path
from typing import NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from mnist_lightning import signals
from mnist_lightning.config import CONF_DIR, ConfigError, one_line, register_resolvers
from mnist_lightning.explain import complain, explain, too_long_for_a_choice
from mnist_lightning.launch import Refused, Study
from mnist_lightning.status import BAD_CONFIG, FAILED
from mnist_lightning.terminal import outlive_readers
from mnist_lightning.torchrun import FIRST, agree

log = logging.getLogger(__name__)


@hydra.main(version_base="1.3", config_path=str(CONF_DIR), config_name="config")
def job(cfg: DictConfig) -> int:
    """One run; returns its exit status and raises nothing but a stop by signal, so that a sweep goes on."""
    launcher = HydraConfig.get().launcher
    if not launcher._target_.endswith(".BasicLauncher") and not os.environ.get("OMP_NUM_THREADS"):
        # Jobs side by side: a thread for each processor that a job has asked for; read when torch is imported, below.
        os.environ["OMP_NUM_THREADS"] = str(launcher.get("cpus_per_task") or 1)
    # torch and lightning take seconds to import: --help and a bad value must not wait for them.
    from mnist_lightning.gate import GateError
    from mnist_lightning.train import exit_status, run

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


def main() -> None:
    """Runs the command line, with one clear line for whatever Hydra refuses."""
    outlive_readers()
    signals.catch()
    register_resolvers()
    wants_traceback = "HYDRA_FULL_ERROR" in os.environ
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra then raises what it would print with a stack trace and status 1
    # argparse takes all overrides from one place: with -m in front they may stand on both sides of it.
    sys.argv[1:] = sorted(sys.argv[1:], key=lambda argument: argument not in ("-m", "--multirun"))
    _check_options()
    overrides = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
    for override in overrides:
        if re.match(r"[+~]*hydra[./]callbacks\b", override):
            complain(f"{override}: hydra.callbacks holds the check of every run and its exit status, and takes no change")
            sys.exit(BAD_CONFIG)
    try:
        job()
    except Refused as refusal:
        if refusal.code == FAILED and isinstance(refusal.error, OSError):
            complain(_unwritable(refusal.error))
        elif FIRST:  # of the processes of a torchrun, which are all refused alike
            complain(explain(refusal.error, overrides))
        agree("refused", "")  # torchrun stops the first as soon as another ends: wait until it has spoken
        raise
    except (HydraException, OmegaConfBaseException) as error:
        if wants_traceback:
            raise
        complain(explain(error, overrides))
        sys.exit(BAD_CONFIG)
    except Exception as error:
        if wants_traceback:
            raise
        launcher = next((override for override in overrides if override.startswith("hydra/launcher=")), "")
        if launcher and not isinstance(error, ValueError):
            complain(
                f"{launcher}: the launcher has failed: {type(error).__name__}: {one_line(error)}; "
                "jobs that had started are gone on with by the same command and resume=true"
            )
            sys.exit(FAILED)
        # logging wraps what it met when it could not open run.log.
        cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
        if isinstance(cause, OSError) and not too_long_for_a_choice(cause):
            if cause.filename is None and Study.lock:  # Hydra's multirun.yaml
                cause = OSError(cause.errno, cause.strerror, str(Study.lock.directory / "multirun.yaml"))
            complain(_unwritable(cause))
            sys.exit(FAILED)
        # Flags of Hydra's that do not go together, a group set to a number; what a job raises does not get here.
        where = "" if isinstance(error, (ValueError, OSError)) else f" ({type(error).__name__}; HYDRA_FULL_ERROR=1 shows where)"
        complain(explain(error, overrides) + where)
        sys.exit(BAD_CONFIG)
    finally:
        if Study.lock:
            Study.lock.release()


def _check_options() -> None:
    """Refuses what Hydra's parser of options would, in one line and not by its usage."""
    parser = get_args_parser()

    def refuse(message: str) -> NoReturn:
        complain(f"{message}; an option is one that --hydra-help lists, an override KEY=VALUE has no dash before it")
        sys.exit(BAD_CONFIG)

    parser.error = refuse  # type: ignore[method-assign]
    parser.parse_args()


def _unwritable(error: OSError) -> str:
    return (
        f"the output directory cannot be written: {one_line(error)}; "
        "make room there, or name another with hydra.run.dir=DIR or hydra.sweep.dir=DIR"
    )


if __name__ == "__main__":
    main()
