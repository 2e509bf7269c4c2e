"""The data sets in MNIST's kind of files, ten classes each: which files they are, and where a place may hold them.

The MD5 of what is downloaded are those of `torchvision.datasets`, whose layout of folders is kept, too.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class IDXFile:
    """What is known of one file."""

    download: str  # its name: a .gz, or a .zip with `member` in it
    md5: str  # of that
    contents_md5: str = ""  # of the extracted file: where it is known, that may lie there, too, or another compression
    member: str = ""  # a .gz
    transposed: bool = False  # images lie on their side

    @property
    def name(self) -> str:
        """The extracted file's."""
        return self.download.removesuffix(".gz")


@dataclass(frozen=True)
class DataSet:
    """Four files by split and content, and the folders inside a place where they may lie."""

    layouts: tuple[str, ...]  # torchvision's first; the only one, where the names of the files are MNIST's
    files: dict[tuple[str, str], IDXFile]


def _data_set(layouts: tuple[str, ...], train: tuple[IDXFile, IDXFile], test: tuple[IDXFile, IDXFile]) -> DataSet:
    """Of each split come images, then labels."""
    kinds = [(split, what) for split in ("train", "test") for what in ("images", "labels")]
    return DataSet(layouts, dict(zip(kinds, (*train, *test), strict=True)))


def _named_as_mnist(folder: str, *md5s: str) -> DataSet:
    names = [file.download for file in MNIST.files.values()]
    files = [IDXFile(name, md5) for name, md5 in zip(names, md5s, strict=True)]
    return _data_set((f"{folder}/raw",), (files[0], files[1]), (files[2], files[3]))


def _emnist(split: str) -> tuple[IDXFile, IDXFile]:
    """Members of the one file that NIST has for all splits: columns come before rows there."""
    source, member = ("gzip.zip", "58c8d27c78d21e728a6bc7b3cc06412e"), f"gzip/emnist-digits-{split}"
    return (
        IDXFile(*source, member=f"{member}-images-idx3-ubyte.gz", transposed=True),
        IDXFile(*source, member=f"{member}-labels-idx1-ubyte.gz"),
    )


MNIST = _data_set(
    ("MNIST/raw", "raw", "."),
    train=(
        IDXFile("train-images-idx3-ubyte.gz", "f68b3c2dcbeaaa9fbdd348bbdeb94873", "6bbc9ace898e44ae57da46a324031adb"),
        IDXFile("train-labels-idx1-ubyte.gz", "d53e105ee54ea40749a09fcbcd1e9432", "a25bea736e30d166cdddb491f175f624"),
    ),
    test=(
        IDXFile("t10k-images-idx3-ubyte.gz", "9fb629c4189551a2d022fa330f9573f3", "2646ac647ad5339dbf082846283269ea"),
        IDXFile("t10k-labels-idx1-ubyte.gz", "ec29112dd5afa0611ce80d1b7f02629c", "27ae3e4e09519cfbb04c329615203637"),
    ),
)

DATA_SETS = {
    "MNIST": MNIST,
    "FashionMNIST": _named_as_mnist(
        "FashionMNIST",
        *("8d4fb7e6c68d591d4c3dfef9ec88bf0d", "25c81989df183df01b3e8a0aad5dffbe"),
        *("bef4ecab320f06d8554ea6380940ec79", "bb300cfdad3c16e7a12a480ee83cd310"),
    ),
    "KMNIST": _named_as_mnist(
        "KMNIST",
        *("bdb82020997e1d708af4cf47b453dcf7", "e144d726b3acfaa3e44228e80efcd344"),
        *("5c965bf0a639b31b8f53240b1b52f4d7", "7320c461ea6c1c855c0b718fb2a4b134"),
    ),
    "EMNIST-digits": _data_set(("EMNIST/raw",), _emnist("train"), _emnist("test")),
    "QMNIST": _data_set(
        ("QMNIST/raw",),
        train=(
            IDXFile("qmnist-train-images-idx3-ubyte.gz", "ed72d4157d28c017586c42bc6afe6370"),
            IDXFile("qmnist-train-labels-idx2-int.gz", "0058f8dd561b90ffdd0f734c6a30e5e4"),
        ),
        test=(
            IDXFile("qmnist-test-images-idx3-ubyte.gz", "1394631089c404de565df7b7aeaf9412"),
            IDXFile("qmnist-test-labels-idx2-int.gz", "5b5b05890a5e13444e108efe57b788aa"),
        ),
    ),
}
