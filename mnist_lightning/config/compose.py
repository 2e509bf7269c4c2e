"""Composing the configuration: where `conf` and the user's own lie, the values that it computes, and reading it back."""

import functools
import io
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from hydra import compose, initialize_config_dir
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import configure_log
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.utils import to_absolute_path
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from mnist_lightning.config import leftovers  # noqa: F401  # changes what Hydra composes
from mnist_lightning.config.errors import ConfigError
from mnist_lightning.config.older import in_todays_words
from mnist_lightning.config.run_name import run_name
from mnist_lightning.files import CHECKOUT, PACKAGE, read_text

# Inside the package when installed from a wheel, beside it in a checkout.
CONF_DIR = PACKAGE / "conf" if (PACKAGE / "conf").is_dir() else CHECKOUT / "conf"

OmegaConf.register_new_resolver("run_name", lambda shared=(), *, _root_: run_name(_root_, shared), replace=True)
# Tells two launches within a second apart. Cached, as Hydra's `now` is: one in every configuration.
OmegaConf.register_new_resolver("launch_id", lambda: secrets.token_hex(3), use_cache=True, replace=True)
# With a hold-out the accuracy is that of the checkpoint it selects, without one that of the last epoch.
OmegaConf.register_new_resolver("gate_rule", lambda val_images: "selected" if val_images else "last", replace=True)
OmegaConf.register_new_resolver("evaluated", lambda val_images: "val" if val_images else "test", replace=True)
OmegaConf.register_new_resolver("is_last", lambda ckpt_path: ckpt_path == "last", replace=True)


_named: list[Path] = []  # directories with choices of the user's own, by the command line
_primary = ["config"]  # the configuration that all others are choices in, by --config-name


class OwnDirectories(SearchPathPlugin):
    """Lets Hydra look for choices in the user's own directories, after ours: they add choices, and replace none."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for directory in own_directories():
            search_path.append("own", f"file://{directory}")


Plugins.instance().register(OwnDirectories)


def own_directories() -> list[Path]:
    """What the command line names, and `conf` where it was typed."""
    found = [*_named, Path(to_absolute_path("conf"))]
    return [directory for directory in found if directory.is_dir() and directory.resolve() != CONF_DIR]


def use_directories(config_dir: str | None, overrides: Sequence[str], config_name: str | None = None) -> None:
    """Makes the directories of --config-dir and hydra.searchpath, and --config-name, known to all that composes.

    Packages and interpolations are left to Hydra. Raises a ConfigError for a directory that there is not.
    """
    parsed = OverridesParser.create().parse_overrides([text for text in overrides if text.startswith("hydra.searchpath=[")])
    typed = [str(place).removeprefix("file://") for override in parsed for place in override.value()]  # type: ignore[union-attr]
    named = {place: f"hydra.searchpath=[{place}]" for place in typed if "${" not in place and not place.startswith("pkg:")}
    named |= {config_dir: f"--config-dir {config_dir}"} if config_dir else {}
    _named.clear()
    _primary[:] = [config_name or "config"]
    for place, as_typed in named.items():
        directory = Path(to_absolute_path(place))
        if not directory.is_dir():
            raise ConfigError(f"{as_typed}: there is no such folder; name one with folders of choices, such as model/NAME.yaml")
        _named.append(directory)


def compose_config(*overrides: str) -> DictConfig:
    """The configuration of a command line, without Hydra's own node.

    Raises:
        HydraException, OmegaConfBaseException: The overrides do not compose; `explain` says why in one line.
    """
    return _compose(_primary[0], overrides, tuple(own_directories()), Path.cwd()).copy()


@functools.lru_cache(maxsize=256)  # a report asks twice a run, and Hydra takes a tenth of a second
def _compose(primary: str, overrides: tuple[str, ...], directories: tuple[Path, ...], cwd: Path) -> DictConfig:
    return without_hydra(compose_job(*overrides))


def compose_job(*overrides: str) -> DictConfig:
    """The configuration of a run with Hydra's own node, composed anew; raises as `compose_config`."""
    with hydra_of_conf():
        try:
            return compose(_primary[0], overrides=with_plan(overrides), return_hydra_config=True)
        except (ValueError, TypeError) as error:  # a group is set to a number, or to a list of them
            raise HydraException(str(error)) from error


def with_plan(overrides: Sequence[str]) -> list[str]:
    """The overrides, with `model=plan` in front where a plan is given and no network is chosen."""
    keys = {override.partition("=")[0] for override in overrides}
    return ["model=plan", *overrides] if "model.plan" in keys and "model" not in keys else list(overrides)


def hydra_of_conf() -> initialize_config_dir:
    """Within it Hydra composes from `conf`."""
    return initialize_config_dir(str(CONF_DIR), job_name="mnist_lightning", version_base="1.3")


def without_hydra(config: DictConfig) -> DictConfig:
    """A copy of a composed configuration, without Hydra's own node."""
    cfg = config.copy()
    with open_dict(cfg):
        cfg.pop("hydra", None)
    return cfg


def log_into(composed: DictConfig, directory: Path) -> None:
    """Makes a run's directory and lets its log begin there, as Hydra does on the command line."""
    directory.mkdir(parents=True, exist_ok=True)
    with read_write(composed.hydra), open_dict(composed.hydra):
        composed.hydra.runtime.output_dir = str(directory.absolute())
    configure_log(composed.hydra.job_logging)


def read_config(directory: Path) -> DictConfig:
    """The resolved configuration that a run left; raises OSError, YAMLError, OmegaConfBaseException or ConfigError."""
    return parse_config(read_text(directory / "config.yaml"))


def parse_config(text: str) -> DictConfig:
    """A run's configuration as YAML; raises as `read_config`."""
    loaded = OmegaConf.load(io.StringIO(text))
    if not isinstance(loaded, DictConfig):
        raise ConfigError("config.yaml holds no whole configuration")
    return in_todays_words(loaded)


def without_places(cfg: DictConfig) -> DictConfig:
    """A run's configuration for a file that travels: without the folders of the machine that it ran on."""
    cfg = cfg.copy()
    if "places" in cfg.data:
        cfg.data.root, cfg.data.places, cfg.data.mirrors = "data", [], []
    return cfg


def choices(group: str) -> list[str]:
    """What can be chosen for a group, ours and the user's own."""
    return sorted({path.stem for directory in (CONF_DIR, *own_directories()) for path in (directory / group).glob("*.yaml")})


def groups() -> list[str]:
    """The groups of the configuration, but for Hydra's own; `search` is one of a search alone."""
    none = ("hydra", "search") if _primary == ["config"] else ("hydra",)
    found = [path for directory in (CONF_DIR, *own_directories()) for path in directory.iterdir() if path.is_dir()]
    return sorted({path.name for path in found if path.name not in none})


def choice_for(group: str, key: str, value: str) -> str | None:
    """The choice that comes with this project and sets a key to a value: of `gate`, that for a data set."""
    paths = sorted((CONF_DIR / group).glob("*.yaml"))
    return next((path.stem for path in paths if cast(DictConfig, OmegaConf.load(path)).get(key) == value), None)


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
