"""Budgets: how large a network may be in each respect, and how that is said. Imports neither torch nor lightning.

Sizes go by their names in a verdict; one that is None, or missing, is not known. Limits are a gate's keys, which a verdict has,
too; one that is None is no budget.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from omegaconf import DictConfig

Values = Mapping[str, Any] | DictConfig


class Budget(NamedTuple):
    size: str  # its name in a verdict; the gate's key is max_SIZE
    line: str  # name of the line that shows it
    unit: str


BUDGETS = (
    Budget("params", "parameters", "parameters"),
    Budget("multiply_adds", "operations", "multiply-adds"),
    Budget("activation_bytes", "memory", "bytes of activations"),
    Budget("file_bytes", "file", "bytes as a file"),
)


def over_budget(model: str, sizes: Values, limits: Values) -> list[str]:
    """A sentence for every size that is not below its limit."""
    reasons = []
    for size, _, unit in BUDGETS:
        number, limit = sizes.get(size), limits.get(f"max_{size}")
        if number is not None and limit is not None and number >= limit:
            kind = "trainable " if size == "params" and limits["count"] == "trainable" else ""
            reasons.append(f"{model} has {number:,} {kind}{unit}; gate.max_{size}={limit} wants fewer")
    return reasons


def limits_of(gate: Values) -> list[str]:
    """Every limit that there is, with its unit."""
    found = [(gate[f"max_{size}"], unit) for size, _, unit in BUDGETS]
    return [f"{limit:,} {unit}" for limit, unit in found if limit is not None]


def size_lines(sizes: Values, limits: Values) -> list[tuple[str, str]]:
    """Name and text of a line for every size that is known: it, and the room that its budget leaves."""
    lines = []
    for size, line, unit in BUDGETS:
        number, limit = sizes.get(size), limits.get(f"max_{size}")
        if number is None:
            continue
        text, counted = f"{number:,} {unit}", ""
        if size == "params":
            text, counted = _of_parameters(number, sizes.get("frozen_params"), limits["count"])
        lines.append((line, text if limit is None else text + _room(number, limit, counted)))
    return lines


def _room(number: int, limit: int, counted: str) -> str:
    left = limit - 1 - number
    room = f"{left:,} to spare" if left >= 0 else f"{-left:,} too many"
    return f"{';' if counted else ','} budget fewer than {limit:,}{counted}: {room}"


def _of_parameters(params: int, frozen: int | None, count: str) -> tuple[str, str]:
    """The parameters that count beside those that are frozen, and which the budget counts where there are both."""
    if not frozen:
        return f"{params:,}", ""
    if count == "all":
        return f"{params:,}, {frozen:,} of them frozen", " in all"
    return f"{params:,} trainable, {frozen:,} frozen", " trainable"
