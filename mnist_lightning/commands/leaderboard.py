"""Puts runs together in one table: seeds averaged, the best first, failures named with their logs.

Runs whose configurations differ in the seed alone are one row. Every sweep ends with this table.
"""

from mnist_lightning.commands.arguments import runs_parser
from mnist_lightning.evaluation.run_directories import require_runs
from mnist_lightning.status import OK
from mnist_lightning.study.leaderboard import MEASURES, leaderboard


def main(arguments: list[str]) -> int:
    parser = runs_parser("leaderboard", __doc__)
    parser.add_argument("--group-by", metavar="KEY,...", help="rows to make (default: whatever varies but the seed)")
    parser.add_argument("--sort-by", metavar="KEY", help=f"one of {', '.join(MEASURES)}, or a column that varies")
    given = parser.parse_args(arguments)
    print(leaderboard(require_runs(given.directories), given.group_by, given.sort_by))
    return OK
