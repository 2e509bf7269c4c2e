"""Lightning's trainer with what every run of this project has, and the objects that the configuration gives it."""

from collections.abc import Sequence
from pathlib import Path

import lightning as L
from lightning.fabric.plugins import CheckpointIO, ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig

from mnist_lightning.config.build import build, build_objects
from mnist_lightning.config.trainer import is_ddp
from mnist_lightning.terminal import watched
from mnist_lightning.training.callbacks import EpochBar
from mnist_lightning.training.checkpoints import WholeCheckpoints

BAR_STEPS = 20  # between two states of the progress bar; a notebook drops what comes faster than 1,000 messages a second


def make_trainer(cfg: DictConfig, output_dir: Path, callbacks: Sequence[L.Callback], loggers: Sequence[Logger]) -> L.Trainer:
    """The trainer of a configuration; a ConfigError where it cannot be built."""
    show_progress = cfg.trainer.get("enable_progress_bar", watched())
    plugins = build_objects(cfg, "plugins")
    if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
        plugins.append(WholeCheckpoints())
    if not is_ddp(cfg.trainer.strategy) and not any(isinstance(plugin, ClusterEnvironment) for plugin in plugins):
        plugins.append(LightningEnvironment())  # not Slurm's, whatever its variables say
    trainer: L.Trainer = build(
        cfg,
        "trainer",
        callbacks=[*callbacks, *([EpochBar(refresh_rate=BAR_STEPS)] if show_progress else [])],
        logger=False,
        plugins=plugins,
        default_root_dir=output_dir,
        enable_progress_bar=show_progress,
        enable_model_summary=cfg.trainer.get("enable_model_summary", False),
        num_sanity_val_steps=0,
    )
    trainer.loggers = list(loggers)  # not above, where Hydra would look into them
    return trainer
