"""Objects built from a configuration: what each group may be, and that it takes the arguments it is given."""

import inspect
import pkgutil
from collections.abc import Callable, Iterator
from typing import Any, cast

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from mnist_lightning.config.errors import ConfigError, one_line, typed

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
            raise ConfigError(f"{group}.{key}={typed(node[key])}: {target.__name__} takes no {key}; it takes {names}")
