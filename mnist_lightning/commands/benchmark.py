"""Measures what a training step costs here, against the published loop and against the machine.

The contestants take the same number of steps with the same network and batch size, each in a process of its own, in
interleaved rounds of one run, so that what else the machine does falls on all alike; a figure is the median over the rounds.
`--table cost` measures this project alone, over networks and batch sizes; `--table sweep` what sweeps cost.
"""

import argparse
import json
from pathlib import Path

from mnist_lightning import files
from mnist_lightning.commands.arguments import overrides_of, overrides_parser
from mnist_lightning.config.check import check
from mnist_lightning.config.compose import compose_config
from mnist_lightning.status import OK


def main(arguments: list[str]) -> int:
    parser = overrides_parser("benchmark", __doc__)
    parser.add_argument("--table", choices=("contestants", "cost", "sweep"), default="contestants", help="what is measured")
    parser.add_argument("--rounds", type=_count, default=5, metavar="N", help="interleaved rounds (default: 5)")
    parser.add_argument("--steps", type=_count, default=40, metavar="N", help="steps of each round (default: 40)")
    parser.add_argument("--jobs", type=_count, default=16, metavar="N", help="of the largest sweep (default: 16)")
    parser.add_argument("--out", type=Path, default=Path("outputs/benchmark.json"), metavar="FILE", help="all figures, as JSON")
    given = parser.parse_intermixed_args(arguments)
    # The published batch size, so that all contestants do the published work; of a sweep, short jobs.
    overrides = ["trainer.max_epochs=2" if given.table == "sweep" else "data.batch_size=128", *overrides_of(given)]
    cfg = compose_config(*overrides)
    check(cfg)
    from mnist_lightning.benchmark import steps, sweeps  # torch: not for a bad command line

    if given.table == "sweep":
        report = sweeps.measure_sweeps(overrides, given.rounds, given.jobs) | steps.environment(cfg)
        print(f"{sweeps.sweeps_text(report)}\n\n{steps.where(report)}")
    elif given.table == "cost":
        report = steps.measure_cost(overrides, given.rounds, given.steps)
        print(steps.cost_text(report))
    else:
        report = steps.measure(cfg, overrides, given.rounds, given.steps)
        print(steps.text(report))
    given.out.parent.mkdir(parents=True, exist_ok=True)
    files.write(given.out, json.dumps(report, indent=2) + "\n")
    return OK


def _count(typed: str) -> int:
    if not typed.isdecimal() or int(typed) < 1:
        raise argparse.ArgumentTypeError(f"{typed}: must be an integer of at least 1")
    return int(typed)
