"""The gate: one contract of parameters, accuracy and epochs, and the callback that fails a run which breaks it."""

import math
import time
from typing import Any

import lightning as L

from mnist_lightning.evaluation.verdict import MISSED, PASSED, Verdict, wilson_interval
from mnist_lightning.models import count_parameters

ROUNDING = 1e-9  # of a mean of fractions; far below one image in 10,000


class GateError(RuntimeError):
    """The run did not keep the contract under `gate`."""


class ParameterBudgetError(GateError):
    """The network has too many trainable parameters."""


class AccuracyTargetError(GateError):
    """The accuracy target was missed, or could not be judged."""


class Gate(L.Callback):
    """Fails the run before its first step when it is over the parameter budget, and at its end when it missed the target.

    Rules, all on the test images: "best" takes the best of the first `within_epochs` epochs, as published, which selects on
    the test set; "last" the last epoch's weights; "mean_last_3" the mean of the last three epochs; "selected" the checkpoint
    that was best on the hold-out. With a hold-out only "last" and "selected" can be judged, by one `trainer.test`.

    Args:
        max_params: Trainable parameters must be strictly fewer.
        min_accuracy: Test accuracy to reach, a fraction in (0, 1].
        within_epochs: Epochs within which to reach it.
        rule: "best", "last", "mean_last_3" or "selected".
        on_miss: "fail" raises; "warn" only records the miss.
        model: Name of the network for messages and the verdict.

    Raises:
        ParameterBudgetError: From `on_fit_start`.
        AccuracyTargetError: From `on_fit_end`, or from `on_test_end` with a hold-out.
    """

    def __init__(self, max_params: int, min_accuracy: float, within_epochs: int, rule: str, on_miss: str, model: str) -> None:
        self.max_params = max_params
        self.min_accuracy = min_accuracy
        self.within_epochs = within_epochs
        self.rule = rule
        self.on_miss = on_miss
        self.model = model

        self.params: int | None = None
        self.accuracy_of_epoch: dict[int, float] = {}  # by epoch, counted from 1
        self.logged: list[str] = []
        self.epochs = 0
        self.epoch_split = "test"
        self.dataset = "unknown"
        self.test_images: int | None = None  # that the accuracy was measured on
        self.num_test_images = 0  # that there are
        self.test_accuracy: float | None = None  # of the one measurement after training with a hold-out
        self.started_s = self.ended_s = time.monotonic()
        self.earlier_s = 0.0  # wall time before a resume
        self.reasons: list[str] = []  # in which the run broke the contract; final once it was judged

    # --- what is measured -----------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must know of the epochs before."""
        accuracies = {str(epoch): accuracy for epoch, accuracy in self.accuracy_of_epoch.items()}
        return {"accuracy_of_epoch": accuracies, "epochs": self.epochs, "seconds": self._seconds(time.monotonic())}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if self.epochs:  # trainer.test loads an epoch's checkpoint, which knows less than this run does by then
            return
        self.accuracy_of_epoch = {int(epoch): accuracy for epoch, accuracy in state_dict["accuracy_of_epoch"].items()}
        self.epochs = state_dict["epochs"]
        self.earlier_s = state_dict["seconds"]

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.started_s = self.ended_s = time.monotonic()
        data = trainer.datamodule  # type: ignore[attr-defined]
        self.epoch_split, self.dataset = data.epoch_split, data.name
        self.params = count_parameters(pl_module)
        if reason := self._budget_reason():
            self.reasons = [reason]
            if self.on_miss == "fail":
                raise ParameterBudgetError(reason)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.sanity_checking:
            return
        accuracy = self._measured(trainer, self.epoch_split, trainer.num_val_batches)
        if accuracy is not None:
            self.accuracy_of_epoch[trainer.current_epoch + 1] = accuracy

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.epochs = trainer.current_epoch + 1

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.epoch_split == "test":
            self._close()

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.test_accuracy = self._measured(trainer, "test", trainer.num_test_batches)
        self._close()

    def _measured(self, trainer: L.Trainer, split: str, num_batches: list[int | float]) -> float | None:
        """The accuracy just logged, as the exact fraction of the images it was measured on; None if it was not logged."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        # Fewer than all are measured when the trainer limits its batches.
        num_images = min(data.num_images(split), int(sum(num_batches)) * data.eval_batch_size * trainer.world_size)
        if split == "test":
            self.test_images, self.num_test_images = num_images, data.num_images(split)
        self.logged = sorted(trainer.callback_metrics)
        if f"{split}/acc" not in trainer.callback_metrics:
            return None
        accuracy = float(trainer.callback_metrics[f"{split}/acc"])
        # The metric is a float32, in which 9,930 of 10,000 falls short of 0.993.
        return round(accuracy * num_images) / num_images if math.isfinite(accuracy) else accuracy

    def _close(self) -> None:
        """Ends the clock and fails the run if the target was missed."""
        self.ended_s = time.monotonic()
        self.reasons = self._judge()
        if self.reasons and self.on_miss == "fail":
            raise AccuracyTargetError("; ".join(self.reasons))

    # --- what is judged -------------------------------------------------------------------------------------------------

    def _budget_reason(self) -> str | None:
        if self.params is None or self.params < self.max_params:
            return None
        return f"{self.model} has {self.params:,} trainable parameters; gate.max_params={self.max_params} wants fewer"

    def _accuracy(self) -> tuple[float | None, str]:
        """Test accuracy under the rule, or None and why it cannot be told."""
        if self.epoch_split == "val":
            if self.test_accuracy is not None and not math.isfinite(self.test_accuracy):
                return None, f"test/acc is {self.test_accuracy}"
            return self.test_accuracy, f"test/acc was never logged by trainer.test; logged were {self._logged_text()}"
        within = {epoch: acc for epoch, acc in self.accuracy_of_epoch.items() if epoch <= self.within_epochs}
        if not within:
            return None, f"test/acc was never logged; logged were {self._logged_text()}"
        for epoch, accuracy in within.items():
            if not math.isfinite(accuracy):
                return None, f"test/acc is {accuracy} at epoch {epoch}"
        if self.rule == "best":
            return _best(within)[1], ""
        num = {"last": 1, "mean_last_3": 3}[self.rule]
        wanted = range(self.epochs - num + 1, self.epochs + 1)
        missing = [epoch for epoch in wanted if epoch not in within]
        if missing:
            limit = f"gate.within_epochs={self.within_epochs}"
            return None, f"test/acc was not measured within {limit} at epoch {missing[0]}"
        return sum(within[epoch] for epoch in wanted) / num, ""

    def _logged_text(self) -> str:
        return ", ".join(self.logged) or "no metrics at all"

    def _judge(self) -> list[str]:
        """Every way in which the run breaks the contract; none when it keeps it."""
        reasons = [reason] if (reason := self._budget_reason()) else []
        accuracy, why_none = self._accuracy()
        if accuracy is None:
            reasons.append(why_none)
        elif self._accuracy_judged() and accuracy < self.min_accuracy - ROUNDING:
            reasons.append(
                f"test accuracy {accuracy:.4f} by the rule {self.rule!r} is below gate.min_accuracy={self.min_accuracy}"
            )
        if self._accuracy_judged() and self.test_images is not None and self.test_images < self.num_test_images:
            reasons.append(f"only {self.test_images:,} of the {self.num_test_images:,} test images were measured")
        return reasons

    def _seconds(self, until_s: float) -> float:
        """Wall time of the run, with what it took before it was resumed."""
        return self.earlier_s + until_s - self.started_s

    def _accuracy_judged(self) -> bool:
        return self.dataset == "MNIST"

    def verdict(self, seed: int, stopped: str | None = None, why: str = "") -> Verdict:
        """The run's verdict.

        Args:
            seed: Recorded with it.
            stopped: "error" or "interrupted" for a run that ended before it could be judged.
            why: What stopped it.
        """
        if stopped:
            self.ended_s = time.monotonic()
        accuracy, _ = self._accuracy()
        interval = None
        if stopped or accuracy is None:
            accuracy = None
        elif self.test_images:
            interval = wilson_interval(accuracy * self.test_images, self.test_images)
        status = stopped or (MISSED if self.reasons else PASSED)
        finite = {epoch: acc for epoch, acc in self.accuracy_of_epoch.items() if math.isfinite(acc)}
        best_epoch, best_accuracy = _best(finite) if finite else (None, None)
        return Verdict(
            status=status,
            passed=status == PASSED,
            reasons=[why] if stopped else self.reasons,
            rule=self.rule,
            accuracy=accuracy,
            best_accuracy=best_accuracy,
            best_epoch=best_epoch,
            last_accuracy=finite.get(self.epochs),
            epoch_split=self.epoch_split,
            interval_95=interval,
            test_images=self.test_images,
            selected_on_test=self.epoch_split == "test" and self.rule == "best",
            accuracy_judged=self._accuracy_judged(),
            params=self.params,
            max_params=self.max_params,
            min_accuracy=self.min_accuracy,
            within_epochs=self.within_epochs,
            on_miss=self.on_miss,
            model=self.model,
            seed=seed,
            dataset=self.dataset,
            epochs=self.epochs,
            epochs_to_target=min((epoch for epoch, acc in finite.items() if acc >= self.min_accuracy - ROUNDING), default=None),
            seconds=round(self._seconds(self.ended_s), 3),
        )


def _best(accuracy_of_epoch: dict[int, float]) -> tuple[int, float]:
    """The epoch of the highest accuracy, the earliest of equals, and that accuracy."""
    return max(accuracy_of_epoch.items(), key=lambda item: (item[1], -item[0]))
