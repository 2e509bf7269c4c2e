"""What a cell needs that a command does not: its process goes on, and errors show themselves in a line."""

import contextlib
import logging
import signal
from collections.abc import Iterator, Sequence

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from mnist_lightning.config.errors import ConfigError, UserError
from mnist_lightning.config.explain import explain
from mnist_lightning.study.sweep import Refused
from mnist_lightning.training.signals import Interrupted


class Stopped(KeyboardInterrupt):
    """An interrupted cell: the cells after it do not run, the kernel goes on."""

    def _render_traceback_(self) -> list[str]:  # IPython's, in place of a traceback
        return [str(self)]


@contextlib.contextmanager
def in_a_cell(overrides: Sequence[str]) -> Iterator[None]:
    """Puts back what a run changes in its process, which here goes on; errors come as one of this project's own."""
    root, on_interrupt = logging.getLogger(), signal.getsignal(signal.SIGINT)
    handlers, level = root.handlers[:], root.level
    try:
        yield
    except Refused as refusal:
        raise _as_user_error(refusal.error, overrides) from None
    except (HydraException, OmegaConfBaseException) as error:
        raise _as_user_error(error, overrides) from None
    except Interrupted:
        raise Stopped("interrupted; the same with resume=True goes on after the last whole epoch") from None
    finally:
        for handler in (handler for handler in root.handlers if handler not in handlers):
            handler.close()
        root.handlers[:] = handlers
        root.setLevel(level)
        if signal.getsignal(signal.SIGINT) is not on_interrupt:  # Lightning ignores it for good
            signal.signal(signal.SIGINT, on_interrupt)


def _as_user_error(error: Exception, overrides: Sequence[str]) -> Exception:
    return error if isinstance(error, UserError) else ConfigError(explain(error, overrides))
