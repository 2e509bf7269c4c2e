"""Command lines in processes that are to be struck: forked where torch is imported already, so that each takes a second."""

import multiprocessing
import os
import resource
import signal
import sys
import threading
import time
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from mnist_lightning.__main__ import main

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["mnist_lightning.training.fit", __name__])
CHANGES = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.chmod", "os.truncate"}  # Python's names of these calls


@dataclass(frozen=True)
class Blow:
    """What strikes a process just before it changes a file for the `event`th time, counted from 1.

    With `torn` the file that is opened then, or the next that grows so far, gets that many more bytes before the process dies.
    """

    event: int
    signum: int = signal.SIGKILL
    torn: int | None = None
    delay_s: float = 0.0
    again_s: float | None = None
    """From the first signal to a second one."""


class Victim:
    """`python -m mnist_lightning ARGS` in a folder, with what it prints in out.txt and err.txt there."""

    def __init__(self, cwd: Path, *args: str, blow: Blow | None = None) -> None:
        self._changes = _CONTEXT.Value("i", 0)
        self._struck_s = _CONTEXT.Value("d", 0.0)
        self._process: ForkServerProcess = _CONTEXT.Process(target=_main, args=(cwd, args, blow, self._changes, self._struck_s))
        self._process.start()

    def end(self) -> int | None:
        """Waits; returns the exit status, or the number of the signal that ended it, negative."""
        self._process.join(280)
        self.seconds_left = time.monotonic() - self._struck_s.value if self._struck_s.value else 0.0
        if self._process.exitcode is None:
            self._process.kill()
        return self._process.exitcode

    @property
    def num_changes(self) -> int:
        return int(self._changes.value)


def _main(cwd: Path, args: tuple[str, ...], blow: Blow | None, changes: Any, struck_s: Any) -> None:
    os.chdir(cwd)
    for number, name in ((1, "out.txt"), (2, "err.txt")):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), number)

    def strike() -> None:
        struck_s.value = time.monotonic()
        os.kill(os.getpid(), blow.signum)

    def watch(event: str, call: tuple[Any, ...]) -> None:
        if event == "open":
            if not isinstance(call[0], (str, bytes, os.PathLike)) or not call[2] & (os.O_WRONLY | os.O_RDWR):
                return
            if os.fsdecode(call[0]).startswith("/dev/"):
                return
        elif event not in CHANGES:
            return
        changes.value += 1
        if blow is None or changes.value != blow.event:
            return
        if blow.torn is not None:
            try:
                there = os.stat(call[0]).st_size  # noqa: PTH116  # of a path or of an open file's descriptor
            except FileNotFoundError:
                there = 0
            resource.setrlimit(resource.RLIMIT_FSIZE, (there + blow.torn, resource.RLIM_INFINITY))
        elif blow.signum == signal.SIGKILL and not blow.delay_s:
            strike()
        else:
            _later(blow.delay_s, strike)
            if blow.again_s is not None:
                _later(blow.delay_s + blow.again_s, strike)

    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # of a file that grows beyond the limit; kills as SIGKILL does
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.argv = ["mnist_lightning", *args]
    sys.addaudithook(watch)
    main()


def _later(delay_s: float, strike: Any) -> None:
    timer = threading.Timer(delay_s, strike)
    timer.daemon = True
    timer.start()
