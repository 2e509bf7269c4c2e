"""Finding, checking and downloading MNIST's files; the mirrors are folders."""

import gzip
import os
import random
import shutil
from pathlib import Path

import pytest
import torch
from torchvision.datasets import MNIST

from mnist_lightning.config.compose import compose_config
from mnist_lightning.data import mnist_files, synthetic
from mnist_lightning.data.data_sets import DATA_SETS, IDXFile
from mnist_lightning.data.mnist_files import MNISTFileError, MNISTNotFoundError, read_idx
from tests.conftest import idx_bytes


def folder_of(place: Path) -> Path:
    return place / "MNIST" / "raw"


def file_of(split: str, what: str) -> IDXFile:
    return DATA_SETS["MNIST"].files[split, what]


# --- what is known of the files -----------------------------------------------------------------------------------------


def test_checksums_and_mirrors_are_torchvisions() -> None:
    assert [(file.download, file.md5) for file in DATA_SETS["MNIST"].files.values()] == MNIST.resources
    assert sorted(compose_config().data.mirrors) == sorted(MNIST.mirrors)


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
    assert mnist_files.candidates("/a", ["/b"])[::3] == [Path("/a/MNIST/raw"), Path("/b/MNIST/raw")]


def test_a_home_that_is_not_known_is_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Path("~nobody-of-that-name/mnist") in mnist_files.candidates("data", ["~nobody-of-that-name/mnist"])


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
    for _ in range(2):
        mnist_files.load(str(miniature), [], [])
    assert len(read) == 4
    path = folder_of(miniature) / f"{file_of('test', 'images').name}.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()), compresslevel=1))
    mnist_files.load(str(miniature), [], [])
    assert read[4:] == [path.name]
    path.write_bytes(path.read_bytes()[:-50])
    for _ in range(2):  # a refusal is not remembered as a reading
        with pytest.raises(MNISTFileError, match="cannot be read: Compressed file ended"):
            mnist_files.load(str(miniature), [], [])


def test_another_compression_of_the_same_contents_is_as_good(miniature: Path) -> None:
    for path in folder_of(miniature).glob("*.gz"):
        path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()), compresslevel=1, mtime=7))
    assert len(mnist_files.load(str(miniature), [], [])["train"][1]) == 200


@pytest.mark.parametrize(("num_places", "more"), [(1, ""), (40, " and 36 more")])
def test_absence_says_what_to_do_in_three_lines(tmp_path: Path, num_places: int, more: str) -> None:
    places = [f"nowhere{number}" for number in range(num_places)]
    mirrors = [f"http://127.0.0.1:9/{'long/' * 20}", "http://127.0.0.1:9/other/"]
    with pytest.raises(MNISTNotFoundError) as caught:
        mnist_files.load(str(tmp_path), places, mirrors)
    to_do, looked_in, why = str(caught.value).splitlines()
    assert to_do == (
        f"MNIST was not found: put its four files into {tmp_path}/MNIST/raw, name their folder with data.root=FOLDER "
        "or MNIST_ROOT, or train on drawn digits with data=synthetic"
    )
    named = ", ".join([str(tmp_path), *places[:4]])
    assert looked_in.startswith(f"looked in {named}{more}: ")
    assert why.startswith("download failed: http://127.0.0.1:9/long/")
    assert max(len(looked_in), len(why)) <= 190  # and "error: " before it


# --- checking -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zipped", [False, True], ids=["extracted", "gzipped"])
def test_every_damage_is_refused_by_name_and_the_file_left(miniature: Path, tmp_path: Path, zipped: bool) -> None:
    file = file_of("test", "labels")
    whole = gzip.decompress((folder_of(miniature) / f"{file.name}.gz").read_bytes())
    rng = random.Random(0)
    damages = [b"", whole[:10], whole[:-1], whole + b"\0", b"<html>404</html>", b"\0\0\x08\x03" + whole[4:]]
    for at in [0, 5, 7, len(whole) - 1, *(rng.randrange(len(whole)) for _ in range(20))]:
        flipped = bytearray(whole)
        flipped[at] ^= 1 << rng.randrange(8)
        damages.append(bytes(flipped))
    if zipped:
        packed = gzip.compress(whole)
        bomb = gzip.compress(bytes(2 * mnist_files.MAX_BYTES), compresslevel=1)
        damages = [*map(gzip.compress, damages), packed[:20], packed[:-9], b"not gzip at all", bomb]
    path = tmp_path / (f"{file.name}.gz" if zipped else file.name)
    for contents in damages:
        path.write_bytes(contents)
        with pytest.raises(MNISTFileError) as caught:
            read_idx(path, file)
        message = str(caught.value)
        assert message.startswith((f"{path}: damaged or another file (MD5 ", f"{path}: cannot be read: "))
        assert message.endswith("; replace or remove it, or name another folder with data.root=FOLDER")
        assert len(message) - len(str(path)) <= 135
        assert path.read_bytes() == contents


def test_one_of_the_four_files_is_not_taken_for_another(miniature: Path) -> None:
    path = folder_of(miniature) / f"{file_of('test', 'images').name}.gz"
    with pytest.raises(MNISTFileError, match=r"damaged or another file \(MD5 \w{8}…, not \w{8}…\)"):
        read_idx(path, file_of("train", "images"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes")
def test_what_is_no_file_is_passed_over(miniature: Path) -> None:
    """A pipe would be waited for."""
    (folder_of(miniature) / file_of("train", "labels").name).mkdir()
    os.mkfifo(folder_of(miniature) / file_of("train", "images").name)
    assert len(mnist_files.load(str(miniature), [], [])["train"][1]) == 200


# --- downloading --------------------------------------------------------------------------------------------------------


def test_what_is_missing_is_downloaded_once(miniature: Path, tmp_path: Path) -> None:
    there, missing = [f"{file_of(split, 'labels').name}.gz" for split in ("train", "test")]
    root = tmp_path / "root"
    shutil.copytree(miniature, root)
    (folder_of(root) / missing).unlink()
    (folder_of(miniature) / there).unlink()  # the mirror lacks what is not needed
    mirrors = ["http://127.0.0.1:9/", folder_of(miniature).as_uri()]
    assert mnist_files.locate(str(root), [], mirrors)["test", "labels"] == folder_of(root) / missing
    assert len(mnist_files.load(str(root), [], [])["test"][1]) == 100


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
