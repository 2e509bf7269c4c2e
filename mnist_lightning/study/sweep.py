"""How a launch begins and ends: every job's configuration is checked before any runs, and the exit status sums them up.

Hydra calls `Study` (conf/hydra/callbacks). Hydra turns an exception in a callback into a warning, so `Study` speaks by
SystemExit. Imports neither torch nor lightning.
"""

import contextlib
import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from filelock import FileLock
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, RangeSweep
from hydra.core.utils import JobReturn
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from mnist_lightning import files
from mnist_lightning.config.check import check
from mnist_lightning.config.compose import register_resolvers
from mnist_lightning.config.errors import ConfigError, one_line
from mnist_lightning.config.run_name import NAMED
from mnist_lightning.evaluation.run_directories import Run, find_runs, flatten, lock, read_run
from mnist_lightning.status import BAD_CONFIG, FAILED, OK, SEVERITY
from mnist_lightning.study import leaderboard
from mnist_lightning.terminal import complain, printable

MAX_JOBS = 10_000  # of a sweep: each is composed and checked before the first one runs

# Launchers that run jobs in processes of their own import this module there, with `Study`, before they compose.
register_resolvers()

SWEEP = "sweep.json"  # of a sweep's directory: what the command line asked for


class Refused(SystemExit):
    """The configuration was refused, or the output directory cannot be written, before anything ran."""

    def __init__(self, error: Exception, status: int = BAD_CONFIG) -> None:
        super().__init__(status)
        self.error = error


# What a value makes Hydra, OmegaConf, pathlib and this project raise; ConfigError is a ValueError.
UNUSABLE = (HydraException, OmegaConfBaseException, ValueError, TypeError)


class Study(Callback):
    """Hydra's hooks around a single run and a sweep."""

    num_jobs = 0
    lock: ClassVar[FileLock | None] = None  # of a sweep's directory; not of the object, copies of which go to other processes

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        try:
            check(_without_hydra(config))
            directory = Path(config.hydra.run.dir)
            if not _given(config, "hydra.run.dir"):
                if config.resume:
                    directory = _earlier(config, directory, "config.yaml", _same_run)
                # The time of day and the random part of its name are another in every process.
                _pin(config, "run", directory)
        except UNUSABLE as error:
            raise Refused(error) from None

    def on_run_end(self, config: DictConfig, **kwargs: Any) -> None:
        raise SystemExit(kwargs["job_return"].return_value)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        try:
            directory = Path(config.hydra.sweep.dir)
            if config.resume and not _given(config, "hydra.sweep.dir"):
                directory = _earlier(config, directory, SWEEP, _same_sweep)
            _pin(config, "sweep", directory)
            overrides = _parse(config)
            _name_by_what_varies(config, overrides)
            self.num_jobs = _check_sweep(config, overrides)
            Study.lock = lock(directory)
            _claim(config, directory)
        except UNUSABLE as error:  # before OSError, which some of them are
            raise Refused(error) from None
        except OSError as error:
            raise Refused(error, FAILED) from None

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        try:
            status = self._sum_up(Path(config.hydra.sweep.dir))
        except Exception as error:  # which Hydra would turn into a warning, and the exit status into 0
            complain(f"the sweep could not be summed up: {type(error).__name__}: {one_line(error)}")
            status = FAILED
        raise SystemExit(status)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        if config.hydra.mode == RunMode.MULTIRUN:
            sweep_dir = Path(config.hydra.sweep.dir)
            with contextlib.suppress(OSError):  # it is written again at the end, which tells
                leaderboard.write(sweep_dir, find_runs([sweep_dir]))  # after every job: a killed sweep has its table too

    def _sum_up(self, sweep_dir: Path) -> int:
        """Prints the leaderboard; returns the worst of the jobs' exit statuses."""
        runs = find_runs([sweep_dir])
        print(f"\n{leaderboard.write(sweep_dir, runs)}\n")
        statuses = [int(run.verdict.get("exit_status", FAILED)) for run in runs]
        statuses += [FAILED] * (self.num_jobs - len(runs))  # a job without a directory did not get that far
        judged = sum(run.finished for run in runs)
        drawn = _draw(runs, sweep_dir / "leaderboard.png")
        files = "leaderboard.md, .csv and .png" if drawn else "leaderboard.md and .csv"
        print(f"{judged} of {self.num_jobs} jobs finished; {files} in {printable(sweep_dir)}", flush=True)
        return max(statuses, key=lambda status: SEVERITY.index(status) if status in SEVERITY else len(SEVERITY), default=OK)


def _given(config: DictConfig, key: str) -> bool:
    """Whether the command line says where to."""
    return any(override.lstrip("+").split("=")[0] == key for override in config.hydra.overrides.hydra)


