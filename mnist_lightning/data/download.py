"""Downloading a file: whole and right under its name or not there at all, and once for all processes that want it."""

import hashlib
import http.client
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock
from tqdm import tqdm

from mnist_lightning import files
from mnist_lightning.config.errors import one_line

TIMEOUT_S = 30.0  # without a byte
MAX_BYTES = 16_000_000  # the largest of MNIST's files has 9.9 million
CHUNK_BYTES = 1 << 16


def download(name: str, md5: str, folder: Path, mirrors: Sequence[str]) -> Path:
    """Tries each mirror (a base address) in turn, unless another process has brought the file meanwhile.

    Raises an OSError where no mirror has it, which says what went wrong at each, or where the folder cannot be written.
    """
    reasons = []
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        if (folder / name).is_file():
            return folder / name
        for mirror in mirrors:
            try:
                contents = _fetch(f"{mirror.rstrip('/')}/{name}", md5)
            # HTTPException: an answer that is none; ValueError: an address that is none, or other contents.
            except (OSError, ValueError, http.client.HTTPException) as error:
                reasons.append(f"{mirror}: {one_line(error)}")
            else:
                files.write(folder / name, contents)
                return folder / name
    raise OSError("; ".join(reasons) or "no mirror is configured (data.mirrors)")


def _fetch(url: str, md5: str) -> bytes:
    contents = bytearray()
    with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response:
        length = getattr(response, "length", None)  # file: addresses have none
        with tqdm(total=length, desc=url.rpartition("/")[2], unit="B", unit_scale=True, disable=None) as progress:
            while chunk := response.read(CHUNK_BYTES):
                contents += chunk
                progress.update(len(chunk))
                if len(contents) > MAX_BYTES:
                    raise OSError(f"sends more than {MAX_BYTES:,} bytes")
    found = hashlib.md5(contents, usedforsecurity=False).hexdigest()
    if found != md5:
        raise ValueError(f"sends other contents ({len(contents):,} bytes, MD5 {found[:8]}…, not {md5[:8]}…)")
    return bytes(contents)
