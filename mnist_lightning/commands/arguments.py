"""Arguments that several commands take."""

import argparse
from pathlib import Path

from mnist_lightning.config.compose import use_directories
from mnist_lightning.inference.shipped import DEFAULT, SHIPPED


def make_parser(word: str, description: str | None) -> argparse.ArgumentParser:
    """A command's parser, whose help is the docstring of its module."""
    return argparse.ArgumentParser(
        prog=f"python -m mnist_lightning {word}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def overrides_parser(word: str, description: str | None) -> argparse.ArgumentParser:
    """The parser of a command that composes a configuration; `overrides_of` reads what it finds."""
    parser = make_parser(word, description)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as for a run: model=net2, model.dropout=0.1, ...")
    parser.add_argument("--config-dir", "-cd", metavar="DIR", help="folder with choices of your own, beside `conf` here")
    parser.add_argument(
        "--config-name", "-cn", metavar="NAME", help="configuration in place of `config`, from that folder or ours"
    )
    return parser


def overrides_of(given: argparse.Namespace) -> list[str]:
    """The overrides, with --config-dir as one of them, so that it holds in every process that is given them."""
    overrides = list(given.overrides)
    if given.config_dir:
        overrides.append(f"hydra.searchpath=[{quoted(str(Path(given.config_dir).absolute()))}]")
    use_directories(given.config_dir, given.overrides, given.config_name)
    return overrides


def quoted(text: str) -> str:
    """Text as a value of an override, whatever it holds."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def model_parser(word: str, description: str | None) -> argparse.ArgumentParser:
    """The parser of a command that takes MODEL and --trust, as `inference.load.load` does."""
    parser = make_parser(word, description)
    parser.add_argument(
        "model",
        metavar="MODEL",
        nargs="?",
        default=Path(DEFAULT),
        type=Path,
        help="run directory, checkpoint in one, .safetensors or .onnx file, or a network that comes along: "
        f"{', '.join(SHIPPED)} (default: {DEFAULT})",
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
