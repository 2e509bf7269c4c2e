"""Who works in a directory: a lock that a process has until it lets go or ends, however it ends.

Imports neither torch nor lightning.
"""

import contextlib
import errno
import fcntl
import logging
import os
import socket
import weakref
from pathlib import Path
from types import TracebackType

from mnist_lightning.config import ConfigError, one_line
from mnist_lightning.files import has_name, naming

log = logging.getLogger(__name__)

LOCK = "run.lock"  # the file's name
UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # by the file system


class Lock:
    """A directory for this object alone, until `release`, the end of its `with` or the end of the process.

    The system keeps the lock (flock) on an open file, `run.lock`, which names its holder; what a killed process leaves of it
    locks nothing. Where the file system has no such locks, a warning says so, and nobody is refused.

    Args:
        directory: Made if it does not exist.

    Raises:
        ConfigError: Another holds it.
        OSError: The file cannot be made.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / LOCK
        descriptor = _open_locked(path)
        # Called at the end of the process, too, where nobody has done so before.
        self.release = weakref.finalize(self, _release, descriptor, path, os.getpid())
        try:
            with naming(path):
                os.truncate(descriptor, 0)
                os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        except OSError:
            self.release()
            raise

    def __enter__(self) -> "Lock":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        self.release()


def _open_locked(path: Path) -> int:
    """The file's descriptor, with the lock on the file that has the name at that moment."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)  # for writing: NFS locks no other
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if has_name(descriptor, path):
                return descriptor
        except BlockingIOError:
            holder = one_line(os.pread(descriptor, 200, 0).decode(errors="replace")) or "another process"
            os.close(descriptor)
            raise ConfigError(
                f"{path.parent}: {holder} is at work there ({LOCK}); "
                "wait for its end, or name another with hydra.run.dir=DIR or hydra.sweep.dir=DIR"
            ) from None
        except OSError as error:
            if error.errno in UNSUPPORTED:
                log.warning("%s: the file system has no locks; a second command in this directory is not refused", path.parent)
                return descriptor
            os.close(descriptor)
            raise
        os.close(descriptor)  # its holder has let go, and removed it, since it was opened


def _release(descriptor: int, path: Path, process: int) -> None:
    if os.getpid() != process:  # in a copy made by fork, at its end
        return
    with contextlib.suppress(OSError):  # a read-only file system
        path.unlink(missing_ok=True)  # before it is unlocked: after, it may be another's
    os.close(descriptor)
