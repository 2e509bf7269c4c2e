"""The group `callbacks`: early stopping, averaged weights, the learning rate in TensorBoard, and callbacks of one's own."""

import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mnist_lightning.config.build import build_named
from mnist_lightning.config.check import check
from mnist_lightning.config.compose import compose_config
from mnist_lightning.config.errors import ConfigError
from mnist_lightning.evaluation.gate import Gate
from mnist_lightning.training.callbacks import EpochBounds
from mnist_lightning.training.fit import assemble, run
from mnist_lightning.training.lit_module import LitClassifier
from mnist_lightning.training.loggers import NoLoggers
from tests.conftest import (
    TINY,
    Finished,
    assert_same_weights,
    killed_at,
    one_error,
    own_recipe,
    read_rows,
    read_verdict,
    read_weights,
)

PLATEAU = ("scheduler._target_=torch.optim.lr_scheduler.ReduceLROnPlateau", "scheduler.patience=0", "scheduler.threshold=100")
ONE_CYCLE = ("scheduler._target_=torch.optim.lr_scheduler.OneCycleLR", "scheduler.max_lr=0.05")
STEP_LR = ("scheduler._target_=torch.optim.lr_scheduler.StepLR", "scheduler.step_size=1", "scheduler.gamma=0.5")
ROTATION = ("augmentation._target_=torchvision.transforms.v2.RandomRotation", "augmentation.degrees=10")
SMALL = (*TINY, "gate.on_miss=warn", "data.train_images=128", "trainer.max_epochs=3")
STOPPED = ("callbacks=early_stopping", "+callbacks.early_stopping.stopping_threshold=0.001")  # after the first epoch


@pytest.mark.parametrize(
    "recipe",
    [
        (*STEP_LR, "callbacks=[weight_averaging,lr_monitor]", "callbacks.weight_averaging.decay=0.5"),
        (*PLATEAU, *ROTATION, "scheduler.threshold_mode=abs"),
        (*ONE_CYCLE, "augmentation=mixup", "optimizer._target_=torch.optim.NAdam", "+trainer.accumulate_grad_batches=2"),
        ("callbacks=early_stopping", "callbacks.early_stopping.patience=2", "callbacks.early_stopping.min_delta=1"),
    ],
    ids=["step", "plateau", "one cycle", "early stopping"],
)
def test_a_recipe_of_ones_own_is_resumed_bit_for_bit(tmp_path: Path, recipe: tuple[str, ...]) -> None:
    cfg = own_recipe(*SMALL, *recipe)
    straight = run(cfg, tmp_path / "straight")
    with killed_at(3):  # in the second of three epochs of two steps
        run(cfg, tmp_path / "resumed")
    resumed = run(own_recipe(*SMALL, *recipe, "resume=true"), tmp_path / "resumed")
    assert not list(tmp_path.rglob("set-aside-*"))
    assert_same_weights(tmp_path / "resumed", tmp_path / "straight")
    assert read_rows(tmp_path / "resumed") == read_rows(tmp_path / "straight")
    assert vars(resumed) | {"seconds": 0} == vars(straight) | {"seconds": 0}


def test_a_run_that_stopped_early_is_judged_by_the_epochs_that_it_had(tmp_path: Path) -> None:
    verdict = run(compose_config(*SMALL, *STOPPED), tmp_path)
    assert (verdict.epochs, verdict.max_epochs, verdict.passed) == (1, 3, True)
    assert verdict.accuracy == verdict.last_accuracy
    assert "seed 0, 1 of 3 epochs, " in verdict.text()
    assert "measured after every epoch and used to steer the run: the accuracy is optimistic" in verdict.text()
    # Killed after its last checkpoint, it does not go on for an epoch more.
    (tmp_path / "verdict.json").unlink()
    again = run(compose_config(*SMALL, *STOPPED, "resume=true"), tmp_path)
    assert vars(again) | {"seconds": 0} == vars(verdict) | {"seconds": 0}
    assert len(read_rows(tmp_path)) == 1


@pytest.mark.parametrize("recipe", [(), ("data.val_images=50",), PLATEAU, (*PLATEAU, "scheduler.monitor=train/loss")])
def test_the_verdict_says_whether_the_test_images_steered_the_run(tmp_path: Path, recipe: tuple[str, ...]) -> None:
    verdict = run(own_recipe(*SMALL, "trainer.max_epochs=1", *recipe), tmp_path)
    assert verdict.selected_on_test == (recipe == PLATEAU)


