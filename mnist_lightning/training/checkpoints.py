"""Checkpoints: written after an epoch, and read with care, since a file may be damaged or come from anyone."""

import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint

from mnist_lightning import files
from mnist_lightning.config.errors import ConfigError, named


class WholeCheckpoints(TorchCheckpointIO):
    """Checkpoints that are whole or not there; Lightning's own way moves them from the folder for temporary files."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        content = io.BytesIO()
        torch.save(checkpoint, content)
        Path(path).parent.mkdir(parents=True, exist_ok=True)  # a checkpoint callback of the user's own names a folder
        files.write(Path(path), content.getvalue())


class EpochCheckpoint(ModelCheckpoint):
    """`NAME.ckpt`, rewritten at the end of every epoch, or with `monitor` of every epoch that is the best so far."""

    def __init__(self, directory: Path, name: str, monitor: str | None = None) -> None:
        super().__init__(directory, filename=name, monitor=monitor, mode="max", enable_version_counter=False)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        # Paths as they are here: the run may have been moved, and Lightning removes the file that had been the best.
        path = os.path.join(str(self.dirpath), f"{self.filename}.ckpt")  # noqa: PTH118  # as Lightning spells it
        names = {name: path if state_dict[name] else "" for name in ("best_model_path", "kth_best_model_path")}
        scores = dict.fromkeys([path], max(state_dict["best_k_models"].values())) if state_dict["best_k_models"] else {}
        super().load_state_dict(
            {**state_dict, **names, "dirpath": self.dirpath, "best_k_models": scores, "last_model_path": ""}
        )


def read(path: Path) -> dict[str, Any]:
    """Weights and plain values of a checkpoint; no code that it may hold is run, and a damaged one is a ConfigError."""
    if not path.is_file():
        raise ConfigError(f"{path}: is no file")
    try:
        with zipfile.ZipFile(path) as archive:
            if damaged := archive.testzip():  # torch would read changed bytes as other weights
                raise zipfile.BadZipFile(f"{damaged} is damaged")
        loaded = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(loaded["state_dict"], dict):
            raise TypeError("state_dict holds no weights")
    except pickle.UnpicklingError:
        raise ConfigError(f"{path}: is damaged or holds more than weights, code perhaps; nothing of it was run") from None
    except Exception as error:  # whatever a damaged archive makes zipfile, pickle or torch raise
        raise ConfigError(f"{path}: is no checkpoint of a run: {named(error)}") from None
    return loaded
