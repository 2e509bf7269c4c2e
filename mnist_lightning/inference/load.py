"""A trained network, found and loaded: from a run's directory, a checkpoint in one, or an ONNX file that `export` wrote.

Nothing that such a place holds is run. Of a checkpoint only weights are read; the network is built from the `config.yaml`
beside it, and only if that names one of `mnist_lightning.models`; an ONNX file is a graph of known operations.
"""

import importlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor, nn
from yaml import YAMLError  # type: ignore[import-untyped]

from mnist_lightning.config.build import build
from mnist_lightning.config.check import check
from mnist_lightning.config.compose import CONF_DIR, compose_config, parse_config, read_config
from mnist_lightning.config.errors import ConfigError, one_line
from mnist_lightning.data.datamodule import NUM_CLASSES, DigitsDataModule, normalize
from mnist_lightning.models import count_parameters
from mnist_lightning.training import checkpoints
from mnist_lightning.training.memory import bounded

RUN_BYTES = 4 * 2**30  # of memory that a network may take, or an ONNX file for a batch

# The checkpoint whose accuracy a rule of the gate judges; of the last epochs it is the last one.
JUDGED = {"best": "best", "selected": "best", "last": "last", "mean_last_3": "last"}

# Where the networks and data of this project are defined, and what they are.
PACKAGES: dict[str, tuple[str, type]] = {
    "model": ("mnist_lightning.models", nn.Module),
    "data": ("mnist_lightning.data", DigitsDataModule),
}


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
        path: One that refers to other files is refused.
        num_threads: 0 lets ONNX Runtime choose.

    Raises:
        ConfigError: ONNX Runtime is not installed, or the file is no network of this project.
    """

    def __init__(self, path: Path, num_threads: int = 0) -> None:
        super().__init__()
        try:
            import onnx
            import onnxruntime
        except ImportError:
            raise ConfigError(f"{path}: ONNX needs the extra onnx; pip install 'mnist-lightning[onnx]'") from None
        self.path = path
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads
        options.log_severity_level = 4  # what it raises says the same
        try:
            contents = path.read_bytes()
            with bounded(RUN_BYTES + 8 * len(contents)):
                if _refers_to_files(onnx.load_model_from_string(contents)):
                    raise ConfigError("its weights lie in other files, which are not read; name a file that `export` wrote")
                self.session = onnxruntime.InferenceSession(contents, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime has a class of its own for every failure, without a common base
            raise ConfigError(f"{path}: cannot be read as an ONNX file: {one_line(error)}") from None
        inputs = [(node.name, node.type, node.shape[1:]) for node in self.session.get_inputs()]
        if inputs != [("images", "tensor(uint8)", [28, 28])]:
            raise ConfigError(f"{path}: takes {inputs}, not images uint8 (N, 28, 28); name a file that `export` wrote")
        self.notes: dict[str, str] = self.session.get_modelmeta().custom_metadata_map

    def forward(self, images: Tensor) -> Tensor:
        try:
            with bounded(RUN_BYTES):
                logits = self.session.run(None, {"images": images.numpy()})[0]
        except Exception as error:  # as above
            raise ConfigError(f"{self.path}: fails on {len(images)} images: {one_line(error)}") from None
        if logits.shape != (len(images), NUM_CLASSES) or logits.dtype != np.float32:
            shape = f"{logits.dtype} {logits.shape}"
            raise ConfigError(f"{self.path}: gives {shape}, not logits float32 (N, 10); name a file that `export` wrote")
        return torch.from_numpy(logits)


def _refers_to_files(message: Any) -> bool:
    """Whether any tensor in a part of an ONNX model names a file that holds its values."""
    for _, value in message.ListFields():
        parts = [value] if hasattr(value, "ListFields") else value if isinstance(value, Iterable) else []
        for part in parts:
            if hasattr(part, "ListFields") and (getattr(part, "external_data", None) or _refers_to_files(part)):
                return True
    return False


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
    with bounded(RUN_BYTES):
        net = _build_own(cfg, "model", trust)
    _load_weights(net, checkpoint, str(cfg.model._target_))
    params = count_parameters(net)
    return Trained(f"{checkpoint}{why}", checkpoint, GreyValues(net).eval().requires_grad_(False), cfg, params)


def load_data(cfg: DictConfig, trust: bool = False) -> DigitsDataModule:
    """The images that a run was trained and tested on, read; MNIST may lie where it did then or where it does now.

    Raises:
        ConfigError: The configuration names another data module, or refuses it.
        MNISTNotFoundError, MNISTFileError, OSError: As their names say.
    """
    cfg = with_places_of_here(cfg)
    data = _build_own(cfg, "data", trust, seed=cfg.seed, augmentation=nn.Identity())
    data.prepare_data()
    data.setup("test")
    return data


def with_places_of_here(cfg: DictConfig) -> DictConfig:
    """A run's configuration in which MNIST is looked for where it lay then, and downloaded to and from where it is now."""
    cfg, now = cfg.copy(), compose_config().data
    if "places" in cfg.data:
        cfg.data.places = [cfg.data.root, *cfg.data.places, *now.places]
        cfg.data.root, cfg.data.mirrors = now.root, now.mirrors
    return cfg


