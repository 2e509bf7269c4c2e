"""docs/your_own.md, as a reader follows it: its files are written, its commands run in their order, its output is printed."""

import re
import runpy
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Finished

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "your_own.md").read_text("utf-8")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"^# ([\w/]+\.(?:py|yaml))\b", re.MULTILINE)


def commands(block: str) -> Iterator[tuple[list[str], list[str]]]:
    """The words of each command of a block, and the lines shown below it."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, *shown = part.splitlines()
        yield shlex.split(command), shown


def comparable(line: str) -> str:
    """A line without what differs from machine to machine: seconds, sizes, measured figures, reasons of torch's own."""
    line = re.sub(r"[\d,.]+ (s|bytes)\b", r"N \1", line.partition(" of tensors: ")[0])
    return " ".join(re.sub(r"\d+\.\d+", "N", line).split())


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore")  # of the exporters
def test_the_page_does_what_it_shows(cli: Callable[..., Finished]) -> None:
    for kind, text in BLOCK.findall(PAGE):
        if kind != "console":
            path = Path(FILE.search(text)[1])  # type: ignore[index]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
            continue
        for words, shown in commands(text):
            if words[1] != "-m":
                runpy.run_path(words[1])
                continue
            assert words[:3] == ["python", "-m", "mnist_lightning"]
            done = cli(*words[3:])
            printed = [comparable(line) for line in (done.out + done.err).splitlines()]
            assert [line for line in shown if line != "..." and comparable(line) not in printed] == [], done
            refused, missed = "error: " in "".join(shown), "MISSED" in "".join(shown)
            assert (done.status in (1, 2)) if refused else (done.status == 3 * missed), done


def test_the_page_shows_every_file_and_every_command_of_a_kind() -> None:
    """So that the test above leaves nothing out."""
    blocks = BLOCK.findall(PAGE)
    assert {kind for kind, _ in blocks} == {"console", "python", "yaml"}
    assert all(FILE.search(text) for kind, text in blocks if kind != "console")
    words = {words[3] for kind, text in blocks if kind == "console" for words, _ in commands(text) if words[1] == "-m"}
    assert {"init", "summary", "evaluate", "predict", "export", "report", "--multirun"} <= words
