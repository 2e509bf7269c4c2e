"""Ends trials early that are not among the best of those no larger, by successive halving.

Optuna's pruners know one objective alone. Here a trial is compared after some epochs with those of at most its size, so that
small networks are not lost to large ones.

Source: Li et al., 2020, "A System for Massively Parallel Hyperparameter Tuning".
"""

import lightning as L
from optuna.trial import Trial

from mnist_lightning.evaluation.verdict import PRUNED
from mnist_lightning.search.trials import SIZE, Trials
from mnist_lightning.training.pruning import Pruned

FEWEST = 4  # others to compare with


class Halving(L.Callback):
    """Watches the epochs of one trial."""

    def __init__(self, trials: Trials, trial: Trial) -> None:
        self.trials, self.trial = trials, trial

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if (epoch := trainer.current_epoch + 1) in self.trials.search.prune_after:
            figure = float(trainer.callback_metrics[f"val/{self.trials.search.criterion}"])
            self.trial.set_user_attr(f"epoch {epoch}", figure)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        epoch = trainer.current_epoch
        if epoch not in self.trials.search.prune_after:
            return
        # One that had been told to end before it was killed does not begin again.
        if self.trial.user_attrs.get(PRUNED) or self._is_behind(f"epoch {epoch}"):
            self.trial.set_user_attr(PRUNED, True)
            raise Pruned(f"after epoch {epoch} it is not among the best of the search's trials that are no larger")

    def _is_behind(self, epoch: str) -> bool:
        search, size, figure = self.trials.search, self.trial.user_attrs[SIZE], self.trial.user_attrs[epoch]
        others = [
            trial.user_attrs[epoch]
            for trial in self.trials.accepted()
            if trial.number != self.trial.number and epoch in trial.user_attrs and trial.user_attrs[SIZE] <= size
        ]
        better = sum(other > figure if search.criterion == "acc" else other < figure for other in others)
        return len(others) >= FEWEST and better >= search.keep * (len(others) + 1)
