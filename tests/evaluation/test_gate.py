"""The gate: each rule on made-up accuracies, both sides of each bound, and what makes it fail when it cannot decide."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from mnist_lightning.config.compose import compose_config
from mnist_lightning.config.errors import ConfigError
from mnist_lightning.evaluation.gate import Gate, GateError, NotMeasuredError
from mnist_lightning.evaluation.verdict import Verdict
from mnist_lightning.models import count_parameters


class Stub:
    """What the gate reads of a trainer: a run is its accuracies, epoch by epoch, driven through the gate's hooks."""

    def __init__(self, split: str = "test", dataset: str = "MNIST", num_test: int = 10_000, batches: int = 10) -> None:
        self.datamodule = SimpleNamespace(
            epoch_split=split, name=dataset, eval_batch_size=1000, num_images=lambda which: num_test
        )
        self.num_val_batches: list[int | float] = [batches]
        self.num_test_batches: list[int | float] = [batches]
        self.world_size = 1
        self.sanity_checking = False
        self.current_epoch = 0
        self.callback_metrics: dict[str, torch.Tensor] = {}


def made(**contract: Any) -> Gate:
    """The default gate with these values in place of its own, of a network called net."""
    cfg = compose_config("model._target_=any.Net")
    cfg.gate.update(contract)
    return Gate(cfg)


def run_gate(
    accuracies: list[float | None],
    *,
    params: int = 7_999,
    test: float | None = None,
    stub: Stub | None = None,
    **contract: Any,
) -> Verdict:
    """Drives a gate through a run with these accuracies per epoch (None: not logged); raises what it raises."""
    gate = made(**contract)
    trainer: Any = stub or Stub()
    module: Any = SimpleNamespace(net=nn.Linear(params, 1, bias=False))
    gate.on_fit_start(trainer, module)
    split = trainer.datamodule.epoch_split
    for epoch, accuracy in enumerate(accuracies):
        trainer.current_epoch = epoch
        trainer.callback_metrics = {"train/loss": torch.tensor(0.1)}
        if accuracy is not None:
            trainer.callback_metrics[f"{split}/acc"] = torch.tensor(accuracy, dtype=torch.float64)
        gate.on_validation_end(trainer, module)
        gate.on_train_epoch_end(trainer, module)
    gate.on_fit_end(trainer, module)
    if test is not None:
        trainer.callback_metrics = {"test/acc": torch.tensor(test, dtype=torch.float64)}
        gate.on_test_end(trainer, module)
    return gate.verdict(seed=0)


# --- budget -------------------------------------------------------------------------------------------------------------


def test_strictly_fewer_parameters_than_the_budget_pass() -> None:
    assert run_gate([0.995], params=7_999).passed


@pytest.mark.parametrize("params", [8_000, 10_970])
def test_at_or_over_the_budget_no_epoch_is_spent(params: int) -> None:
    with pytest.raises(GateError, match=f"net has {params:,} trainable parameters; gate.max_params=8000 wants fewer"):
        run_gate([], params=params)


def test_frozen_parameters_count_where_all_do() -> None:
    net = nn.Sequential(nn.Linear(100, 10, bias=False), nn.Linear(10, 500, bias=False).requires_grad_(False))

    def judge(**contract: Any) -> Gate:
        gate = made(max_params=2000, on_miss="warn", **contract)
        gate.on_fit_start(Stub(), SimpleNamespace(net=net))  # type: ignore[arg-type]
        return gate

    trained, everything = judge(), judge(count="all")
    assert (trained.sizes, trained.reasons) == ({"params": 1000, "frozen_params": 5000}, [])
    assert everything.sizes == {"params": 6000, "frozen_params": 5000}
    assert everything.reasons == ["net has 6,000 parameters; gate.max_params=2000 wants fewer"]


def test_over_the_budget_with_warn_trains_and_is_a_miss() -> None:
    verdict = run_gate([0.995], params=8_000, on_miss="warn")
    assert (verdict.status, verdict.passed, verdict.accuracy) == ("missed", False, 0.995)
    assert verdict.reasons == ["net has 8,000 trainable parameters; gate.max_params=8000 wants fewer"]


OVER = {
    "max_multiply_adds": (784 * 5, "3,920 multiply-adds"),
    "max_activation_bytes": (4 * (784 + 5), "3,156 bytes of activations"),
}


