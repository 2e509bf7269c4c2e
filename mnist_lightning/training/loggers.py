"""The loggers of a run: each is told of every epoch once, and of how the run ended; none can end it.

Steps are epochs, counted from 1. A logger of this project may have, beside what Lightning's have:

| method | what it does |
| --- | --- |
| `go_on(epochs)` | prepares for a run of which so many epochs are done; returns those that the logger has already |
| `begin(cfg, net)` | describes a run at its start; without it, `log_hyperparams` does |
| `draw(name, figure, epoch)` | keeps a picture |
| `remember(epochs)` | notes that it has so many epochs |
| `conclude(verdict, cfg)` | keeps the verdict |
"""

import functools
import json
import logging
import os
import secrets
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hydra.utils import to_absolute_path
from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, WandbLogger
from lightning.pytorch.loggers.logger import DummyLogger
from omegaconf import DictConfig
from torch import nn

from mnist_lightning import files
from mnist_lightning.config.build import build_named, build_objects
from mnist_lightning.config.errors import fitted, one_line
from mnist_lightning.evaluation.budgets import BUDGETS
from mnist_lightning.evaluation.run_directories import settings, shown
from mnist_lightning.evaluation.verdict import INTERRUPTED, Verdict
from mnist_lightning.terminal import path_as_typed, printable, show

log = logging.getLogger(__name__)

# What Lightning calls, and what this project does.
GUARDED = ["log_metrics", "log_hyperparams", "log_graph", "save", "finalize", "after_save_checkpoint"]
GUARDED += ["begin", "draw", "remember", "conclude"]
SERVER_S = 20  # that a server may take to answer; by default MLflow asks for minutes


