"""The four MNIST files: where they may lie, how they are checked, and where they are downloaded to."""

import functools
import gzip
import hashlib
import logging
import os
import struct
import textwrap
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mnist_lightning.config.errors import UserError
from mnist_lightning.data.download import download
from mnist_lightning.files import CHECKOUT, Stamp, stamp

log = logging.getLogger(__name__)

# Folders inside a place where the files may lie: torchvision's layout first.
LAYOUTS = ("MNIST/raw", "raw", ".")
MAX_BYTES = 50_000_000  # of a file's contents; the largest has 47 million
MAX_NAMED = 5  # places, in a message
MAX_LINE = 190  # characters


class MNISTNotFoundError(UserError, FileNotFoundError):
    """MNIST lies in none of the configured places and could not be downloaded."""


class MNISTFileError(UserError, ValueError):
    """A file that should be one of MNIST's four is damaged, or another file altogether."""


@dataclass(frozen=True)
class IDXFile:
    """What is known of one MNIST file.

    The MD5 of the .gz is the one torchvision checks (torchvision.datasets.MNIST.resources); the MD5 of the extracted file is
    that of its contents.
    """

    name: str
    md5_gz: str
    md5: str


FILES = {
    ("train", "images"): IDXFile(
        "train-images-idx3-ubyte", "f68b3c2dcbeaaa9fbdd348bbdeb94873", "6bbc9ace898e44ae57da46a324031adb"
    ),
    ("train", "labels"): IDXFile(
        "train-labels-idx1-ubyte", "d53e105ee54ea40749a09fcbcd1e9432", "a25bea736e30d166cdddb491f175f624"
    ),
    ("test", "images"): IDXFile(
        "t10k-images-idx3-ubyte", "9fb629c4189551a2d022fa330f9573f3", "2646ac647ad5339dbf082846283269ea"
    ),
    ("test", "labels"): IDXFile(
        "t10k-labels-idx1-ubyte", "ec29112dd5afa0611ce80d1b7f02629c", "27ae3e4e09519cfbb04c329615203637"
    ),
}


def read_idx(path: Path, file: IDXFile) -> Tensor:
    """Reads one IDX file of bytes, gzipped (by its ending) or extracted; the MD5 of its contents implies type and shape.

    Raises:
        MNISTFileError: The contents are not this file's; the file is left as it is.
    """
    way_out = "replace or remove it, or name another folder with data.root=FOLDER"
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as opened:
            contents = opened.read(MAX_BYTES)
    except (OSError, EOFError, zlib.error) as error:
        why = textwrap.shorten(getattr(error, "strerror", None) or str(error), 50, placeholder=" …")
        raise MNISTFileError(f"{path}: cannot be read: {why}; {way_out}") from error
    found = hashlib.md5(contents, usedforsecurity=False).hexdigest()
    if found != file.md5:
        why = f"damaged or another file (MD5 {found[:8]}…, MNIST's {file.md5[:8]}…)"
        raise MNISTFileError(f"{path}: {why}; {way_out}")
    # Two zeros, the type, the number of dimensions, and each of them. Source: yann.lecun.com/exdb/mnist, "FILE FORMATS".
    shape = struct.unpack_from(f">{contents[3]}I", contents, 4)
    pixels = bytearray(contents[4 + 4 * len(shape) :])  # a copy of its own, which torch may write to
    return torch.frombuffer(pixels, dtype=torch.uint8).reshape(shape)


def candidates(root: str, places: Sequence[str]) -> list[Path]:
    """Folders in which the files may lie, in the order they are looked in: `root` first, then `places`.

    A relative place is looked for from the working directory, then from the checkout.
    """
    bases = [_expand(root)] + [base / _expand(place) for place in places for base in (Path(), CHECKOUT)]
    return list(dict.fromkeys(Path(os.path.normpath(base / layout)) for base in bases for layout in LAYOUTS))


def _expand(folder: str) -> Path:
    return Path(os.path.expanduser(folder))  # noqa: PTH111  # Path's own raises where a user has no home


def find(folder: Path, file: IDXFile) -> Path | None:
    """The file in that folder, extracted or else gzipped."""
    return next((path for path in (folder / file.name, folder / f"{file.name}.gz") if path.is_file()), None)


def locate(root: str, places: Sequence[str], mirrors: Sequence[str]) -> dict[tuple[str, str], Path]:
    """Finds the four files in one of the places, or downloads the missing ones into `root`.

    Args:
        root: First folder to look in, and the folder to download to.
        places: Other folders to look in, in order.
        mirrors: Base addresses to download from, in order; empty means never download.

    Raises:
        MNISTNotFoundError: Says what to do, where was looked, and why the download failed.
    """
    folders = candidates(root, places)
    for folder in folders:
        found = {key: path for key, file in FILES.items() if (path := find(folder, file))}
        if found.keys() == FILES.keys():
            return found
    target = _expand(root) / LAYOUTS[0]
    try:
        return {
            key: find(target, file) or download(f"{file.name}.gz", file.md5_gz, target, mirrors) for key, file in FILES.items()
        }
    except OSError as error:
        raise MNISTNotFoundError(_not_found(target, [root, *places], str(error))) from error


def _not_found(target: Path, places: Sequence[str], reason: str) -> str:
    """Three lines: what to do, where was looked, why the download failed."""
    more = f" and {len(places) - MAX_NAMED} more" if len(places) > MAX_NAMED else ""
    looked_in = f"looked in {', '.join(places[:MAX_NAMED])}{more}: there, in raw and in MNIST/raw"
    return "\n".join(
        [
            f"MNIST was not found: put its four files into {target}, name their folder with data.root=FOLDER or MNIST_ROOT, "
            "or train on drawn digits with data=synthetic",
            textwrap.shorten(f"{looked_in}; relative places also from {CHECKOUT}", MAX_LINE, placeholder=" …"),
            textwrap.shorten(f"download failed: {reason}", MAX_LINE, placeholder=" …"),
        ]
    )


def load(root: str, places: Sequence[str], mirrors: Sequence[str]) -> dict[str, tuple[Tensor, Tensor]]:
    """Reads MNIST with its official split; the same images for every run of a process, for none to write to.

    Returns:
        "train": uint8 images `(60000, 28, 28)` and int64 labels `(60000,)`; "test": the same of the 10,000 test images.
    """
    paths = locate(root, places, mirrors)
    log.info("MNIST: %s", paths["train", "images"].parent)
    tensors = {key: _read_once(paths[key], file, stamp(paths[key])) for key, file in FILES.items()}
    return {split: (tensors[split, "images"], tensors[split, "labels"].long()) for split in ("train", "test")}


@functools.lru_cache(maxsize=len(FILES))  # one copy of MNIST, 55 MB
def _read_once(path: Path, file: IDXFile, as_it_is: Stamp) -> Tensor:
    """`read_idx`, but for a file that this process has read and checked as it is: the jobs of a sweep follow one another."""
    return read_idx(path, file)
