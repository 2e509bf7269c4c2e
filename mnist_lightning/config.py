"""The configuration: where `conf` lies, the rules its values keep, and one clear line for each that does not.

Imports neither torch nor lightning: `--help` and a bad value answer at once.
"""

import hashlib
import inspect
import io
import pkgutil
import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import yaml  # type: ignore[import-untyped]
from hydra import compose, initialize_config_dir
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from mnist_lightning import torchrun
from mnist_lightning.files import read_text
from mnist_lightning.schema import Config

_PACKAGE = Path(__file__).resolve().parent
# Inside the package when installed from a wheel, beside it in a checkout.
CONF_DIR = _PACKAGE / "conf" if (_PACKAGE / "conf").is_dir() else _PACKAGE.parent / "conf"

MAX_CONFIG_BYTES, MAX_CONFIG_DEPTH = 100_000, 20  # of a file that a run or a sweep left

LAUNCH_ID = secrets.token_hex(3)


class ConfigError(ValueError):
    """One or more values break a rule; the message has a line for each: key, value, rule, way out."""


def compose_config(*overrides: str) -> DictConfig:
    """The configuration of a command line, without Hydra's own node.

    Raises:
        HydraException, OmegaConfBaseException: The overrides do not compose; `explain` says why in one line.
    """
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return compose("config", overrides=list(overrides))


def read_config(directory: Path) -> DictConfig:
    """The resolved configuration that a run left in its directory.

    Raises:
        ConfigError: As `parse_config`.
        OSError, ValueError, YAMLError, OmegaConfBaseException: As `files.read_text` and `parse_yaml`.
    """
    try:
        return parse_config(read_text(directory / "config.yaml", MAX_CONFIG_BYTES))
    except ConfigError as error:
        raise ConfigError(f"config.yaml {error}") from None


def parse_config(text: str) -> DictConfig:
    """The resolved configuration of a run.

    Raises:
        ConfigError: As `parse_yaml`, or it asks for values from its surroundings, which are written out in a run's.
        OSError, YAMLError, OmegaConfBaseException: As `parse_yaml`.
    """
    if interpolation := re.search(r"\$\{[^}\s]*}?", text):
        raise ConfigError(f"holds {interpolation[0]}; a run's configuration is resolved")
    return parse_yaml(text)


def parse_yaml(text: str) -> DictConfig:
    """A configuration that takes no more room in memory than its text accounts for.

    Raises:
        ConfigError: It repeats parts by reference, is nested deep, or holds no keys.
        OSError, YAMLError, OmegaConfBaseException: It is not to be read as a configuration.
    """
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise ConfigError(f"repeats *{event.anchor} by reference, which no run does")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_CONFIG_DEPTH:
            raise ConfigError(f"is nested more than {MAX_CONFIG_DEPTH} deep")
    loaded = OmegaConf.load(io.StringIO(text))
    if not isinstance(loaded, DictConfig):
        raise ConfigError("holds no whole configuration")
    return loaded


# --- checking -----------------------------------------------------------------------------------------------------------


