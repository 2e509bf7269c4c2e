"""Composing the configuration: where `conf` lies, and the values that it computes."""

import io
import re
import secrets
from pathlib import Path

import yaml  # type: ignore[import-untyped]
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from mnist_lightning.config.errors import ConfigError
from mnist_lightning.config.run_name import run_name
from mnist_lightning.files import CHECKOUT, PACKAGE, read_text

# Inside the package when installed from a wheel, beside it in a checkout.
CONF_DIR = PACKAGE / "conf" if (PACKAGE / "conf").is_dir() else CHECKOUT / "conf"

MAX_CONFIG_BYTES, MAX_CONFIG_DEPTH = 100_000, 20  # of a file that a run or a sweep left

LAUNCH_ID = secrets.token_hex(3)


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


def choices(group: str) -> list[str]:
    """What can be chosen for a group."""
    return sorted(path.stem for path in (CONF_DIR / group).glob("*.yaml"))


def register_resolvers() -> None:
    """Makes `${run_name:}`, `${launch_id:}`, `${gate_rule:…}` and `${is_last:…}` known to the configuration."""
    OmegaConf.register_new_resolver("run_name", lambda *, _root_: run_name(_root_), replace=True)
    OmegaConf.register_new_resolver("launch_id", lambda: LAUNCH_ID, replace=True)
    # With a hold-out the accuracy is that of the checkpoint it selects, without one that of the last epoch.
    OmegaConf.register_new_resolver("gate_rule", lambda val_images: "selected" if val_images else "last", replace=True)
    OmegaConf.register_new_resolver("is_last", lambda ckpt_path: ckpt_path == "last", replace=True)


register_resolvers()
