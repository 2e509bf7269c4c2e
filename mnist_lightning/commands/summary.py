"""Prints the layer table of a network, its totals and its room under the budget."""

from mnist_lightning.commands.arguments import overrides_of, overrides_parser
from mnist_lightning.config.build import build
from mnist_lightning.config.check import check
from mnist_lightning.config.compose import compose_config
from mnist_lightning.config.errors import one_line
from mnist_lightning.status import OK


def main(arguments: list[str]) -> int:
    cfg = compose_config(*overrides_of(overrides_parser("summary", __doc__).parse_intermixed_args(arguments)))
    check(cfg)
    from mnist_lightning.evaluation.verdict import budget_text
    from mnist_lightning.models import count_parameters  # torch: not for a bad command line
    from mnist_lightning.models.probe import probe
    from mnist_lightning.models.summary import table

    net = probe(build(cfg, "model"))
    try:
        print(table(net))
    except Exception as error:
        print(f"no table of its layers: {one_line(error)}")
    frozen = count_parameters(net, "frozen")
    print(f"parameters: {budget_text(count_parameters(net, cfg.gate.count), frozen, cfg.gate.max_params, cfg.gate.count)}")
    return OK
