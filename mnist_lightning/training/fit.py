"""One run from configuration to verdict: seed, build, fit, test, judge."""

import contextlib
import json
import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf

from mnist_lightning import files
from mnist_lightning.config import own_code
from mnist_lightning.config.build import build, build_named, build_objects
from mnist_lightning.config.check import check, require_extras
from mnist_lightning.config.errors import ConfigError, UserError, named
from mnist_lightning.config.trainer import is_ddp
from mnist_lightning.data.augmentation import of_batches
from mnist_lightning.data.datamodule import DigitsDataModule
from mnist_lightning.evaluation.gate import Gate, GateError, NotMeasuredError
from mnist_lightning.evaluation.run_directories import lock, read_run
from mnist_lightning.evaluation.verdict import ERROR, INTERRUPTED, PRUNED, Verdict
from mnist_lightning.models.probe import probe
from mnist_lightning.status import BAD_CONFIG, FAILED, GATE_MISSED, OK
from mnist_lightning.terminal import path_as_typed, show
from mnist_lightning.training import checkpoints, signals
from mnist_lightning.training.callbacks import EpochBounds, EpochTable
from mnist_lightning.training.checkpoints import EpochCheckpoint
from mnist_lightning.training.compiled import CompiledClassifier, require_compiler
from mnist_lightning.training.cuda_graph import GraphedClassifier
from mnist_lightning.training.dashboard import Dashboard
from mnist_lightning.training.environment import device_name, device_of, versions
from mnist_lightning.training.lit_module import LitClassifier
from mnist_lightning.training.loggers import Loggers, NoLoggers
from mnist_lightning.training.memory import keep_freed
from mnist_lightning.training.pruning import Pruned, Pruning, sweep_of
from mnist_lightning.training.rehearsal import rehearse
from mnist_lightning.training.resume import Taken, code_of, look, set_aside, take_up
from mnist_lightning.training.schedules import Schedule
from mnist_lightning.training.trainer import make_trainer

STATUSES = {GateError: GATE_MISSED, ConfigError: BAD_CONFIG, Pruned: OK}  # any other error is FAILED
SILENCED = (  # true of this project and of no use to its users
    r".*recommended to use `self.log\('.*', ..., sync_dist=True\)`.*",  # summed over the processes already, or the same in all
    r".*does not have many workers which may be a bottleneck.*",  # tensors in memory: workers only cost
    r".*number of training batches .* is smaller than the logging interval.*",  # nothing is logged per step
    r".*Checkpoint directory .* exists and is not empty.*",  # it is the run's own directory
    r".*`isinstance\(treespec, LeafSpec\)` is deprecated.*",  # Lightning's own call
)


def run(cfg: DictConfig, output_dir: Path, watchers: Sequence[Callback] = ()) -> Verdict:
    """Trains, evaluates and judges, and leaves config, metrics, checkpoints, events and verdict in the directory.

    `watchers` see the epochs of a trial for the search that it belongs to, and may end it.

    Without `resume` a directory that holds a run already is refused. Raises a ConfigError before it has trained, a GateError
    where the contract under `gate` was broken and `gate.on_miss` is "fail".
    """
    check(cfg)
    own_code.refresh(cfg)
    require_extras(cfg)
    quieten()
    if not is_ddp(cfg.trainer.strategy):  # whatever a launcher or a scheduler has left in the environment
        rank_zero_only.rank = 0  # type: ignore[attr-defined]
    if rank_zero_only.rank:  # type: ignore[attr-defined]  # of a run on several processes
        return _follow(cfg, output_dir)
    with lock(output_dir):
        return _lead(cfg, output_dir, watchers)


def _lead(cfg: DictConfig, output_dir: Path, watchers: Sequence[Callback]) -> Verdict:
    """The run in its first process, which alone writes; it leaves a verdict, however it ends."""
    taken = take_up(output_dir, cfg) if cfg.resume else Taken()
    if taken.finished:
        ended = PRUNED if taken.finished.status == PRUNED else "finished"
        show(f"KEPT  {path_as_typed(output_dir)}: {ended} already, by the same configuration and code")
        return Verdict(**taken.finished.verdict)
    if not taken.checkpoint:
        claim(output_dir, cfg)
    gate = Gate(cfg)
    loggers: Loggers = NoLoggers()
    error: BaseException | None = None  # not sys.exc_info(): a notebook may run this while it handles another
    try:
        loggers = Loggers(cfg, output_dir, taken.epochs)
        _fit_and_test(cfg, output_dir, gate, loggers, taken, watchers)
    except BaseException as raised:
        error = raised
        raise
    finally:
        verdict = conclude(gate, cfg, output_dir, loggers, error)
    return verdict


