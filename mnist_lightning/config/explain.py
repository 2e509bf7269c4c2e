"""What Hydra says of a bad command line, in a line: what was typed in front, the way out behind."""

import difflib
from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from mnist_lightning.config.compose import choices, compose_config, flatten, groups
from mnist_lightning.config.errors import one_line

# Launchers that come with an extra of this project.
EXTRAS = {"joblib": "joblib", "ray": "ray", "submitit_local": "submitit", "submitit_slurm": "submitit"}
MAX_NAMED = 5  # keys, in a message


def explain(error: Exception, overrides: Sequence[str]) -> str:
    """An error of Hydra's or OmegaConf's as the line a user reads; quotes the command line."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options is not None:
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        return _no_such_choice(f"{group}={choice}", error.options)
    if isinstance(error, OverrideParseException):
        typed = next((text for text in overrides if text.lstrip("+") == str(error.override).lstrip("+")), error.override)
        return f"{typed}: cannot be read as key=value ({one_line(error.message)}); quote special characters"
    if isinstance(error, OmegaConfBaseException) and error.full_key:  # a value that cannot be resolved
        return f"{error.full_key}: {one_line(error.msg)}"
    culprit = _culprit(overrides)
    key, _, value = culprit.lstrip("+~").partition("=")
    if culprit in overrides and key in groups() and value not in choices(key):  # model=null, model=5
        return _no_such_choice(f"{key}={value}", choices(key))
    if str(error).startswith(("Could not override", "Could not append")):
        return _no_such_key(culprit, key, [override for override in overrides if override.partition("=")[0] in groups()])
    return f"{culprit}: {one_line(error)}"


def _culprit(overrides: Sequence[str]) -> str:
    """The first override with which the configuration does not compose; choices of groups bring the keys of others."""
    in_order = sorted(overrides, key=lambda override: override.partition("=")[0] not in groups())
    for number in range(1, len(in_order) + 1):
        try:
            compose_config(*map(_first_value, in_order[:number]))
        except (HydraException, OmegaConfBaseException, ValueError):
            return in_order[number - 1]
    return " ".join(overrides)


def _first_value(override: str) -> str:
    """Of a sweep over values or a range, the first job's."""
    parsed = OverridesParser.create().parse_override(override)
    return f"{override.partition('=')[0]}={next(parsed.sweep_string_iterator())}" if parsed.is_discrete_sweep() else override


def _no_such_choice(typed: str, known: Sequence[str]) -> str:
    group, _, choice = typed.partition("=")
    line = f"{typed}: there is no such choice; {group} must be one of {', '.join(known)}"
    if group == "hydra/launcher" and choice in EXTRAS:
        line += f"; {choice} comes with pip install 'mnist-lightning[{EXTRAS[choice]}]'"
    return line


def _no_such_key(typed: str, key: str, chosen: Sequence[str]) -> str:
    """Says which key may have been meant, which there are under the chosen groups, and how to add one."""
    known = [*groups(), *flatten(compose_config(*map(_first_value, chosen)))]
    parent, _, name = key.rpartition(".")
    siblings = [other.rpartition(".")[2] for other in known if other.rpartition(".")[0] == parent and "._" not in other]
    # `lr` means optimizer.lr; what is only as long as another key means nothing.
    close = [other for other in known if other.endswith(f".{key}")] or difflib.get_close_matches(key, known, n=1, cutoff=0.75)
    parts = [f"there is no key {name}"]
    if close:
        parts.append(f"did you mean {close[0]}?")
    elif siblings:
        cut = ", ..." if len(siblings) > MAX_NAMED else ""
        parts.append(f"{parent or 'the configuration'} has {', '.join(siblings[:MAX_NAMED])}{cut}")
    return f"{typed}: {'; '.join(parts)}; +{typed} adds an argument of the class"
