"""Errors that a user can act on, and how they are put."""

import textwrap
from typing import Any

LONGEST = 190  # characters of a message; its line begins with "error: "
LEAST = 48  # characters of its middle, however long the rest


class UserError(Exception):
    """An error whose message tells the user all there is to know, in a line or two; a traceback would add nothing."""

    def _render_traceback_(self) -> list[str]:  # IPython's, in place of a traceback
        return [f"error: {line}" for line in str(self).splitlines()]


class ConfigError(UserError, ValueError):
    """One or more values break a rule; the message has a line for each: key, value, rule, way out."""


def one_line(error: object) -> str:
    """Any message as a single line; the kind of an error that has no words."""
    return " ".join(str(error).split()) or type(error).__name__


def named(error: BaseException) -> str:
    """An error as `KeyError: 'x'`, in a single line; without words, its kind alone."""
    kind, words = type(error).__name__, one_line(error)
    return kind if words == kind else f"{kind}: {words}"


def fitted(start: str, text: str, end: str = "") -> str:
    """A message whose middle is cut where it would be too long."""
    return f"{start}{textwrap.shorten(text, max(LEAST, LONGEST - len(start + end)), placeholder=' ...')}{end}"


def typed(value: Any) -> str:
    """A value as one would type it on the command line."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return f"[{','.join(repr(item) if ',' in str(item) else typed(item) for item in value)}]"
    return str(value)
