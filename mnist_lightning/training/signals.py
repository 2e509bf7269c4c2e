"""Ctrl-C, SIGTERM and SIGHUP (a closed terminal): the first ends a run in order, a second one ends the process at once."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(SystemExit):
    """Ctrl-C, SIGTERM or SIGHUP: ends the process with 128 + the signal's number, through every `except Exception`."""

    def __init__(self, signum: int) -> None:
        super().__init__(128 + signum)
        self.name = signal.Signals(signum).name

    def __str__(self) -> str:
        return f"stopped by {self.name}"


def behind(error: BaseException | None) -> Interrupted | None:
    """The stop that an error came of: what a signal leaves half done (a writer, a lock) may fail on the way out."""
    if isinstance(error, SystemExit) and isinstance(error.__context__, KeyboardInterrupt):  # Lightning's answer to it
        error = error.__context__
    if isinstance(error, KeyboardInterrupt):  # without `catch`, as in a notebook
        return Interrupted(signal.SIGINT)
    while error is not None and not isinstance(error, Interrupted):
        error = error.__context__
    return error


class _Stop:
    received = False
    holding = False
    held: int | None = None  # a signal that waits for the end of `hold`

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        # Here too, although the first signal has set it: Lightning puts back the handlers that it found.
        for number in _stopping():
            signal.signal(number, signal.SIG_DFL)
        second, self.received = self.received, True
        if second:
            signal.raise_signal(signum)
        elif self.holding:
            self.held = signum
        else:
            raise Interrupted(signum)


_stop = _Stop()


def _stopping() -> list[int]:
    """The signals that end a run: not SIGHUP under `nohup`, nor on Windows, which has none."""
    hangup = getattr(signal, "SIGHUP", None)
    if hangup is None or signal.getsignal(hangup) is signal.SIG_IGN:
        return [signal.SIGINT, signal.SIGTERM]
    return [signal.SIGINT, signal.SIGTERM, hangup]


def catch() -> None:
    """Lets the first of them raise `Interrupted`, and a second one end the process."""
    global _stop
    _stop = _Stop()
    for number in _stopping():
        signal.signal(number, _stop)


@contextmanager
def hold() -> Iterator[None]:
    """Lets a first signal wait until what is written here is whole; a second one does not wait."""
    _stop.holding = True
    try:
        yield
    finally:
        _stop.holding = False
        signum, _stop.held = _stop.held, None
        if signum is not None:
            raise Interrupted(signum)
