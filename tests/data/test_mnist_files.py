"""Finding, checking and downloading MNIST's files; mirrors that fail are in tests/faults/test_downloads.py."""

import gzip
import random
import shutil
from pathlib import Path

import pytest
import torch
from torchvision.datasets import MNIST

from mnist_lightning.config.compose import compose_config
from mnist_lightning.data import mnist_files, synthetic
from mnist_lightning.data.mnist_files import FILES, MNISTFileError, MNISTNotFoundError, read_idx


def folder_of(place: Path) -> Path:
    return place / "MNIST" / "raw"


# --- what is known of the files -----------------------------------------------------------------------------------------


def test_checksums_and_mirrors_are_torchvisions() -> None:
    assert {(f"{file.name}.gz", file.md5_gz) for file in FILES.values()} == set(MNIST.resources)
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
    path = folder_of(miniature) / f"{mnist_files.FILES['test', 'images'].name}.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()), compresslevel=1))
    mnist_files.load(str(miniature), [], [])
    assert read[4:] == [path.name]
    path.write_bytes(path.read_bytes()[:-50])
    for _ in range(2):  # a refusal is not remembered as a reading
        with pytest.raises(MNISTFileError, match="cannot be read"):
            mnist_files.load(str(miniature), [], [])


def test_absence_says_what_to_do_in_three_lines(tmp_path: Path) -> None:
    places = [str(tmp_path / str(number)) for number in range(9)]
    with pytest.raises(MNISTNotFoundError) as caught:
        mnist_files.load("data", places, ["http://127.0.0.1:9/"])
    to_do, looked_in, why = str(caught.value).splitlines()
    assert to_do.startswith("MNIST was not found: put its four files into data/MNIST/raw, ")
    assert to_do.endswith("or train on drawn digits with data=synthetic")
    assert looked_in.startswith("looked in data/MNIST/raw, data/raw, data, ")
    assert looked_in.endswith(f" and {3 * 10 - mnist_files.MAX_NAMED} more")
    assert why.startswith("download failed: http://127.0.0.1:9/train-images-idx3-ubyte.gz: ")
    assert max(map(len, (to_do, why))) <= 200


# --- checking -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zipped", [False, True], ids=["extracted", "gzipped"])
def test_every_damage_is_refused_by_name_and_the_file_left(miniature: Path, tmp_path: Path, zipped: bool) -> None:
    file = mnist_files.FILES["test", "images"]
    whole = gzip.decompress((folder_of(miniature) / f"{file.name}.gz").read_bytes())
    rng = random.Random(0)
    damages = [b"", whole[:10], whole[:-1], whole + b"\0", b"<html>404</html>", b"\0\0\x08\x01" + whole[4:]]
    for at in [0, 5, 15, len(whole) - 1, *(rng.randrange(len(whole)) for _ in range(20))]:
        flipped = bytearray(whole)
        flipped[at] ^= 1 << rng.randrange(8)
        damages.append(bytes(flipped))
    damages = [gzip.compress(damage) for damage in damages] if zipped else damages
    if zipped:
        packed = gzip.compress(whole)
        damages += [packed[:20], packed[:-9], b"not gzip at all", gzip.compress(bytes(10**7))]
    path = tmp_path / (f"{file.name}.gz" if zipped else file.name)
    for contents in damages:
        path.write_bytes(contents)
        with pytest.raises(MNISTFileError) as caught:
            read_idx(path, file)
        why, way_out = str(caught.value).splitlines()
        assert why.startswith(f"{path}: ")
        assert way_out == "replace or remove that file, or name another folder with data.root=FOLDER or MNIST_ROOT"
        assert path.read_bytes() == contents


def test_one_of_the_four_files_is_not_taken_for_another(miniature: Path) -> None:
    path = folder_of(miniature) / f"{mnist_files.FILES['test', 'images'].name}.gz"
    with pytest.raises(MNISTFileError, match=r"is not MNIST's train-images-idx3-ubyte: MD5 \w{32} in place of \w{32}"):
        read_idx(path, mnist_files.FILES["train", "images"])


def test_a_folder_in_place_of_a_file_is_refused_by_name(miniature: Path) -> None:
    (folder_of(miniature) / mnist_files.FILES["train", "labels"].name).mkdir()
    with pytest.raises(MNISTFileError, match=r"train-labels-idx1-ubyte: cannot be read: "):
        mnist_files.load(str(miniature), [], [])


# --- downloading --------------------------------------------------------------------------------------------------------


def test_only_what_is_missing_is_downloaded_and_once(miniature: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, root = [], tmp_path / "root"
    download = mnist_files.download
    monkeypatch.setattr(mnist_files, "download", lambda name, *rest: asked.append(name) or download(name, *rest))
    names = [f"{file.name}.gz" for file in mnist_files.FILES.values()]
    for _ in range(2):
        data = mnist_files.load(str(root), [], [folder_of(miniature).as_uri()])
        assert (len(data["train"][1]), asked) == (200, names)
    (folder_of(root) / names[-1]).unlink()
    mnist_files.load(str(root), [], [folder_of(miniature).as_uri()])
    assert asked == [*names, names[-1]]


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
