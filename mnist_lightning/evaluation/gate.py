"""The gate: one contract of size, accuracy and epochs, and the callback that fails a run which breaks it."""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import lightning as L
from omegaconf import DictConfig
from torch import nn

from mnist_lightning.config.errors import ConfigError, UserError, fitted, one_line
from mnist_lightning.evaluation.budgets import over_budget
from mnist_lightning.evaluation.statistics import wilson_interval
from mnist_lightning.evaluation.verdict import MISSED, PASSED, UNKNOWN, Verdict
from mnist_lightning.models import count_parameters
from mnist_lightning.models.summary import layer_sizes, summarize

MEASURED = ("accuracy_of_epoch", "epochs", "test_images", "num_test_images")
ROUNDING = 1e-9  # of a mean of fractions; far below one image in 10,000

# The accuracy of a run, from those of its epochs (counted from 1) and the number of the last. With a hold-out there is only the
# one test of the weights that the rule names, under the last epoch.
RULES: dict[str, Callable[[dict[int, float], int], float]] = {
    "last": lambda accuracies, last: accuracies[last],
    "best": lambda accuracies, last: max(accuracies.values()),  # as published; selects on the test set
    "mean_last_3": lambda accuracies, last: sum(accuracies[epoch] for epoch in range(last - 2, last + 1)) / 3,
    "selected": lambda accuracies, last: accuracies[last],  # of the checkpoint that was best on the hold-out
}


class GateError(RuntimeError):
    """The run did not keep the contract under `gate`."""


class NotMeasuredError(UserError):
    """There is not enough evidence to tell whether the run kept the contract."""


def measure(net: nn.Module, gate: DictConfig) -> dict[str, int]:
    """What can be told of a network's size without training: its parameters, and of the other sizes those with a limit.

    Raises:
        ConfigError: There is a limit on what its layers do, and they cannot be followed.
    """
    sizes = {"params": count_parameters(net, gate.count), "frozen_params": count_parameters(net, "frozen")}
    limits = [size for size in ("multiply_adds", "activation_bytes") if gate[f"max_{size}"] is not None]
    try:
        found = layer_sizes(summarize(net)) if limits else {}
    except Exception as error:
        key = f"max_{limits[0]}"
        said = f"gate.{key}={gate[key]}: the layers of this network cannot be followed; give gate.{key}=null: "
        raise ConfigError(fitted(said, one_line(error))) from error
    return sizes | {size: found[size] for size in limits}


def broken_rules(
    model: str, sizes: Mapping[str, Any], accuracy: float | None, gate: DictConfig, judged: bool, rule: str = ""
) -> list[str]:
    """Every way in which a network breaks the gate's contract; none when it keeps it.

    The accuracy is a fraction of the test images, None before there is one, and judged on the gate's data set alone.
    """
    reasons = over_budget(model, sizes, gate)
    if judged and accuracy is not None and not accuracy >= gate.min_accuracy - ROUNDING:  # which holds of a NaN, too
        by = f" by the rule {rule!r}" if rule else ""
        reasons.append(f"test accuracy {accuracy:.4f}{by} is below gate.min_accuracy={gate.min_accuracy}")
    return reasons


