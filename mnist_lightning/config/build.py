"""Objects built from a configuration: what each group may be, and that it takes the arguments it is given."""

import inspect
import pkgutil
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from mnist_lightning.config import own_code
from mnist_lightning.config.compose import CONF_DIR
from mnist_lightning.config.errors import ConfigError, fitted, one_line, typed

OURS = "mnist_lightning."
# What each group may be built to, by import path: torch and lightning take seconds to import.
MODULE = ("torch.nn.Module",)
KINDS = {
    "model": MODULE,
    "optimizer": ("torch.optim.Optimizer",),
    "scheduler": ("torch.optim.lr_scheduler.LRScheduler",),
    "augmentation": ("collections.abc.Callable",),
    "data": ("mnist_lightning.data.DigitsDataModule",),
    "trainer": ("lightning.Trainer",),
    "trainer.callbacks": ("lightning.Callback",),
    "trainer.logger": ("lightning.pytorch.loggers.Logger",),
    "trainer.profiler": ("lightning.pytorch.profilers.Profiler",),
    "trainer.plugins": (
        "lightning.pytorch.plugins.Precision",
        "lightning.fabric.plugins.ClusterEnvironment",
        "lightning.fabric.plugins.CheckpointIO",
        "lightning.pytorch.plugins.LayerSync",
    ),
    "callbacks": ("lightning.Callback",),
    "logger": ("lightning.pytorch.loggers.Logger",),
}
FOR_THE_RUN = ("interval", "monitor")  # keys of the scheduler that are not for its class
LATER = {"optimizer": ("params",), "scheduler": ("optimizer", "total_steps")}  # arguments that the run gives
BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def build(cfg: DictConfig, group: str, **more: Any) -> Any:
    """Instantiates a group's `_target_`; `refuse_strangers` comes first where the configuration lies in a run's directory.

    Optimizer and scheduler become functions of what the run gives them.

    Raises:
        ConfigError: There is no such target, it is not of the group's kind, or its arguments are not what it takes.
    """
    node = cast(dict[str, Any], OmegaConf.to_container(cfg[group], resolve=True))
    given = (*more, *(FOR_THE_RUN if group == "scheduler" else ()))
    node = {key: value for key, value in node.items() if key not in given}
    for _, part in _nodes(node, group) if group in LATER else ():
        part["_partial_"] = True
    return _build(node, group, more)


def build_named(cfg: DictConfig, group: str, **for_ours: Any) -> dict[str, Any]:
    """The objects of a group that can have several, by name and in its order; more arguments go to this project's own classes.

    An older run's configuration has no such group. Raises as `build`.
    """
    nodes = cast(dict[str, Any], OmegaConf.to_container(cfg.get(group) or OmegaConf.create({}), resolve=True))
    ours = {name for name, node in nodes.items() if node["_target_"].startswith(OURS)}
    return {name: _build(node, f"{group}.{name}", for_ours if name in ours else {}) for name, node in nodes.items()}


def build_objects(cfg: DictConfig, argument: str) -> list[Any]:
    """The objects that are given as an argument of the trainer, one or a list of them. Raises as `build`."""
    given = OmegaConf.to_container(cfg.trainer, resolve=True).get(argument)  # type: ignore[union-attr]
    nodes = given if isinstance(given, list) else [given]
    return [_build(node, f"trainer.{argument}.{i}", {}) for i, node in enumerate(nodes) if isinstance(node, dict)]


def _build(node: dict[str, Any], key: str, more: dict[str, Any]) -> Any:
    targets = [_find(at, path) for at, path in _targets(node, key)]
    _check_arguments(targets[0], node, key, more)
    try:
        return instantiate(node, **more, _convert_="all")
    except (InstantiationException, SystemExit) as error:
        raise refusal(key, node["_target_"], own_code.reason(error.__cause__ or error)) from error


def refusal(key: str, target: str, error: object) -> ConfigError:
    """What a class said of its arguments, in a line."""
    return ConfigError(fitted(f"{key}: {target} refuses it: ", one_line(error), f"; change {key}.ARGUMENT=VALUE or its class"))


