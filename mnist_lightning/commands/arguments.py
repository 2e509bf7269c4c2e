"""Arguments that several commands take."""

import argparse
from pathlib import Path


def make_parser(word: str, description: str | None) -> argparse.ArgumentParser:
    """A command's parser, whose help is the docstring of its module."""
    return argparse.ArgumentParser(
        prog=f"python -m mnist_lightning {word}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def model_parser(word: str, description: str | None) -> argparse.ArgumentParser:
    """The parser of a command that takes MODEL and --trust, as `inference.load.load` does."""
    parser = make_parser(word, description)
    parser.add_argument(
        "model", metavar="MODEL", type=Path, help="run directory, best.ckpt or last.ckpt in one, or an exported .onnx file"
    )
    parser.add_argument(
        "--trust", action="store_true", help="import the network that config.yaml names, wherever it lies: runs its code"
    )
    return parser


def runs_parser(word: str, description: str | None) -> argparse.ArgumentParser:
    """The parser of a command that takes folders with runs in them."""
    parser = make_parser(word, description)
    parser.add_argument("directories", type=Path, nargs="+", metavar="DIR", help="folders with runs in them, at any depth")
    return parser