def _follow(cfg: DictConfig, output_dir: Path) -> Verdict:
    """The run in another process; each looks at the directory by itself."""
    taken = look(output_dir, cfg) if cfg.resume else Taken()
    if taken.finished:
        return Verdict(**taken.finished.verdict)
    gate = Gate(cfg)
    _fit_and_test(cfg, output_dir, gate, NoLoggers(), taken)
    verdict = gate.verdict(cfg.seed)
    verdict.exit_status = FAILED if verdict.status == ERROR else OK  # a miss has been raised
    return verdict


def _fit_and_test(
    cfg: DictConfig, output_dir: Path, gate: Gate, loggers: Loggers, taken: Taken, watchers: Sequence[Callback] = ()
) -> None:
    parts = assemble(cfg, output_dir, gate, loggers, watchers)
    parts.trainer.fit(parts.classifier, datamodule=parts.data, ckpt_path=taken.checkpoint, weights_only=True)
    if parts.data.val_images:
        # The one look at the test set, by the weights that the hold-out chose or by the last ones.
        path = (parts.best if cfg.gate.rule == "selected" else parts.last).best_model_path
        if not path:
            raise UserError("no epoch was evaluated on the hold-out, so none can be tested; train longer or limit less")
        # Not by ckpt_path, which callbacks load, too: a weight averaging puts the weights back that it averages.
        parts.classifier.load_state_dict(checkpoints.read(Path(path))["state_dict"])
        parts.trainer.test(parts.classifier, datamodule=parts.data, verbose=False)


def conclude(gate: Gate, cfg: DictConfig, output_dir: Path, loggers: Loggers, error: BaseException | None) -> Verdict:
    """Judges a run that ended by this error or by none, and leaves and shows its verdict."""
    stop = signals.behind(error)
    with signals.hold():
        verdict = _judge(gate, cfg, stop or error)
        verdict.versions["code"] = code_of(output_dir) or ""  # a file of the user's may have been edited meanwhile
        # An error or a stop is on its way up already, and a full disk must not take its place.
        on_its_way = verdict.status in (ERROR, INTERRUPTED)
        loggers.conclude(verdict, cfg)
        with contextlib.suppress(OSError) if on_its_way else contextlib.nullcontext():
            verdict.write(output_dir / "verdict.json")  # the last file of all: a run that has one has left the others
        if verdict.status != ERROR:
            show(f"{verdict.text()}\n  outputs     {path_as_typed(output_dir)}")
    if stop and stop is not error:
        raise stop from None
    if verdict.status == ERROR and error is None:
        raise NotMeasuredError(f"{'; '.join(verdict.reasons)}: this process has no result of the run")
    return verdict


def _judge(gate: Gate, cfg: DictConfig, error: BaseException | None) -> Verdict:
    if error is None or isinstance(error, GateError):
        verdict = gate.verdict(cfg.seed)
    elif isinstance(error, Pruned):
        verdict = gate.verdict(cfg.seed, PRUNED, str(error))
    elif isinstance(error, signals.Interrupted):
        verdict = gate.verdict(cfg.seed, INTERRUPTED, str(error))
    else:
        status = ERROR if isinstance(error, Exception) else INTERRUPTED  # sys.exit, by which submitit ends a preempted job
        verdict = gate.verdict(cfg.seed, status, named(error))
    verdict.exit_status = exit_status(error) or (FAILED if verdict.status == ERROR else OK)
    verdict.max_epochs = cfg.trainer.max_epochs
    verdict.selected_on_test |= _steered_by_test(cfg, gate)
    verdict.device, verdict.versions = device_name(device_of(cfg.trainer.accelerator)), versions(cfg)
    return verdict


