"""MNIST's files cut off, altered, inflated or replaced by what is no file: refused by name, at once, in bounded memory."""

import contextlib
import gzip
import hashlib
import os
import random
import signal
import socket
import struct
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import pytest
import torch

from mnist_lightning.data.datamodule import mnist_files
from mnist_lightning.data.mnist_files import FILES, IDXFile, MNISTFileError, read_idx
from tests.conftest import Finished, idx_bytes
from tests.faults.conftest import Trials

Whole = list[tuple[IDXFile, bytes]]


@pytest.fixture(scope="module")
def whole() -> Whole:
    """Four small files like MNIST's: what the project knows of each, and its contents."""
    rng = random.Random(0)
    files = []
    for (split, what), file in FILES.items():
        num = {"train": 60, "test": 30}[split]
        if what == "images":  # half of the pixels black
            values = [rng.choice((0, rng.randrange(256))) for _ in range(num * 28 * 28)]
            tensor = torch.tensor(values, dtype=torch.uint8).reshape(num, 28, 28)
        else:
            tensor = torch.tensor([rng.randrange(10) for _ in range(num)], dtype=torch.uint8)
        contents = idx_bytes(tensor)
        md5_gz, md5 = (hashlib.md5(data).hexdigest() for data in (gzip.compress(contents, mtime=0), contents))
        files.append((IDXFile(file.name, tuple(tensor.shape), md5_gz=md5_gz, md5=md5), contents))
    return files


@contextlib.contextmanager
def at_most(seconds: int, num_bytes: int) -> Iterator[None]:
    """Fails what hangs, and what holds more memory."""

    def hang(signum: int, frame: FrameType | None) -> None:
        pytest.fail(f"hangs for {seconds} s")

    before = signal.signal(signal.SIGALRM, hang)
    signal.alarm(seconds)
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] <= num_bytes
    finally:
        tracemalloc.stop()
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def assert_refused(path: Path, file: IDXFile) -> str:
    """One line that begins with the path and ends with a way out."""
    with pytest.raises(MNISTFileError) as caught:
        read_idx(path, file)
    message = str(caught.value)
    assert message.startswith(f"{path}: expected ")
    assert ", found " in message
    assert message.endswith("replace or remove it, or point data.root (or MNIST_ROOT) elsewhere")
    assert len(message.splitlines()) == 1
    return message


# --- contents -----------------------------------------------------------------------------------------------------------


def flip(contents: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 1, 2, 8, 100))):
        contents[rng.randrange(len(contents))] ^= 1 << rng.randrange(8)


def overwrite(contents: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(contents))
    piece = contents[start : start + rng.randrange(1, 600)]
    contents[start : start + len(piece)] = rng.choice((bytes(len(piece)), b"\xff" * len(piece), rng.randbytes(len(piece))))


def insert(contents: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(contents))
    contents[start:start] = rng.randbytes(rng.randrange(1, 600))


def delete(contents: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(contents))
    del contents[start : start + rng.randrange(1, 600)]


def truncate(contents: bytearray, rng: random.Random) -> None:
    few_left, few_off = rng.randrange(20), len(contents) - rng.randrange(1, 20)
    del contents[rng.choice((few_left, few_off, rng.randrange(len(contents)))) :]


def append(contents: bytearray, rng: random.Random) -> None:
    contents += rng.choice((b"\0", b"\n", bytes(512), rng.randbytes(rng.randrange(1, 600)), bytes(contents)))


def swap(contents: bytearray, rng: random.Random) -> None:
    """As a file would be with two images or labels exchanged."""
    a, b = (rng.randrange(len(contents)) for _ in range(2))
    contents[a], contents[b] = contents[b], contents[a]


def header(contents: bytearray, rng: random.Random) -> None:
    """Another magic number, count or side; the count is that of fewer or more images than labels."""
    place = 4 * rng.randrange(4 if contents[3] == 3 else 2)
    [value] = struct.unpack_from(">I", contents, place)
    wrong = rng.choice((0, 1, value + 1, value - 1, 2 * value, 2**31, 2**32 - 1, rng.getrandbits(32)))
    struct.pack_into(">I", contents, place, wrong)


def count(contents: bytearray, rng: random.Random) -> None:
    """A well-formed file of fewer or more images or labels than belong to the others."""
    first, size = (16, 784) if contents[3] == 3 else (8, 1)
    num = (len(contents) - first) // size
    wanted = rng.choice((0, 1, num - 1, num + 1, 2 * num))
    struct.pack_into(">I", contents, 4, wanted)
    contents[first:] = (bytes(contents[first:]) * 2)[: wanted * size]


def out_of_range(contents: bytearray, rng: random.Random) -> None:
    """A label that is no digit; in images, one more altered pixel."""
    contents[rng.randrange(8 if contents[3] == 1 else 16, len(contents))] = rng.randrange(10, 256)


MUTATIONS = (flip, overwrite, insert, delete, truncate, append, swap, header, count, out_of_range)


def store(contents: bytes, rng: random.Random) -> bytes:
    return gzip.compress(contents, compresslevel=rng.choice((0, 1, 9)), mtime=rng.getrandbits(31))


def unpacked(stored: bytes) -> bytes | None:
    """What another reader of gzip makes of a file; None where it is none."""
    try:
        return gzip.decompress(stored)
    except (OSError, EOFError, zlib.error):
        return None