@pytest.mark.parametrize("key", OVER)
def test_other_budgets_are_judged_before_a_step(key: str) -> None:
    """Strictly fewer, as of the parameters; measured only where there is a limit."""
    module: Any = SimpleNamespace(net=nn.Sequential(nn.Flatten(), nn.Linear(784, 5)))
    size, said = OVER[key]
    keeps, breaks = made(**{key: size + 1}), made(**{key: size})
    keeps.on_fit_start(Stub(), module)  # type: ignore[arg-type]
    assert keeps.sizes == {"params": 3925, "frozen_params": 0, key.removeprefix("max_"): size}
    with pytest.raises(GateError, match=f"^net has {said}; gate.{key}={size} wants fewer$"):
        breaks.on_fit_start(Stub(), module)  # type: ignore[arg-type]
    verdict = breaks.verdict(seed=0)
    assert (verdict.status, len(verdict.reasons), vars(verdict)[key]) == ("missed", 1, size)


def test_a_limit_on_layers_that_cannot_be_followed_is_told_before_a_step() -> None:
    class Secret(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("no\nzeros")

    module: Any = SimpleNamespace(net=Secret(784, 5))
    made().on_fit_start(Stub(), module)  # type: ignore[arg-type]
    way_out = "the layers of this network cannot be followed; give gate.max_activation_bytes=null: no zeros"
    with pytest.raises(ConfigError, match=f"^gate.max_activation_bytes=9: {way_out}$"):
        made(max_activation_bytes=9).on_fit_start(Stub(), module)  # type: ignore[arg-type]


def test_the_budget_is_judged_on_any_data() -> None:
    with pytest.raises(GateError):
        run_gate([], params=8_000, stub=Stub(dataset="synthetic"))


def test_only_trainable_elements_count() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(3, 4))
    net[2].requires_grad_(False)
    assert count_parameters(net) == (2 * 9 + 2) + (2 + 2)


# --- rules --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "accuracies", "accuracy"),
    [
        ("best", [0.991, 0.995, 0.993], 0.995),
        ("last", [0.995, 0.991, 0.994], 0.994),
        ("mean_last_3", [0.9, 0.993, 0.994, 0.9955], (0.993 + 0.994 + 0.9955) / 3),
    ],
)
def test_each_rule_takes_its_accuracy(rule: str, accuracies: list[float | None], accuracy: float) -> None:
    verdict = run_gate(accuracies, rule=rule)
    assert verdict.passed
    assert verdict.accuracy == pytest.approx(accuracy)
    assert verdict.selected_on_test == (rule == "best")


@pytest.mark.parametrize(
    ("rule", "accuracies"),
    [("best", [0.99, 0.9939]), ("last", [0.995, 0.9939]), ("mean_last_3", [0.995, 0.9941, 0.9939, 0.9939])],
)
def test_each_rule_misses_by_a_single_image(rule: str, accuracies: list[float | None]) -> None:
    with pytest.raises(GateError, match=rf"by the rule '{rule}' is below gate.min_accuracy=0.994"):
        run_gate(accuracies, rule=rule)


@pytest.mark.parametrize("correct", range(9_900, 10_001, 10))
def test_exactly_the_target_passes_and_one_image_less_does_not(correct: int) -> None:
    """The metric is a float32, which may lie below the fraction it stands for."""
    for rule in ("best", "last", "mean_last_3"):
        logged = torch.tensor(correct / 10_000, dtype=torch.float32).item()
        verdict = run_gate([logged] * 3, rule=rule, min_accuracy=correct / 10_000)
        assert verdict.accuracy == pytest.approx(correct / 10_000, abs=1e-12)
        with pytest.raises(GateError):
            run_gate([logged - 1e-4] * 3, rule=rule, min_accuracy=correct / 10_000)


def test_a_best_epoch_after_the_limit_does_not_count() -> None:
    with pytest.raises(GateError):
        run_gate([0.99, 0.99, 0.999], rule="best", within_epochs=2)


def test_a_last_epoch_after_the_limit_does_not_count() -> None:
    with pytest.raises(NotMeasuredError, match=r"not measured within gate\.within_epochs=2 at epoch 3"):
        run_gate([0.999, 0.999, 0.999], rule="last", within_epochs=2)