class Loggers:
    """The loggers that a configuration chooses, by name. One that fails is told of in a line, and left out from then on."""

    def __init__(self, cfg: DictConfig, directory: Path, epochs: int = 0) -> None:
        built: dict[str, Logger] = build_named(cfg, "logger", directory=directory)
        built |= {f"trainer.logger.{i}": logger for i, logger in enumerate(build_objects(cfg, "logger"))}
        self.told: dict[str, int] = {}  # epochs
        self.failed: set[str] = set()
        for name, logger in built.items():
            self.told[name] = logger.go_on(epochs) if hasattr(logger, "go_on") else 0
            for method in GUARDED:
                if hasattr(logger, method):
                    setattr(logger, method, self._guarded(name, getattr(logger, method)))
            self._guarded(name, functools.partial(hasattr, logger, "experiment"))()  # connects, as Lightning would, unguarded
        self.by_name = {name: logger for name, logger in built.items() if name not in self.failed}
        self.told_before = dict(self.told)  # by an earlier process, which drew, too

    def _guarded(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            if name in self.failed:
                return None
            try:
                return method(*args, **kwargs)
            except Exception as error:  # a server that is away, a full disk: it only documents
                self.failed.add(name)
                log.info("logger %s failed", name, exc_info=error)
                start = f"the logger {name} failed, and the run goes on without it: "
                show(fitted(start, one_line(error), " (more in run.log)"))

        return call

    def for_trainer(self) -> list[Logger]:
        """For Lightning, some of whose callbacks want a logger, whatever it does."""
        return list(self.by_name.values()) or [DummyLogger()]

    def begin(self, cfg: DictConfig, net: nn.Module) -> None:
        for logger in self.by_name.values():
            if hasattr(logger, "begin"):
                logger.begin(cfg, net)
            else:
                logger.log_hyperparams(hyperparameters(cfg))

    def tell(self, curves: Mapping[int, dict[str, float]]) -> None:
        """Tells each logger of those of these epochs that it does not have."""
        for name, logger in self.by_name.items():
            for epoch, values in curves.items():
                if epoch > self.told[name]:
                    logger.log_metrics(values, epoch)
            # In a file before the epoch's checkpoint: a run that goes on from that misses no point.
            logger.save()
            self.told[name] = max(self.told[name], *curves)
            if hasattr(logger, "remember"):
                logger.remember(self.told[name])

    def draw(self, name: str, figure: Any, epoch: int) -> None:
        for key, logger in self.by_name.items():
            if hasattr(logger, "draw") and self.told_before[key] < epoch:
                logger.draw(name, figure, epoch)

    def conclude(self, verdict: Verdict, cfg: DictConfig) -> None:
        for logger in self.by_name.values():
            if hasattr(logger, "conclude"):
                logger.conclude(verdict, cfg)


class NoLoggers(Loggers):
    """Those of a process that does not write."""

    def __init__(self) -> None:
        self.by_name = {}


def hyperparameters(cfg: DictConfig) -> dict[str, Any]:
    """What a table of runs lists of a configuration; a group's target by the group's name."""
    kept = {key.removesuffix("._target_"): value for key, value in settings(cfg).items() if not key.endswith("._partial_")}
    return {printable(key): value if isinstance(value, int | float) else printable(shown(value)) for key, value in kept.items()}


def results(verdict: Verdict) -> dict[str, float]:
    """The figures of a verdict that runs are compared by; without those that were not measured."""
    found = {
        "best_acc": verdict.best_accuracy,
        "last_acc": verdict.last_accuracy,
        "epochs_to_target": verdict.epochs_to_target,
        **{one.size: getattr(verdict, one.size) for one in BUDGETS},
        "seconds": verdict.seconds,
    }
    return {name: value for name, value in found.items() if value is not None}


class Table(CSVLogger):
    """Lightning's CSV, `csv/metrics.csv` in the run's directory; a resumed run writes it anew."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, name="csv", version="")

    def go_on(self, epochs: int) -> int:
        shutil.rmtree(self.log_dir, ignore_errors=True)  # Lightning would do so, with a warning
        return 0


class Memory:
    """In a file of the run's directory: which run of a tool it is, and the epochs that the tool has."""

    def __init__(self, path: Path) -> None:
        self.path = path
        known = json.loads(files.read_text(path)) if path.exists() else {}
        self.run: str | None = known.get("run")
        self.epochs: int = known.get("epochs", 0)

    def keep(self, run: str | None, epochs: int) -> None:
        files.write(self.path, json.dumps({"run": run, "epochs": epochs}) + "\n")


class MLflow(MLFlowLogger):
    """A run in MLflow: by `tracking_uri`, by MLFLOW_TRACKING_URI, or in `outputs/mlflow.db` where the command was typed."""

    def __init__(self, directory: Path, tracking_uri: str | None = None, experiment_name: str = "mnist_lightning") -> None:
        import mlflow  # noqa: F401  # sets the level of its log

        logging.getLogger("mlflow").setLevel(logging.WARNING)
        for noisy in ("urllib3.connectionpool", "lightning.pytorch.loggers.mlflow"):  # of each retry, of a first run
            logging.getLogger(noisy).setLevel(logging.ERROR)
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(SERVER_S))
        tracking_uri, artifacts = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI"), None
        if not tracking_uri:
            outputs = Path(to_absolute_path("outputs"))
            outputs.mkdir(parents=True, exist_ok=True)
            tracking_uri, artifacts = f"sqlite:///{outputs / 'mlflow.db'}", (outputs / "mlflow").as_uri()
        self.memory = Memory(directory / "mlflow.json")
        super().__init__(
            experiment_name,
            run_name=path_as_typed(directory),
            tracking_uri=tracking_uri,
            artifact_location=artifacts,
            run_id=self.memory.run,
        )

    def go_on(self, epochs: int) -> int:
        return self.memory.epochs

    def begin(self, cfg: DictConfig, net: nn.Module) -> None:
        self.experiment.update_run(self.run_id, status="RUNNING")  # again, where it goes on
        self.log_hyperparams(hyperparameters(cfg))

    def draw(self, name: str, figure: Any, epoch: int) -> None:
        self.experiment.log_figure(self.run_id, figure, f"{name}-{epoch}.png")

    def remember(self, epochs: int) -> None:
        self.memory.keep(self.run_id, epochs)

    def conclude(self, verdict: Verdict, cfg: DictConfig) -> None:
        tags = {f"verdict.{name}": value for name, value in results(verdict).items()}  # a tag is replaced, a metric added to
        for name, value in {"verdict": verdict.status, **tags, "mlflow.note.content": verdict.text()}.items():
            self.experiment.set_tag(self.run_id, name, value)
        self.experiment.log_dict(self.run_id, asdict(verdict), "verdict.json")
        status = "KILLED" if verdict.status == INTERRUPTED else "FINISHED" if verdict.passed else "FAILED"
        self.experiment.set_terminated(self.run_id, status)


class WandB(WandbLogger):
    """A run in Weights & Biases, whose files lie in the run's directory; with `offline`, or WANDB_MODE=offline, only there."""

    def __init__(
        self, directory: Path, project: str = "mnist_lightning", entity: str | None = None, offline: bool = False
    ) -> None:
        import wandb

        self.memory = Memory(directory / "wandb.json")
        super().__init__(
            name=path_as_typed(directory),
            project=project,
            save_dir=directory,
            id=self.memory.run or secrets.token_hex(4),
            entity=entity,
            mode="offline" if offline else None,  # Lightning's `offline` would hold for the runs after this one, too
            settings=wandb.Settings(silent=True, console="off", init_timeout=SERVER_S),
        )
        self._wandb_init.pop("anonymous", None)  # of which wandb warns, even where it is not set

    def go_on(self, epochs: int) -> int:
        return self.memory.epochs

    def draw(self, name: str, figure: Any, epoch: int) -> None:
        self.log_image(name, [figure], epoch)

    def remember(self, epochs: int) -> None:
        self.memory.keep(self.version, epochs)

    def conclude(self, verdict: Verdict, cfg: DictConfig) -> None:
        import wandb

        run = self.experiment
        run.summary.update(
            {"verdict": verdict.status, **{f"Verdict/{name}": value for name, value in results(verdict).items()}}
        )
        artifact = wandb.Artifact(f"verdict-{run.id}", type="verdict")
        with artifact.new_file("verdict.json") as file:
            json.dump(asdict(verdict), file, indent=2)
        run.log_artifact(artifact)
        run.finish(exit_code=verdict.exit_status)  # or the next run of this process would go on in it
