"""How a launch begins and ends: every job's configuration is checked before any runs, and the exit status sums them up.

Hydra calls `Study` (conf/hydra/callbacks). Imports neither torch nor lightning.
"""

import contextlib
import functools
import json
import multiprocessing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from filelock import FileLock
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from mnist_lightning import files
from mnist_lightning.config.compose import without_hydra
from mnist_lightning.config.errors import ConfigError
from mnist_lightning.config.trainer import is_ddp
from mnist_lightning.evaluation.run_directories import SWEEP, find_runs, lock, read_run, settings
from mnist_lightning.evaluation.verdict import PRUNED
from mnist_lightning.status import FAILED, worst
from mnist_lightning.study import launcher, leaderboard  # noqa: F401  # the launcher makes itself known to Hydra
from mnist_lightning.terminal import path_as_typed, show


def _run_dir(directory: str, *, _root_: DictConfig) -> str:
    """Under resume the newest directory of a run of the same configuration, else, or where there is none, the given one."""
    if _root_.resume:
        mine = settings(without_hydra(_root_))
        found = [path.parent for path in Path(directory).parent.glob("*/config.yaml") if read_run(path.parent).config == mine]
        directory = str(max(found, default=directory))
    return directory


def _sweep_dir(resume: bool, task: Sequence[str], directory: str) -> str:
    """Under resume the newest directory of a sweep of the same command line, else, or where there is none, the given one."""
    if resume:
        found = [path.parent for path in Path(directory).parent.glob(f"*/{SWEEP}") if _read(path) == _asked(task)]
        directory = str(max(found, default=directory))
    return directory


def _shared_keys(task: Sequence[str]) -> list[str]:
    """Keys that the jobs of a sweep do not differ in."""
    return [override.key_or_group for override in _parse(task) if not override.is_sweep_override()]


OmegaConf.register_new_resolver("run_dir", _run_dir, replace=True)
# Cached, as Hydra's `now` is: asked by the sweep, and the answer holds for all its jobs, in other processes, too.
OmegaConf.register_new_resolver("sweep_dir", _sweep_dir, use_cache=True, replace=True)
OmegaConf.register_new_resolver("shared_keys", _shared_keys, use_cache=True, replace=True)


def _asked(task: Sequence[str]) -> list[str]:
    """What a command line asks of a sweep, by which the same command finds it again."""
    return sorted(override for override in task if not override.startswith(("resume=", "ckpt_path=")))


def _read(path: Path) -> Any:
    with contextlib.suppress(OSError, ValueError):
        return json.loads(files.read_text(path))


class Refused(BaseException):
    """Carries an error through Hydra, which turns an Exception in a callback into a warning."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


def _through_hydra(hook: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(hook)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            hook(*args, **kwargs)
        except Exception as error:
            raise Refused(error) from error

    return wrapped


class Study(Callback):
    """What happens around a single run and around a sweep."""

    num_jobs = 0
    lock: ClassVar[FileLock | None] = None  # of a sweep's directory; not of the object, copies of which go to other processes

    @_through_hydra
    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        # pydantic takes its time, which --help need not wait for
        from mnist_lightning.config.check import check, require_extras

        check(without_hydra(config))
        require_extras(config)
        if config.sweep.prune:
            raise ConfigError("sweep.prune=true: stops jobs of a sweep, and this is one run; add --multirun or sweep=lr")

    def on_run_end(self, config: DictConfig, **kwargs: Any) -> None:
        raise SystemExit(kwargs["job_return"].return_value)

    @_through_hydra
    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        # Both are asked here first: what they cache goes into every job's configuration.
        directory = Path(config.hydra.sweep.dir)
        with contextlib.suppress(OmegaConfBaseException):  # one of the user's own, such as ${hydra:job.override_dirname}
            _ = config.hydra.sweep.subdir
        self.num_jobs = _check_jobs(config)
        Study.lock = lock(directory)
        if not config.resume and (directory / SWEEP).exists():
            raise ConfigError(
                f"hydra.sweep.dir={directory}: it holds a sweep already; go on with it by resume=true, or name another"
            )
        files.remove_parts(directory)
        # Hydra's multirun.yaml says more, and is written in place: a full disk would leave half of it.
        files.write(directory / SWEEP, json.dumps(_asked(config.hydra.overrides.task), indent=2) + "\n")

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        if config.hydra.mode == RunMode.MULTIRUN and not multiprocessing.parent_process():  # which does it
            leaderboard.keep(Path(config.hydra.sweep.dir))

    @_through_hydra
    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        raise SystemExit(self._sum_up(Path(config.hydra.sweep.dir)))

    def _sum_up(self, sweep_dir: Path) -> int:
        """Prints the leaderboard; returns the worst of the jobs' exit statuses."""
        from mnist_lightning.study.sweep_picture import draw_sweep  # matplotlib takes its time, which only an ended sweep has

        runs = find_runs([sweep_dir])
        show(f"\n{leaderboard.write(sweep_dir, runs)}\n")
        drawn = draw_sweep(runs, sweep_dir / "leaderboard.png")
        pictures = "leaderboard.md, .csv and .png" if drawn else "leaderboard.md and .csv"
        finished, pruned = sum(run.finished for run in runs), sum(run.status == PRUNED for run in runs)
        ended = f"{finished} of {self.num_jobs} jobs finished" + (f", {pruned} pruned" if pruned else "")
        show(f"{ended}; {pictures} in {path_as_typed(sweep_dir)}")
        statuses = [run.verdict.get("exit_status", FAILED) for run in runs]
        return worst(statuses + [FAILED] * (self.num_jobs - len(runs)))  # a job without a directory did not get that far


