"""Prints the layer table of a network, its totals and its room under the budgets."""

from mnist_lightning.commands.arguments import overrides_of, overrides_parser
from mnist_lightning.config.build import build
from mnist_lightning.config.check import check
from mnist_lightning.config.compose import compose_config
from mnist_lightning.config.errors import one_line
from mnist_lightning.status import OK


def main(arguments: list[str]) -> int:
    cfg = compose_config(*overrides_of(overrides_parser("summary", __doc__).parse_intermixed_args(arguments)))
    check(cfg)
    from mnist_lightning.evaluation.budgets import size_lines
    from mnist_lightning.evaluation.gate import measure  # torch: not for a bad command line
    from mnist_lightning.models.probe import probe
    from mnist_lightning.models.summary import layer_sizes, summarize, table

    net = probe(build(cfg, "model"))
    sizes: dict[str, int] = {}
    try:
        layers = summarize(net)
        print(table(layers))
        sizes = layer_sizes(layers)
    except Exception as error:
        print(f"no table of its layers: {one_line(error)}")
    for name, text in size_lines({**sizes, **measure(net, cfg.gate)}, cfg.gate):
        print(f"{name}: {text}")
    return OK
