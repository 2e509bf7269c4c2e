"""Every schedule, stepped per batch, ends exactly at its last value."""

import pytest
import torch
from torch.optim import SGD

from mnist_lightning.config.build import build
from mnist_lightning.config.compose import compose_config


def lrs(name: str, total_steps: int, *overrides: str) -> list[float]:
    """The lr of each step, and at the end the one after the last step."""
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
    scheduler = build(compose_config(f"scheduler={name}", *overrides), "scheduler")(optimizer, total_steps)
    values = [optimizer.param_groups[0]["lr"]]
    for _ in range(total_steps):
        optimizer.step()
        scheduler.step()
        values.append(optimizer.param_groups[0]["lr"])
    return values


def test_constant_stays() -> None:
    assert lrs("constant", 50) == [0.1] * 51


@pytest.mark.parametrize("name", ["linear", "cosine"])
@pytest.mark.parametrize("total_steps", [1, 3, 100, 937])
def test_decay_ends_at_zero_exactly(name: str, total_steps: int) -> None:
    values = lrs(name, total_steps)
    assert values[-1] == 0.0
    assert all(0 < value <= 0.1 for value in values[:-1])


def test_linear_rises_over_its_warm_up_and_falls_by_equal_steps() -> None:
    values = lrs("linear", 100, "scheduler.warmup=0.1")
    assert max(values) == values[10] == 0.1
    torch.testing.assert_close(torch.tensor(values[:11]).diff(), torch.full((10,), 0.1 / 11))
    torch.testing.assert_close(torch.tensor(values[10:]).diff(), torch.full((90,), -0.1 / 90))


def test_cosine_is_half_way_down_in_the_middle() -> None:
    assert lrs("cosine", 100, "scheduler.warmup=0")[50] == pytest.approx(0.05)


def test_onecycle_completes_its_cycle() -> None:
    values = lrs("onecycle", 100)
    assert values[0] == pytest.approx(0.1 / 25)
    assert max(values) == pytest.approx(0.1, rel=1e-3)  # the peak falls between two steps
    assert values[-1] == pytest.approx(0.1 / 25 / 10_000)
    assert min(values) == values[-1]
