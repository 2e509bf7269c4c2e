"""The configuration: where `conf` lies, the rules its values keep, and one clear line for each that does not.

Imports neither torch nor lightning: `--help` and a bad value answer at once.
"""

import hashlib
import inspect
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

_PACKAGE = Path(__file__).resolve().parent
# Inside the package when installed from a wheel, beside it in a checkout.
CONF_DIR = _PACKAGE / "conf" if (_PACKAGE / "conf").is_dir() else _PACKAGE.parent / "conf"

# Held out class-balanced, so bounded by the rarest class: 5,421 of the 60,000 training images show a 5.
MAX_VAL_IMAGES = 50_000
LAUNCH_ID = secrets.token_hex(3)


class ConfigError(ValueError):
    """One or more values break a rule; the message has a line for each: key, value, rule, way out."""


# --- the rules ----------------------------------------------------------------------------------------------------------
# Each description finishes the sentence "KEY must be …"; each example is a value to try instead.


def _rule(text: str, example: Any, **bounds: Any) -> Any:
    return Field(description=text, examples=[example], **bounds)


def _number(text: str, example: float, **bounds: Any) -> Any:
    return _rule(text, example, allow_inf_nan=False, **bounds)


Count = Annotated[int, _rule("an integer of at least 1", 1, ge=1)]
Degrees = Annotated[float, _number("a number of degrees from 0 to 180", 10, ge=0, le=180)]
Fill = Annotated[float, _number("a grey value from 0 to 255", 0, ge=0, le=255)]
Interpolation = Annotated[Literal["bilinear", "nearest"], _rule("bilinear or nearest", "bilinear")]
Factor = Annotated[float, _number("a number from 0 to 1", 0.4, ge=0, le=1)]
Warmup = Annotated[float, _number("a fraction of the run, at least 0 and below 1", 0.05, ge=0, lt=1)]


class _Open(BaseModel):
    """A group whose targets may take further arguments, as a network of the user's own does."""

    # strict: "1" is no number and true is no integer, so that a value means what it looks like.
    model_config = ConfigDict(extra="allow", strict=True)
    target: Annotated[str, Field(alias="_target_", description="an import path", examples=["torch.optim.SGD"])]


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Model(_Open):
    dropout: Annotated[float, _number("a probability, at least 0 and below 1", 0.025, ge=0, lt=1)] = 0
    channels: Annotated[
        list[Annotated[int, _rule("an integer of at least 1", 8, ge=1)]],
        _rule("a list of channel widths", [8, 16, 8, 12, 16, 20, 16], min_length=1),
    ] = [1]


class _Optimizer(_Open):
    lr: Annotated[float, _number("a finite number above 0", 0.015, gt=0)]
    momentum: Annotated[float, _number("a number of at least 0 and below 1", 0.9, ge=0, lt=1)] = 0
    nesterov: Annotated[bool, _rule("true or false", True)] = False
    weight_decay: Annotated[float, _number("a finite number of at least 0", 0.0001, ge=0)] = 0
    betas: Annotated[
        list[Annotated[float, _number("a number of at least 0 and below 1", 0.9, ge=0, lt=1)]],
        _rule("a list of two numbers", [0.9, 0.999], min_length=2, max_length=2),
    ] = [0.9, 0.999]


class _Scheduler(_Open):
    warmup: Warmup = 0
    div_factor: Annotated[float, _number("a finite number of at least 1", 25, ge=1)] = 1
    final_div_factor: Annotated[float, _number("a finite number of at least 1", 10000, ge=1)] = 1


class _Augmentation(_Open):
    degrees: Degrees = 0
    translate: Annotated[float, _number("a fraction of the side, from 0 to 1", 0.07, ge=0, le=1)] = 0
    scale: Annotated[
        list[Annotated[float, _number("a finite number above 0", 0.9, gt=0)]],
        _rule("a list of the lowest and the highest factor", [0.9, 1.1], min_length=2, max_length=2),
    ] = [1, 1]
    shear: Annotated[float, _number("a number of degrees, at least 0 and below 90", 8, ge=0, lt=90)] = 0
    fill: Fill = 0
    interpolation: Interpolation = "bilinear"
    brightness: Factor = 0
    contrast: Factor = 0


