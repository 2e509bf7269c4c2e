"""A trained network, from a run's directory, a checkpoint, a file of `export`, or by name, without running what lies there.

Of a checkpoint only weights are read; network and data are built from the `config.yaml` beside it, if they are this project's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor, nn
from yaml import YAMLError  # type: ignore[import-untyped]

from mnist_lightning.config.build import build, refuse_strangers
from mnist_lightning.config.check import check
from mnist_lightning.config.compose import choice_for, compose_config, parse_config, read_config
from mnist_lightning.config.errors import ConfigError, one_line
from mnist_lightning.data.batches import NUM_CLASSES
from mnist_lightning.data.datamodule import DigitsDataModule
from mnist_lightning.evaluation.gate import measure
from mnist_lightning.export.grey_values import behind_normalization
from mnist_lightning.export.onnx_file import SIZE_NOTES
from mnist_lightning.inference import weights
from mnist_lightning.inference.shipped import SHIPPED
from mnist_lightning.models.probe import probe
from mnist_lightning.training import checkpoints

# The checkpoint whose accuracy a rule of the gate judges; of the last epochs it is the last one.
JUDGED = {"best": "best", "selected": "best", "last": "last", "mean_last_3": "last"}


@dataclass(frozen=True)
class Trained:
    """A trained network, and the run that trained it."""

    source: str  # the file and, of a run's directory, why that one; for people
    path: Path
    net: nn.Module  # uint8 grey values `(N, 28, 28)`, light on black, to logits `(N, 10)`; evaluates, on the CPU
    cfg: DictConfig
    sizes: dict[str, int]  # as `measure` tells them


class OnnxNetwork(nn.Module):
    """An exported network, run by ONNX Runtime; a ConfigError where that is not installed or the file is no such network."""

    def __init__(self, path: Path, num_threads: int = 0) -> None:  # 0: ONNX Runtime chooses
        super().__init__()
        try:
            import onnx
            import onnxruntime
        except ImportError:
            raise ConfigError(f"{path}: ONNX needs the extra onnx; pip install 'mnist-lightning[onnx]'") from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads
        options.log_severity_level = 4  # what it raises says the same
        try:
            if any(tensor.external_data for tensor in onnx.load(path, load_external_data=False).graph.initializer):
                raise ConfigError("its weights lie in other files, which are not read; name a file that `export` wrote")
            self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime has a class of its own for every failure, without a common base
            raise ConfigError(f"{path}: cannot be read as an ONNX file: {one_line(error)}") from None
        nodes = [*self.session.get_inputs(), *self.session.get_outputs()]
        found = [(node.name, node.type, node.shape[1:]) for node in nodes]
        if found != [("images", "tensor(uint8)", [28, 28]), ("logits", "tensor(float)", [NUM_CLASSES])]:
            raise ConfigError(f"{path}: does not map images uint8 (N, 28, 28) to logits (N, 10); name a file of `export`")

    def forward(self, images: Tensor) -> Tensor:
        return torch.from_numpy(self.session.run(None, {"images": images.numpy()})[0])


def load(path: Path, trust: bool = False) -> Trained:
    """Loads the network that the `gate.rule` of a run directory judges, a checkpoint's, an exported file's, or one of SHIPPED.

    With `trust`, a network that does not come with this project may be imported, which runs its code.

    Raises:
        ConfigError: There is no network at the path, or none that can be read safely.
    """
    if not path.exists() and str(path) in SHIPPED:
        path = SHIPPED[str(path)]
    if not path.exists():
        known = ", ".join(SHIPPED)
        raise ConfigError(f"{path}: there is no such file or folder; name a run directory, a file of `export`, or {known}")
    if path.suffix == ".safetensors":
        state, notes = weights.read(path)
        cfg = _run_config(path, lambda: parse_config(notes["config"]))
        return _trained(cfg, state, path, f"{path.name}, trained with seed {notes.get('seed')}", trust)
    if path.suffix == ".onnx":
        return _load_onnx(path)
    if path.suffix == ".pt2":  # torch.export.load falls back to a full pickle and evaluates expressions
        raise ConfigError(
            f"{path}: torch.export files can hold code, and are not read; name the run directory or an .onnx file"
        )
    config = (path if path.is_dir() else path.parent) / "config.yaml"
    cfg = _run_config(config, lambda: read_config(config.parent))
    checkpoint, source = _judged_checkpoint(path, cfg) if path.is_dir() else (path, str(path))
    loaded = checkpoints.read(checkpoint)["state_dict"]
    state = {name.removeprefix("net."): value for name, value in loaded.items() if str(name).startswith("net.")}
    return _trained(cfg, state, checkpoint, source, trust)


def _trained(cfg: DictConfig, state: dict[str, Tensor], path: Path, source: str, trust: bool) -> Trained:
    if not trust:
        refuse_strangers(cfg, ["model"])
    net = probe(build(cfg, "model"))
    _load_weights(net, state, path, str(cfg.model._target_))
    sizes = measure(net, cfg.gate)  # before none of its parameters can be trained any more
    return Trained(source, path, behind_normalization(net, cfg), cfg, sizes)


def _judged_checkpoint(directory: Path, cfg: DictConfig) -> tuple[Path, str]:
    name = JUDGED[cfg.gate.rule]
    path = directory / f"{name}.ckpt"
    if not path.exists():
        raise ConfigError(
            f"{directory}: there is no {name}.ckpt, which gate.rule={cfg.gate.rule} judges; has the run finished?"
        )
    return path, f"{path}, weights of the {name} epoch: gate.rule={cfg.gate.rule}"


def _load_weights(net: nn.Module, state: dict[str, Tensor], path: Path, target: str) -> None:
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
    notes = net.session.get_modelmeta().custom_metadata_map
    cfg = _run_config(path, lambda: parse_config(notes["config"]))
    sizes = {name: int(notes[note]) for name, note in SIZE_NOTES.items() if note in notes}
    return Trained(str(path), path, net, cfg, sizes)


def _run_config(path: Path, read: Callable[[], DictConfig]) -> DictConfig:
    """The configuration of a run that a file holds; keys that came later have their defaults."""
    try:
        cfg = OmegaConf.create({**compose_config(), **read()})
        check(cfg)
    except (OSError, KeyError, ValueError, YAMLError, OmegaConfBaseException) as error:
        why = error.strerror if isinstance(error, OSError) else one_line(error)
        raise ConfigError(f"{path}: holds no run's configuration, by which the network is built: {why}") from None
    return cfg


def load_data(cfg: DictConfig, trust: bool = False) -> DigitsDataModule:
    """The images that a run was trained and tested on; they may lie where they did then or where they do now."""
    if not trust:
        refuse_strangers(cfg, ["data"])
    return read_data(with_places_of_here(cfg), nn.Identity())


def read_data(cfg: DictConfig, augmentation: Callable[[Tensor], Tensor]) -> DigitsDataModule:
    """The images of a configuration, read."""
    data: DigitsDataModule = build(cfg, "data", seed=cfg.seed, augmentation=augmentation)
    data.prepare_data()
    data.setup("fit")
    return data


def with_places_of_here(cfg: DictConfig) -> DictConfig:
    """A run's configuration whose data are looked for where they lay then, and downloaded to and from where they are now."""
    choice = choice_for("data", "name", str(cfg.data.get("name")))
    cfg, now = cfg.copy(), compose_config(f"data={choice or 'mnist'}").data
    if "places" in cfg.data:
        cfg.data.places = [cfg.data.root, *cfg.data.places, *now.places]
        cfg.data.root, cfg.data.mirrors = now.root, now.mirrors
    return cfg
