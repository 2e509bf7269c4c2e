"""A trained network, found and loaded: from a run's directory, a checkpoint in one, or an ONNX file that `export` wrote.

Nothing that such a place holds is run. Of a checkpoint only weights are read; the network is built from the `config.yaml`
beside it, and only if that names one of `mnist_lightning.models`; an ONNX file is a graph of known operations.
"""

import argparse
import importlib
import pickle
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor, nn
from yaml import YAMLError  # type: ignore[import-untyped]

from mnist_lightning.config import ConfigError, build, check, compose_config, one_line
from mnist_lightning.data import DigitsDataModule, normalize
from mnist_lightning.models import count_parameters

# The checkpoint whose accuracy a rule of the gate judges; of the last epochs it is the last one.
JUDGED = {"best": "best", "selected": "best", "last": "last", "mean_last_3": "last"}


@dataclass(frozen=True)
class Trained:
    """A trained network with what is known of its training."""

    source: str
    """The file it came from and, of a run's directory, why that one; for people."""
    path: Path
    net: nn.Module
    """Maps uint8 grey values `(N, 28, 28)`, strokes light on black, to logits `(N, 10)`; in evaluation mode, on the CPU."""
    cfg: DictConfig
    """The configuration of the run that trained it."""
    params: int
    """Trainable elements in that run."""


class GreyValues(nn.Module):
    """A network behind its normalisation: takes grey values as MNIST stores them.

    Args:
        net: Maps normalised images `(N, 1, 28, 28)` to logits `(N, 10)`.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        return self.net(normalize(images[:, None].float()))


class OnnxNetwork(nn.Module):
    """An exported network, run by ONNX Runtime.

    Args:
        path: Read whole, so that the file cannot refer to others.
        num_threads: 0 lets ONNX Runtime choose.

    Raises:
        ConfigError: ONNX Runtime is not installed, or the file is no network of this project.
    """

    def __init__(self, path: Path, num_threads: int = 0) -> None:
        super().__init__()
        try:
            import onnxruntime
        except ImportError:
            raise ConfigError(f"{path}: ONNX needs the extra onnx; pip install 'mnist-lightning[onnx]'") from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads
        options.log_severity_level = 3  # errors; warnings speak of ONNX Runtime's own choices
        try:
            self.session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime has a class of its own for every failure, without a common base
            raise ConfigError(f"{path}: cannot be read as an ONNX file: {one_line(error)}") from None
        inputs = [(node.name, node.type, node.shape[1:]) for node in self.session.get_inputs()]
        if inputs != [("images", "tensor(uint8)", [28, 28])]:
            raise ConfigError(f"{path}: takes {inputs}, not images uint8 (N, 28, 28); name a file that `export` wrote")
        self.notes: dict[str, str] = self.session.get_modelmeta().custom_metadata_map

    def forward(self, images: Tensor) -> Tensor:
        return torch.from_numpy(self.session.run(None, {"images": images.numpy()})[0])


def add_model_argument(parser: argparse.ArgumentParser) -> None:
    """Adds MODEL and --trust, which `load` takes."""
    parser.add_argument(
        "model",
        metavar="MODEL",
        type=lambda text: Path(text.removeprefix("ckpt=")),
        help="run directory, best.ckpt or last.ckpt in one, or an exported .onnx file",
    )
    parser.add_argument(
        "--trust", action="store_true", help="import the network that config.yaml names, wherever it lies: runs its code"
    )


def load(path: Path, trust: bool = False) -> Trained:
    """Loads a trained network.

    Args:
        path: A run directory, of which the checkpoint is taken that its `gate.rule` judges; a checkpoint; or an ONNX file.
        trust: Whether a network outside `mnist_lightning.models` may be imported, which runs its code.

    Raises:
        ConfigError: There is no network at the path, or none that can be read safely.
    """
    if not path.exists():
        raise ConfigError(f"{path}: there is no such file or folder; name a run directory, its checkpoint or an .onnx file")
    if path.suffix == ".onnx":
        return _load_onnx(path)
    if path.suffix == ".pt2":  # torch.export.load falls back to a full pickle and evaluates expressions
        raise ConfigError(
            f"{path}: torch.export files can hold code, and are not read; name the run directory or an .onnx file"
        )
    cfg = _read_config(path if path.is_dir() else path.parent)
    checkpoint, why = path, ""
    if path.is_dir():
        name = JUDGED[cfg.gate.rule]
        checkpoint, why = path / f"{name}.ckpt", f", weights of the {name} epoch: gate.rule={cfg.gate.rule}"
        if not checkpoint.exists():
            raise ConfigError(f"{path}: there is no {name}.ckpt, which gate.rule={cfg.gate.rule} judges; has the run finished?")
    net = _build_own(cfg, "model", nn.Module, trust)
    _load_weights(net, checkpoint, str(cfg.model._target_))
    params = count_parameters(net)
    return Trained(f"{checkpoint}{why}", checkpoint, GreyValues(net).eval().requires_grad_(False), cfg, params)


def load_data(cfg: DictConfig, trust: bool = False) -> DigitsDataModule:
    """The images that a run was trained and tested on, read; MNIST may lie where it did then or where it does now.

    Raises:
        ConfigError: The configuration names another data module, or refuses it.
        MNISTNotFoundError, MNISTFileError, OSError: As their names say.
    """
    cfg, now = cfg.copy(), compose_config().data
    if "places" in cfg.data:
        cfg.data.places = [cfg.data.root, *cfg.data.places, *now.places]
        cfg.data.root, cfg.data.mirrors = now.root, now.mirrors
    data = _build_own(cfg, "data", DigitsDataModule, trust, seed=cfg.seed, augmentation=nn.Identity())
    data.prepare_data()
    data.setup("test")
    return data


def _read_config(directory: Path) -> DictConfig:
    """The `config.yaml` in a directory; top-level keys that came later have their defaults."""
    path = directory / "config.yaml"
    if not path.exists():
        raise ConfigError(f"{path}: there is no such file, and without it no telling what network it is; name a run directory")
    try:
        return _complete(path.read_text("utf-8"))
    except (OSError, ValueError, YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"{path}: cannot be used as a run's configuration: {one_line(error)}") from None


def _complete(text: str) -> DictConfig:
    loaded = OmegaConf.create(text)
    if not isinstance(loaded, DictConfig):
        raise ConfigError("it holds no keys")
    cfg = OmegaConf.create({**compose_config(), **loaded})
    check(cfg)
    return cfg


def _build_own(cfg: DictConfig, group: str, base: type, trust: bool, **more: Any) -> Any:
    """Builds what a group names if it is this project's own: to import any other name would run what lies there."""
    package = {"model": "mnist_lightning.models", "data": "mnist_lightning.data"}[group]
    target = str(cfg[group]._target_)
    if not trust and not _is_own(target, package, base):
        raise ConfigError(
            f"{group}._target_={target}: is no class of {package}, and importing it could run any code; "
            "give --trust if you know where it comes from"
        )
    # Not recursive: an argument with a _target_ of its own stays a mapping, which no network takes.
    built = build(cfg, group, **more, _recursive_=trust)
    if not isinstance(built, base):
        raise ConfigError(f"{group}._target_={target}: gives a {type(built).__name__}, not a {base.__name__}")
    return built


