"""The four MNIST files: where they may lie, how they are checked, and where they are downloaded to."""

import functools
import hashlib
import logging
import os
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mnist_lightning.data.download import download
from mnist_lightning.files import CHECKOUT, Stamp, read_start, stamp

log = logging.getLogger(__name__)

# A relative place is looked for from the working directory, then from the checkout (the folder that holds the package).
# Folders inside a place where the files may lie: torchvision's layout first.
LAYOUTS = ("MNIST/raw", "raw", ".")
GZIP_OVERHEAD = 65_536  # bytes by which a gzip file may be longer than its contents: headers, and five a block


class MNISTNotFoundError(FileNotFoundError):
    """MNIST lies in none of the configured places and could not be downloaded."""


class MNISTFileError(ValueError):
    """A file that should be one of MNIST's four is damaged, or another file altogether."""


@dataclass(frozen=True)
class IDXFile:
    """What is known of one MNIST file.

    The MD5 of the .gz is the one torchvision checks (torchvision.datasets.MNIST.resources); the MD5 of the extracted file is
    that of its contents.
    """

    name: str
    shape: tuple[int, ...]
    md5_gz: str
    md5: str

    @property
    def magic(self) -> int:
        """0x00 0x00, 0x08 for unsigned bytes, the number of dimensions. Source: yann.lecun.com/exdb/mnist, "FILE FORMATS"."""
        return 0x0800 | len(self.shape)


FILES = {
    ("train", "images"): IDXFile(
        "train-images-idx3-ubyte",
        (60_000, 28, 28),
        md5_gz="f68b3c2dcbeaaa9fbdd348bbdeb94873",
        md5="6bbc9ace898e44ae57da46a324031adb",
    ),
    ("train", "labels"): IDXFile(
        "train-labels-idx1-ubyte",
        (60_000,),
        md5_gz="d53e105ee54ea40749a09fcbcd1e9432",
        md5="a25bea736e30d166cdddb491f175f624",
    ),
    ("test", "images"): IDXFile(
        "t10k-images-idx3-ubyte",
        (10_000, 28, 28),
        md5_gz="9fb629c4189551a2d022fa330f9573f3",
        md5="2646ac647ad5339dbf082846283269ea",
    ),
    ("test", "labels"): IDXFile(
        "t10k-labels-idx1-ubyte",
        (10_000,),
        md5_gz="ec29112dd5afa0611ce80d1b7f02629c",
        md5="27ae3e4e09519cfbb04c329615203637",
    ),
}


def read_idx(path: Path, file: IDXFile) -> Tensor:
    """Reads one IDX file, gzipped (by its ending) or extracted, and checks magic number, dimensions, size and MD5.

    Returns:
        uint8 tensor of the file's shape.

    Raises:
        MNISTFileError: The contents are not this file's; the file is left as it is.
    """

    def refuse(expected: str, found: str) -> MNISTFileError:
        return MNISTFileError(
            f"{path}: expected {expected}, found {found}; "
            "the file was left as it is: replace or remove it, or point data.root (or MNIST_ROOT) elsewhere"
        )

    zipped = path.suffix == ".gz"
    num_header_bytes = 4 + 4 * len(file.shape)
    num_bytes = num_header_bytes + int(torch.Size(file.shape).numel())
    most = num_bytes + GZIP_OVERHEAD
    try:
        contents = read_start(path, most + 1)
    except (OSError, ValueError) as error:
        raise refuse("a readable file", getattr(error, "strerror", None) or str(error)) from error
    if len(contents) > most:
        raise refuse(f"at most {most:,} bytes", f"{path.stat().st_size:,}")
    stored_md5 = hashlib.md5(contents, usedforsecurity=False).hexdigest()
    if zipped:
        try:
            contents = _gunzip(contents, num_bytes)
        except (ValueError, zlib.error) as error:
            raise refuse("a whole gzip file", f"{len(contents):,} bytes that do not unpack ({error})") from error

    if len(contents) < num_header_bytes:
        raise refuse(f"a header of {num_header_bytes} bytes", f"{len(contents)} bytes in all")
    magic, *dimensions = struct.unpack_from(f">{1 + len(file.shape)}I", contents)
    if magic != file.magic:
        raise refuse(f"magic number {file.magic} ({file.magic:#010x})", f"{magic} ({magic:#010x})")
    if tuple(dimensions) != file.shape:
        raise refuse(f"dimensions {_by(file.shape)}", _by(dimensions))
    if len(contents) != num_bytes:
        more = " or more" if zipped and len(contents) > num_bytes else ""
        raise refuse(f"{num_bytes:,} bytes{' unpacked' if zipped else ''}", f"{len(contents):,}{more}")
    expected_md5 = file.md5_gz if zipped else file.md5
    # Another compression of the same contents is as good: what counts in the end are the bytes unpacked.
    if stored_md5 != expected_md5 and hashlib.md5(contents, usedforsecurity=False).hexdigest() != file.md5:
        raise refuse(f"MD5 {expected_md5}", stored_md5)
    pixels = bytearray(contents[num_header_bytes:])  # a copy of its own, which torch may write to
    return torch.frombuffer(pixels, dtype=torch.uint8).reshape(file.shape)


