"""A run that an earlier version left can still be read, and its network is the same."""

import pytest

from mnist_lightning.config.compose import parse_config

TWO_POOL = "_target_: mnist_lightning.models.TwoPool, channels: [6, 8, 8, 10, 12, 12], activation: relu"
SHARED = "_target_: mnist_lightning.models.Shared, width: 24, activation: silu"


@pytest.mark.parametrize(
    ("model", "plan", "activation"),
    [(TWO_POOL, "c6 c8 p c8 c10 p v12 v12 gdc head", "relu"), (SHARED, "c24 p d24@a d24@a p d24@b d24@b p gdc head", "silu")],
)
def test_a_network_that_was_a_class_is_its_plan(model: str, plan: str, activation: str) -> None:
    cfg = parse_config(f"model: {{{model}}}\ngate: {{max_params: 8000}}")
    assert cfg.model == {
        "_target_": "mnist_lightning.models.Plan",
        "plan": plan.split(),
        "activation": activation,
        "norm_first": True,
    }
    assert cfg.gate.dataset == "MNIST"  # the only one that there was


def test_any_other_network_stays_as_it_is() -> None:
    for model in ("{_target_: my_net.TwoPool, channels: 3}", "3", "{channels: 3}"):
        assert parse_config(f"model: {model}").model == parse_config(f"x: {model}").x
