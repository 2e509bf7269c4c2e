"""Files that others may have written: read within bounds, and read again only where they have changed."""

import os
import stat
from pathlib import Path

MAX_BYTES = 10_000_000  # of a table or a record: that of 100,000 epochs

Stamp = tuple[int, int, int] | None


def stamp(path: Path) -> Stamp:
    """Inode, size in bytes and time of the last change in ns; None where there is no file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def read_bytes(path: Path, max_bytes: int = MAX_BYTES) -> bytes:
    """A file's contents.

    Raises:
        OSError: There is no such file, or it may not be read.
        ValueError: It is no regular file, or larger than `max_bytes`.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))  # a pipe would wait for its writer
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ValueError(f"{path.name} is no regular file")
    with os.fdopen(descriptor, "rb") as file:
        contents = file.read(max_bytes + 1)
    if len(contents) > max_bytes:
        raise ValueError(f"{path.name} is larger than {max_bytes:,} bytes, which no run writes")
    return contents


def read_text(path: Path, max_bytes: int = MAX_BYTES) -> str:
    """A file's text, with the ends of lines that it has; raises as `read_bytes`, and a ValueError where it is not UTF-8."""
    return read_bytes(path, max_bytes).decode("utf-8")
