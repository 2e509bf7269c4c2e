"""Text of a user's or a run's (names, paths, values, reasons) made harmless where it is shown.

Imports neither torch nor lightning.
"""

import html
import logging
import re


def printable(text: object) -> str:
    """Text whose control characters (terminal escapes, changes of the reading direction) are shown and not obeyed."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(text))


def markdown(text: object) -> str:
    """Text in which Markdown finds no markup, and no address to make a link of."""
    escaped = html.escape(printable(text), quote=False).replace("://", "&#58;//")
    return re.sub(r"([\\`*_\[\]|~$]|^[#+-](?=\s)|(?<=^\d)\.(?=\s))", r"\\\1", escaped)


def csv_cell(text: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    text = printable(text)
    return f"'{text}" if re.match(r"[=+\-@]", text) and not re.fullmatch(r"[+-]?\d[\d,.]*(e[+-]?\d+)?", text) else text


class Formatter(logging.Formatter):
    """Of log files and of what a launcher's terminal shows: printable lines."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(map(printable, super().format(record).split("\n")))