def refuse_strangers(cfg: DictConfig) -> None:
    """Refuses a run's configuration that names what does not come with this project: to build that would run its code.

    Raises:
        ConfigError: Says which name.
    """
    for key, target in _targets(OmegaConf.to_container(cfg)):
        group = key.removesuffix("._target_")
        package = PACKAGES.get(group)
        ours = {
            cast(DictConfig, OmegaConf.load(path)).get("_target_")
            for path in CONF_DIR.glob("*/*.yaml")
            if path.parent.name == group
        }
        if not (_is_own(target, *package) if package else target in ours):
            raise ConfigError(
                f"{key}={target}: does not come with this project, and importing it could run any code; "
                "give --trust if you know where it comes from"
            )


def _targets(node: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every `_target_` in a configuration, by its dotted key."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        if key == "_target_":
            yield f"{prefix}{key}", str(value)
        else:
            yield from _targets(value, f"{prefix}{key}.")


def _read_config(directory: Path) -> DictConfig:
    """The `config.yaml` in a directory; top-level keys that came later have their defaults."""
    path = directory / "config.yaml"
    if not path.exists():
        raise ConfigError(f"{path}: there is no such file, and without it no telling what network it is; name a run directory")
    try:
        return _complete(read_config(directory))
    except (OSError, ValueError, YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"{path}: cannot be used as a run's configuration: {one_line(error)}") from None


def _complete(loaded: DictConfig) -> DictConfig:
    cfg = OmegaConf.create({**compose_config(), **loaded})
    check(cfg)
    return cfg


def _build_own(cfg: DictConfig, group: str, trust: bool, **more: Any) -> Any:
    """Builds what a group names if it is this project's own: to import any other name would run what lies there."""
    package, base = PACKAGES[group]
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
    loaded = checkpoints.read(path)["state_dict"]
    state = {name.removeprefix("net."): value for name, value in loaded.items() if str(name).startswith("net.")}
    try:
        net.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        # Of what is missing, unexpected or of another shape there is a line each, below the first.
        first = (str(error).splitlines()[1:] or [str(error)])[0].strip()
        raise ConfigError(f"{path}: holds the weights of another network than config.yaml's {target}: {first}") from None
    if broken := [name for name, values in state.items() if not values.isfinite().all()]:
        raise ConfigError(f"{path}: holds weights that are NaN or infinite ({broken[0]}); name another checkpoint or run")


def _load_onnx(path: Path) -> Trained:
    net = OnnxNetwork(path)
    try:
        cfg, params = _complete(parse_config(net.notes["config"])), int(net.notes["parameters"])
    except (KeyError, ValueError, YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(
            f"{path}: does not say how it was trained ({one_line(error)}); name a file that `export` wrote"
        ) from None
    return Trained(str(path), path, net, cfg, params)
