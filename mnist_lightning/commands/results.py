"""Keeps finished runs as rows of a CSV, and makes the README's table and picture of those CSVs.

    python -m mnist_lightning results collect docs/results/default.csv outputs/sweeps/NAME
    python -m mnist_lightning results table
    python -m mnist_lightning results front docs/front.png

A CSV is named after the preset its runs used (`default`, or one of `conf/experiment`); of others, `--preset` tells.
"""

from pathlib import Path

from mnist_lightning.commands.arguments import make_parser
from mnist_lightning.config.errors import ConfigError
from mnist_lightning.files import replacing
from mnist_lightning.status import OK
from mnist_lightning.study import records
from mnist_lightning.terminal import show


def main(arguments: list[str]) -> int:
    parser = make_parser("results", __doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    into = commands.add_parser("collect", help="add a row per finished run to a CSV")
    into.add_argument("csv", type=Path, help="file to write or add to, docs/results/PRESET.csv")
    into.add_argument("directories", type=Path, nargs="+", help="folders with runs in them, at any depth")
    into.add_argument("--preset", help="preset that the runs started from (default: the CSV's name)")
    commands.add_parser("table", help="print the README's table from docs/results/")
    front = commands.add_parser("front", help="draw parameters against accuracy, as a PNG, from docs/results/")
    front.add_argument("png", type=Path, help="file to write")
    given = parser.parse_args(arguments)
    if given.command == "front":
        with replacing(given.png) as part:
            records.front(records.RESULTS_DIR).savefig(part)
        return OK
    if given.command == "table":
        print(records.table(records.RESULTS_DIR))
        return OK
    rows = records.collect(given.directories, given.preset or given.csv.stem)
    if rows.empty:
        raise ConfigError(f"{', '.join(map(str, given.directories))}: no finished run below; name the folder of a sweep")
    show(f"{given.csv}: {records.add_to_csv(rows, given.csv)} runs")
    return OK
