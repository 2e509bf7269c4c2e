"""Finding, checking and downloading MNIST's files; the mirrors are servers on localhost."""

import functools
import gzip
import http.server
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torchvision.datasets import MNIST

from mnist_lightning.config.compose import compose_config
from mnist_lightning.data.datamodule import mnist_files, synthetic
from mnist_lightning.data.download import download
from mnist_lightning.data.mnist_files import FILES, MNISTFileError, MNISTNotFoundError, read_idx
from tests.conftest import idx_bytes


class Mirror(http.server.ThreadingHTTPServer):
    """Serves a folder on a free port of 127.0.0.1 and remembers what was asked for."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        self.asked: list[str] = []
        mirror = self

        class Handler(http.server.SimpleHTTPRequestHandler):
            def log_message(self, *args: object) -> None:
                mirror.asked.append(self.path)

        super().__init__(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
        self.url = f"http://127.0.0.1:{self.server_port}/"
        threading.Thread(target=self.serve_forever, daemon=True).start()


@pytest.fixture
def mirror(miniature: Path) -> Iterator[Mirror]:
    with Mirror(miniature / "MNIST" / "raw") as server:
        yield server
        server.shutdown()


def folder_of(place: Path) -> Path:
    return place / "MNIST" / "raw"


# --- what is known of the files -----------------------------------------------------------------------------------------


def test_checksums_and_mirrors_are_torchvisions() -> None:
    assert {(f"{file.name}.gz", file.md5_gz) for file in FILES.values()} == set(MNIST.resources)
    assert sorted(compose_config().data.mirrors) == sorted(MNIST.mirrors)


def test_magic_numbers_are_the_published_ones() -> None:
    assert {file.magic for (_, what), file in FILES.items() if what == "images"} == {2051}
    assert {file.magic for (_, what), file in FILES.items() if what == "labels"} == {2049}


# --- finding ------------------------------------------------------------------------------------------------------------


def test_root_is_looked_in_before_the_places(miniature: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(miniature, root)
    assert mnist_files.locate(str(root), [str(miniature)], [])["test", "labels"].is_relative_to(root)


@pytest.mark.parametrize("layout", ["MNIST/raw", "raw", "."])
def test_a_place_may_have_any_of_the_layouts(miniature: Path, tmp_path: Path, layout: str) -> None:
    place = tmp_path / "elsewhere"
    shutil.copytree(folder_of(miniature), place / layout)
    data = mnist_files.load(str(tmp_path / "nothing"), [str(place)], [])
    assert (data["train"][0].shape, data["test"][1].shape) == ((200, 28, 28), (100,))


def test_a_relative_place_is_also_looked_for_from_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folders = mnist_files.candidates("data", ["../shared/mnist"])
    assert Path("../shared/mnist/MNIST/raw") in folders
    assert mnist_files.CHECKOUT.parent / "shared" / "mnist" / "MNIST" / "raw" in folders


def test_extracted_and_gzipped_files_read_alike(miniature: Path) -> None:
    before = mnist_files.load(str(miniature), [], [])
    for path in folder_of(miniature).glob("*.gz"):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    after = mnist_files.load(str(miniature), [], [])
    for split in ("train", "test"):
        assert all(torch.equal(a, b) for a, b in zip(before[split], after[split], strict=True))
    assert torch.equal(after["train"][0], synthetic.draw(200, seed=200)[0])


def test_a_second_run_of_a_process_reads_no_file_again_unless_it_has_changed(
    miniature: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    original = mnist_files.read_idx
    monkeypatch.setattr(mnist_files, "read_idx", lambda path, file: read.append(path.name) or original(path, file))
    mnist_files.load(str(miniature), [], [])
    first = mnist_files.load(str(miniature), [], [])
    assert len(read) == 4
    path = folder_of(miniature) / f"{mnist_files.FILES['test', 'images'].name}.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()), compresslevel=1))
    assert torch.equal(mnist_files.load(str(miniature), [], [])["test"][0], first["test"][0])
    assert read[4:] == [path.name]
    path.write_bytes(path.read_bytes()[:-50])
    for _ in range(2):  # a refusal is not remembered as a reading
        with pytest.raises(MNISTFileError, match="expected a whole gzip file"):
            mnist_files.load(str(miniature), [], [])


def test_another_compression_of_the_same_contents_is_as_good(miniature: Path) -> None:
    for path in folder_of(miniature).glob("*.gz"):
        path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()), compresslevel=1, mtime=7))
    assert len(mnist_files.load(str(miniature), [], [])["train"][1]) == 200


def test_absence_lists_the_places_and_the_way_out(miniature: Path, tmp_path: Path) -> None:
    with pytest.raises(MNISTNotFoundError) as caught:
        mnist_files.load(str(tmp_path / "a"), [str(tmp_path / "b")], ["http://127.0.0.1:9/"])
    message = str(caught.value)
    assert str(tmp_path / "a" / "MNIST" / "raw") in message
    assert str(tmp_path / "b") in message
    assert "http://127.0.0.1:9/train-images-idx3-ubyte.gz: " in message
    assert "data=synthetic" in message


# --- checking -----------------------------------------------------------------------------------------------------------


def test_every_damage_is_refused_by_name_and_the_file_left(miniature: Path, tmp_path: Path) -> None:
    file = mnist_files.FILES["test", "images"]
    whole = gzip.decompress((folder_of(miniature) / f"{file.name}.gz").read_bytes())
    flipped = bytearray(whole)
    flipped[5000] ^= 1
    damages = {
        "empty": (b"", r"expected a header of 16 bytes, found 0 bytes in all"),
        "header": (whole[:10], r"expected a header of 16 bytes, found 10 bytes in all"),
        "magic": (b"\0\0\x08\x01" + whole[4:], r"expected magic number 2051 \(0x00000803\), found 2049 \(0x00000801\)"),
        "html": (b"<html><body>404</body></html>", r"expected magic number 2051 .*found 1013478509"),
        "count": (whole[:4] + b"\0\0\0\x63" + whole[8:], r"expected dimensions 100×28×28, found 99×28×28"),
        "short": (whole[:-1], r"expected 78,416 bytes, found 78,415"),
        "long": (whole + b"\0", r"expected 78,416 bytes, found 78,417"),
        "flipped": (bytes(flipped), rf"expected MD5 {file.md5}, found [0-9a-f]{{32}}"),
    }
    for name, (contents, expected) in damages.items():
        path = tmp_path / name / file.name
        path.parent.mkdir()
        path.write_bytes(contents)
        with pytest.raises(MNISTFileError, match=expected) as caught:
            read_idx(path, file)
        assert str(path) in str(caught.value)
        assert path.read_bytes() == contents


def test_damaged_gzip_is_refused_by_name(miniature: Path) -> None:
    file = mnist_files.FILES["test", "labels"]
    path = folder_of(miniature) / f"{file.name}.gz"
    whole = path.read_bytes()
    for contents, expected in [
        (whole[:-9], r"expected a whole gzip file, found \d+ bytes that do not unpack"),
        (whole[:20], r"expected a whole gzip file, found 20 bytes that do not unpack"),
        (b"not gzip at all", r"expected a whole gzip file, found 15 bytes that do not unpack"),
        (gzip.compress(gzip.decompress(whole)[:-3]), r"expected 108 bytes unpacked, found 105"),
        (gzip.compress(gzip.decompress(whole) + bytes(10**6)), r"expected 108 bytes unpacked, found 109 or more"),
    ]:
        path.write_bytes(contents)
        with pytest.raises(MNISTFileError, match=expected):
            mnist_files.load(str(miniature), [], [])
        assert path.read_bytes() == contents


def test_a_folder_in_place_of_a_file_is_refused_by_name(miniature: Path) -> None:
    path = folder_of(miniature) / FILES["train", "labels"].name
    path.mkdir()
    with pytest.raises(MNISTFileError, match="train-labels-idx1-ubyte: expected a readable file, found Is a directory"):
        mnist_files.load(str(miniature), [], [])


# --- downloading --------------------------------------------------------------------------------------------------------


def test_missing_files_are_downloaded_once(mirror: Mirror, tmp_path: Path) -> None:
    root = tmp_path / "root"
    data = mnist_files.load(str(root), [], [mirror.url])
    assert len(data["train"][1]) == 200
    assert sorted(p.name for p in folder_of(root).iterdir()) == sorted(f"{file.name}.gz" for file in mnist_files.FILES.values())
    mnist_files.load(str(root), [], [mirror.url])
    assert len(mirror.asked) == 4


def test_only_what_is_missing_is_downloaded(mirror: Mirror, miniature: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(miniature, root)
    (folder_of(root) / f"{FILES['test', 'labels'].name}.gz").unlink()
    mnist_files.load(str(root), [], [mirror.url])
    assert len(mirror.asked) == 1


def test_the_next_mirror_is_tried(mirror: Mirror, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with Mirror(empty) as broken:
        mnist_files.load(str(tmp_path / "root"), [], ["http://127.0.0.1:9/", broken.url, mirror.url])
        broken.shutdown()
    assert len(mirror.asked) == 4


def test_wrong_contents_never_reach_the_final_name(mirror: Mirror, miniature: Path, tmp_path: Path) -> None:
    name = f"{FILES['train', 'images'].name}.gz"
    (folder_of(miniature) / name).write_bytes(b"<html>moved</html>")
    root = tmp_path / "root"
    with pytest.raises(MNISTNotFoundError, match=r"expected MD5 \w+, received 18 bytes"):
        mnist_files.load(str(root), [], [mirror.url])
    assert not list(folder_of(root).iterdir())


def test_a_mirror_that_stalls_times_out(monkeypatch: pytest.MonkeyPatch, miniature: Path, tmp_path: Path) -> None:
    release = threading.Event()

    class Stalled(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            release.wait(10)

        def log_message(self, *args: object) -> None:
            pass

    monkeypatch.setattr(download, "TIMEOUT_S", 0.2)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stalled) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(MNISTNotFoundError, match="timed out"):
            mnist_files.load(str(tmp_path / "root"), [], [f"http://127.0.0.1:{server.server_port}/"])
        release.set()
        server.shutdown()


# --- the real thing -----------------------------------------------------------------------------------------------------


@pytest.mark.mnist
def test_the_real_mnist_is_read_as_torchvision_reads_it(real_mnist: list[str]) -> None:
    data = compose_config(*real_mnist).data
    ours = mnist_files.load(data.root, data.places, [])
    paths = mnist_files.locate(data.root, data.places, [])
    for split, theirs in (("train", True), ("test", False)):
        reference = MNIST(str(paths["train", "images"].parents[2]), train=theirs)
        assert torch.equal(ours[split][0], reference.data)
        assert torch.equal(ours[split][1], reference.targets)


def test_idx_bytes_of_the_fixture_are_the_format_of_the_publication() -> None:
    """The header that yann.lecun.com/exdb/mnist prints for the training images, in bytes."""
    contents = idx_bytes(torch.zeros(2, 28, 28, dtype=torch.uint8))
    assert contents[:16].hex() == "00000803" + "00000002" + "0000001c" + "0000001c"
