"""What a search tries: the values that Optuna draws from, and the overrides of a run that drawn values stand for."""

from collections.abc import Mapping
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from mnist_lightning.config.errors import ConfigError, fitted, one_line, typed
from mnist_lightning.search.rules import Plans, Range, Search, Values

OF_A_STAGE = ("blocks", "kind", "growth")  # drawn for each stage by itself


def space(search: Search) -> dict[str, BaseDistribution]:
    """The distributions by the names that trials show them under; every trial draws all, also for stages that it has not.

    Raises:
        ConfigError: Optuna refuses a range.
    """
    drawn: dict[str, Values] = dict(search.vary)
    for name, values in search.plan or ():
        if name in OF_A_STAGE:
            drawn |= {f"{name} {stage}": values for stage in range(1 + (name == "growth"), _most(search.plan) + 1)}
        else:
            drawn[name] = values
    return {name: _distribution(name, values) for name, values in drawn.items()}


def _most(plans: Plans | None) -> int:
    stages = plans.stages if plans else []
    return int(stages.high if isinstance(stages, Range) else max(map(int, stages)))


def _distribution(name: str, values: Values) -> BaseDistribution:
    """Of a range or of choices; a ConfigError where Optuna refuses them."""
    if isinstance(values, list):
        return CategoricalDistribution(values)
    whole = all(isinstance(number, int) for number in (values.low, values.high, values.step or 1))
    try:
        if whole:
            return IntDistribution(int(values.low), int(values.high), values.log, int(values.step or 1))
        return FloatDistribution(values.low, values.high, values.log, values.step)
    except ValueError as error:
        raise ConfigError(fitted(f"search: {name}: ", one_line(error), "; mend its low, high, log or step")) from error


def overrides(drawn: Mapping[str, Any], search: Search) -> list[str]:
    """The drawn values as the words of a run's command line; floats with three digits."""
    words = [f"model.plan=[{','.join(plan(drawn))}]"] if search.plan else []
    return words + [f"{key}={_short(drawn[key])}" for key in search.vary]


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else typed(value)


def plan(drawn: Mapping[str, Any]) -> list[str]:
    """The plan of drawn values: a first convolution, stages with a pooling between them, and an end."""
    width = int(drawn["width"])
    items = [f"{drawn['first']}{width}"]
    shared: dict[tuple[object, ...], str] = {}  # labels
    before = width
    for stage in range(1, int(drawn["stages"]) + 1):
        if stage > 1:
            items.append(drawn["pool"])
            width = round(width * drawn[f"growth {stage}"])
        word = f"{drawn[f'kind {stage}']}{width}"
        for _ in range(int(drawn[f"blocks {stage}"]) - (stage == 1)):  # the first convolution is one of them
            if before == width and drawn["share"] != "none":
                place = (word, stage if drawn["share"] == "stage" else None)
                items.append(f"{word}@{shared.setdefault(place, chr(ord('a') + len(shared)))}")
            else:
                items.append(word)
            before = width
    items += str(drawn["end"]).split(",")
    return [word.partition("@")[0] if items.count(word) == 1 else word for word in items]