def test_the_verdict_names_best_and_last() -> None:
    verdict = run_gate([0.991, 0.996, 0.996, 0.995])
    assert (verdict.best_accuracy, verdict.best_epoch) == (0.996, 2)
    assert (verdict.last_accuracy, verdict.epochs) == (0.995, 4)
    assert verdict.interval_95 is not None
    assert verdict.interval_95[0] < 0.995 < verdict.interval_95[1]


def test_with_a_hold_out_the_one_test_decides() -> None:
    verdict = run_gate([0.9, 0.91], rule="selected", stub=Stub(split="val"), test=0.995)
    assert verdict.passed
    assert (verdict.accuracy, verdict.best_accuracy, verdict.selected_on_test) == (0.995, 0.91, False)
    with pytest.raises(GateError):
        run_gate([0.999, 0.999], rule="selected", stub=Stub(split="val"), test=0.9939)


# --- what cannot be decided, fails --------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["best", "last", "mean_last_3"])
def test_a_metric_never_logged_fails_and_the_logged_are_listed(rule: str) -> None:
    with pytest.raises(NotMeasuredError, match="no evaluation: test/acc was never logged; logged: train/loss"):
        run_gate([None, None, None], rule=rule)


def test_a_metric_never_logged_fails_on_any_data() -> None:
    with pytest.raises(NotMeasuredError, match="never logged"):
        run_gate([None], stub=Stub(dataset="synthetic"))


def test_a_last_epoch_that_was_not_measured_fails() -> None:
    with pytest.raises(NotMeasuredError, match=r"not measured within gate\.within_epochs=15 at epoch 2"):
        run_gate([0.999, None])


def test_nan_never_passes() -> None:
    with pytest.raises(GateError):
        run_gate([float("nan")])
    verdict = run_gate([float("nan")], on_miss="warn")
    assert (verdict.passed, verdict.accuracy, verdict.best_accuracy) == (False, None, None)


def test_a_part_of_the_test_set_does_not_pass() -> None:
    verdict = run_gate([0.999], stub=Stub(batches=3))
    assert (verdict.status, verdict.passed) == ("error", False)
    assert verdict.reasons == ["only 3000 of 10000 test images were measured"]


def test_a_gate_that_saw_no_run_passes_nothing() -> None:
    """As in a process whose training happened in others."""
    verdict = made(on_miss="warn").verdict(seed=0)
    assert (verdict.status, verdict.passed) == ("error", False)
    assert verdict.reasons == ["no epoch was finished", "the parameters were not counted", "the data set is unknown"]


# --- other data, and misses that only warn ------------------------------------------------------------------------------


def test_other_data_is_not_judged_and_says_so() -> None:
    verdict = run_gate([0.5], stub=Stub(dataset="synthetic"))
    assert verdict.passed
    assert not verdict.accuracy_judged


def test_warn_records_the_miss_and_raises_nothing() -> None:
    verdict = run_gate([0.5], on_miss="warn")
    assert (verdict.status, verdict.passed) == ("missed", False)
    assert verdict.reasons == ["test accuracy 0.5000 by the rule 'last' is below gate.min_accuracy=0.994"]


def test_a_stopped_run_judges_nothing() -> None:
    gate = made()
    gate.accuracy_of_epoch, gate.epochs = {1: 0.999}, 1
    verdict = gate.verdict(seed=0, stopped="interrupted", why="stopped by SIGTERM")
    assert (verdict.status, verdict.passed, verdict.accuracy) == ("interrupted", False, None)
    assert (verdict.reasons, verdict.last_accuracy) == (["stopped by SIGTERM"], 0.999)


def test_a_gate_goes_on_after_a_resume_and_a_checkpoint_loaded_for_the_test_changes_nothing() -> None:
    measured = {"test_images": 100, "num_test_images": 100}
    earlier = {"accuracy_of_epoch": {1: 0.5}, "epochs": 1, "earlier_s": 100.0} | measured
    later = {"accuracy_of_epoch": {1: 0.5, 2: 0.25}, "epochs": 2, "earlier_s": 200.0} | measured
    gate = made(min_accuracy=0.5)
    for state in (later, earlier):
        gate.load_state_dict(state)
    verdict = gate.verdict(seed=0, stopped="interrupted")
    assert (verdict.epochs, verdict.last_accuracy, verdict.epochs_to_target, verdict.test_images) == (2, 0.25, 1, 100)
    assert 200 <= verdict.seconds < 201
