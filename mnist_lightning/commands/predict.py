"""Tells the digit in photos and drawings, with its probability and runner-up.

A folder stands for the pictures in it. Exit status 2 where a file was no picture of a digit; the others are predicted anyway.
"""

import json
from pathlib import Path

from mnist_lightning.commands.arguments import model_parser
from mnist_lightning.status import BAD_CONFIG, OK
from mnist_lightning.terminal import complain, printable


def main(arguments: list[str]) -> int:
    parser = model_parser("predict", __doc__)
    parser.add_argument("pictures", metavar="PICTURE", type=Path, nargs="+", help="picture of one digit, or folder of such")
    parser.add_argument("--json", action="store_true", help="print a list of records with all ten probabilities")
    given = parser.parse_args(arguments)
    from mnist_lightning.inference.load import load
    from mnist_lightning.inference.predict import predict

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
    return BAD_CONFIG if refused else OK
