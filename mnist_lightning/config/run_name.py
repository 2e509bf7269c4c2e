"""The name of a run, and so of its directory: what tells it apart."""

import hashlib
import re

from omegaconf import DictConfig

NAMED = ("model", "optimizer.lr", "seed")  # in every run's name
_MAX_NAME = 120  # characters of one folder name; file systems stop at 255 bytes


def run_name(root: DictConfig) -> str:
    """Names a run by what tells it apart: `net3/lr=0.015/seed=0`, then the other overrides it was given.

    Args:
        root: The composed configuration with its `hydra` node.
    """
    model = root.hydra.runtime.choices.get("model") or "model"
    name = f"{model}/lr={root.optimizer.lr}/seed={root.seed}"
    excluded = root.hydra.job.config.override_dirname.exclude_keys
    overrides = [override.lstrip("+~") for override in root.hydra.overrides.task]
    others = [override for override in overrides if override.split("=")[0] not in excluded]
    if others:
        name += "/" + _file_name(",".join(others))
    return name


def _file_name(text: str) -> str:
    """The text with what a folder name cannot hold replaced, and cut to a length every file system takes."""
    safe = re.sub(r"[^\w.,=+@\[\]-]", "_", text, flags=re.ASCII).strip(".") or "_"
    if safe == text and len(safe) <= _MAX_NAME:
        return safe
    return f"{safe[:_MAX_NAME]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