def _steered_by_test(cfg: DictConfig, gate: Gate) -> bool:
    """Whether the test images decided on the learning rate or on the end of the run."""
    plateau = cfg.scheduler._target_.endswith(".ReduceLROnPlateau")
    watched = [cfg.scheduler.get("monitor") or plateau * "test/loss"]
    watched += [callback.get("monitor") for callback in (cfg.get("callbacks") or {}).values()]
    return gate.epoch_split == "test" and any(str(figure).startswith("test/") for figure in watched)


def exit_status(error: BaseException | None) -> int:
    """The exit status that the end of a run stands for."""
    if error is None:
        return OK
    if isinstance(error, SystemExit) and isinstance(error.code, int):
        return error.code
    return next((status for kind, status in STATUSES.items() if isinstance(error, kind)), FAILED)


@dataclass
class Assembled:
    """The parts of a run, ready for `trainer.fit`."""

    trainer: L.Trainer
    classifier: LitClassifier
    data: DigitsDataModule
    best: EpochCheckpoint
    last: EpochCheckpoint


def assemble(cfg: DictConfig, output_dir: Path, gate: Gate, loggers: Loggers, watchers: Sequence[Callback] = ()) -> Assembled:
    """Seeds every generator and builds a run from its configuration; reads no data yet."""
    keep_freed()
    L.seed_everything(cfg.seed, workers=True, verbose=False)
    # Deterministic mode also fills every new tensor's memory, a guard against reading what was never written; that costs
    # time on every step and nothing here does so.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    net, optimizer, schedule = probe(build(cfg, "model")), build(cfg, "optimizer"), Schedule.of(cfg)
    augmentation = of_batches(build(cfg, "augmentation"))
    own_callbacks = [*build_named(cfg, "callbacks").values(), *build_objects(cfg, "callbacks")]
    rehearse(cfg, optimizer, schedule, augmentation)
    data = build(cfg, "data", seed=cfg.seed, augmentation=augmentation)
    parts = (net, optimizer, schedule, cfg.label_smoothing, data.epoch_split)
    if cfg.cuda_graph and not torch.cuda.is_available():
        raise ConfigError("cuda_graph=true: needs a CUDA device, and torch finds none; use cuda_graph=false")
    classifier: LitClassifier
    if cfg.cuda_graph:
        classifier = GraphedClassifier(*parts, data=data)
    elif cfg.compile:
        require_compiler(device_of(cfg.trainer.accelerator))
        classifier = CompiledClassifier(*parts, batch_size=data.batch_size)
    else:
        classifier = LitClassifier(*parts)

    best = EpochCheckpoint(output_dir, "best", monitor=f"{data.epoch_split}/acc")
    last = EpochCheckpoint(output_dir, "last")
    table = EpochTable(output_dir / "metrics.csv")
    # The gate comes last: it ends a run that is over the budget or missed the target. Lightning puts checkpoints after it, so
    # that they hold what an early stopping has decided.
    callbacks: list[Callback] = [EpochBounds(cfg.seed), table, Dashboard(cfg, loggers, table), *own_callbacks, *watchers, gate]
    if OmegaConf.select(cfg, "sweep.prune") and (sweep := sweep_of(output_dir)):
        callbacks.insert(0, Pruning(output_dir, sweep))
    trainer = make_trainer(cfg, output_dir, [*callbacks, best, last], loggers.for_trainer())
    return Assembled(trainer, classifier, data, best, last)


def quieten() -> None:
    """Sends Lightning's notices to run.log, not to the terminal."""
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    for message in SILENCED:
        warnings.filterwarnings("ignore", message=message)


def claim(output_dir: Path, cfg: DictConfig) -> None:
    """Makes the directory this run's own by its resolved configuration."""
    if (output_dir / "config.yaml").exists():
        if read_run(output_dir).verdict.get("exit_status") != BAD_CONFIG:
            raise ConfigError(
                f"{output_dir}: the directory holds a run already (config.yaml); "
                "go on with it by resume=true, or name another with hydra.run.dir=DIR or hydra.sweep.dir=DIR"
            )
        set_aside(output_dir)  # it was refused before it trained; the corrected command may have its place
    environment = {"device": device_name(device_of(cfg.trainer.accelerator)), "versions": versions(cfg)}
    files.write(output_dir / "environment.json", json.dumps(environment, indent=2) + "\n")
    files.write(output_dir / "config.yaml", OmegaConf.to_yaml(cfg, resolve=True))
