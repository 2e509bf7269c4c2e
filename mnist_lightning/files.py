"""When a file has to be read again: a stamp that changes with its contents, to keep what was read by."""

from pathlib import Path

Stamp = tuple[int, int, int] | None


def stamp(path: Path) -> Stamp:
    """Inode, size in bytes and time of the last change in ns; None where there is no file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
