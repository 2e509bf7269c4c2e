"""The jobs of a sweep side by side, each in a process of its own: what ends one, even for want of memory, ends no other.

Not by Hydra's launcher for joblib: a stop kills its workers before they can write a verdict, a sweep that is killed leaves them
at work on its other jobs, and a worker that dies ends the sweep. Imports neither torch nor lightning.
"""

import importlib
import inspect
import logging
import multiprocessing
import os
import random
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, configure_log, env_override, filter_overrides, run_job, setup_globals
from hydra.types import HydraContext
from omegaconf import DictConfig, open_dict

from mnist_lightning import terminal
from mnist_lightning.config.errors import named
from mnist_lightning.status import FAILED
from mnist_lightning.study import leaderboard
from mnist_lightning.training import signals

log = logging.getLogger(__name__)

# Forked from a process that has imported what a run needs, a job begins at once. Only Linux forks safely beside its libraries.
METHOD = "forkserver" if sys.platform == "linux" else "spawn"
PRELOADED = [
    "mnist_lightning.training.lean",
    "mnist_lightning.commands.train",
    "mnist_lightning.training.fit",
    "mnist_lightning.evaluation.figures",
    "mnist_lightning.training.tensorboard",
]


class SideBySide(BasicLauncher):
    """So many jobs at a time, by default one for each core, with one thread each; one at a time in this process."""

    def __init__(self, jobs: int | None) -> None:
        super().__init__()
        self.at_a_time = jobs or num_cores()

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        assert self.config is not None
        if self.config.sweep.prune:  # neighbours say little of the rest: what is compared first is drawn from all
            job_overrides = random.Random(0).sample(job_overrides, len(job_overrides))
        if min(self.at_a_time, len(job_overrides)) == 1:
            return super().launch(job_overrides, initial_job_idx)
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        log.info(f"Launching {len(job_overrides)} jobs, {min(self.at_a_time, len(job_overrides))} at a time")
        with env_override({"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS") or "1"}):
            self._launch(deque(enumerate(job_overrides, initial_job_idx)))
        return []  # the jobs have left their results in their directories

    def _launch(self, waiting: deque[tuple[int, Sequence[str]]]) -> None:
        assert self.config
        running: list[BaseProcess] = []
        try:
            while waiting or running:
                while waiting and len(running) < self.at_a_time:
                    running.append(self._start(*waiting.popleft()))
                wait([process.sentinel for process in running])
                running = [process for process in running if process.is_alive()]
                leaderboard.keep(Path(self.config.hydra.sweep.dir))
        except BaseException as error:
            for process in running:
                process.terminate()
            for process in running:
                process.join()  # it writes its verdict
            raise signals.behind(error) or error from None

    def _start(self, number: int, overrides: Sequence[str]) -> BaseProcess:
        log.info(f"\t#{number} : {' '.join(filter_overrides(overrides))}")
        context = multiprocessing.get_context(METHOD)
        context.set_forkserver_preload(PRELOADED)
        assert self.task_function
        # By its name, of which Hydra's decorator has made another function.
        task = self.task_function.__module__, self.task_function.__qualname__
        arguments = number, overrides, self.hydra_context, self.config, task, dict(os.environ)
        process: BaseProcess = context.Process(target=_work, args=arguments)  # type: ignore[attr-defined]
        process.start()
        return process


# Hydra takes launchers from packages of plugins alone.
Plugins.instance().class_name_to_class["hydra_plugins.mnist_lightning.SideBySide"] = SideBySide


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _work(
    number: int,
    overrides: Sequence[str],
    context: HydraContext,
    config: DictConfig,
    task: tuple[str, str],
    environment: Mapping[str, str],
) -> None:
    """A job, in its process."""
    os.environ.update(environment)  # forked processes have that of the first sweep
    terminal.outlive_outputs()
    terminal.prefix = f"#{number}  "
    signals.catch()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C comes to all; the sweep tells its jobs
    threading.Thread(target=end_with_parent, daemon=True).start()
    setup_globals()
    job = context.config_loader.load_sweep_config(config, list(overrides))
    with open_dict(job):
        job.hydra.job.id, job.hydra.job.num = str(number), number
    function: Callable[[DictConfig], int] = inspect.unwrap(getattr(importlib.import_module(task[0]), task[1]))
    try:
        run_job(function, job, "hydra.sweep.dir", "hydra.sweep.subdir", context)
    except Exception as error:  # no directory, no log: `job` tells of all others
        terminal.complain(named(error))
        sys.exit(FAILED)


def end_with_parent() -> None:
    """Stops this process as SIGTERM does, when the one that started it is gone; else it would work on, or wait for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