class Gate(L.Callback):
    """Fails a run before its first step when its network is over a budget, at its end when the file is or the target is missed.

    With `gate.on_miss` "warn" it only records the miss.
    """

    def __init__(self, cfg: DictConfig) -> None:
        self.cfg = cfg
        self.contract: DictConfig = cfg.gate
        self.model = str(cfg.model._target_).rsplit(".", 1)[-1].lower()
        self.sizes: dict[str, Any] = {"params": None}  # by their names in a verdict
        self.accuracy_of_epoch: dict[int, float] = {}  # by epoch, counted from 1
        self.logged: list[str] = []
        self.epochs = 0
        self.epoch_split = "test"
        self.dataset = UNKNOWN
        self.judged = False  # the accuracy: other data are another task
        self.test_images: int | None = None  # that the accuracy was measured on
        self.num_test_images = 0  # that there are
        self.tested: dict[int, float] = {}  # the one measurement after training with a hold-out, under the last epoch
        self.accuracy: float | None = None  # by the rule
        self.started_s = time.monotonic()
        self.earlier_s = 0.0  # wall time before a resume
        self.reasons: list[str] = []  # in which the run broke the contract; final once it was judged

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must know of the epochs before."""
        return {name: getattr(self, name) for name in MEASURED} | {"earlier_s": self._seconds()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if not self.epochs:  # trainer.test loads an epoch's checkpoint, which knows less than this run does by then
            vars(self).update(state_dict)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.started_s = time.monotonic()
        data = trainer.datamodule  # type: ignore[attr-defined]
        self.epoch_split, self.dataset, self.judged = data.epoch_split, data.name, data.name == self.contract.dataset
        self.sizes = measure(pl_module.net, self.contract)  # type: ignore[arg-type]
        self.reasons = self._broken_rules()
        self._fail()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.accuracy_of_epoch |= self._measured(trainer, self.epoch_split, trainer.num_val_batches, trainer.current_epoch + 1)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.epochs = trainer.current_epoch + 1

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.epoch_split == "test":
            self._close(trainer, pl_module)

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.tested = self._measured(trainer, "test", trainer.num_test_batches, self.epochs)
        self._close(trainer, pl_module)

    def _measured(self, trainer: L.Trainer, split: str, num_batches: list[int | float], epoch: int) -> dict[int, float]:
        """The accuracy just logged, under the epoch, as the exact fraction of its images; nothing if it was not logged."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        # Fewer than all are measured when the trainer limits its batches.
        num_images = min(data.num_images(split), int(sum(num_batches)) * data.eval_batch_size * trainer.world_size)
        if split == "test":
            self.test_images, self.num_test_images = num_images, data.num_images(split)
        self.logged = sorted(trainer.callback_metrics)
        if f"{split}/acc" not in self.logged:
            return {}
        accuracy = float(trainer.callback_metrics[f"{split}/acc"])
        # The metric is a float32, in which 9,930 of 10,000 falls short of 0.993.
        return {epoch: round(accuracy * num_images) / num_images if math.isfinite(accuracy) else accuracy}

    def _seconds(self) -> float:
        """Wall time of the run, with what it took before it was resumed."""
        return self.earlier_s + time.monotonic() - self.started_s

    def _close(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Judges the run, and fails it if it missed the target."""
        if self.contract.max_file_bytes is not None:
            from mnist_lightning.export.onnx_file import int8_bytes  # ONNX: not for every run

            net: Any = pl_module.net
            data = trainer.datamodule  # type: ignore[attr-defined]
            self.sizes["file_bytes"] = int8_bytes(net, self.cfg, self.sizes, data)
        try:
            self.accuracy = self._accuracy_by_rule()
            self.reasons = self._broken_rules()
        except GateError as no_number:
            self.reasons = [*self._broken_rules(), str(no_number)]
        self._fail()

    def _fail(self) -> None:
        if self.reasons and self.contract.on_miss == "fail":
            raise GateError("; ".join(self.reasons))

    def _accuracy_by_rule(self) -> float:
        """Test accuracy of the run; raises a NotMeasuredError where it was not measured, a GateError where it is no number."""
        accuracies = self.tested
        if self.epoch_split == "test":
            accuracies = {epoch: acc for epoch, acc in self.accuracy_of_epoch.items() if epoch <= self.contract.within_epochs}
        if not accuracies:
            raise NotMeasuredError(f"no evaluation: test/acc was never logged; logged: {', '.join(self.logged) or 'nothing'}")
        for epoch, accuracy in accuracies.items():
            if not math.isfinite(accuracy):
                raise GateError(f"test/acc is {accuracy} at epoch {epoch}")
        try:
            return RULES[self.contract.rule](accuracies, self.epochs)
        except KeyError as missing:
            limit = f"gate.within_epochs={self.contract.within_epochs}"
            raise NotMeasuredError(
                f"test/acc was not measured within {limit} at epoch {missing}; `evaluate` measures it"
            ) from None

    def _broken_rules(self) -> list[str]:
        return broken_rules(self.model, self.sizes, self.accuracy, self.contract, self.judged, self.contract.rule)

    def verdict(self, seed: int, stopped: str | None = None, why: str = "") -> Verdict:
        """The run's verdict; `stopped` is "error" or "interrupted" for one that ended before it could be judged."""
        contract = {str(key): value for key, value in self.contract.items()}
        accuracy = None if stopped else self.accuracy
        images = self.test_images
        status = stopped or (MISSED if self.reasons else PASSED)
        target = contract["min_accuracy"] - ROUNDING
        finite = {epoch: accuracy for epoch, accuracy in self.accuracy_of_epoch.items() if math.isfinite(accuracy)}
        return Verdict(
            status=status,
            passed=status == PASSED,
            reasons=[why] if stopped else self.reasons,
            accuracy=accuracy,
            best_accuracy=max(finite.values(), default=None),
            best_epoch=max(finite, key=finite.__getitem__, default=None),  # the earliest of equals
            last_accuracy=finite.get(self.epochs),
            epoch_split=self.epoch_split,
            interval_95=wilson_interval(accuracy * images, images) if accuracy is not None and images else None,
            test_images=images,
            num_test_images=self.num_test_images,
            selected_on_test=self.epoch_split == "test" and contract["rule"] == "best",
            accuracy_judged=self.judged,
            seed=seed,
            dataset=self.dataset,
            epochs=self.epochs,
            epochs_to_target=min((epoch for epoch, acc in finite.items() if acc >= target), default=None),
            seconds=round(self._seconds(), 3),
            model=self.model,
            gate_dataset=contract.pop("dataset"),
            **contract,
            **self.sizes,
        )
