"""Files: written whole or not at all, whatever stops their writer.

Everything this package writes goes through here. Imports neither torch nor lightning.
"""

import contextlib
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


def stamp(path: Path) -> Stamp:
    """Inode, size in bytes and time of the last change in ns; None where there is no file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def read_text(path: Path) -> str:
    """A record's text; a ValueError where it is none that a run writes: larger, a pipe or a device, or not UTF-8."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:
        raise ValueError(f"{path.name} is no regular file of at most {MAX_BYTES:,} bytes")
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name}: {error.reason}") from None


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
    try:
        with naming(path, part):
            yield part
            _sync(part)
            part.replace(path)
            with contextlib.suppress(OSError):  # Windows opens no directory, and some network file systems sync none
                _sync(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):  # a read-only file system, on which there is none
            part.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def naming(path: Path, part: Path | None = None) -> Iterator[None]:
    """Names the path in an OSError that names none, as that of a full disk, or only the part that was to become it."""
    try:
        yield
    except OSError as error:
        if error.errno is None or str(error.filename) not in ("None", str(part)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def _sync(path: Path) -> None:
    """Brings a file or the names in a directory from memory to disk."""
    descriptor = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)  # Windows syncs only what can be written
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