def refuse_strangers(cfg: DictConfig, groups: Iterable[str] = KINDS) -> None:
    """Refuses a configuration that builds what is neither a class of this package nor named by `conf` for the same group.

    It is resolved in place: what is checked here is what will be built.
    """
    OmegaConf.resolve(cfg)
    for group in groups:
        for key, path in _targets(OmegaConf.to_container(cfg.get(group) or OmegaConf.create({})), group):
            if not _is_ours(group, path):
                raise ConfigError(
                    f"{key}._target_={path}: does not come with this project, and importing it could run any code; "
                    "give --trust if you know where it comes from"
                )


def _nodes(node: Any, key: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Key and values of a group, and of all that is built as an argument in it."""
    if isinstance(node, dict) and "_target_" in node:
        yield key, node
    for name, child in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield from _nodes(child, f"{key}.{name}")


def _targets(node: Any, key: str) -> Iterator[tuple[str, str]]:
    """Key and import path of each of these."""
    return ((at, str(part["_target_"])) for at, part in _nodes(node, key))


def _is_ours(group: str, path: str) -> bool:
    known = [OmegaConf.to_container(OmegaConf.load(file)) for file in (CONF_DIR / group).glob("*.yaml")]
    if any(path == shipped for node in known for _, shipped in _targets(node, group)):
        return True
    try:
        found = pkgutil.resolve_name(path) if path.startswith(OURS) else None
    except (ImportError, AttributeError, ValueError):
        return False
    # A class: a function of ours may itself build what its arguments name.
    return isinstance(found, type) and found.__module__.startswith(OURS)


def _find(key: str, path: str) -> Callable[..., Any]:
    """What a key's import path leads to: a class of its kind, or a function annotated to return one; nothing else is called."""
    group, _, name = key.partition(".")
    # Of several augmentations or schedulers each; a callback or a logger has a name.
    several = group in ("augmentation", "scheduler", "callbacks", "logger") or not name
    kinds = KINDS.get(f"{group}.{name.partition('.')[0]}") or (KINDS[group] if several else MODULE)
    try:
        found = own_code.find(path)
    except (Exception, SystemExit) as error:  # whatever a file of the user's does
        start = f"{key}._target_={path}: cannot be imported: "
        raise ConfigError(fitted(start, own_code.reason(error), f"; {_way_out(error, path)}")) from error
    returned = found if isinstance(found, type) else getattr(found, "__annotations__", {}).get("return")
    if isinstance(returned, str):  # from __future__ import annotations
        returned = getattr(inspect.getmodule(found), returned, None)
    fits = isinstance(returned, type) and issubclass(returned, tuple(map(pkgutil.resolve_name, kinds)))
    # Of Python's own some can be called, too; none augments.
    if not fits or (group == "augmentation" and returned.__module__.partition(".")[0] in sys.stdlib_module_names):
        wanted = " and no ".join(kinds)
        raise ConfigError(f"{key}._target_={path}: is no {wanted}; name such a class, or a function annotated to return one")
    return cast(Callable[..., Any], found)


def _way_out(error: BaseException, path: str) -> str:
    module = path.partition(".")[0]
    if isinstance(error, ModuleNotFoundError) and error.name == module:
        return f"type the command where {module}.py lies, or install {module}"
    return "mend that line" if own_code.line_of(error) else "give a class's import path"


def _check_arguments(target: Callable[..., Any], node: dict[str, Any], key: str, more: dict[str, Any]) -> None:
    """Refuses an argument that the target does not take, and one that it lacks, before anything is built with it."""
    try:
        parameters = inspect.signature(target).parameters
    except ValueError:  # some of Python's own
        return
    given = {str(name): value for name, value in node.items() if not str(name).startswith("_")}
    names = [name for name in parameters if name not in more]
    if all(parameter.kind is not parameter.VAR_KEYWORD for parameter in parameters.values()):
        for name, value in given.items():
            if name not in parameters:
                start = f"{key}.{name}={typed(value)}: {target.__name__} takes no {name}; it takes "
                raise ConfigError(fitted(start, ", ".join(names)))
    # The first of an optimizer and of a scheduler is the run's, whatever its name.
    for name in () if "_args_" in node else names[key in LATER :]:
        parameter = parameters[name]
        needed = parameter.default is parameter.empty and parameter.kind in BY_NAME
        if needed and name not in (*given, *LATER.get(key, ())):
            raise ConfigError(f"{key}.{name}: {target.__name__} needs it; give +{key}.{name}=VALUE")
