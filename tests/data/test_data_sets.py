"""The data sets beside MNIST: miniatures of their files, served by a web server of this machine, are what is downloaded."""

import gzip
import hashlib
import io
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from torchvision import datasets

from mnist_lightning.config.build import build
from mnist_lightning.config.check import check
from mnist_lightning.config.compose import compose_config
from mnist_lightning.config.errors import ConfigError
from mnist_lightning.data import mnist_files, synthetic
from mnist_lightning.data.data_sets import DATA_SETS
from mnist_lightning.data.mnist_files import MNISTFileError, MNISTNotFoundError
from mnist_lightning.inference.load import with_places_of_here
from tests.conftest import Finished, idx_bytes, one_error, only_run, read_verdict

CHOICES = {"fashion_mnist": "FashionMNIST", "kmnist": "KMNIST", "emnist_digits": "EMNIST-digits", "qmnist": "QMNIST"}
SIZES = {"train": 200, "test": 100}


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and the address at which its files are served."""
    folder = tmp_path / "served"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()


def idx_of(name: str, split: str, what: str) -> bytes:
    """What the data set's file holds in its miniature, written here independently of the reader."""
    images, labels = synthetic.draw(SIZES[split], seed=SIZES[split])
    if what == "images":
        return idx_bytes(images.transpose(1, 2).contiguous() if name == "EMNIST-digits" else images)
    if name != "QMNIST":
        return idx_bytes(labels.byte())
    # Class, NIST's series, writer, ...: https://github.com/facebookresearch/qmnist
    columns = torch.stack([labels, *(torch.arange(len(labels)) + 1000 * column for column in range(7))], dim=1)
    header = bytes([0, 0, 12, 2]) + len(labels).to_bytes(4, "big") + (8).to_bytes(4, "big")
    return header + b"".join(int(value).to_bytes(4, "big") for value in columns.flatten())


