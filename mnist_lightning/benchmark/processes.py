"""Processes that a benchmark starts, which end with it even when it is killed, and the memory they take.

Run as a module, this is `python -m mnist_lightning`, stopped when its standard input ends.
"""

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor

from mnist_lightning.study.launcher import end_with_parent


def own_process() -> ProcessPoolExecutor:
    """A process that keeps its state from one call to the next; for a contestant, since memory is a process's."""
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=_watch_parent)


def _watch_parent() -> None:
    threading.Thread(target=end_with_parent, daemon=True).start()


def run_command(*arguments: str, **environment: str) -> tuple[float, int, str]:
    """Runs `python -m mnist_lightning ARGUMENTS`; returns its seconds, its exit status and what it printed."""
    command = [sys.executable, "-m", "mnist_lightning.benchmark.processes", *arguments]
    ours, theirs = os.pipe()
    # Only this process holds the end to write to: when it ends, so does the command's standard input.
    with os.fdopen(ours) as stdin, os.fdopen(theirs, "w"):
        start = time.perf_counter()
        done = subprocess.run(
            command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=os.environ | environment, check=False
        )
        return time.perf_counter() - start, done.returncode, done.stdout.decode("utf-8", "replace")


def peak_bytes(of_children: bool = False) -> int | None:
    """Peak resident memory of this process or of its largest ended child; None on Windows."""
    if sys.platform == "win32":
        return None
    import resource

    usage = resource.getrusage(resource.RUSAGE_CHILDREN if of_children else resource.RUSAGE_SELF)
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)  # macOS counts bytes, Linux kilobytes


def _stop_with_stdin() -> None:
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=_stop_with_stdin, daemon=True).start()
    runpy.run_module("mnist_lightning", run_name="__main__", alter_sys=True)
