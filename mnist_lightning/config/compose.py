"""Composing the configuration: where `conf` lies, the values that it computes, and reading it back."""

import functools
import io
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from mnist_lightning.config import leftovers  # noqa: F401  # changes what Hydra composes
from mnist_lightning.config.errors import ConfigError
from mnist_lightning.config.run_name import run_name
from mnist_lightning.files import CHECKOUT, PACKAGE, read_text

# Inside the package when installed from a wheel, beside it in a checkout.
CONF_DIR = PACKAGE / "conf" if (PACKAGE / "conf").is_dir() else CHECKOUT / "conf"

LAUNCH_ID = secrets.token_hex(3)  # tells two launches within a second apart

OmegaConf.register_new_resolver("run_name", lambda shared=(), *, _root_: run_name(_root_, shared), replace=True)
OmegaConf.register_new_resolver("launch_id", lambda: LAUNCH_ID, replace=True)
# With a hold-out the accuracy is that of the checkpoint it selects, without one that of the last epoch.
OmegaConf.register_new_resolver("gate_rule", lambda val_images: "selected" if val_images else "last", replace=True)
OmegaConf.register_new_resolver("evaluated", lambda val_images: "val" if val_images else "test", replace=True)
OmegaConf.register_new_resolver("is_last", lambda ckpt_path: ckpt_path == "last", replace=True)


def compose_config(*overrides: str) -> DictConfig:
    """The configuration of a command line, without Hydra's own node.

    Raises:
        HydraException, OmegaConfBaseException: The overrides do not compose; `explain` says why in one line.
    """
    return _compose(overrides).copy()


@functools.lru_cache(maxsize=256)  # a report asks twice a run, and Hydra takes a tenth of a second
def _compose(overrides: tuple[str, ...]) -> DictConfig:
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return compose("config", overrides=list(overrides))


def read_config(directory: Path) -> DictConfig:
    """The resolved configuration that a run left; raises OSError, YAMLError, OmegaConfBaseException or ConfigError."""
    return parse_config(read_text(directory / "config.yaml"))


def parse_config(text: str) -> DictConfig:
    """A run's configuration as YAML; raises as `read_config`."""
    loaded = OmegaConf.load(io.StringIO(text))
    if not isinstance(loaded, DictConfig):
        raise ConfigError("config.yaml holds no whole configuration")
    return loaded


def choices(group: str) -> list[str]:
    """What can be chosen for a group."""
    return sorted(path.stem for path in (CONF_DIR / group).glob("*.yaml"))


def groups() -> list[str]:
    """The groups of the configuration, but for Hydra's own."""
    return sorted(path.name for path in CONF_DIR.iterdir() if path.is_dir() and path.name != "hydra")


def flatten(config: DictConfig) -> dict[str, Any]:
    """Every value of a configuration by its dotted key; a list is one value."""

    def walk(node: dict[Any, Any], prefix: str) -> Iterator[tuple[str, Any]]:
        for key, value in node.items():
            if isinstance(value, dict):
                yield from walk(value, f"{prefix}{key}.")
            else:
                yield f"{prefix}{key}", value

    container = OmegaConf.to_container(config, resolve=True)
    assert isinstance(container, dict)
    return dict(walk(container, ""))
