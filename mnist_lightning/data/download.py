"""Downloading a file: whole and right under its name or not there at all, and once for all processes that want it."""

import fcntl
import hashlib
import http.client
import io
import logging
import os
import socket
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from tqdm import tqdm

from mnist_lightning.config.errors import one_line
from mnist_lightning.files import has_name, put

log = logging.getLogger(__name__)

TIMEOUT_S = 30.0
MIN_BYTES = 30_000  # in each TIMEOUT_S: a mirror that sends a byte a second is as good as none
MAX_BYTES = 16_000_000  # of one answer; the largest of MNIST's files has 9.9 million


def download(name: str, md5: str, folder: Path, mirrors: Sequence[str]) -> tuple[Path | None, list[str]]:
    """Tries each mirror in turn, unless another process has brought the file by the time it is this one's turn.

    Args:
        name: Of the file, in the folder and at the mirrors.
        md5: Of its contents.
        folder: Is made if need be.
        mirrors: Base addresses.

    Returns:
        The finished file, or None, and what went wrong on the way.
    """
    path, part_path = folder / name, folder / f".{name}.part"
    reasons: list[str] = []
    if not mirrors:
        return None, reasons
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(part_path) as part:
            if os.path.lexists(path):
                return path, reasons
            for mirror in mirrors:
                url = f"{mirror.rstrip('/')}/{name}"
                try:
                    _fetch(url, md5, part)
                # OSError: socket, URLError, disk; HTTPException: a broken answer; ValueError: no address, or wrong contents.
                except (OSError, ValueError, http.client.HTTPException) as error:
                    log.info("download of %s failed: %s", url, error)
                    reasons.append(f"{url}: {one_line(error)}")
                else:
                    put(part_path, path)
                    return path, reasons
    except (OSError, ValueError) as error:
        reasons.append(one_line(error))
    return None, reasons


@contextmanager
def _alone(path: Path) -> Iterator[BinaryIO]:
    """Opens the unfinished file for one process at a time, and removes it in the end, unless it was renamed.

    The lock is the system's: a process that was killed leaves the file, which the next one overwrites, and no lock.
    """
    while True:
        with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644), "r+b") as part:
            _lock(part, path)
            if not has_name(part.fileno(), path):  # the process before has renamed or removed what this one waited for
                continue
            try:
                yield part
            finally:
                path.unlink(missing_ok=True)
            return


def _lock(part: BinaryIO, path: Path) -> None:
    try:
        fcntl.flock(part, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        log.warning("%s: another process is downloading it; waiting for that", path)
        fcntl.flock(part, fcntl.LOCK_EX)


def _fetch(url: str, md5: str, part: BinaryIO) -> None:
    """Downloads into an open file, in place of what it holds.

    Raises:
        OSError, ValueError, http.client.HTTPException: The mirror, the disk or the contents are no good.
    """
    digest = hashlib.md5(usedforsecurity=False)
    part.seek(0)
    part.truncate()
    # Made here: it reads the environment's proxies.
    with urllib.request.build_opener(_Handler).open(url, timeout=TIMEOUT_S) as response:
        length = getattr(response, "length", None)  # file: addresses have none
        with tqdm(total=length, desc=url.rpartition("/")[2], unit="B", unit_scale=True, disable=None) as progress:
            while chunk := response.read(1 << 16):
                part.write(chunk)
                digest.update(chunk)
                progress.update(len(chunk))
    if digest.hexdigest() != md5:
        raise ValueError(f"expected MD5 {md5}, received {part.tell():,} bytes with MD5 {digest.hexdigest()}")
    part.flush()


class _Paced(io.RawIOBase):
    """A connection's bytes, as long as they come fast enough and are not too many.

    A socket's own timeout starts again with every byte, and a header may have thousands.
    """

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.raw = connection.makefile("rb", buffering=0)
        self.total = self.recent = 0
        self.deadline_s = time.monotonic() + TIMEOUT_S

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if (left_s := self.deadline_s - time.monotonic()) <= 0:
            if self.recent < MIN_BYTES:
                raise self._too_slow()
            self.recent, left_s = 0, TIMEOUT_S
            self.deadline_s = time.monotonic() + left_s
        self.connection.settimeout(left_s)
        try:
            received = self.raw.readinto(buffer)
        except TimeoutError:
            raise self._too_slow() from None
        self.recent += received or 0
        self.total += received or 0
        if self.total > MAX_BYTES:
            raise OSError(f"more than {MAX_BYTES:,} bytes")
        return received

    def _too_slow(self) -> TimeoutError:
        return TimeoutError(f"timed out: {self.recent:,} bytes in {TIMEOUT_S:g} s")

    def close(self) -> None:
        self.raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    """An answer, paced from its first byte."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        paced = io.BufferedReader(_Paced(sock))
        self.fp.close()
        self.fp = paced  # type: ignore[assignment]  # typeshed wants the socket's own


class _HTTPConnection(http.client.HTTPConnection):
    response_class = _Response


class _HTTPSConnection(http.client.HTTPSConnection):
    response_class = _Response


class _Handler(urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_HTTPConnection, req)

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_HTTPSConnection, req)
