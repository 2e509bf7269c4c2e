"""The two pages of a report from one set of values: report.html with everything inside, report.md with its pictures beside it.

What comes from runs (names, paths, reasons) is text to be shown, whatever it holds: both templates escape every value.
"""

import base64
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from mnist_lightning import files
from mnist_lightning.config.errors import ConfigError
from mnist_lightning.study.aggregate import escape_markdown, markdown
from mnist_lightning.terminal import printable

GENERATOR = "made by python -m mnist_lightning report"  # in both templates: by it a report is known as one, and replaced
FOLDER = "report-pictures"  # as report.md has it


@dataclass(frozen=True)
class Picture:
    """A PNG or a GIF."""

    name: str
    """File name, of letters that need no escape."""
    alt: str
    content: bytes

    @property
    def data_uri(self) -> str:
        return f"data:image/{self.name.rpartition('.')[2]};base64,{base64.b64encode(self.content).decode()}"


def as_picture(name: str, alt: str, figure: Figure) -> Picture:
    """A figure as a PNG."""
    file = BytesIO()
    figure.savefig(file, format="png")
    return Picture(name, alt, file.getvalue())


def check_free(directory: Path) -> None:
    """Makes sure that the pages replace nothing but an earlier report; raises a ConfigError."""
    for path in (directory / name for name in ("report.html", "report.md")):
        if path.exists() and GENERATOR not in path.read_text("utf-8", errors="replace"):
            raise ConfigError(f"{path}: is there and no report of this project; name another folder with --out DIR")


def write_pages(directory: Path, report: dict[str, Any]) -> None:
    """Writes report.html, report.md and the pictures of the latter, in place of an earlier report."""
    pages = {"report.html": _html(report), "report.md": _markdown(report)}
    (directory / FOLDER).mkdir(parents=True, exist_ok=True)
    for picture in report["pictures"]:
        files.write(directory / FOLDER / picture.name, picture.content)
    for name, text in pages.items():
        files.write(directory / name, text)


def _html(report: dict[str, Any]) -> str:
    environment = _environment(printable, autoescape=True)
    style = environment.get_template("report.css").render()
    style_hash = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return environment.get_template("report.html").render(report=report, style_hash=style_hash)


def _markdown(report: dict[str, Any]) -> str:
    environment = _environment(escape_markdown)
    environment.filters["table"] = lambda rows: Markup(markdown(rows, escape_markdown))
    text = environment.get_template("report.md").render(report=report)
    return re.sub(r"\n{3,}", "\n\n", text)


def _environment(plain: Callable[[object], str], autoescape: bool = False) -> Environment:
    """Templates in which every value is made plain but for what they put together themselves."""
    return Environment(
        loader=PackageLoader("mnist_lightning.study"),
        autoescape=autoescape,
        finalize=lambda value: value if isinstance(value, Markup) else plain(value),
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
