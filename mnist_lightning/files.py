"""Files: written whole or not at all, whatever stops their writer, and read within bounds, whoever wrote them.

Everything this package writes goes through here. Imports neither torch nor lightning.
"""

import contextlib
import errno
import logging
import os
import secrets
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
CHECKOUT = PACKAGE.parent  # of a checkout; of an installed package the folder with all of them

MAX_BYTES = 10_000_000  # of a table or a record: that of 100,000 epochs

Stamp = tuple[int, int, int] | None

# What writing reports without a path: no space left, over the quota, over the limit on a file's size, a broken disk.
NAMELESS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def stamp(path: Path) -> Stamp:
    """Inode, size in bytes and time of the last change in ns; None where there is no file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def read_start(path: Path, num_bytes: int) -> bytes:
    """At most that many bytes of a file.

    Raises:
        OSError: There is no such file, or it may not be read.
        ValueError: It is no regular file: a pipe would be waited for, a device may never end.
    """
    with os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError(f"{path.name} is no regular file")
        return file.read(num_bytes)


def read_bytes(path: Path, max_bytes: int = MAX_BYTES) -> bytes:
    """A file's contents; raises as `read_start`, and a ValueError where it is larger than `max_bytes`."""
    contents = read_start(path, max_bytes + 1)
    if len(contents) > max_bytes:
        raise ValueError(f"{path.name} is larger than {max_bytes:,} bytes, which no run writes")
    return contents


def read_text(path: Path, max_bytes: int = MAX_BYTES) -> str:
    """A file's text, with the ends of lines that it has; raises as `read_bytes`, and a ValueError where it is not UTF-8."""
    return read_bytes(path, max_bytes).decode("utf-8")


def write(path: Path, content: str | bytes) -> None:
    """Writes a file, text as UTF-8, as `replacing` does."""
    with replacing(path) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a name beside `path` to write to; what lies there in the end takes the place of `path`, on disk when this returns.

    Left by an exception, `path` is as it was, and nothing is left beside it.

    Raises:
        OSError: With the path.
    """
    # Another name for every writer: jobs of a sweep side by side write one leaderboard.
    part = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.part{path.suffix}")
    with naming(path, part):
        try:
            yield part
            put(part, path)
        except BaseException:
            with contextlib.suppress(OSError):  # a read-only file system, on which there is none
                part.unlink(missing_ok=True)
            raise


def put(part: Path, path: Path) -> None:
    """Gives a finished file its name, on disk when this returns."""
    sync(part)
    part.replace(path)
    sync(path.parent)


@contextlib.contextmanager
def naming(path: Path, part: Path | None = None) -> Iterator[None]:
    """Names the path in an OSError that names none, or only the part that was to become it."""
    try:
        yield
    except OSError as error:
        if (error.filename is None and error.errno in NAMELESS) or (part and str(error.filename) == str(part)):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def sync(path: Path) -> None:
    """Brings a file or a directory, which holds the names of its files, from memory to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL or not path.is_dir():  # some network file systems know no fsync of a directory
            raise
    finally:
        os.close(descriptor)


def has_name(descriptor: int, path: Path) -> bool:
    """Whether the open file is the one of that name: who waited for its lock may find it renamed or removed."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def remove_parts(directory: Path) -> None:
    """Removes what a writer left that was killed. Only for who holds the directory's lock."""
    for part in directory.glob(".*.part*"):
        part.unlink(missing_ok=True)


class LogFile(logging.FileHandler):
    """A log that, when it cannot be written, is an error as any other file is; logging would print a stack trace and go on."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # logging's name
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        with naming(Path(self.baseFilename)):
            raise error
