"""A data set's files: where they may lie, how they are checked and read, and where they are downloaded to."""

import functools
import gzip
import hashlib
import logging
import os
import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from hydra.utils import to_absolute_path
from torch import Tensor

from mnist_lightning.config.errors import UserError, fitted
from mnist_lightning.data.data_sets import DATA_SETS, IDXFile
from mnist_lightning.data.download import download
from mnist_lightning.files import CHECKOUT, Stamp, stamp

log = logging.getLogger(__name__)

MAX_BYTES = 50_000_000  # of contents whose compression is not checked; MNIST's largest has 47 million
MAX_NAMED = 5  # places, in a message
TYPES: dict[int, np.dtype] = {8: np.dtype("u1"), 12: np.dtype(">i4")}  # of values, by their code in a file


class MNISTNotFoundError(UserError, FileNotFoundError):
    """A data set lies in none of the configured places and could not be downloaded."""


class MNISTFileError(UserError, ValueError):
    """A file that should be one of a data set's is damaged, or another file altogether."""


def read_idx(path: Path, file: IDXFile) -> Tensor:
    """Reads one IDX file, gzipped or extracted by its ending, or a zip's member: uint8, or int32 (labels of QMNIST).

    Raises:
        MNISTFileError: The contents are not this file's; the file is left as it is.
    """
    way_out = "replace or remove it, or name another folder with data.root=FOLDER"
    try:
        contents, found = _read(path, file)
    except (OSError, EOFError, zlib.error) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise MNISTFileError(fitted(f"{path}: cannot be read: ", why, f"; {way_out}")) from error
    right = file.contents_md5 or file.md5
    if found != right:
        raise MNISTFileError(f"{path}: damaged or another file (MD5 {found[:8]}…, not {right[:8]}…); {way_out}")
    # Two zeros, the type, the number of dimensions, and each of them. Source: yann.lecun.com/exdb/mnist, "FILE FORMATS".
    kind, shape = TYPES[contents[2]], struct.unpack_from(f">{contents[3]}I", contents, 4)
    values = np.frombuffer(contents, kind, offset=4 + 4 * len(shape)).reshape(shape)
    tensor = torch.from_numpy(values.astype(kind.newbyteorder("=")))  # a copy of its own, which torch may write to
    return tensor.transpose(1, 2).contiguous() if file.transposed else tensor


def _read(path: Path, file: IDXFile) -> tuple[bytes, str]:
    """The extracted contents, and the MD5 by which they are known: theirs, or that of what was downloaded."""
    if file.contents_md5:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as opened:
            contents = opened.read(MAX_BYTES)
        return contents, hashlib.md5(contents, usedforsecurity=False).hexdigest()
    found = _md5(path, stamp(path))
    if found != file.md5:  # of another file nothing is extracted
        return b"", found
    if not file.member:
        return gzip.decompress(path.read_bytes()), found
    with zipfile.ZipFile(path) as archive:
        return gzip.decompress(archive.read(file.member)), found


@functools.lru_cache(maxsize=4)  # EMNIST's half a gigabyte once for its four members
def _md5(path: Path, as_it_is: Stamp) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as opened:
        while chunk := opened.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def candidates(root: str, places: Sequence[str], name: str = "MNIST") -> list[Path]:
    """Folders in which the files may lie, in the order they are looked in: `root` first, then `places`.

    A relative place is looked for from where the command was typed, then from the checkout.
    """
    bases = [_expand(root), *(base for place in places for base in (_expand(place), CHECKOUT / _home(place)))]
    layouts = DATA_SETS[name].layouts
    return list(dict.fromkeys(Path(os.path.normpath(base / layout)) for base in bases for layout in layouts))


def _home(folder: str) -> Path:
    return Path(os.path.expanduser(folder))  # noqa: PTH111  # Path's own raises where a user has no home


def _expand(folder: str) -> Path:
    """The folder, a relative one seen from the working directory, which hydra.job.chdir=true makes another."""
    path = _home(folder)
    return path if path.is_absolute() else Path(os.path.relpath(to_absolute_path(str(path))))


def find(folder: Path, file: IDXFile) -> Path | None:
    """The file in that folder, extracted where that can be checked, or else as it is downloaded."""
    names = [file.name, file.download] if file.contents_md5 else [file.download]
    return next((folder / name for name in names if (folder / name).is_file()), None)


def locate(root: str, places: Sequence[str], mirrors: Sequence[str], name: str = "MNIST") -> dict[tuple[str, str], Path]:
    """Finds a data set's files in one of the places, or downloads the missing ones into `root`.

    Args:
        root: First folder to look in, and the folder to download to.
        places: Other folders to look in, in order.
        mirrors: Base addresses to download from, in order; empty means never download.
        name: A key of DATA_SETS.

    Raises:
        MNISTNotFoundError: Says what to do, where was looked, and why the download failed.
    """
    files = DATA_SETS[name].files
    for folder in candidates(root, places, name):
        found = {kind: path for kind, file in files.items() if (path := find(folder, file))}
        if found.keys() == files.keys():
            return found
    target = _expand(root) / DATA_SETS[name].layouts[0]
    try:
        return {kind: find(target, file) or download(file.download, file.md5, target, mirrors) for kind, file in files.items()}
    except OSError as error:
        raise MNISTNotFoundError(_not_found(name, target, [root, *places], str(error))) from error


def _not_found(name: str, target: Path, places: Sequence[str], reason: str) -> str:
    """Three lines: what to do, where was looked, why the download failed."""
    first, *others = DATA_SETS[name].layouts
    files = sorted({file.download for file in DATA_SETS[name].files.values()})
    wanted = "its four files" if len(files) > 1 else files[0]
    their_folder = "their folder" if others else f"the folder with {first.partition('/')[0]} in it"
    more = f" and {len(places) - MAX_NAMED} more" if len(places) > MAX_NAMED else ""
    looked_in = f"looked in {', '.join(places[:MAX_NAMED])}{more}: {'there, in raw and ' if others else ''}in {first}"
    return "\n".join(
        [
            f"{name} was not found: put {wanted} into {target}, name {their_folder} with data.root=FOLDER or MNIST_ROOT, "
            "or train on drawn digits with data=synthetic",
            fitted("", f"{looked_in}; relative places also from {CHECKOUT}"),
            fitted("download failed: ", reason),
        ]
    )


def load(root: str, places: Sequence[str], mirrors: Sequence[str], name: str = "MNIST") -> dict[str, tuple[Tensor, Tensor]]:
    """Reads a data set with its official split; the same images for every run of a process, for none to write to.

    Returns:
        "train": uint8 images `(N, 28, 28)` and int64 labels `(N,)`, MNIST's 60,000; "test": the same of the test images.
    """
    paths = locate(root, places, mirrors, name)
    log.info("%s: %s", name, paths["train", "images"].parent)
    tensors = {kind: _read_once(paths[kind], file, stamp(paths[kind])) for kind, file in DATA_SETS[name].files.items()}
    # QMNIST has eight columns of labels, of which the first is the class.
    labels = {split: tensors[split, "labels"].long() for split in ("train", "test")}
    return {split: (tensors[split, "images"], rows[:, 0] if rows.dim() == 2 else rows) for split, rows in labels.items()}


@functools.lru_cache(maxsize=4)  # one copy of a data set, of MNIST 55 MB
def _read_once(path: Path, file: IDXFile, as_it_is: Stamp) -> Tensor:
    """`read_idx`, but for a file that this process has read and checked as it is: the jobs of a sweep follow one another."""
    return read_idx(path, file)
