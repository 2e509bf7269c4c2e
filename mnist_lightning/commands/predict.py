"""Tells the digit in photos and drawings, with its probability and runner-up.

A folder stands for the pictures in it, - for one on standard input. "not sure" says why an answer is worth less than others.
Exit status 2 where a file was no picture of a digit; the others are predicted anyway.
"""

import json
from itertools import groupby
from pathlib import Path
from typing import Any

from mnist_lightning.commands.arguments import model_parser
from mnist_lightning.status import BAD_CONFIG, OK
from mnist_lightning.terminal import complain, printable


def main(arguments: list[str]) -> int:
    parser = model_parser("predict", __doc__)
    parser.add_argument("pictures", metavar="PICTURE", type=Path, nargs="+", help="picture of one digit, folder of such, or -")
    parser.add_argument("--sheet", action="store_true", help="pictures hold many digits, read line by line")
    parser.add_argument("--json", action="store_true", help="print a list of records with all ten probabilities")
    given = parser.parse_args(arguments)
    from mnist_lightning.inference.load import load
    from mnist_lightning.inference.predict import predict

    trained = load(given.model, given.trust)
    records, refused = predict(trained.net, given.pictures, given.sheet)
    if given.json:
        print(json.dumps(records, indent=2))
    else:
        print(f"by {printable(trained.source)}")
        for line in (_sheet_lines if given.sheet else _lines)(records):
            print(line)
    complain("\n".join(map(printable, refused)))  # one line each, whatever the file is called
    return BAD_CONFIG if refused else OK


def _lines(records: list[dict[str, Any]]) -> list[str]:
    names = [printable(record["file"]) for record in records]
    width, lines = max(map(len, names), default=0), []
    for name, record in zip(names, records, strict=True):
        confidence, runner_up = (f"{100 * record[key]:6.2f} %" for key in ("confidence", "runner_up_confidence"))
        doubt = f"   not sure: {record['not_sure']}" if record["not_sure"] else ""
        lines.append(f"{name:{width}}  {record['digit']} {confidence}   then {record['runner_up']} {runner_up}{doubt}")
    return lines


def _sheet_lines(records: list[dict[str, Any]]) -> list[str]:
    lines = []
    for (name, number), of_line in groupby(records, key=lambda record: (record["file"], record["line"])):
        digits = list(of_line)
        doubtful = [f"{one['digit']} at {one['place']} ({100 * one['confidence']:.0f} %)" for one in digits if one["not_sure"]]
        doubt = f"   not sure: {', '.join(doubtful)}" if doubtful else ""
        lines.append(f"{printable(name)} line {number}  {' '.join(str(one['digit']) for one in digits)}{doubt}")
    return lines
