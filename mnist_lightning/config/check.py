"""Checks a composed configuration against the rules."""

from importlib.util import find_spec
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from mnist_lightning.config.errors import ConfigError, typed
from mnist_lightning.config.rules import Config

# Packages of the extras that a run may need; a logger's has the name of the choice.
EXTRAS = {
    "mlflow": ("mlflow", "sqlalchemy", "alembic"),
    "wandb": ("wandb",),
    "onnx": ("onnx", "onnxruntime", "onnxscript"),
    "search": ("optuna", "sqlalchemy", "alembic"),
}
Rules = TypeVar("Rules", bound=BaseModel)
BASES = {"data": "base/loading@_here_", "trainer": "default"}  # what a YAML of the user's own builds on


def check(cfg: DictConfig) -> None:
    """Checks a configuration, without its `hydra` node, against every rule at once; raises a ConfigError of all their lines."""
    validated(Config, cfg)


def validated(rules: type[Rules], cfg: DictConfig) -> Rules:
    """A configuration as an object of the rules that it keeps; raises as `check`."""
    values = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    try:
        return rules.model_validate(values)
    except ValidationError as error:
        raise ConfigError("\n".join(dict.fromkeys(_line(detail, values) for detail in error.errors()))) from None


def require_extras(cfg: DictConfig) -> None:
    """Raises a ConfigError where a value comes with an extra that is not installed; only a run needs it."""
    needed = {f"logger={name}": name for name in cfg.get("logger") or {}}
    if cfg.gate.max_file_bytes is not None:
        needed[f"gate.max_file_bytes={cfg.gate.max_file_bytes}"] = "onnx"
    for key, extra in needed.items():
        if not all(map(find_spec, EXTRAS.get(extra, ()))):
            raise ConfigError(f"{key}: needs an extra that is not installed; pip install 'mnist-lightning[{extra}]'")


def _line(detail: ErrorDetails, values: Any) -> str:
    """One broken rule: the key and the value as typed, and what pydantic says of it."""
    if detail["type"] == "value_error":  # of a validator of ours, which says all
        return str(detail["ctx"]["error"])
    keys, node = [], values
    for part in detail["loc"]:  # which names classes and types, too
        if isinstance(node, dict) and part in node:
            keys.append(str(part))
            node = node[part]
    key = ".".join(keys)
    if key.endswith("_target_"):
        return f"{key}={typed(node)}: must be a class's import path, such as my_net.MyNet"
    if detail["type"] in ("model_type", "dict_type"):
        return f"{key}={typed(node)}: must be keys with values, such as _target_: my_net.MyNet"
    if detail["type"] == "missing":
        missing = ".".join([*keys, str(detail["loc"][-1])])
        base = f", or begin its YAML with defaults: [{BASES[keys[0]]}]" if keys and keys[0] in BASES else ""
        return f"{missing}: the key is missing; give {missing}=VALUE{base}"
    if detail["type"] == "extra_forbidden":
        return f"{key}={typed(node)}: there is no such key"
    return f"{key}={typed(node)}: {detail['msg'][0].lower()}{detail['msg'][1:]}"