class _Data(_Open):
    batch_size: Annotated[int, _rule("an integer of at least 1", 64, ge=1)]
    eval_batch_size: Annotated[int, _rule("an integer of at least 1", 1000, ge=1)]
    val_images: Annotated[
        int,
        _rule(
            f"an integer from 0 (no hold-out) to {MAX_VAL_IMAGES} (every class keeps images to train on)",
            5000,
            ge=0,
            le=MAX_VAL_IMAGES,
        ),
    ]
    num_workers: Annotated[int, _rule("an integer of at least 0", 0, ge=0)]
    root: Annotated[str, _rule("a folder", "data", min_length=1)] = "data"
    places: Annotated[list[str], _rule("a list of folders", ["../shared/mnist"])] = []
    mirrors: Annotated[list[str], _rule("a list of addresses", [])] = []
    train_images: Annotated[int, _rule("an integer of at least 10", 10000, ge=10)] = 60_000
    test_images: Annotated[int, _rule("an integer of at least 10", 2000, ge=10)] = 10_000


class _Trainer(_Open):
    max_epochs: Annotated[int, _rule("an integer of at least 1", 15, ge=1)]
    accelerator: Annotated[str, _rule("the name of an accelerator of lightning.Trainer", "auto")]
    devices: Annotated[
        Literal[1] | Annotated[list[int], Field(min_length=1, max_length=1)],
        _rule("1, or a list of the index of one device: a run uses one", 1),
    ]
    precision: Annotated[str | int, _rule("a precision of lightning.Trainer", "32-true")]
    deterministic: Annotated[bool | Literal["warn"], _rule("true, false or warn", True)]


class _Gate(_Closed):
    max_params: Annotated[int, _rule("an integer of at least 1", 8000, ge=1)]
    min_accuracy: Annotated[float, _number("a fraction above 0 and at most 1 (99.4 % is 0.994)", 0.994, gt=0, le=1)]
    within_epochs: Annotated[int, _rule("an integer of at least 1", 15, ge=1)]
    rule: Annotated[
        Literal["best", "last", "mean_last_3", "selected"], _rule("one of best, last, mean_last_3, selected", "last")
    ]
    on_miss: Annotated[Literal["fail", "warn"], _rule("fail or warn", "fail")]


class Config(_Closed):
    """Every key of a run's configuration that the project itself reads, with its rule."""

    model: _Model
    optimizer: _Optimizer
    scheduler: _Scheduler
    augmentation: _Augmentation
    data: _Data
    trainer: _Trainer
    gate: _Gate
    seed: Annotated[int, _rule("an integer from 0 to 4294967295", 0, ge=0, le=2**32 - 1)]


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
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError("\n".join(dict.fromkeys(_sentence(detail) for detail in error.errors()))) from None
    if conflicts := list(_conflicts(config)):
        raise ConfigError("\n".join(conflicts))


def _sentence(detail: ErrorDetails) -> str:
    """One error of pydantic's as the line a user reads."""
    # Members of a union are told apart by type names, which are no keys.
    loc = [part for part in detail["loc"] if part not in ("int", "str", "bool") and not re.search(r"[\[(]", str(part))]
    key = ".".join(str(part) for part in loc)
    if detail["type"] == "extra_forbidden":
        return f"{key}: there is no such key"
    if detail["type"] == "missing":
        return f"{key}: the key is missing; give {key}=VALUE"
    field = _field(loc)
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
    if config.optimizer.nesterov and config.optimizer.momentum == 0:
        yield "optimizer.nesterov=true: needs a momentum; give optimizer.momentum=0.9 or optimizer.nesterov=false"


def build(cfg: DictConfig, group: str, **more: Any) -> Any:
    """Instantiates a group's `_target_`; lists and mappings arrive there as plain Python.

    Args:
        cfg: A configuration that `check` has passed.
        group: Its key.
        **more: Arguments that are no configuration.

    Raises:
        ConfigError: There is no such target, it takes no such argument, or it refuses a value.
    """
    node = cfg[group]
    try:
        target = get_object(node._target_)
        _check_arguments(target, node, group, more)
        return instantiate(node, **more, _convert_="all")
    except (InstantiationException, ImportError, AttributeError) as error:
        raise ConfigError(f"{group}: {node._target_} refuses it: {one_line(error.__cause__ or error)}") from error


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
    """Makes `${run_name:}`, `${launch_id:}` and `${gate_rule:…}` known to the configuration."""
    OmegaConf.register_new_resolver("run_name", lambda *, _root_: run_name(_root_), replace=True)
    OmegaConf.register_new_resolver("launch_id", lambda: LAUNCH_ID, replace=True)
    # With a hold-out the accuracy is that of the checkpoint it selects, without one that of the last epoch.
    OmegaConf.register_new_resolver("gate_rule", lambda val_images: "selected" if val_images else "last", replace=True)
