"""Objects built from a configuration: what each group may be, and that it takes the arguments it is given."""

import inspect
import pkgutil
import textwrap
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from mnist_lightning.config import own_code
from mnist_lightning.config.compose import CONF_DIR
from mnist_lightning.config.errors import ConfigError, typed

OURS = "mnist_lightning."
MAX_REASON = 110  # characters
# What each group may be built to, by import path: torch and lightning take seconds to import.
MODULE = ("torch.nn.Module",)
KINDS = {
    "model": MODULE,
    "optimizer": ("torch.optim.Optimizer",),
    "scheduler": ("torch.optim.lr_scheduler.LRScheduler",),
    "augmentation": (*MODULE, "mnist_lightning.data.augmentation.Affine", "mnist_lightning.data.augmentation.Published"),
    "data": ("mnist_lightning.data.datamodule.DigitsDataModule",),
    "trainer": ("lightning.Trainer",),
}


def build(cfg: DictConfig, group: str, **more: Any) -> Any:
    """Instantiates a group's `_target_`; `refuse_strangers` comes first where the configuration lies in a run's directory.

    Raises:
        ConfigError: There is no such target, it is not of the group's kind, takes no such argument, or refuses a value.
    """
    node = cast(dict[str, Any], OmegaConf.to_container(cfg[group], resolve=True))
    targets = [_find(key, path) for key, path in _targets(node, group)]
    _check_arguments(targets[0], node, group, more)
    try:
        return instantiate(node, **more, _convert_="all")
    except (InstantiationException, SystemExit) as error:
        why = textwrap.shorten(own_code.reason(error.__cause__ or error), MAX_REASON, placeholder=" …")
        raise ConfigError(f"{group}: {node['_target_']} refuses it: {why}") from error


def refuse_strangers(cfg: DictConfig, groups: Iterable[str] = KINDS) -> None:
    """Refuses a configuration that builds what is neither a class of this package nor named by `conf` for the same group.

    It is resolved in place: what is checked here is what will be built.
    """
    OmegaConf.resolve(cfg)
    for group in groups:
        for key, path in _targets(OmegaConf.to_container(cfg[group]), group):
            if not _is_ours(group, path):
                raise ConfigError(
                    f"{key}._target_={path}: does not come with this project, and importing it could run any code; "
                    "give --trust if you know where it comes from"
                )


def _targets(node: Any, key: str) -> Iterator[tuple[str, str]]:
    """Key and import path of a group, and of all that is built as an argument in it."""
    if isinstance(node, dict) and "_target_" in node:
        yield key, str(node["_target_"])
    for name, child in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield from _targets(child, f"{key}.{name}")


def _is_ours(group: str, path: str) -> bool:
    if any(cast(DictConfig, OmegaConf.load(file)).get("_target_") == path for file in (CONF_DIR / group).glob("*.yaml")):
        return True
    try:
        found = pkgutil.resolve_name(path) if path.startswith(OURS) else None
    except (ImportError, AttributeError, ValueError):
        return False
    # A class: a function of ours may itself build what its arguments name.
    return isinstance(found, type) and found.__module__.startswith(OURS)


def _find(key: str, path: str) -> Callable[..., Any]:
    """What a key's import path leads to: a class of its kind, or a function annotated to return one; nothing else is called."""
    kinds = KINDS.get(key, MODULE)
    try:
        found = own_code.find(path)
    except (Exception, SystemExit) as error:  # whatever a file of the user's does
        why = textwrap.shorten(own_code.reason(error), MAX_REASON, placeholder=" …")
        raise ConfigError(f"{key}._target_={path}: cannot be imported: {why}; give a class's import path") from error
    returned = found if isinstance(found, type) else getattr(found, "__annotations__", {}).get("return")
    if isinstance(returned, str):  # from __future__ import annotations
        returned = getattr(inspect.getmodule(found), returned, None)
    if not (isinstance(returned, type) and issubclass(returned, tuple(map(pkgutil.resolve_name, kinds)))):
        wanted = " and no ".join(kinds)
        raise ConfigError(f"{key}._target_={path}: is no {wanted}; name such a class, or a function annotated to return one")
    return cast(Callable[..., Any], found)


def _check_arguments(target: Callable[..., Any], node: dict[str, Any], group: str, more: dict[str, Any]) -> None:
    """Refuses an argument that the target does not take (one added with +), before anything is built with it."""
    parameters = inspect.signature(target).parameters
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    for key, value in node.items():
        if not str(key).startswith("_") and key not in parameters:
            names = ", ".join(name for name in parameters if name not in more)
            raise ConfigError(f"{group}.{key}={typed(value)}: {target.__name__} takes no {key}; it takes {names}")