def check(cfg: DictConfig) -> None:
    """Checks a composed configuration, without its `hydra` node, against every rule at once.

    Raises:
        ConfigError: With one line per broken rule.
    """
    try:
        values = OmegaConf.to_container(cfg, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{error.full_key}: {one_line(error.msg or error)}") from None
    if references := list(_references(values, "")):
        raise ConfigError("\n".join(references))
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError("\n".join(dict.fromkeys(_sentence(detail) for detail in error.errors()))) from None
    if conflicts := list(_conflicts(config)):
        raise ConfigError("\n".join(conflicts))


def _references(node: Any, key: str) -> Iterator[str]:
    """Text in which config.yaml, once written, would be found to refer to another key."""
    if isinstance(node, (dict, list)):
        for name, child in node.items() if isinstance(node, dict) else enumerate(node):
            yield from _references(name, f"{key}.{name}" if key else str(name))
            yield from _references(child, f"{key}.{name}" if key else str(name))
    elif isinstance(node, str) and "${" in node:
        yield f"{key}: {one_line(node)} may not hold ${{ as text; give it without"


def _sentence(detail: ErrorDetails) -> str:
    """One error of pydantic's as the line a user reads."""
    if detail["type"] in ("extra_forbidden", "invalid_key"):
        return f"{'.'.join(map(str, detail['loc']))}: there is no such key"
    # Members of a union are told apart by type names, which are no keys.
    union = ("int", "str", "bool", "constrained-int")
    loc = [part for part in detail["loc"] if part not in union and not re.search(r"[\[(]", str(part))]
    key = ".".join(str(part) for part in loc)
    if detail["type"] == "missing":
        return f"{key}: the key is missing; give {key}=VALUE"
    field = _field(loc)
    if not field.examples:  # a group
        return f"{key}={_typed(detail['input'])}: {key} must be a group of keys; choose one of {', '.join(choices(key))}"
    return f"{key}={_typed(detail['input'])}: {key} must be {field.description}; try {_override(loc, field.examples)}"


def _field(loc: list[int | str]) -> Any:
    """The rule of a key; an index leads to the rule of the list it is in."""
    model: Any = Config
    field: Any = None
    for part in loc:
        if isinstance(part, int):
            break
        fields = model.model_fields
        field = fields.get(part) or next(f for f in fields.values() if f.alias == part)
        model = field.annotation
    return field


def _override(loc: list[int | str], examples: list[Any]) -> str:
    key = ".".join(str(part) for part in loc if isinstance(part, str))
    return f"{key}={_typed(examples[0])}"


def _typed(value: Any) -> str:
    """A value as one would type it on the command line."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value).replace(" ", "") if isinstance(value, list) else str(value)


def choices(group: str) -> list[str]:
    """What can be chosen for a group."""
    return sorted(path.stem for path in (CONF_DIR / group).glob("*.yaml"))


def _conflicts(config: Config) -> Iterator[str]:
    """Values that are fine alone and not together."""
    gate, data, epochs = config.gate, config.data, config.trainer.max_epochs
    if data.val_images and gate.rule in ("best", "mean_last_3"):
        yield (
            f"gate.rule={gate.rule}: the rule needs the test accuracy of every epoch, and with data.val_images="
            f"{data.val_images} the test set is measured once; use gate.rule=selected, gate.rule=last or data.val_images=0"
        )
    if not data.val_images and gate.rule == "selected":
        yield "gate.rule=selected: the rule needs a hold-out to select on, and data.val_images is 0; try data.val_images=5000"
    if gate.rule == "mean_last_3" and epochs < 3:
        yield f"trainer.max_epochs={epochs}: gate.rule=mean_last_3 needs at least 3 epochs; use gate.rule=last"
    if gate.rule != "best" and epochs > gate.within_epochs:
        yield (
            f"trainer.max_epochs={epochs}: with gate.rule={gate.rule} the accuracy is that of the end of the run, which lies "
            f"beyond gate.within_epochs={gate.within_epochs}; raise gate.within_epochs or train fewer epochs"
        )
    smallest_class = data.train_images // 10
    if data.val_images and -(-data.val_images // 10) >= smallest_class:
        yield (
            f"data.val_images={data.val_images}: holds out every image of a class of data.train_images={data.train_images}; "
            f"use fewer than {10 * (smallest_class - 1) + 1}"
        )
    scale = config.augmentation.scale
    if scale[0] > scale[1]:
        yield f"augmentation.scale={_typed(scale)}: the lowest factor comes first; try [{scale[1]},{scale[0]}]"
    trainer = config.trainer
    if torchrun.STARTED and trainer.num_processes != torchrun.NUM_PROCESSES:
        nodes = torchrun.NUM_PROCESSES // torchrun.NUM_HERE
        yield (
            f"trainer.devices={_typed(trainer.devices)}: torchrun has started {torchrun.NUM_PROCESSES} processes for one run, "
            f"which would use {trainer.num_processes}; give trainer=ddp trainer.devices={torchrun.NUM_HERE}"
            + (f" +trainer.num_nodes={nodes}" if nodes > 1 else "")
        )
    if trainer.num_processes > 1:
        if "ddp" not in trainer.strategy:
            devices = _typed(trainer.devices)
            yield f"trainer.devices={devices}: several devices for one run need trainer=ddp; or take trainer.devices=1"
        if data.batch_size % trainer.num_processes:
            smaller = max(2, data.batch_size // trainer.num_processes) * trainer.num_processes
            yield (
                f"data.batch_size={data.batch_size}: {trainer.num_processes} processes cannot share it evenly; "
                f"try data.batch_size={smaller}"
            )
        elif data.batch_size < 2 * trainer.num_processes:
            yield (
                f"data.batch_size={data.batch_size}: gives each of {trainer.num_processes} processes one image, and a batch "
                f"norm compares images; try data.batch_size={2 * trainer.num_processes}"
            )
        for key, num_images in (
            ("data.train_images", data.train_images - data.val_images),
            ("data.val_images", data.val_images),
            ("data.test_images", data.test_images),
        ):
            if 0 < num_images < 2 * trainer.num_processes:
                yield (
                    f"{key}={getattr(data, key[5:])}: {trainer.num_processes} processes need two images each and have "
                    f"{num_images}; give more images or fewer trainer.devices"
                )
        if config.cuda_graph:
            yield "cuda_graph=true: records the step of one process; use cuda_graph=false or trainer=default"
    if config.cuda_graph and config.trainer.precision not in ("32-true", "32", 32):
        yield (
            f"trainer.precision={config.trainer.precision}: cuda_graph=true records single precision only; "
            "use trainer.precision=32-true or cuda_graph=false"
        )
    if config.ckpt_path == "last" and not config.resume:
        yield "resume=false: contradicts ckpt_path=last, which is resume=true in other words; leave one of them out"
    if config.optimizer.nesterov and config.optimizer.momentum == 0:
        yield "optimizer.nesterov=true: needs a momentum; give optimizer.momentum=0.9 or optimizer.nesterov=false"


# What each group may be built to, by import path: torch and lightning take seconds to import.
MODULE = ("torch.nn.Module",)
KINDS = {
    "model": MODULE,
    "optimizer": ("torch.optim.Optimizer",),
    "scheduler": ("torch.optim.lr_scheduler.LRScheduler",),
    "augmentation": (*MODULE, "mnist_lightning.augmentation.Affine", "mnist_lightning.augmentation.Published"),
    "data": ("mnist_lightning.data.DigitsDataModule",),
    "trainer": ("lightning.Trainer",),
}


def build(cfg: DictConfig, group: str, **more: Any) -> Any:
    """Instantiates a group's `_target_`; lists and mappings arrive there as plain Python.

    Args:
        cfg: A configuration that `check` has passed.
        group: Its key.
        **more: Arguments that are no configuration.

    Raises:
        ConfigError: There is no such target, it is not of the group's kind, takes no such argument, or refuses a value.
    """
    node = cfg[group]
    try:
        target = _target(group, node._target_, KINDS[group])
        _check_arguments(target, node, group, more)
        if more.get("_recursive_", True):
            for key, path in _parts(OmegaConf.to_container(node, resolve=True), group):
                _target(key, path, MODULE)
        return instantiate(node, **more, _convert_="all")
    except ConfigError:
        raise
    except (InstantiationException, ImportError, AttributeError, ValueError, TypeError) as error:
        raise ConfigError(f"{group}: {node._target_} refuses it: {one_line(error.__cause__ or error)}") from error


def _target(key: str, path: Any, kinds: tuple[str, ...]) -> Callable[..., Any]:
    """What an import path leads to: a class of one of the kinds, or a function whose annotation says that it returns one.

    Nothing else is called, whatever a configuration names.
    """
    try:
        found = pkgutil.resolve_name(str(path))
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"{key}._target_={path}: cannot be imported: {one_line(error)}; give a class's import path"
        ) from error
    bases = tuple(map(pkgutil.resolve_name, kinds))
    returned = found if isinstance(found, type) else getattr(found, "__annotations__", {}).get("return")
    if isinstance(returned, str):  # from __future__ import annotations
        returned = getattr(inspect.getmodule(found), returned, None)
    if not (isinstance(returned, type) and issubclass(returned, bases)):
        raise ConfigError(
            f"{key}._target_={path}: is no {' and no '.join(kinds)}; name a class of that kind, or a function with the "
            "annotation that it returns one"
        )
    return cast(Callable[..., Any], found)


def _parts(node: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Key and import path of what is built inside a group, as an argument."""
    below = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for name, child in below:
        if isinstance(child, dict) and "_target_" in child:
            yield f"{key}.{name}", child["_target_"]
        yield from _parts(child, f"{key}.{name}")


def _check_arguments(target: Any, node: DictConfig, group: str, more: dict[str, Any]) -> None:
    """Refuses an argument that the target does not take (one added with +), before anything is built with it."""
    parameters = inspect.signature(target).parameters
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    for key in map(str, node):
        if not key.startswith("_") and key not in parameters:
            names = ", ".join(name for name in parameters if name not in more)
            raise ConfigError(f"{group}.{key}={_typed(node[key])}: {target.__name__} takes no {key}; it takes {names}")


def one_line(error: object) -> str:
    """Any message as a single line."""
    return " ".join(str(error).split())


# --- names --------------------------------------------------------------------------------------------------------------

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


def register_resolvers() -> None:
    """Makes `${run_name:}`, `${launch_id:}`, `${gate_rule:…}` and `${is_last:…}` known to the configuration."""
    OmegaConf.register_new_resolver("run_name", lambda *, _root_: run_name(_root_), replace=True)
    OmegaConf.register_new_resolver("launch_id", lambda: LAUNCH_ID, replace=True)
    # With a hold-out the accuracy is that of the checkpoint it selects, without one that of the last epoch.
    OmegaConf.register_new_resolver("gate_rule", lambda val_images: "selected" if val_images else "last", replace=True)
    OmegaConf.register_new_resolver("is_last", lambda ckpt_path: ckpt_path == "last", replace=True)
