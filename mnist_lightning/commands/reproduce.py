"""Trains a finished run again and compares every figure and every weight.

Says identical, same within noise, or different, and names what changed since: device, versions, code. Exit status 0 for the
first two, 1 for the third.
"""

import contextlib
import tempfile
from pathlib import Path

from mnist_lightning.commands.arguments import make_parser
from mnist_lightning.status import FAILED, OK
from mnist_lightning.terminal import show


def main(arguments: list[str]) -> int:
    parser = make_parser("reproduce", __doc__)
    parser.add_argument("run_dir", type=Path, help="directory of a finished run")
    parser.add_argument("--into", type=Path, help="empty folder that keeps the repetition (default: none is kept)")
    parser.add_argument("--trust", action="store_true", help="import what config.yaml names, wherever it lies: runs its code")
    given = parser.parse_args(arguments)
    from mnist_lightning.study.reproduce import DIFFERENT, reproduce

    with contextlib.ExitStack() as stack:
        into = given.into or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        comparison = reproduce(given.run_dir, into, given.trust)
    show("\n".join([f"\n{comparison.outcome.upper()}  {given.run_dir}", *(f"  {line}" for line in comparison.lines)]))
    return FAILED if comparison.outcome == DIFFERENT else OK
