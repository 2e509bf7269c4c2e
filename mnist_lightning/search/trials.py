"""The trials of a search, in Optuna's storage: who works on which, and which are done, whatever is killed.

A worker holds the lock of a file of its own as long as it lives. A trial that runs under a worker whose lock is free belongs to
nobody: the next worker goes on with it, so that each trial counts once. Where several machines search, the directory and the
storage lie where all of them reach them.
"""

import logging
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import optuna
from filelock import FileLock, Timeout
from omegaconf import DictConfig
from optuna.samplers import BaseSampler, NSGAIISampler, TPESampler
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from mnist_lightning.config.errors import ConfigError, fitted, one_line
from mnist_lightning.search.rules import Search
from mnist_lightning.search.space import space

DATABASE = "search.db"
# Attributes of a trial: the words of its run, and its size once it was found to fit. `halving` adds PRUNED where it ended one.
OVERRIDES, SIZE = "overrides", "size"
Direction = Literal["maximize", "minimize"]
PATIENCE_S = 60  # for a database that another worker writes to


class Trials:
    """The trials that the workers of a search share.

    Args:
        words: Those of the command line; `cfg` and `search` are what they compose.
    """

    def __init__(self, directory: Path, words: Sequence[str], cfg: DictConfig, search: Search) -> None:
        self.directory, self.words, self.cfg, self.search = directory, words, cfg, search
        self.space = space(search)
        self.turn = FileLock(directory / ".turn.lock")  # who holds it asks, and writes the tables
        self.worker = secrets.token_hex(4)
        self.life = self._lock_of(self.worker)
        self.life.acquire()
        with self.turn:
            self.study = self._study()

    def _lock_of(self, worker: str) -> FileLock:
        return FileLock(self.directory / f".worker-{worker}.lock")

    def _study(self) -> optuna.Study:
        optuna.logging.set_verbosity(logging.WARNING)
        criterion: Direction = "maximize" if self.search.criterion == "acc" else "minimize"
        directions: list[Direction] = [criterion, "minimize"] if self.search.objective else [criterion]
        name = self.directory.name
        try:
            return optuna.create_study(storage=self._storage(), study_name=name, directions=directions, load_if_exists=True)
        except ImportError as error:
            driver = getattr(error.__cause__, "name", None) or "a driver of that database"
            raise ConfigError(
                f"search.storage={self.search.storage}: needs {driver}, which is not installed; install it"
            ) from error
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            start = f"search.storage={self.search.storage}: cannot be used: "
            raise ConfigError(fitted(start, one_line(error), "; give a URL as SQLAlchemy takes it")) from error

    def _storage(self) -> RDBStorage:
        if self.search.storage:
            return RDBStorage(self.search.storage)
        url = f"sqlite:///{(self.directory / DATABASE).absolute()}"
        return RDBStorage(url, engine_kwargs={"connect_args": {"timeout": PATIENCE_S}})

    def claim(self) -> Trial | None:
        """A trial to work on: one whose worker died, or a new one; None where all that were asked for are done or at work."""
        with self.turn:
            trials = self.study.get_trials(deepcopy=False)
            running = [trial for trial in trials if trial.state == TrialState.RUNNING]
            for orphan in [trial for trial in running if not self._lives(trial.user_attrs.get("worker"))]:
                if orphan.params.keys() == self.space.keys():
                    return self._mine(Trial(self.study, orphan._trial_id))  # Optuna has no public way to a running trial
                self.study.tell(orphan.number, state=TrialState.FAIL)  # killed while it was drawn: it never was one
                running.remove(orphan)
            if len(accepted(trials)) + sum(SIZE not in trial.user_attrs for trial in running) >= self.search.trials:
                return None
            self.study.sampler = self._sampler(len(trials))
            return self._mine(self.study.ask(self.space))

    def _mine(self, trial: Trial) -> Trial:
        trial.set_user_attr("worker", self.worker)
        return trial

    def _lives(self, worker: str | None) -> bool:
        lock = self._lock_of(worker or "")
        try:
            with lock.acquire(timeout=0):
                Path(lock.lock_file).unlink()
                return False
        except Timeout:
            return True

    def _sampler(self, number: int) -> BaseSampler:
        """A sampler for the trial of that number, whose draws are its own whatever was killed before."""
        seed = int(np.random.SeedSequence([self.cfg.seed, number]).generate_state(1)[0])
        return NSGAIISampler(seed=seed) if self.search.sampler == "nsga2" else TPESampler(seed=seed)

    def accepted(self) -> list[FrozenTrial]:
        """Trials within the budgets, whatever became of them."""
        return accepted(self.study.get_trials(deepcopy=False))

    def accept(self, trial: Trial, size: int) -> bool:
        """Makes a proposal one of the trials; not one that is there already, whose result the sampler is told again."""
        with self.turn:
            words = trial.user_attrs[OVERRIDES]
            others = [other for other in self.accepted() if other.number != trial.number]
            twin = next((other for other in others if other.user_attrs[OVERRIDES] == words), None)
            if not twin:
                trial.set_user_attr(SIZE, size)
            elif twin.state == TrialState.COMPLETE:
                self.study.tell(trial, twin.values)
            else:
                self.refuse(trial)
        return not twin

    def refuse(self, trial: Trial) -> None:
        """For a proposal that is not trained: the sampler keeps away from it."""
        self.study.tell(trial, state=TrialState.PRUNED)

    def close(self) -> None:
        self.life.release()
        Path(self.life.lock_file).unlink()


def accepted(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    return [trial for trial in trials if SIZE in trial.user_attrs]
