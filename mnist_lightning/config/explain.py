"""What Hydra says of a bad command line, in a line: what was typed in front, the way out behind."""

import difflib
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from yaml import MarkedYAMLError, YAMLError  # type: ignore[import-untyped]

from mnist_lightning.config.compose import choices, compose_config, flatten, groups
from mnist_lightning.config.errors import LONGEST, one_line
from mnist_lightning.terminal import path_as_typed

# Launchers that come with an extra of this project.
EXTRAS = {"ray": "ray", "submitit_local": "submitit", "submitit_slurm": "submitit"}
MAX_NAMED = 5  # keys, in a message
MAX_TYPED = 60  # characters of what was typed


def explain(error: Exception, overrides: Sequence[str]) -> str:
    """An error of Hydra's or OmegaConf's as the line a user reads; quotes the command line."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options is not None:
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        return _no_such_choice(f"{group}={choice}", error.options)
    if isinstance(error, OverrideParseException):
        typed = next((text for text in overrides if text.lstrip("+") == str(error.override).lstrip("+")), error.override)
        return f"{typed}: cannot be read as key=value ({one_line(error.message)}); quote special characters"
    if isinstance(error, OmegaConfBaseException) and error.full_key:  # a value that cannot be resolved
        if isinstance(error, MissingMandatoryValue):  # ??? in a YAML
            return f"{error.full_key}: the key needs a value; give {error.full_key}=VALUE"
        return f"{error.full_key}: {str(error.msg).splitlines()[0]}"
    culprit = _culprit(overrides)
    key, _, value = culprit.lstrip("+~").partition("=")
    chosen = [text.partition("=")[2] for text in _values(culprit)] if culprit in overrides else []
    if key in groups() and not {*chosen} <= {*choices(key)}:  # model=null, model=5
        return _no_such_choice(f"{key}={value}", choices(key))
    if str(error).startswith(("Could not override", "Could not append")):
        if key in groups():  # of another project's conf in the working directory
            return f"{culprit}: the configuration has no group {key}; +{culprit} adds it"
        return _no_such_key(culprit, key, [override for override in overrides if override.partition("=")[0] in groups()])
    if isinstance(error, MarkedYAMLError) and error.problem_mark:
        file, line = path_as_typed(Path(error.problem_mark.name)), error.problem_mark.line + 1
        return f"{culprit}: {file}, line {line}: {one_line(error.problem)}; mend that line"
    if isinstance(error.__cause__, UnicodeDecodeError):
        return f"{culprit}: its YAML is no UTF-8 text ({one_line(error)}); save it as UTF-8"
    return f"{culprit}: {one_line(error)}"


def _culprit(overrides: Sequence[str]) -> str:
    """The first override with which the configuration does not compose; choices of groups bring the keys of others."""
    in_order = sorted(overrides, key=lambda override: override.partition("=")[0] not in groups())
    for number in range(1, len(in_order) + 1):
        *before, last = in_order[:number]
        for value in _values(last):
            try:
                compose_config(*map(_first_value, before), value)
            except (HydraException, OmegaConfBaseException, YAMLError, ValueError):
                return last
    return " ".join(overrides)


def _values(override: str) -> list[str]:
    """What a sweep over choices sets one after another; of one over values or a range, the first alone."""
    parsed, key = OverridesParser.create().parse_override(override), override.partition("=")[0]
    if not parsed.is_discrete_sweep():
        return [override]
    return [f"{key}={value}" for value in islice(parsed.sweep_string_iterator(), None if key in groups() else 1)]


def _first_value(override: str) -> str:
    return _values(override)[0]


def _no_such_choice(typed: str, known: Sequence[str]) -> str:
    group, _, choice = typed.partition("=")
    typed = typed if len(typed) <= MAX_TYPED else f"{typed[:MAX_TYPED]} ..."
    line = f"{typed}: there is no such choice; {group} must be one of {', '.join(known)}"
    own = f"; one of your own: conf/{group}/NAME.yaml"
    if not group.startswith("hydra/") and len(line + own) <= LONGEST:
        line += own
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
