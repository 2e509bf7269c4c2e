"""A worker of a search: takes a trial, refuses what is over a budget, trains the rest as any run, tells the result."""

import contextlib
from typing import Any

from omegaconf import DictConfig, open_dict
from optuna.trial import Trial, TrialState

from mnist_lightning.config.build import build
from mnist_lightning.config.check import check
from mnist_lightning.config.compose import compose_job, log_into, without_hydra
from mnist_lightning.config.errors import ConfigError
from mnist_lightning.evaluation.run_directories import read_epochs, read_run
from mnist_lightning.evaluation.verdict import PRUNED
from mnist_lightning.models import count_parameters
from mnist_lightning.models.probe import probe
from mnist_lightning.models.summary import layer_sizes, summarize
from mnist_lightning.search import results
from mnist_lightning.search.halving import Halving
from mnist_lightning.search.rules import composable
from mnist_lightning.search.space import overrides
from mnist_lightning.search.trials import OVERRIDES, SIZE, Trials
from mnist_lightning.terminal import show
from mnist_lightning.training import fit
from mnist_lightning.training.pruning import Pruned

# What makes a run a trial: it is not judged, since it is not tested, and goes on where it was killed.
TRIAL = (
    *("gate.dataset=hold-out", "gate.on_miss=warn", "++trainer.limit_test_batches=0"),
    *("++trainer.enable_progress_bar=false", "resume=true"),
)
MOST_REFUSED = 500  # in a row, before the space is given up


def work(trials: Trials) -> None:
    """Trains trials until as many are done as were asked for.

    Raises:
        ConfigError: What the space proposes never fits the budgets, or was all tried before.
    """
    refused = 0
    while trial := trials.claim():
        cfg = _accepted(trials, trial)
        refused = 0 if cfg else refused + 1
        if refused > MOST_REFUSED:
            raise ConfigError(
                f"search: the last {MOST_REFUSED} proposals were over a budget or tried before; widen search.plan"
            )
        if cfg:
            _train(trials, trial, cfg)
            with trials.turn:
                table = results.write(trials)
            show(results.progress(trial.number, table, trials.search))


def _accepted(trials: Trials, trial: Trial) -> DictConfig | None:
    """The configuration of a trial with Hydra's own node, or None where it is refused; the storage then knows why."""
    ours = overrides(trial.params, trials.search)
    trial.set_user_attr(OVERRIDES, " ".join(ours))
    composed = compose_job(*composable(trials.words), *ours, *TRIAL)
    with open_dict(composed):
        composed.pop("search")
    try:
        check(without_hydra(composed))
        measured = measure(composed)
    except ConfigError as error:  # a plan that does not fit its maps
        trial.set_user_attr("refused", str(error))
        trials.refuse(trial)
        return None
    for name, number in measured.items():
        trial.set_user_attr(name, number)
        limit = composed.gate.get(f"max_{name}")
        if limit and name not in trial.constraints:
            trial.set_constraint(name, number - limit + 1)  # kept where it is at most 0
    if any(excess > 0 for excess in trial.constraints.values()):
        trials.refuse(trial)
        return None
    return composed if trials.accept(trial, measured[trials.search.objective or "params"]) else None


def measure(cfg: DictConfig) -> dict[str, int]:
    """What the gate has budgets for, of a network that is not trained yet."""
    net = probe(build(cfg, "model"))
    return {"params": count_parameters(net, cfg.gate.count)} | layer_sizes(summarize(net))


def _train(trials: Trials, trial: Trial, composed: DictConfig) -> None:
    """Trains a trial, or goes on with it, and tells the result; what it prints goes into its log."""
    directory = trials.directory / f"trial-{trial.number:04}"
    log_into(composed, directory)
    try:
        with (
            (directory / "run.log").open("a", encoding="utf-8") as log,
            contextlib.redirect_stdout(log),
            contextlib.suppress(Pruned),
        ):
            fit.run(without_hydra(composed), directory, [Halving(trials, trial)])
    except ArithmeticError as error:  # a loss that is no number; any other error ends the search, and the trial waits
        trial.set_user_attr("failed", str(error))
        trials.study.tell(trial, state=TrialState.FAIL)
        return
    verdict = read_run(directory).verdict
    figures: dict[str, Any] = {"acc": verdict["last_accuracy"], "loss": read_epochs(directory)[-1]["val/loss"]}
    for name, figure in (figures | {"epochs": verdict["epochs"]}).items():
        trial.set_user_attr(name, figure)
    if trial.user_attrs.get(PRUNED):
        trials.study.tell(trial, state=TrialState.PRUNED)
    else:
        smallness = [trial.user_attrs[SIZE]] if trials.search.objective else []
        trials.study.tell(trial, [figures[trials.search.criterion], *smallness])
