"""What the commands say: printable lines, whatever a user's or a run's text holds, to readers who may leave early."""

import io
import logging
import sys
from pathlib import Path
from typing import Any

from hydra.utils import to_absolute_path


def printable(text: object) -> str:
    """Text whose control characters (terminal escapes, changes of the reading direction) are shown and not obeyed."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(text))


def path_as_typed(path: Path) -> str:
    """A path as it can be pasted into a command or an override: short where it lies below where the command was typed."""
    path, here = path.absolute(), Path(to_absolute_path("."))
    return (path.relative_to(here) if path.is_relative_to(here) else path).as_posix()


def show(text: str) -> None:
    """Prints text line by line, each of them printable."""
    print("\n".join(map(printable, text.split("\n"))), flush=True)


def complain(lines: str) -> None:
    """Prints an error, a line each, to standard error."""
    for line in lines.split("\n"):
        if line:
            print(f"error: {printable(line)}", file=sys.stderr, flush=True)


class Formatter(logging.Formatter):
    """Of log files and of what a launcher's terminal shows: printable lines."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(map(printable, super().format(record).expandtabs(2).split("\n")))


class _Pipe(io.FileIO):
    """A file descriptor to write to; what nobody reads any more is dropped."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            return len(data)


def outlive_readers() -> None:
    """Lets a command whose output is piped into one that ends early (`| head`) do its work and end with its own status."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and stream is getattr(sys, f"__{name}__") and not stream.isatty():
            stream.flush()
            pipe = io.BufferedWriter(_Pipe(stream.fileno(), "w", closefd=False))
            options = {"line_buffering": stream.line_buffering, "write_through": stream.write_through}
            setattr(sys, name, io.TextIOWrapper(pipe, stream.encoding, stream.errors, **options))
