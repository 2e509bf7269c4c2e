"""`python -m mnist_lightning.predict MODEL PICTURE...`: the digit in photos and drawings, with its probability and runner-up.

A folder stands for the pictures in it. Exit status 2 where a file was no picture of a digit; the others are predicted anyway.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mnist_lightning.config import register_resolvers
from mnist_lightning.escape import printable
from mnist_lightning.explain import complain, errors_as_lines
from mnist_lightning.photos import SUFFIXES, PictureError, prepare
from mnist_lightning.status import BAD_CONFIG, OK
from mnist_lightning.terminal import outlive_readers
from mnist_lightning.trained import add_model_argument, load


def predict(net: nn.Module, paths: Sequence[Path]) -> tuple[list[dict[str, Any]], list[str]]:
    """Predicts every file, or every picture in a folder.

    Args:
        net: Maps uint8 grey values `(N, 28, 28)` to logits `(N, 10)`.
        paths: Files and folders.

    Returns:
        A record per digit, and a line per path that shows none.
    """
    files, refused = [], []
    for path in paths:
        found = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES) if path.is_dir() else [path]
        files += found
        if not found:
            refused.append(f"{path}: the folder holds no pictures ({', '.join(SUFFIXES)})")
    images, shown = [], []
    for file in files:
        try:
            images.append(prepare(file))
            shown.append(file)
        except PictureError as error:
            refused.append(str(error))
    if not images:
        return [], refused
    probabilities = net(torch.stack(images)).softmax(1)
    return [_record(file, row.tolist()) for file, row in zip(shown, probabilities, strict=True)], refused


def _record(file: Path, probabilities: list[float]) -> dict[str, Any]:
    first, second = sorted(range(len(probabilities)), key=lambda digit: -probabilities[digit])[:2]
    return {
        "file": str(file),
        "digit": first,
        "confidence": probabilities[first],
        "runner_up": second,
        "runner_up_confidence": probabilities[second],
        "probabilities": probabilities,
    }


def main() -> None:
    outlive_readers()
    parser = argparse.ArgumentParser(prog="python -m mnist_lightning.predict", description=__doc__.splitlines()[0])
    add_model_argument(parser)
    parser.add_argument("pictures", metavar="PICTURE", type=Path, nargs="+", help="picture of one digit, or folder of such")
    parser.add_argument("--json", action="store_true", help="print a list of records with all ten probabilities")
    given = parser.parse_args()
    register_resolvers()
    with errors_as_lines():
        trained = load(given.model, given.trust)
        records, refused = predict(trained.net, given.pictures)
    if given.json:
        print(json.dumps(records, indent=2))
    else:
        print(f"by {printable(trained.source)}")
        names = [printable(record["file"]) for record in records]
        width = max(map(len, names), default=0)
        for name, record in zip(names, records, strict=True):
            confidence, runner_up = (f"{100 * record[key]:6.2f} %" for key in ("confidence", "runner_up_confidence"))
            print(f"{name:{width}}  {record['digit']} {confidence}   then {record['runner_up']} {runner_up}")
    complain("\n".join(map(printable, refused)))  # one line each, whatever the file is called
    sys.exit(BAD_CONFIG if refused else OK)


if __name__ == "__main__":
    main()