def test_averaged_weights_are_what_is_evaluated_saved_and_tested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The average of the last checkpoint gives the accuracy of the verdict; the weights that training left do not."""
    averages: list[dict[str, Any]] = []
    update = EMAWeightAveraging.on_train_batch_end

    def note(self: EMAWeightAveraging, trainer: L.Trainer, pl_module: LitClassifier, *rest: Any) -> None:
        update(self, trainer, pl_module, *rest)
        averages.append({name: value.clone() for name, value in pl_module.net.state_dict().items()})

    monkeypatch.setattr(EMAWeightAveraging, "on_train_batch_end", note)
    tested: list[dict[str, Any]] = []
    step = LitClassifier.test_step
    monkeypatch.setattr(
        LitClassifier, "test_step", lambda self, batch, i: tested.append(self.net.state_dict()) or step(self, batch, i)
    )
    options = ("callbacks=weight_averaging", "callbacks.weight_averaging.decay=0.5", "data.val_images=40", "gate.rule=last")
    run(compose_config(*SMALL, *options, "trainer.max_epochs=2"), tmp_path)
    saved = {name.removeprefix("net."): value for name, value in read_weights(tmp_path / "last.ckpt").items()}
    name = next(name for name, value in saved.items() if value.dim() == 4)
    expected = averages[0][name]
    for weights in averages[1:]:
        expected = 0.5 * expected + 0.5 * weights[name]
    torch.testing.assert_close(saved[name], expected, rtol=0, atol=1e-6)
    assert not torch.allclose(saved[name], averages[-1][name], atol=1e-4)
    assert torch.equal(tested[0][name], saved[name])


def test_the_learning_rate_by_step_and_its_momentum_are_in_tensorboard(tmp_path: Path) -> None:
    options = ("callbacks=lr_monitor", "+trainer.log_every_n_steps=1", "scheduler=onecycle")
    run(compose_config(*SMALL, *options, "trainer.max_epochs=1"), tmp_path)
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    tags = [tag for tag in events.Tags()["scalars"] if tag.startswith("lr-SGD")]
    assert {"lr-SGD/pg1", "lr-SGD/pg1-momentum"} <= set(tags)
    assert len(events.Scalars("lr-SGD/pg1")) == 2


order: list[str] = []


class Mine(L.Callback):
    """A callback of a user's own."""

    def __init__(self, word: str) -> None:
        self.word = word

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert "test/acc" in trainer.callback_metrics
        order.append(self.word)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        order.append("end")


def test_callbacks_of_ones_own_come_before_the_gate_and_the_checkpoints(
    cli: Callable[..., Finished], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order.clear()
    close = Gate.on_fit_end
    monkeypatch.setattr(Gate, "on_fit_end", lambda *args: order.append("gate") or close(*args))
    mine = [f"+callbacks.{name}={{_target_: {__name__}.Mine, word: {name}}}" for name in ("one", "two")]
    done = cli(*TINY, "callbacks=lr_monitor", *mine)
    assert done.status == 0, done.err
    assert order == ["one", "two", "end", "end", "gate"]


def test_they_stand_in_their_order_behind_the_projects_own(tmp_path: Path) -> None:
    cfg = compose_config(*TINY, "callbacks=[lr_monitor,weight_averaging,early_stopping]")
    names = [type(callback).__name__ for callback in assemble(cfg, tmp_path, Gate(cfg), NoLoggers()).trainer.callbacks]
    ours = ["EpochBounds", "EpochTable", "Dashboard"]
    theirs = ["LearningRateMonitor", "EMAWeightAveraging", "EarlyStopping"]
    assert names == [*ours, *theirs, "Gate", "EpochCheckpoint", "EpochCheckpoint"]


BAD = {
    "+callbacks.mine=3": "callbacks.mine=3: must be keys with values",
    "+callbacks.mine.a=3": "callbacks.mine._target_: the key is missing; give callbacks.mine._target_=VALUE",
    "+callbacks.mine._target_=torch.nn.Linear": "callbacks.mine._target_=torch.nn.Linear: is no lightning.Callback; ",
    f"+callbacks.mine._target_={__name__}.Mine": "callbacks.mine.word: Mine needs it; give +callbacks.mine.word=VALUE",
    "callbacks=early_stopping callbacks.early_stopping.mode=up": "callbacks.early_stopping: lightning.pytorch.callbacks.",
    "callbacks=early_stopping callbacks.early_stopping.monitor=val/acc": "callbacks.early_stopping.monitor=val/acc: the ",
    "scheduler._target_=my.Plateau scheduler.monitor=loss": "scheduler.monitor=loss: the run measures train/loss, train/acc, ",
    "cuda_graph=true callbacks=weight_averaging": "cuda_graph=true: a recorded step leaves out what this callbacks does",
    "cuda_graph=true scheduler=onecycle": "cuda_graph=true: a recorded step leaves out what this scheduler does",
    "cuda_graph=true augmentation=mixup": "cuda_graph=true: a recorded step leaves out what this augmentation does",
}


@pytest.mark.parametrize("words", BAD)
def test_what_is_no_callback_is_refused_in_a_line(words: str) -> None:
    cfg = own_recipe(*words.split())
    with pytest.raises(ConfigError) as caught:
        build_named(check(cfg) or cfg, "callbacks")
    assert str(caught.value).startswith(BAD[words])
    assert len(str(caught.value)) <= 200


def test_a_choice_that_is_none_is_named_of_several(cli: Callable[..., Finished]) -> None:
    line = one_error(cli("callbacks=[early_stopping,nothing]"), 2)
    assert line.startswith(
        "callbacks=[early_stopping,nothing]: there is no such choice; callbacks must be one of early_stopping, "
    )


def test_augmentations_of_others_draw_the_same_in_an_epoch_whatever_generator_they_use() -> None:
    trainer: Any = SimpleNamespace(current_epoch=3, global_rank=0, datamodule=SimpleNamespace(augmentation=None))
    drawn = []
    for _ in range(2):
        EpochBounds(0).on_train_epoch_start(trainer, L.LightningModule())
        drawn.append((random.random(), np.random.rand(), torch.rand(1).item()))  # noqa: NPY002
    assert drawn[0] == drawn[1]


def test_a_checkpoint_callback_of_ones_own_makes_its_folder(tmp_path: Path) -> None:
    mine = "+callbacks.mine._target_=lightning.pytorch.callbacks.ModelCheckpoint"
    run(own_recipe(*SMALL, "trainer.max_epochs=1", mine), tmp_path)
    assert list((tmp_path / "checkpoints").glob("*.ckpt"))
    assert read_verdict(tmp_path)["status"] == "passed"
