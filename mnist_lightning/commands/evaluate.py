"""Measures a trained network on the test images: accuracy, classes, confusions, calibration.

Exit status as of a run: 0 when it keeps the accuracy and the budget of the run's gate, 3 when it does not.
"""

import json
from dataclasses import asdict

from mnist_lightning.commands.arguments import model_parser
from mnist_lightning.status import GATE_MISSED, OK
from mnist_lightning.terminal import show


def main(arguments: list[str]) -> int:
    parser = model_parser("evaluate", __doc__)
    parser.add_argument("--json", action="store_true", help="print every figure as JSON")
    given = parser.parse_args(arguments)
    from mnist_lightning.inference.evaluate import evaluate, text
    from mnist_lightning.inference.load import load, load_data

    trained = load(given.model, given.trust)
    evaluation = evaluate(trained, load_data(trained.cfg, given.trust))
    show(json.dumps(asdict(evaluation), indent=2) if given.json else text(evaluation, trained.cfg.gate))
    return GATE_MISSED if evaluation.reasons and trained.cfg.gate.on_miss == "fail" else OK
