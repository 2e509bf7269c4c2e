"""`python -m mnist_lightning [COMMAND] ...`, also as `mnist-lightning`: the entry point, where errors become lines.

Exit status: 0 passed; 3 the gate was missed; 1 an error; 2 a bad command line or configuration; 130 Ctrl-C; 143 SIGTERM; 129
SIGHUP.
"""

import atexit
import contextlib
import gc
import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata

from mnist_lightning import __version__
from mnist_lightning.config.errors import ConfigError, UserError, named
from mnist_lightning.status import BAD_CONFIG, FAILED
from mnist_lightning.terminal import complain, outlive_outputs, require_output, show
from mnist_lightning.training import signals

COMMANDS = (
    *("train", "summary", "evaluate", "predict", "export", "draw"),
    *("init", "leaderboard", "report", "reproduce", "results", "search", "benchmark"),
)


def main() -> None:
    """Runs the command that the first word names; without one, the words are overrides of a run or a sweep."""
    atexit.register(gc.freeze)  # else Python searches all modules once more as it ends: a second with Lightning
    outlive_outputs()
    signals.catch()
    os.environ["MPLBACKEND"] = "agg"  # pictures go into files; a notebook's cells pass on a backend that is not installed here
    word, arguments = "train", sys.argv[1:]
    if arguments and arguments[0] in COMMANDS:
        word, *arguments = arguments
    if arguments == ["--version"]:
        return show_versions()
    with errors_as_lines(arguments):
        command = importlib.import_module(f"mnist_lightning.commands.{word}")
        status = command.main(arguments)
        if word != "train":  # whose result is a verdict
            require_output()
        sys.exit(status)


def show_versions() -> None:
    """What a report of a fault needs to name."""
    show(
        "\n".join([f"mnist-lightning {__version__}", *(f"{name} {metadata.version(name)}" for name in ("torch", "lightning"))])
    )


@contextlib.contextmanager
def errors_as_lines(arguments: Sequence[str]) -> Iterator[None]:
    """Ends a command with lines in place of a traceback, and the exit status that goes with them."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError  # type: ignore[import-untyped]

    wants_traceback = os.environ.get("HYDRA_FULL_ERROR", "0") not in ("", "0")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises what it would print, and end with status 1
    try:
        yield
    except UserError as error:
        complain(str(error))
        sys.exit(BAD_CONFIG if isinstance(error, ConfigError) else FAILED)
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        if wants_traceback:
            raise
        from mnist_lightning.config.explain import explain

        overrides = [word for word in arguments if word.startswith("~") or ("=" in word and not word.startswith("-"))]
        complain(explain(error, overrides))
        sys.exit(BAD_CONFIG)
    except Exception as error:
        if wants_traceback:
            raise
        complain(named(error))
        sys.exit(FAILED)


if __name__ == "__main__":
    main()
