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
MAX_BYTES = {".gz": 40_000_000, ".zip": 600_000_000}  # the largest have 26 (Fashion-MNIST) and 562 million (EMNIST)
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
        files.remove_parts(folder)
        for mirror in mirrors:
            try:
                with files.replacing(folder / name) as part:
                    _fetch(f"{mirror.rstrip('/')}/{name}", md5, part)
            # HTTPException: an answer that is none; ValueError: an address that is none, or other contents.
            except (OSError, ValueError, http.client.HTTPException) as error:
                reasons.append(f"{mirror}: {one_line(error)}")
            else:
                return folder / name
    raise OSError("; ".join(reasons) or "no mirror is configured (data.mirrors)")


def _fetch(url: str, md5: str, path: Path) -> None:
    digest, received, limit = hashlib.md5(usedforsecurity=False), 0, MAX_BYTES[path.suffix]
    with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response, path.open("wb") as file:
        length = getattr(response, "length", None)  # file: addresses have none
        with tqdm(total=length, desc=url.rpartition("/")[2], unit="B", unit_scale=True, disable=None) as progress:
            while chunk := response.read(CHUNK_BYTES):
                file.write(chunk)
                digest.update(chunk)
                progress.update(len(chunk))
                received += len(chunk)
                if received > limit:
                    raise OSError(f"sends more than {limit:,} bytes")
    if (found := digest.hexdigest()) != md5:
        raise ValueError(f"sends other contents ({received:,} bytes, MD5 {found[:8]}…, not {md5[:8]}…)")
