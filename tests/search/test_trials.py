"""Who works on which trial, whatever worker dies at which moment."""

import re
from collections.abc import Callable

import pytest
from optuna.trial import TrialState

from mnist_lightning.config.errors import ConfigError
from mnist_lightning.search.trials import OVERRIDES, Trials

Open = Callable[..., Trials]


def test_a_trial_of_a_living_worker_is_left_to_it(open_trials: Open) -> None:
    one, other = open_trials(), open_trials()
    mine, others = one.claim(), other.claim()
    assert mine is not None
    assert others is not None
    assert (mine.number, others.number) == (0, 1)


def test_a_trial_of_a_dead_worker_is_gone_on_with_as_itself(open_trials: Open) -> None:
    dead, living = open_trials(), open_trials()
    lost = dead.claim()
    assert lost is not None
    dead.close()
    found = living.claim()
    assert found is not None
    assert (found.number, found.params) == (lost.number, lost.params)


def test_a_proposal_whose_worker_died_while_it_was_drawn_never_was_one(open_trials: Open) -> None:
    trials = open_trials("search.trials=1")
    trials.study.ask().suggest_categorical("first", ["c", "k"])
    trial = trials.claim()
    assert trial is not None
    assert (trial.number, trials.study.trials[0].state) == (1, TrialState.FAIL)


def test_no_more_trials_than_asked_for_are_begun(open_trials: Open) -> None:
    one, other = open_trials("search.trials=2"), open_trials("search.trials=2")
    assert one.claim() is not None
    refused = other.claim()
    assert refused is not None
    assert other.claim() is None
    other.refuse(refused)  # which does not count
    assert other.claim() is not None


def test_a_run_that_was_tried_before_is_told_again_and_not_trained(open_trials: Open) -> None:
    trials = open_trials()
    first = trials.claim()
    assert first is not None
    first.set_user_attr(OVERRIDES, "model.plan=[c4,gap,head]")
    assert trials.accept(first, 100)
    trials.study.tell(first, [0.9, 100])
    second = trials.claim()
    assert second is not None
    second.set_user_attr(OVERRIDES, "model.plan=[c4,gap,head]")
    assert not trials.accept(second, 100)
    assert trials.study.trials[1].values == [0.9, 100]
    assert [trial.number for trial in trials.accepted()] == [0]


def test_a_killed_search_draws_no_trial_anew(open_trials: Open) -> None:
    """The sampler of a worker that starts again does not begin its draws again."""
    drawn = []
    for _ in range(3):
        trials = open_trials()
        trial = trials.claim()
        assert trial is not None
        drawn.append(trial.params)
        trials.refuse(trial)
        trials.close()
    assert drawn[0] != drawn[1] != drawn[2]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql+aiomysql://host/name", "needs aiomysql, which is not installed; install it"),
        ("sqlite:////nowhere/at/all.db", "cannot be used: "),
    ],
)
def test_a_database_that_cannot_be_used_is_named(open_trials: Open, url: str, said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"search.storage={url}: {said}")):
        open_trials(f"search.storage={url}")
