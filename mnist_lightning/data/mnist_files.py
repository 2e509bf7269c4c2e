"""The four MNIST files: where they may lie, how they are checked, and where they are downloaded to."""

import functools
import gzip
import hashlib
import logging
import math
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mnist_lightning.config.errors import UserError, one_line
from mnist_lightning.data.download import download
from mnist_lightning.files import CHECKOUT, Stamp, stamp

log = logging.getLogger(__name__)

# Folders inside a place where the files may lie: torchvision's layout first.
LAYOUTS = ("MNIST/raw", "raw", ".")
MAX_NAMED = 5  # folders, in a message
MAX_REASON = 150  # characters


class MNISTNotFoundError(UserError, FileNotFoundError):
    """MNIST lies in none of the configured places and could not be downloaded."""


class MNISTFileError(UserError, ValueError):
    """A file that should be one of MNIST's four is damaged, or another file altogether."""


@dataclass(frozen=True)
class IDXFile:
    """What is known of one MNIST file."""

    name: str
    shape: tuple[int, ...]
    md5_gz: str  # which torchvision checks (torchvision.datasets.MNIST.resources)
    md5: str  # of the extracted file


FILES = {
    ("train", "images"): IDXFile(
        "train-images-idx3-ubyte", (60_000, 28, 28), "f68b3c2dcbeaaa9fbdd348bbdeb94873", "6bbc9ace898e44ae57da46a324031adb"
    ),
    ("train", "labels"): IDXFile(
        "train-labels-idx1-ubyte", (60_000,), "d53e105ee54ea40749a09fcbcd1e9432", "a25bea736e30d166cdddb491f175f624"
    ),
    ("test", "images"): IDXFile(
        "t10k-images-idx3-ubyte", (10_000, 28, 28), "9fb629c4189551a2d022fa330f9573f3", "2646ac647ad5339dbf082846283269ea"
    ),
    ("test", "labels"): IDXFile(
        "t10k-labels-idx1-ubyte", (10_000,), "ec29112dd5afa0611ce80d1b7f02629c", "27ae3e4e09519cfbb04c329615203637"
    ),
}


def read_idx(path: Path, file: IDXFile) -> Tensor:
    """The uint8 tensor in an IDX file, gzipped (by its ending) or extracted.

    Raises a MNISTFileError where the contents are not this file's: their MD5 implies magic number and shape.
    """
    num_header_bytes = 4 + 4 * len(file.shape)
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as opened:
            contents = opened.read(num_header_bytes + math.prod(file.shape) + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise _refused(path, f"cannot be read: {one_line(error)}") from error
    found = hashlib.md5(contents, usedforsecurity=False).hexdigest()
    if found != file.md5:
        raise _refused(path, f"is not MNIST's {file.name}: MD5 {found} in place of {file.md5}")
    pixels = bytearray(contents[num_header_bytes:])  # a copy of its own, which torch may write to
    return torch.frombuffer(pixels, dtype=torch.uint8).reshape(file.shape)


def _refused(path: Path, why: str) -> MNISTFileError:
    return MNISTFileError(
        f"{path}: {why}\nreplace or remove that file, or name another folder with data.root=FOLDER or MNIST_ROOT"
    )


def candidates(root: str, places: Sequence[str]) -> list[Path]:
    """Folders in which the files may lie, in the order they are looked in: `root` first, then `places`.

    A relative place is looked for from the working directory, then from the checkout.
    """
    bases = [Path(root).expanduser()]
    for place in places:
        folder = Path(place).expanduser()
        bases += [folder] if folder.is_absolute() else [folder, CHECKOUT / folder]
    return list(dict.fromkeys(Path(os.path.normpath(base / layout)) for base in bases for layout in LAYOUTS))


def find(folder: Path, file: IDXFile) -> Path | None:
    """The file in that folder, extracted or else gzipped."""
    return next((path for path in (folder / file.name, folder / f"{file.name}.gz") if path.exists()), None)


def locate(root: str, places: Sequence[str], mirrors: Sequence[str]) -> dict[tuple[str, str], Path]:
    """Finds the four files in `root` or else in one of the places, or downloads the missing ones into `root`.

    Mirrors are base addresses; without any nothing is downloaded. Raises a MNISTNotFoundError.
    """
    folders = candidates(root, places)
    for folder in folders:
        found = {key: path for key, file in FILES.items() if (path := find(folder, file))}
        if found.keys() == FILES.keys():
            return found
    target = Path(root).expanduser() / LAYOUTS[0]
    try:
        return {
            key: find(target, file) or download(f"{file.name}.gz", file.md5_gz, target, mirrors) for key, file in FILES.items()
        }
    except OSError as error:
        raise MNISTNotFoundError(_not_found(target, folders, str(error))) from error


def _not_found(target: Path, folders: Sequence[Path], reason: str) -> str:
    """Three lines: what to do, where was looked, why the download failed."""
    more = f" and {len(folders) - MAX_NAMED} more" if len(folders) > MAX_NAMED else ""
    return "\n".join(
        [
            f"MNIST was not found: put its four files into {target}, name their folder with data.root=FOLDER or MNIST_ROOT, "
            "or train on drawn digits with data=synthetic",
            f"looked in {', '.join(map(str, folders[:MAX_NAMED]))}{more}",
            f"download failed: {reason.splitlines()[0][:MAX_REASON]}",
        ]
    )


def load(root: str, places: Sequence[str], mirrors: Sequence[str]) -> dict[str, tuple[Tensor, Tensor]]:
    """The uint8 images `(N, 28, 28)` and int64 labels `(N,)` of "train" and "test", for no run of the process to write to."""
    paths = locate(root, places, mirrors)
    log.info("MNIST: %s", paths["train", "images"].parent)
    tensors = {key: _read_once(paths[key], file, stamp(paths[key])) for key, file in FILES.items()}
    return {split: (tensors[split, "images"], tensors[split, "labels"].long()) for split in ("train", "test")}


@functools.lru_cache(maxsize=len(FILES))  # one copy of MNIST, 55 MB
def _read_once(path: Path, file: IDXFile, as_it_is: Stamp) -> Tensor:
    """`read_idx`, but for a file that this process has read as it is: the jobs of a sweep follow one another."""
    return read_idx(path, file)