def _gunzip(contents: bytes, num_bytes: int) -> bytes:
    """Unpacks at most one byte more than `num_bytes`: a file that unpacks to gigabytes is refused, not held in memory.

    One stream, as every packer writes it: `gzip` would walk through millions of empty ones for minutes.
    """
    stream = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)  # with gzip's header and checksum
    unpacked = stream.decompress(contents, num_bytes + 1)
    if len(unpacked) <= num_bytes and not stream.eof:
        raise ValueError("it is cut off")
    if stream.unused_data:
        raise ValueError(f"{len(stream.unused_data):,} bytes follow its end")
    return unpacked


def _by(dimensions: Sequence[int]) -> str:
    return "×".join(str(size) for size in dimensions)


def candidates(root: str, places: Sequence[str]) -> list[Path]:
    """Folders in which the files may lie, in the order they are looked in: `root` first, then `places`."""
    bases = [_expand(root)]
    for place in places:
        folder = _expand(place)
        bases += [folder] if folder.is_absolute() else [folder, CHECKOUT / folder]
    return list(dict.fromkeys(Path(os.path.normpath(base / layout)) for base in bases for layout in LAYOUTS))


def _expand(folder: str) -> Path:
    return Path(os.path.expanduser(folder))  # noqa: PTH111  # Path's own raises for a user that there is not


def find(folder: Path, file: IDXFile) -> Path | None:
    """The file in that folder, extracted or else gzipped."""
    for path in (folder / file.name, folder / f"{file.name}.gz"):
        if os.path.lexists(path):
            return path
    return None


def locate(root: str, places: Sequence[str], mirrors: Sequence[str]) -> dict[tuple[str, str], Path]:
    """Finds the four files in one of the places, or downloads the missing ones into `root`.

    Args:
        root: First folder to look in, and the folder to download to.
        places: Other folders to look in, in order.
        mirrors: Base addresses to download from, in order; empty means never download.

    Raises:
        MNISTNotFoundError: Lists the folders looked in and why each mirror failed.
    """
    folders = candidates(root, places)
    for folder in folders:
        found = {key: find(folder, file) for key, file in FILES.items()}
        if all(found.values()):
            return {key: path for key, path in found.items() if path is not None}

    target = _expand(root) / LAYOUTS[0]
    paths: dict[tuple[str, str], Path] = {}
    failures: list[str] = []
    for key, file in FILES.items():
        path = find(target, file)
        if path is None:
            path, reasons = download(f"{file.name}.gz", file.md5_gz, target, mirrors)
            failures += reasons
        if path is None:
            looked_in = ", ".join(str(folder) for folder in folders)
            tried = "; ".join(failures) if failures else "no mirror is configured (data.mirrors)"
            raise MNISTNotFoundError(
                f"MNIST was not found in {looked_in}, nor could it be downloaded ({tried}); put its four files into one of "
                "these folders, name theirs with data.root=FOLDER or MNIST_ROOT, or train on drawn digits with data=synthetic"
            )
        paths[key] = path
    return paths


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
