"""Searches for small, accurate networks: trains many, each with a plan of its own, and draws size against accuracy.

    python -m mnist_lightning search gate.max_params=2501 search.trials=200
    python -m mnist_lightning search adopt --name my_net
    python -m mnist_lightning sweep=seeds experiment=my_net

Trials are compared on a hold-out; the test set is not read. `conf/search` says what is tried; search=recipe also varies how
they learn. The same command goes on after a kill, or beside itself; search.workers=2 starts two at once. `adopt` makes a trial
a preset, conf/experiment/NAME.yaml.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mnist_lightning.commands.arguments import make_parser, overrides_of, overrides_parser
from mnist_lightning.search.adopt import adopt, newest
from mnist_lightning.search.launch import prepare, side_by_side
from mnist_lightning.status import FAILED, OK
from mnist_lightning.terminal import path_as_typed, show
from mnist_lightning.training.signals import Interrupted

if TYPE_CHECKING:
    from mnist_lightning.search.trials import Trials


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["adopt"]:
        return _adopt(arguments[1:])
    parser = overrides_parser("search", __doc__)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)  # one of several that a search has started
    given = parser.parse_intermixed_args(arguments)
    given.config_name = given.config_name or "search"
    launch = prepare(overrides_of(given))
    from mnist_lightning.search.trials import Trials  # torch and Optuna: not for a bad command line
    from mnist_lightning.search.worker import work

    trials = Trials(launch.directory, launch.words, launch.cfg, launch.search)
    all_well = True
    try:
        if given.worker or launch.search.workers == 1:
            work(trials)
        else:
            all_well = side_by_side(arguments, launch.search.workers)
        found = given.worker or _conclude(trials)
    except Interrupted:
        if not given.worker:
            show(f"stopped; the same command goes on, in {path_as_typed(launch.directory)}")
        raise
    finally:
        trials.close()
    return OK if all_well and found else FAILED


def _conclude(trials: "Trials") -> bool:
    """Shows the front, and what to do next; returns whether any trial has finished."""
    from mnist_lightning.search import results

    with trials.turn:
        table = results.write(trials)
    directory = path_as_typed(trials.directory)
    show(f"\n{results.summary(table, trials.search)}\n\nsearch.md, .csv and .png in {directory}. Next:")
    show(f"  python -m mnist_lightning search adopt --name my_net --from {directory}")
    return bool(results.front(table, trials.search))


def _adopt(arguments: list[str]) -> int:
    parser = make_parser("search adopt", "Makes a trial of a search a preset: conf/experiment/NAME.yaml.")
    parser.add_argument(
        "trial", type=int, nargs="?", metavar="TRIAL", help="its number (default: the smallest that reached the target)"
    )
    parser.add_argument("--name", required=True, help="of the preset, as in experiment=NAME")
    parser.add_argument(
        "--from", dest="directory", type=Path, metavar="DIR", help="the search's directory (default: the latest)"
    )
    given = parser.parse_args(arguments)
    path, number = adopt(given.directory or newest(), given.trial, given.name)
    show(f"trial {number} is {path.as_posix()}. Next:")
    show(
        f"  python -m mnist_lightning experiment={given.name}\n  python -m mnist_lightning sweep=seeds experiment={given.name}"
    )
    return OK