def test_altered_contents_are_refused_or_the_same(trials: Trials, whole: Whole, tmp_path: Path) -> None:
    """Raw, altered and packed, or packed and altered: what is read has the contents of the checksum, bit for bit."""
    for trial in trials("data files", few=240, all=2400):
        rng = trial.rng
        file, right = rng.choice(whole)
        mutate = MUTATIONS[trial.number % len(MUTATIONS)]
        how = ("raw", "altered, then packed", "packed, then altered")[trial.number // len(MUTATIONS) % 3]
        if how == "packed, then altered" and mutate in (header, count, out_of_range):  # which know the raw format
            mutate = flip
        altered = bytearray(store(right, rng) if how == "packed, then altered" else right)
        mutate(altered, rng)
        stored = store(bytes(altered), rng) if how == "altered, then packed" else bytes(altered)
        path = tmp_path / (file.name if how == "raw" else f"{file.name}.gz")
        path.write_bytes(stored)
        same = (stored if how == "raw" else unpacked(stored)) == right
        with at_most(10, num_bytes=2_000_000):
            if not same:
                assert_refused(path, file)
            elif how != "packed, then altered":  # a byte exchanged with an equal one
                assert idx_bytes(read_idx(path, file)) == right
            else:  # a time stamp of gzip's; what this reader is stricter in than that one is refused
                with contextlib.suppress(MNISTFileError):
                    assert idx_bytes(read_idx(path, file)) == right
        assert path.read_bytes() == stored


def test_one_bit_of_the_files_of_every_kind_is_enough(trials: Trials, whole: Whole, tmp_path: Path) -> None:
    """Without the checksum a label of 3 in place of 2 would be as good as any."""
    for trial in trials("data files", few=12, all=200):
        file, right = whole[trial.number % 4]
        path = tmp_path / file.name
        path.write_bytes(right)
        assert idx_bytes(read_idx(path, file)) == right
        first = 4 + 4 * len(file.shape)
        altered = bytearray(right)
        altered[trial.rng.randrange(first, len(right))] ^= 1
        path.write_bytes(altered)
        assert f"expected MD5 {file.md5}, found {hashlib.md5(altered).hexdigest()}" in assert_refused(path, file)


# --- what lies in place of a file ---------------------------------------------------------------------------------------


def bomb(path: Path) -> None:
    """50 MB of zeros in 50 KB of gzip, behind a right header."""
    pack = zlib.compressobj(wbits=31)
    zeros = bytes(10_000_000)
    path.write_bytes(pack.compress(struct.pack(">4I", 2051, 60, 28, 28)) + b"".join(pack.compress(zeros) for _ in range(5)))


def listen(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        # A path of a socket has at most 107 bytes.
        folder = os.open(path.parent, os.O_RDONLY)
        server.bind(f"/proc/self/fd/{folder}/{path.name}")
        os.close(folder)


def loop(path: Path) -> None:
    other = path.with_name("other")
    other.symlink_to(path)
    path.symlink_to(other)


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


def locked(path: Path) -> None:
    path.write_bytes(b"anything")
    path.chmod(0)


EMPTY = gzip.compress(b"")
IN_PLACE: dict[str, Callable[[Path], object]] = {
    "a folder": Path.mkdir,
    "a FIFO": os.mkfifo,
    "a socket": listen,
    "a loop of links": loop,
    "a link to nothing": lambda path: path.symlink_to("nothing"),
    "a link to what never ends": lambda path: path.symlink_to("/dev/zero"),
    "a link to what cannot be read": lambda path: path.symlink_to("/proc/self/mem"),
    "a link to itself": lambda path: path.symlink_to(path),
    "no permission": locked,
    "nothing": Path.touch,
    "a terabyte of nothing": sparse,
    "a gzip bomb": bomb,
    "a bomb of empty streams": lambda path: path.write_bytes(EMPTY * (100_000 // len(EMPTY))),
    "a name of 100,000 bytes": lambda path: path.write_bytes(b"\x1f\x8b\x08\x08" + bytes(6) + b"a" * 100_000),
    "a web page": lambda path: path.write_text("<!DOCTYPE html>" + "\n" * 100),
}


def test_what_is_no_file_is_refused_without_waiting(trials: Trials, whole: Whole, tmp_path: Path) -> None:
    for trial in trials("data files", few=30, all=8 * len(IN_PLACE)):
        kind = list(IN_PLACE)[trial.number % len(IN_PLACE)]
        file, right = whole[trial.number // 2 % 4]
        folder = tmp_path / str(trial.number)
        folder.mkdir()
        path = folder / f"{file.name}{'.gz' if trial.number // len(IN_PLACE) % 2 else ''}"
        IN_PLACE[kind](path)
        if kind == "no permission" and os.access(path, os.R_OK):  # for the superuser
            continue
        # Twice the contents and an overhead of gzip's.
        with at_most(10, num_bytes=2 * len(right) + 500_000):
            assert_refused(path, file)
        assert os.path.lexists(path)


# --- as a user sees it --------------------------------------------------------------------------------------------------


def test_a_run_ends_in_one_line_and_status_1(
    trials: Trials, cli: Callable[..., Finished], whole: Whole, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(mnist_files, "FILES", dict(zip(FILES, (file for file, _ in whole), strict=True)))
    for trial in trials("data files", few=2, all=30):
        kind = trial.rng.choice([kind for kind in IN_PLACE if kind not in ("no permission",)])
        root = tmp_path / f"root{trial.number}"
        root.mkdir()
        for file, right in whole:
            (root / file.name).write_bytes(right)
        file, _ = trial.rng.choice(whole)
        (root / file.name).unlink()
        IN_PLACE[kind](root / file.name)
        command = ("data=mnist", f"data.root={root}", "data.mirrors=[]", "trainer.accelerator=cpu", "pictures=none")
        done = cli(*command, f"hydra.run.dir=run{trial.number}")  # launches of one process in one second share a name
        [line] = done.err.splitlines()
        assert done.status == 1
        assert line.startswith(f"error: MNISTFileError: {root / file.name}: expected "), kind
        assert "Traceback" not in done.out
