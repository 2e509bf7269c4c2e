"""Prints the layer table of a network, its totals and its room under the budget."""

from mnist_lightning.commands.arguments import overrides_of, overrides_parser
from mnist_lightning.config.build import build
from mnist_lightning.config.check import check
from mnist_lightning.config.compose import compose_config
from mnist_lightning.status import OK


def main(arguments: list[str]) -> int:
    cfg = compose_config(*overrides_of(overrides_parser("summary", __doc__).parse_intermixed_args(arguments)))
    check(cfg)
    from mnist_lightning.models import count_parameters  # torch: not for a bad command line
    from mnist_lightning.models.summary import summarize, table

    net = build(cfg, "model")
    print(table(summarize(net)))
    budget = cfg.gate.max_params
    left = budget - 1 - count_parameters(net)
    print(f"budget: fewer than {budget:,} parameters; " + (f"{left:,} to spare" if left >= 0 else f"{-left:,} too many"))
    return OK
