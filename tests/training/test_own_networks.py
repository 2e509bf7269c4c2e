"""Networks as other people write them train, are evaluated as they were judged, and are described, exported and reported."""

from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf
from torch import nn

from mnist_lightning.config.compose import compose_config
from mnist_lightning.config.errors import ConfigError
from mnist_lightning.inference.evaluate import evaluate
from mnist_lightning.inference.load import load, load_data
from mnist_lightning.training.fit import run
from tests.conftest import TINY, Finished, one_error
from tests.models import networks

# Of each kind one; of the others `make torture` exports each.
EXPORTED = (
    networks.Functional,
    networks.Branches,
    networks.Rows,
    networks.OwnForward,
    networks.NoStatistics,
    networks.Branching,
)


def config(network: type[nn.Module], *overrides: str, **arguments: object) -> DictConfig:
    """Of a run of one of these networks, which need not be over its budget or reach a target."""
    cfg = compose_config(*TINY, "gate.on_miss=warn", *overrides)
    cfg.model = OmegaConf.create({"_target_": f"tests.models.networks.{network.__name__}", **arguments})
    return cfg


@pytest.mark.parametrize("network", networks.GOOD)
def test_each_trains_and_is_evaluated_as_it_was_judged(network: type[nn.Module], tmp_path: Path) -> None:
    verdict = run(config(network), tmp_path)
    trained = load(tmp_path, trust=True)
    evaluation = evaluate(trained, load_data(trained.cfg, trust=True))
    assert (evaluation.accuracy, evaluation.params, evaluation.frozen_params) == (
        verdict.accuracy,
        verdict.params,
        verdict.frozen_params,
    )


def test_a_network_that_does_not_fit_is_refused_before_any_data_is_read(tmp_path: Path) -> None:
    for network, arguments in ((networks.Softmax, {}), (networks.Returns, {"what": "tuple"})):
        cfg = config(network, **arguments)
        cfg.data = compose_config("data.root=nowhere", "data.places=[]", "data.mirrors=[]").data
        with pytest.raises(ConfigError, match=r"^model: "):
            run(cfg, tmp_path / network.__name__)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the exporters
@pytest.mark.parametrize(
    "network",
    [network if network in EXPORTED else pytest.param(network, marks=pytest.mark.torture) for network in networks.GOOD],
)
def test_each_has_pictures_and_a_table_and_can_be_exported_and_reported(
    network: type[nn.Module], tmp_path: Path, cli: Callable[..., Finished]
) -> None:
    run(config(network, "pictures=last"), tmp_path / "run")
    exported = cli("export", "run", "--trust")
    if network is networks.Branching:
        line = one_error(exported, 1)
        assert line.startswith("Branching cannot be exported; its forward must not branch on values of tensors: ")
        assert len(line) <= 200
    else:
        assert (exported.status, exported.err) == (0, "")
        assert cli("evaluate", "run/last.onnx").out.splitlines()[1:] == cli("evaluate", "run", "--trust").out.splitlines()[1:]
    reported = cli("report", "run", "--trust")
    assert (reported.status, reported.err) == (0, "")
    page = (tmp_path / "run" / "report.md").read_text("utf-8")
    assert "No table" not in page
    assert "multiply-adds an image" in page
    log = tmp_path / "run" / "run.log"
    assert not log.exists() or "for TensorBoard" not in log.read_text("utf-8")
