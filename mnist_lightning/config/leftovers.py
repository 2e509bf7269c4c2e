"""A class of one's own starts from an empty group: `optimizer._target_=torch.optim.Adam` takes nothing over from sgd.yaml.

What the chosen YAML alone gave to its class goes where another class takes its place; what the command line or an experiment
gave stays.
"""

from typing import Any, cast

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.types import RunMode
from omegaconf import DictConfig, open_dict

GROUPS = ("model", "optimizer", "scheduler", "augmentation")
KEPT = ("_target_", "_partial_")


def drop_leftovers(cfg: DictConfig, loader: ConfigLoaderImpl) -> None:
    """Takes the leftovers out of a configuration with Hydra's own node, in place."""
    for group in GROUPS:
        node, choice = cfg.get(group), cfg.hydra.runtime.choices.get(group)
        if isinstance(node, DictConfig) and isinstance(choice, str) and _targets_differ(node, f"{group}/{choice}", loader):
            chosen, others = _keys_by_origin(group, cfg, loader)
            with open_dict(node):
                for key in chosen - others - {*KEPT}:
                    node.pop(key, None)


def _targets_differ(node: DictConfig, path: str, loader: ConfigLoaderImpl) -> bool:
    """Whether a group builds another class than its chosen YAML; one that only inherits its class counts as another."""
    return _read(path, loader).get("_target_") != node.get("_target_")


def _read(path: str, loader: ConfigLoaderImpl) -> DictConfig:
    """A file of the configuration as it stands, without what it builds on."""
    found = loader.repository.load_config(path)
    return cast(DictConfig, found.config) if found else DictConfig({})


def _keys_by_origin(group: str, cfg: DictConfig, loader: ConfigLoaderImpl) -> tuple[set[str], set[str]]:
    """The keys of a group that its chosen YAML gives, with what that builds on, and those that anything else gives.

    None of the first where the class, too, is what the YAML inherits.
    """
    task = list(cfg.hydra.overrides.task)
    chosen: dict[str, Any] = {}
    typed = (override.lstrip("+~").partition("=")[0].split(".") for override in task)
    others = {keys[1] for keys in typed if keys[0] == group and len(keys) > 1}
    for default in loader.compute_defaults_list(cfg.hydra.job.config_name, task, RunMode.RUN).defaults:
        found = _read(str(default.config_path), loader)
        if default.package == group:
            chosen |= found
        elif not default.package and isinstance(found.get(group), DictConfig):
            others |= {str(key) for key in found[group]}
    same = chosen.get("_target_") == cfg[group].get("_target_")
    return set() if same else set(chosen), others


def _forced(overrides: list[str]) -> list[str]:
    """Overrides that set keys of a group whose class is given, too, with + or without: the empty group has none of them."""
    bare = [override.lstrip("+") for override in overrides]
    emptied = tuple(f"{group}." for group in GROUPS if any(text.startswith(f"{group}._target_=") for text in bare))
    return [f"++{text}" if text.startswith(emptied) else given for text, given in zip(bare, overrides, strict=True)]


_load_configuration = ConfigLoaderImpl.load_configuration


def _load_without_leftovers(
    self: ConfigLoaderImpl, config_name: str | None, overrides: list[str], run_mode: RunMode, **options: bool
) -> DictConfig:
    cfg = _load_configuration(self, config_name, _forced(overrides), run_mode, **options)
    if run_mode == RunMode.RUN:  # of a sweep, its jobs
        drop_leftovers(cfg, self)
    return cfg


# Hydra 1.3 has no hook here. Commands, --cfg, the jobs of a sweep in any process: whatever composes goes this way.
ConfigLoaderImpl.load_configuration = _load_without_leftovers  # type: ignore[assignment,method-assign]
