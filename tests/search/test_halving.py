"""Which trials end early."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from optuna.trial import Trial

from mnist_lightning.evaluation.verdict import PRUNED
from mnist_lightning.search.halving import Halving
from mnist_lightning.search.trials import SIZE, Trials
from mnist_lightning.training.pruning import Pruned

OTHERS = [(100, 0.90), (200, 0.92), (300, 0.94), (400, 0.96)]  # size, and accuracy after the first epoch


def begin(trials: Trials, size: int) -> Trial:
    trial = trials.claim()
    assert trial is not None
    trial.set_user_attr(SIZE, size)
    return trial


def evaluate(trials: Trials, trial: Trial, figure: float, epoch: int = 1) -> bool:
    """Whether a trial ends after its evaluation, before its next epoch."""
    trainer: Any = SimpleNamespace(current_epoch=epoch - 1, callback_metrics={"val/acc": figure})
    module: Any = None
    Halving(trials, trial).on_validation_end(trainer, module)
    trainer.current_epoch = epoch
    try:
        Halving(trials, trial).on_train_epoch_start(trainer, module)
    except Pruned:
        return True
    return False


@pytest.fixture
def trials(open_trials: Callable[..., Trials]) -> Trials:
    opened = open_trials("search.prune_after=[1]")
    for size, figure in OTHERS:
        assert not evaluate(opened, begin(opened, size), figure)  # there are too few others to compare with
    return opened


def test_a_trial_behind_most_of_those_no_larger_ends(trials: Trials) -> None:
    assert evaluate(trials, begin(trials, 400), 0.91)
    assert not evaluate(trials, begin(trials, 400), 0.95)


def test_a_small_trial_is_not_compared_with_larger_ones(trials: Trials) -> None:
    assert not evaluate(trials, begin(trials, 300), 0.5)


def test_a_trial_goes_on_after_other_epochs(trials: Trials) -> None:
    assert not evaluate(trials, begin(trials, 400), 0.5, epoch=2)


def test_a_trial_that_was_to_end_before_it_was_killed_ends(trials: Trials) -> None:
    trial = begin(trials, 400)
    trial.set_user_attr(PRUNED, True)
    assert evaluate(trials, trial, 0.99)