def _is_own(target: str, package: str, base: type) -> bool:
    """Whether a target names a class that a module of the package defines."""
    module, _, name = target.rpartition(".")
    if not re.fullmatch(rf"{re.escape(package)}(\.[a-z]\w*)?", module):
        return False
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError:
        return False
    return isinstance(found, type) and issubclass(found, base) and f"{found.__module__}.".startswith(f"{package}.")


def _load_weights(net: nn.Module, path: Path, target: str) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on pickles that torch did not write, which are refused anyway
            loaded = torch.load(path, map_location="cpu", weights_only=True)
        state = {name.removeprefix("net."): value for name, value in loaded["state_dict"].items() if name.startswith("net.")}
    except pickle.UnpicklingError:
        raise ConfigError(f"{path}: is damaged or holds more than weights, code perhaps; nothing of it was run") from None
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path}: is no checkpoint of a run: {type(error).__name__}: {one_line(error)}") from None
    try:
        net.load_state_dict(state)
    except RuntimeError as error:  # a line per weight that is missing, unexpected or of another shape
        first = str(error).splitlines()[1].strip()
        raise ConfigError(f"{path}: holds the weights of another network than config.yaml's {target}: {first}") from None
    if broken := [name for name, values in state.items() if not values.isfinite().all()]:
        raise ConfigError(f"{path}: holds weights that are NaN or infinite ({broken[0]}); name another checkpoint or run")


def _load_onnx(path: Path) -> Trained:
    net = OnnxNetwork(path)
    try:
        cfg, params = _complete(net.notes["config"]), int(net.notes["parameters"])
    except (KeyError, ValueError, YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(
            f"{path}: does not say how it was trained ({one_line(error)}); name a file that `export` wrote"
        ) from None
    return Trained(str(path), path, net, cfg, params)
