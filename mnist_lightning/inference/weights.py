"""Trained networks as safetensors files: the weights, and notes of the run that made them. They hold no code."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from mnist_lightning import files
from mnist_lightning.config.errors import ConfigError, one_line

HASH = "weights_sha256"  # among the notes


def write(path: Path, state: Mapping[str, Tensor], notes: Mapping[str, str]) -> None:
    whole = {name: values.contiguous() for name, values in state.items()}
    files.write(path, save(whole, {**notes, HASH: _hash(whole)}))


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Weights and notes of a file; raises a ConfigError where it is none of `write`, or damaged."""
    try:
        with safe_open(path, "pt") as opened:
            state, notes = {name: opened.get_tensor(name) for name in opened.keys()}, opened.metadata() or {}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"{path}: cannot be read as a safetensors file: {one_line(error)}") from None
    if notes.get(HASH) != _hash(state):
        raise ConfigError(f"{path}: is damaged, or no file of `export --format safetensors`; write it again")
    return state, notes


def _hash(state: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode() + state[name].numpy().tobytes())
    return digest.hexdigest()
