"""Every schedule of this project ends exactly at its last value; torch's mean what they mean elsewhere."""

from pathlib import Path

import lightning as L
import pytest
import torch
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from mnist_lightning.config.build import build
from mnist_lightning.config.compose import compose_config
from mnist_lightning.training.lit_module import LitClassifier
from mnist_lightning.training.schedules import Schedule
from tests.conftest import own_recipe, quiet_trainer


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


# --- when a scheduler steps -----------------------------------------------------------------------------------------------

TORCHS = {  # arguments, and the lr after each of three epochs of five steps, from 0.1
    "StepLR": (["step_size=2"], [0.1, 0.01, 0.01]),
    "MultiStepLR": (["milestones=[1,2]"], [0.01, 0.001, 0.001]),
    "CosineAnnealingLR": (["T_max=2"], [0.05, 0.0, 0.05]),
    "CosineAnnealingWarmRestarts": (["T_0=2"], [0.05, 0.1, 0.05]),
    "CyclicLR": (["base_lr=0.1", "max_lr=0.2", "step_size_up=10"], [0.15, 0.2, 0.15]),
    "OneCycleLR": (["max_lr=1", "pct_start=0.99", "anneal_strategy=linear"], [0.363, 0.685, 4e-6]),
    "ReduceLROnPlateau": (["patience=0", "threshold=100", "threshold_mode=abs"], [0.1, 0.01, 0.001]),
    "ChainedScheduler": (["schedulers=[{_target_: X.ExponentialLR, gamma: 0.5}]"], [0.05, 0.025, 0.0125]),
    "SequentialLR": (
        ["schedulers=[{_target_: X.LinearLR, total_iters: 9}, {_target_: X.StepLR, step_size: 1}]", "milestones=[1]"],
        [0.1, 0.01, 0.001],
    ),
}


def given(name: str, *arguments: str) -> list[str]:
    """The overrides of a command line for a scheduler of torch's."""
    path = "torch.optim.lr_scheduler"
    return [f"scheduler._target_={path}.{name}", *(f"+scheduler.{text.replace('X', path)}" for text in arguments)]


class AtEpochEnds(L.Callback):
    """Notes the lr with which the next epoch starts."""

    def __init__(self) -> None:
        self.lrs: list[float] = []

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.lrs.append(trainer.optimizers[0].param_groups[0]["lr"])

    on_train_end = on_train_epoch_start


def lrs_of_a_run(folder: Path, *overrides: str, batches: int = 1) -> list[float]:
    """The lr before the first of three epochs of a run with five steps each, and after each of them."""
    sgd = ("optimizer.lr=0.1", "data.batch_size=16", "data.test_images=20")
    cfg = own_recipe("data=synthetic", *overrides, *sgd, f"data.train_images={80 * batches}")
    data = build(cfg, "data", seed=0, augmentation=torch.nn.Identity())
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))
    trainer, ends = quiet_trainer(folder, 3), AtEpochEnds()
    trainer.callbacks.append(ends)
    trainer.accumulate_grad_batches = batches
    trainer.fit(LitClassifier(net, build(cfg, "optimizer"), Schedule.of(cfg), 0.0, "test"), datamodule=data)
    return ends.lrs


@pytest.mark.parametrize("name", TORCHS)
@pytest.mark.filterwarnings("ignore:The epoch parameter in `scheduler.step")  # torch's SequentialLR calls itself so
def test_torchs_schedulers_mean_what_they_mean_elsewhere(tmp_path: Path, name: str) -> None:
    arguments, expected = TORCHS[name]
    assert lrs_of_a_run(tmp_path, *given(name, *arguments))[1:] == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("name", ["onecycle", "StepLR"])
def test_accumulated_gradients_do_not_move_a_schedule(tmp_path: Path, name: str) -> None:
    """Twice the batches with two to a step: as many steps, and so the same learning rates."""
    overrides = given(name, *TORCHS[name][0]) if name in TORCHS else [f"scheduler={name}"]
    assert lrs_of_a_run(tmp_path, *overrides, batches=2) == lrs_of_a_run(tmp_path, *overrides)


def test_by_epochs_a_schedule_has_as_many_steps_as_epochs(tmp_path: Path) -> None:
    linear = ["scheduler=linear", "scheduler.warmup=0", "scheduler.interval=epoch"]
    assert lrs_of_a_run(tmp_path, *linear) == pytest.approx([0.1, 0.2 / 3, 0.1 / 3, 0.0])


def warm(optimizer: torch.optim.Optimizer, total_steps: int, share: float) -> LRScheduler:
    """A schedule of a user's own, by steps."""
    return LambdaLR(optimizer, lambda step: 1.0 if step < share * total_steps else 0.5)


def halving(optimizer: torch.optim.Optimizer) -> LRScheduler:
    """Another, by epochs."""
    return LambdaLR(optimizer, lambda epoch: 0.5**epoch)


def test_a_schedule_of_ones_own_is_told_its_steps_if_it_asks(tmp_path: Path) -> None:
    own = [f"scheduler._target_={__name__}.warm", "+scheduler.share=0.5"]
    assert lrs_of_a_run(tmp_path, *own) == pytest.approx([0.1, 0.1, 0.05, 0.05])
    assert lrs_of_a_run(tmp_path, f"scheduler._target_={__name__}.halving") == pytest.approx([0.1, 0.05, 0.025, 0.0125])


def test_a_plateau_looks_at_what_it_is_told_to(tmp_path: Path) -> None:
    rising = given("ReduceLROnPlateau", "patience=0", "mode=max", "monitor=train/acc", "threshold=0.001")
    assert lrs_of_a_run(tmp_path, *rising)[:3] == [0.1, 0.1, 0.1]
