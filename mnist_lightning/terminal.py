"""What the commands say: printable lines, whatever a user's or a run's text holds, to outputs that may end or be full."""

import io
import logging
import os
import sys
from pathlib import Path
from typing import Any

from hydra.utils import to_absolute_path

prefix = ""  # of every line: of jobs side by side, whose it is


def printable(text: object) -> str:
    """Text whose control characters (terminal escapes, changes of the reading direction) are shown and not obeyed."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(text))


def watched() -> bool:
    """Whether a bar that moves has somebody to look at it: at a terminal, or in a notebook's cell."""
    if prefix:  # jobs side by side would overwrite each other's
        return False
    return sys.stderr.isatty() or type(sys.stderr).__module__.startswith("ipykernel")


def path_as_typed(path: Path) -> str:
    """A path as it can be pasted into a command or an override: short where it lies below where the command was typed."""
    path, here = path.absolute(), Path(to_absolute_path("."))
    return (path.relative_to(here) if path.is_relative_to(here) else path).as_posix()


def show(text: str) -> None:
    """Prints text line by line, each of them printable."""
    print("\n".join(prefix + printable(line) for line in text.split("\n")), flush=True)


def complain(lines: str) -> None:
    """Prints an error, a line each, to standard error."""
    for line in lines.split("\n"):
        if line:
            print(f"{prefix}error: {printable(line)}", file=sys.stderr, flush=True)


class Formatter(logging.Formatter):
    """Of log files and of what a launcher's terminal shows: printable lines."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(map(printable, super().format(record).expandtabs(2).split("\n")))


class _Output(io.FileIO):
    """A file descriptor to write to; what cannot be written is dropped."""

    lost = ""  # why something was dropped that somebody wants to read

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:  # nobody reads any more
            return len(data)
        except OSError as error:  # a full disk, a terminal that was closed
            _Output.lost = error.strerror or str(error)
            return len(data)


def outlive_outputs() -> None:
    """Lets a command do its work and end with its own status, whatever becomes of its output.

    That may be a command that ends early (`| head`), closed, a full disk, or an encoding without our characters, which become
    question marks. Each line goes out as it is printed.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # was closed before we began
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115
        elif stream is getattr(sys, f"__{name}__"):
            stream.flush()
            output = io.BufferedWriter(_Output(stream.fileno(), "w", closefd=False))
            setattr(sys, name, io.TextIOWrapper(output, stream.encoding, "replace", line_buffering=True))


def require_output() -> None:
    """Raises an OSError where something printed could not be written, for a command that does nothing else."""
    sys.stdout.flush()
    if _Output.lost:
        raise OSError(f"the output could not be written: {_Output.lost}")