def leave_miniature(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files of a data set as its publisher serves them; their MD5 become those of the table."""
    contents: dict[str, bytes] = {}
    archive = io.BytesIO()
    for (split, what), file in DATA_SETS[name].files.items():
        zipped = gzip.compress(idx_of(name, split, what), mtime=0)
        if file.member:
            with zipfile.ZipFile(archive, "a") as members:
                members.writestr(file.member, zipped)
            contents[file.download] = archive.getvalue()
        else:
            contents[file.download] = zipped
    for file_name, served in contents.items():
        (folder / file_name).write_bytes(served)
    md5s = {file_name: hashlib.md5(served).hexdigest() for file_name, served in contents.items()}
    files = {kind: replace(file, md5=md5s[file.download]) for kind, file in DATA_SETS[name].files.items()}
    monkeypatch.setitem(DATA_SETS, name, replace(DATA_SETS[name], files=files))


def test_files_checksums_and_mirrors_are_torchvisions() -> None:
    for choice, theirs in (("fashion_mnist", datasets.FashionMNIST), ("kmnist", datasets.KMNIST)):
        ours = DATA_SETS[CHOICES[choice]].files.values()
        assert [(file.download, file.md5) for file in ours] == theirs.resources
        assert compose_config(f"data={choice}").data.mirrors == theirs.mirrors
    [mirror] = compose_config("data=qmnist").data.mirrors
    for split in ("train", "test"):
        ours = [DATA_SETS["QMNIST"].files[split, what] for what in ("images", "labels")]
        assert [(f"{mirror}{file.download}", file.md5) for file in ours] == datasets.QMNIST.resources[split]
    [mirror] = compose_config("data=emnist_digits").data.mirrors
    assert {(f"{mirror}{file.download}", file.md5) for file in DATA_SETS["EMNIST-digits"].files.values()} == {
        (datasets.EMNIST.url, datasets.EMNIST.md5)
    }


@pytest.mark.parametrize("choice", CHOICES)
def test_a_miniature_is_downloaded_once_checked_and_read(
    choice: str, served: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, url = served
    leave_miniature(folder, CHOICES[choice], monkeypatch)
    cfg = compose_config(f"data={choice}", f"data.root={tmp_path / 'root'}", f"data.mirrors=['{url}']", "data.places=[]")
    check(cfg)
    data = build(cfg, "data", seed=0, augmentation=torch.nn.Identity())
    data.prepare_data()
    for path in folder.iterdir():  # what was downloaded is found again
        path.unlink()
    data.prepare_data()
    data.setup("fit")
    assert data.name == CHOICES[choice]
    for split in ("train", "test"):
        images, labels = synthetic.draw(SIZES[split], seed=SIZES[split])
        assert torch.equal(data.splits[split].images, images)
        assert torch.equal(data.splits[split].labels, labels)
    raw = tmp_path / "root" / f"{CHOICES[choice].removesuffix('-digits')}" / "raw"  # torchvision's layout
    assert {path.name for path in raw.iterdir()} - {".lock"} == {
        file.download for file in DATA_SETS[CHOICES[choice]].files.values()
    }


@pytest.mark.parametrize("choice", ["fashion_mnist", "emnist_digits"])
def test_another_file_of_the_right_name_is_refused_and_left(
    choice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_set = DATA_SETS[CHOICES[choice]]
    folder = tmp_path / data_set.layouts[0]
    folder.mkdir(parents=True)
    leave_miniature(folder, CHOICES[choice], monkeypatch)
    path = folder / data_set.files["train", "images"].download
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(MNISTFileError, match=r"damaged or another file \(MD5 \w{8}…, not \w{8}…\); replace or remove it"):
        mnist_files.load(str(tmp_path), [], [], CHOICES[choice])
    assert path.read_bytes() == damaged


def test_mnists_own_files_are_not_taken_for_those_of_another(miniature: Path) -> None:
    """They have the same names."""
    raw = miniature / "MNIST" / "raw"
    with pytest.raises(MNISTNotFoundError) as caught:
        mnist_files.load(str(raw), [str(miniature)], [], "FashionMNIST")
    to_do, looked_in, _ = str(caught.value).splitlines()
    assert to_do.startswith(
        f"FashionMNIST was not found: put its four files into {raw}/FashionMNIST/raw, name the folder with "
    )
    assert looked_in.startswith(f"looked in {raw}, ")


def test_what_is_missing_is_told_by_its_own_name(tmp_path: Path) -> None:
    with pytest.raises(MNISTNotFoundError, match=r"^EMNIST-digits was not found: put gzip\.zip into .*EMNIST/raw, "):
        mnist_files.load(str(tmp_path), [], [], "EMNIST-digits")


def test_an_unknown_name_is_refused_with_those_there_are() -> None:
    with pytest.raises(
        ConfigError, match=r"data\.name=Fashion: must be one of MNIST, FashionMNIST, KMNIST, EMNIST-digits, QMN"
    ):
        build(compose_config("data=fashion_mnist", "data.name=Fashion"), "data", seed=0, augmentation=torch.nn.Identity())


def test_images_are_normalised_by_the_data_sets_own_figures() -> None:
    data = build(compose_config("data=kmnist"), "data", seed=0, augmentation=torch.nn.Identity())
    white = torch.full((1, 28, 28), 255, dtype=torch.uint8)
    assert data.prepare(white).mean().item() == pytest.approx((1 - 0.1918) / 0.3483)


def test_a_run_elsewhere_downloads_from_the_mirrors_of_its_data_set() -> None:
    cfg = with_places_of_here(compose_config("data=kmnist", "data.root=/then", "data.mirrors=['http://gone/']"))
    assert cfg.data.mirrors == compose_config("data=kmnist").data.mirrors
    assert cfg.data.places[0] == "/then"


def test_the_accuracy_is_judged_by_the_gate_of_the_data_set_alone(
    cli: Callable[..., Finished], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    leave_miniature(folder, "FashionMNIST", monkeypatch)
    words = ("data=fashion_mnist", "data.root=.", "data.mirrors=[]", "trainer.max_epochs=1", "trainer.accelerator=cpu")
    words += ("pictures=none",)
    unjudged = cli(*words, "hydra.run.dir=one")
    assert (unjudged.status, unjudged.err) == (0, "")
    assert "NOT JUDGED  net3 on FashionMNIST, seed 0" in unjudged.out
    reason = "not judged: the target of 99.40 % is for MNIST, not for FashionMNIST; gate=fashion_mnist has one"
    assert reason in unjudged.out
    judged = cli(*words, "gate=fashion_mnist", "hydra.run.dir=two")
    assert judged.status == 3
    verdict = read_verdict(only_run(tmp_path / "two"))
    assert (verdict["gate_dataset"], verdict["accuracy_judged"], verdict["min_accuracy"]) == ("FashionMNIST", True, 0.91)
    assert reason in " ".join(cli("evaluate", "one").out.split())
    assert cli("evaluate", "two").status == 3
    line = one_error(cli(*words, "gate.dataset=''", "hydra.run.dir=three"), 2)
    assert line.startswith("gate.dataset=: ")
