"""Tells finished runs as a study, in report.html and report.md.

The experiments beside the published figures; the four curves and their animation; target, result and analysis of every run;
which differences are larger than noise; layers and receptive fields; runs that are no result.
"""

from pathlib import Path

from mnist_lightning.commands.arguments import runs_parser
from mnist_lightning.evaluation.run_directories import require_runs
from mnist_lightning.status import OK
from mnist_lightning.terminal import show


def main(arguments: list[str]) -> int:
    parser = runs_parser("report", __doc__)
    parser.add_argument("--out", type=Path, help="folder to write to (default: DIR if it is one, else outputs/report)")
    parser.add_argument(
        "--trust", action="store_true", help="import the networks that config.yaml names, wherever they lie: runs their code"
    )
    given = parser.parse_args(arguments)
    runs = require_runs(given.directories)
    from mnist_lightning.study.report import make_report
    from mnist_lightning.study.report_pages import check_free, write_pages

    out = given.out or (given.directories[0] if len(given.directories) == 1 else Path("outputs/report"))
    check_free(out)
    write_pages(out, make_report(runs, given.trust))
    show(f"{out / 'report.html'}, report.md beside it")
    return OK
