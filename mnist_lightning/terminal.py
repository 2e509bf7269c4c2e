"""What the commands say on standard output, to readers who may leave early.

Imports neither torch nor lightning.
"""

import io
import sys
from typing import Any

from mnist_lightning.escape import printable


def show(text: str) -> None:
    """Prints text line by line, each of them printable."""
    print("\n".join(map(printable, text.split("\n"))), flush=True)


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
