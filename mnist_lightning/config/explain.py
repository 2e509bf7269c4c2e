"""What Hydra says of a bad command line, as the line a user can act on: what was typed, the rule, the way out.

Imports neither torch nor lightning.
"""

import difflib
import errno
import re
from collections.abc import Sequence

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig

from mnist_lightning.config.compose import CONF_DIR, choices, compose_config
from mnist_lightning.config.errors import ConfigError, one_line

# Launchers that come with an extra of this project.
EXTRAS = {"joblib": "joblib", "ray": "ray", "submitit_local": "submitit", "submitit_slurm": "submitit"}


def explain(error: Exception, overrides: Sequence[str]) -> str:
    """A configuration error as lines a user can act on: what was typed, the rule, the way out.

    Args:
        error: From Hydra, OmegaConf or `check`.
        overrides: The command line, to quote from.
    """
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options is not None:
        group, _, choice = error.missing_cfg_file.rpartition("/")
        return _no_such_choice(f"{group}={choice}", error.options)
    if isinstance(error, OverrideParseException):
        return f"{error.override}: cannot be read as key=value ({one_line(error.message)}); quote special characters"
    culprit = _culprit(error, overrides)
    if "Config group override must be a string" in str(error) or too_long_for_a_choice(error):  # model=null, model=5
        group, _, choice = culprit.lstrip("+").partition("=")
        if group in _groups() and choice not in (known := choices(group)):
            return _no_such_choice(f"{group}={choice}", known)
    match = re.match(r"Could not (?:override|append to config\.) '?([^'\s]+)'", str(error))
    if match:
        return _no_such_key(match[1], overrides)
    if isinstance(error, ConfigError):
        return str(error)
    line = one_line(error)
    name = re.split(r"[=@]", culprit.lstrip("+~"))[0]
    return line if name and name in line else f"{culprit}: {line}"


def too_long_for_a_choice(error: Exception) -> bool:
    """Whether Hydra looked for a group's choice under a name that no file can have."""
    return isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG and str(error.filename).endswith(".yaml")


def _culprit(error: Exception, overrides: Sequence[str]) -> str:
    """The first override with which the configuration fails as it did, or all of them where no one does alone."""
    for number in range(1, len(overrides) + 1):
        try:
            compose_config(*overrides[:number])
        except Exception as failed:
            if str(failed) == str(error):
                return overrides[number - 1]
    return " ".join(overrides)


def _no_such_choice(typed: str, choices: Sequence[str]) -> str:
    group, _, choice = typed.partition("=")
    line = f"{typed}: there is no such choice; {group} must be one of {', '.join(choices)}"
    if group == "hydra/launcher" and choice in EXTRAS:
        line += f"; {choice} comes with pip install 'mnist-lightning[{EXTRAS[choice]}]'"
    return line


def _no_such_key(key: str, overrides: Sequence[str]) -> str:
    """Says which keys there are in place of the one that is not."""
    typed = next((o for o in overrides if o.lstrip("+~").split("=")[0] == key), key)
    groups = [o for o in overrides if o.split("=")[0] in _groups()]
    known = _keys(groups)
    parent, _, name = key.rpartition(".")
    siblings = sorted(k.rpartition(".")[2] for k in known if k.rpartition(".")[0] == parent)
    line = f"{typed}: there is no key {key}; "
    if parent and siblings:
        line += f"{parent} has {', '.join(siblings)}"
    else:
        line += f"there are {', '.join(sorted(_groups() | {k.split('.')[0] for k in known}))}"
    close = difflib.get_close_matches(key, known, n=1) or difflib.get_close_matches(name, siblings, n=1)
    return f"{line} (did you mean {close[0]}?)" if close else line


def _groups() -> set[str]:
    return {path.name for path in CONF_DIR.iterdir() if path.is_dir() and path.name != "hydra"}


def _keys(overrides: Sequence[str]) -> list[str]:
    """Dotted keys of the configuration with these choices of groups, or of the default one where they do not compose."""
    try:
        cfg = compose_config(*overrides)
    except HydraException:
        cfg = compose_config()

    def walk(node: DictConfig, prefix: str) -> list[str]:
        keys = []
        for key in map(str, node):
            keys.append(f"{prefix}{key}")
            child = node._get_node(key)
            if isinstance(child, DictConfig):
                keys += walk(child, f"{prefix}{key}.")
        return keys

    return [key for key in walk(cfg, "") if not key.rpartition(".")[2].startswith("_")]
