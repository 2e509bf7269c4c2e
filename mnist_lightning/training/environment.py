"""What a result was measured on and with: device, processor, versions."""

import contextlib
import hashlib
import platform
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

import torch
from omegaconf import DictConfig

from mnist_lightning.config.own_code import own_files
from mnist_lightning.files import CHECKOUT, PACKAGE

VERSIONED = ("mnist-lightning", "torch", "torchvision", "lightning", "torchmetrics", "hydra-core")


def device_of(accelerator: str) -> torch.device:
    """The device that the name of a Lightning accelerator stands for here."""
    kind = "cuda" if accelerator == "gpu" else accelerator
    if kind == "auto":
        kind = "mps" if torch.backends.mps.is_available() else "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(kind)


def device_name(device: torch.device) -> str:
    """The device as a reader of a result would name it, with the threads used where it is the processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name()
    if device.type != "cpu":
        return device.type
    info = Path("/proc/cpuinfo")  # Linux
    lines = info.read_text("utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    threads = torch.get_num_threads()
    return f"{names[0] if names else platform.processor() or platform.machine()}, {threads} thread{'s' if threads > 1 else ''}"


def code_hash(cfg: DictConfig) -> str:
    """Of every source file of the package, and of the user's own that the configuration names: equal for equal code."""
    digest = hashlib.sha256()
    for path in (*sorted(PACKAGE.rglob("*.py")), *own_files(cfg)):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def versions(cfg: DictConfig) -> dict[str, str]:
    """Of what a result depends on: packages, a hash of the code, and in a checkout its git revision."""
    found = {"python": platform.python_version(), "code": code_hash(cfg)}
    for package in VERSIONED:
        with contextlib.suppress(metadata.PackageNotFoundError):  # run from a checkout without an install
            found[package] = metadata.version(package)
    # Only of the project's own checkout: an installed package may lie inside a repository of the user's.
    if (CHECKOUT / ".git").exists() and shutil.which("git"):
        command = ["git", "-C", str(CHECKOUT), "describe", "--always", "--dirty"]
        found["git"] = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return found