def _parse(task: Sequence[str]) -> list[Override]:
    return OverridesParser.create(config_loader=GlobalHydra.instance().config_loader()).parse_overrides(list(task))


def _check_jobs(config: DictConfig) -> int:
    """Composes and checks every job of a sweep; returns how many there are. A ConfigError has the lines of all, each once."""
    given = _parse(config.hydra.overrides.task)
    preset = config.hydra.sweeper.params or {}
    with read_write(config), open_dict(config):
        for override in given:  # wins over a preset's values (conf/sweep), which Hydra would put beside it
            preset.pop(override.key_or_group, None)
    swept = _parse([f"{key}={value}" for key, value in preset.items()]) + given
    if config.sweep.prune and {override.key_or_group for override in swept if override.is_sweep_override()} <= {"seed"}:
        raise ConfigError(
            "sweep.prune=true: these jobs differ in their seeds alone, which are measured, not chosen; leave it out"
        )
    loader = GlobalHydra.instance().config_loader()
    [jobs] = BasicSweeper.split_arguments(swept, max_batch_size=None)
    lines: dict[str, None] = {}
    taken: dict[str, int] = {}
    for number, job in enumerate(jobs):
        try:
            composed = loader.load_sweep_config(config, list(job))
            _check_job(without_hydra(composed))
            _check_directory(composed, number, taken)
        except ConfigError as error:
            lines |= dict.fromkeys(str(error).splitlines())
        except OmegaConfBaseException:  # which may be a ValueError, too
            raise
        except (ValueError, TypeError) as error:  # a group is set to a number, or to a list of them
            raise HydraException(str(error)) from error
    if lines:
        raise ConfigError("\n".join(lines))
    return len(jobs)


def _check_directory(job: DictConfig, number: int, taken: dict[str, int]) -> None:
    """Refuses a job with the directory of another; `taken` are those of the jobs before it."""
    before = HydraConfig.instance().cfg
    with read_write(job), open_dict(job):
        job.hydra.job.id, job.hydra.job.num = str(number), number  # as the launcher does
    HydraConfig.instance().set_config(job)  # that ${hydra:...} stands for
    try:
        subdir = str(job.hydra.sweep.subdir)
    finally:
        HydraConfig.instance().cfg = before
    if taken.setdefault(subdir, number) != number:
        raise ConfigError(
            f"hydra.sweep.subdir: the jobs {taken[subdir]} and {number} have one directory, {subdir}; "
            "leave out what is asked for twice, or add ${hydra:job.num} to it"
        )


def _check_job(cfg: DictConfig) -> None:
    from mnist_lightning.config.check import check, require_extras

    check(cfg)
    require_extras(cfg)
    if is_ddp(cfg.trainer.strategy):
        raise ConfigError(
            "trainer=ddp: a run on several devices starts processes of its own and cannot be a job of a sweep; "
            "run it alone, or sweep on one device a job"
        )