def _earlier(config: DictConfig, directory: Path, file: str, same: Callable[[DictConfig, Path], bool]) -> Path:
    """The newest directory beside the given one that the same command line made, or the given one where there is none."""
    candidates = sorted(path.parent for path in directory.parent.glob(f"*/{file}"))
    return next((candidate for candidate in reversed(candidates) if same(config, candidate)), directory)


def _pin(config: DictConfig, kind: str, directory: Path) -> None:
    """Fixes the directory for all jobs, whose configurations are composed anew, by some launchers in other processes."""
    with read_write(config):
        config.hydra[kind].dir = str(directory)
        quoted = str(directory).replace("'", "\\'")
        config.hydra.overrides.hydra.append(f"hydra.{kind}.dir='{quoted}'")


def _same_run(config: DictConfig, directory: Path) -> bool:
    return read_run(directory).config == flatten(_without_hydra(config))


def _same_sweep(config: DictConfig, directory: Path) -> bool:
    try:
        return bool(json.loads(files.read_text(directory / SWEEP)) == _task(config))
    except (OSError, ValueError, RecursionError):
        return False


def _task(config: DictConfig) -> list[str]:
    """What the command line asks of a sweep, by which the same command finds it again."""
    return sorted(override for override in config.hydra.overrides.task if not override.startswith(("resume=", "ckpt_path=")))


def _claim(config: DictConfig, directory: Path) -> None:
    """Makes a directory, of which the lock is held, this sweep's own by `sweep.json` in it.

    Hydra's multirun.yaml says more, and is written in place: a full disk would leave half of it, and a sweep that no command
    finds again.
    """
    if not config.resume and (directory / SWEEP).exists():
        raise ConfigError(
            f"hydra.sweep.dir={directory}: the directory holds a sweep already; go on with it by resume=true, or name another"
        )
    files.remove_parts(directory)
    files.write(directory / SWEEP, json.dumps(_task(config), indent=2) + "\n")


def _draw(runs: list[Run], path: Path) -> bool:
    from mnist_lightning.study.sweep_picture import draw_sweep  # matplotlib takes its time, which only a finished sweep has

    return draw_sweep(runs, path)


def _without_hydra(config: DictConfig) -> DictConfig:
    cfg = config.copy()
    with open_dict(cfg):
        cfg.pop("hydra", None)
    return cfg


def _parse(config: DictConfig) -> list[Override]:
    """The sweep's overrides: a preset's (conf/sweep) but for keys given on the command line, then the command line's."""
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    given = parser.parse_overrides(list(config.hydra.overrides.task))
    preset = config.hydra.sweeper.get("params") or {}
    with read_write(config), open_dict(config):
        for override in given:
            preset.pop(override.key_or_group, None)
    return parser.parse_overrides([f"{key}={value}" for key, value in preset.items()]) + given


def _name_by_what_varies(config: DictConfig, overrides: Sequence[Override]) -> None:
    """Leaves what all jobs of the sweep share out of their names, by one more override for Hydra to give each job."""
    shared = [override.key_or_group for override in overrides if not override.is_sweep_override()]
    keys = ",".join(f"'{key}'" for key in (*NAMED, *shared))
    with read_write(config):
        config.hydra.overrides.hydra.append(f"hydra.job.config.override_dirname.exclude_keys=[{keys}]")


def _check_sweep(config: DictConfig, overrides: list[Override]) -> int:
    """Composes and checks every job of a sweep; returns how many there are.

    Raises:
        ConfigError: With the lines of all jobs, each once.
    """
    loader = GlobalHydra.instance().config_loader()
    _check_size(overrides)
    [jobs] = BasicSweeper.split_arguments(overrides, max_batch_size=None)
    lines: dict[str, None] = {}
    for job in jobs:
        try:
            cfg = _without_hydra(loader.load_sweep_config(config, list(job)))
            check(cfg)
            if "ddp" in cfg.trainer.strategy:
                raise ConfigError(
                    "trainer=ddp: a run on several devices starts processes of its own and cannot be a job of a sweep; "
                    "run it alone, or sweep on one device a job, several at a time, with hydra/launcher=joblib"
                )
        except ConfigError as error:
            lines |= dict.fromkeys(str(error).splitlines())
    if lines:
        raise ConfigError("\n".join(lines))
    return len(jobs)


def _check_size(overrides: Sequence[Override]) -> None:
    """Refuses a sweep of more than `MAX_JOBS` jobs, before any list of them is made."""
    num_jobs = 1
    for override in overrides:
        value = override.value()
        if isinstance(value, (ChoiceSweep, RangeSweep)):
            values = value.list if isinstance(value, ChoiceSweep) else value.range()
            num_jobs *= sum(1 for _ in itertools.islice(values, MAX_JOBS + 1))
        if num_jobs > MAX_JOBS:
            raise ConfigError(f"{override.input_line}: makes a sweep of more than {MAX_JOBS:,} jobs; give fewer values")
