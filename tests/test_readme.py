"""The README's commands compose, its table has the published figures, and the Makefile does what it says."""

import re
import shutil
import subprocess
from importlib.metadata import requires
from pathlib import Path

import pytest

from mnist_lightning.__main__ import COMMANDS as COMMANDS_OF_THE_PROJECT
from mnist_lightning.config.check import check
from mnist_lightning.config.compose import compose_config
from mnist_lightning.models import Net1, Net2, Net3, count_parameters
from tests.floor import constraints

CHECKOUT = Path(__file__).resolve().parent.parent
README = (CHECKOUT / "README.md").read_text("utf-8")
PAGES = "".join(path.read_text("utf-8") for path in sorted((CHECKOUT / "docs").glob("*.md")) if path.stem != "your_own")
TEXT = (README + PAGES).replace("\\\n", "").replace("$seed", "0")
# One with "$" in front is shown with its output: a refusal, in a test of its own. Those of a search compose otherwise:
# tests/commands/test_search.py. my_net is a preset that the reader has adopted.
FOUND = re.findall(r"^(?!\$|.*(?:mnist_lightning search |my_net)).*-m mnist_lightning .*$", TEXT, re.MULTILINE)
COMMANDS = sorted({line.split("  #")[0].strip() for line in FOUND})


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 120


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_docs_is_one(command: str) -> None:
    """Its word is a command; its overrides compose and keep the rules."""
    words = re.split(r"[`)(]", command[command.index("-m mnist_lightning") :])[0].split()[2:]
    words = [word.rstrip(".,;").strip("'") for word in words]
    if words and not re.search(r"[=-]", words[0]) and words[0].islower():
        assert words[0] in COMMANDS_OF_THE_PROJECT
        words = words[1:]
    overrides = [word for word in words if "=" in word and "hydra" not in word and not word.isupper()]
    first_values = [re.sub(r"=([^,\[]+),.*", r"=\1", override) for override in overrides]  # of a sweep
    if first_values:
        check(compose_config(*first_values))


def test_every_link_leads_somewhere() -> None:
    for page in (CHECKOUT / "README.md", *(CHECKOUT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text("utf-8")):
            assert target.startswith("http") or (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_table_has_the_published_figures() -> None:
    for net, published in ((Net1, "99.22"), (Net2, "98.99"), (Net3, "99.43")):
        row = next(line for line in README.splitlines() if line.startswith("|") and published in line)
        assert f"{count_parameters(net()):,}" in row


def _plan(target: str) -> list[str]:
    """The commands that `make target` would run. Under `make test`, make also names the directories it enters and leaves."""
    command = ["make", "-n", "--no-print-directory", target]
    return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout.splitlines()


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_train_runs_the_command_of_the_readme() -> None:
    assert _plan("train")[-1] == ".venv/bin/python -m mnist_lightning model=net3 trainer.max_epochs=15"


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_study_trains_the_published_experiments_and_reports_them() -> None:
    sweep, report = _plan("study")[-2:]
    words = sweep.partition("--multirun ")[2].split()
    assert words[0] == "experiment=exp1,exp2,exp3"
    assert "gate.on_miss=warn" in words  # a miss ends with status 3, at which make would stop before the report
    assert f"hydra.sweep.dir={report.split()[-1]}" in words
    assert report.startswith(".venv/bin/python -m mnist_lightning report ")


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_without_a_target_explains_the_targets() -> None:
    text = subprocess.run(["make"], cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout
    targets = [
        "help",
        "venv",
        "train",
        "study",
        "test",
        "test-slow",
        "ray",
        "loggers",
        "floor",
        "torture",
        "bench",
        "lint",
        "clean",
    ]
    assert re.findall(r"^  make ([\w-]+)", text, re.MULTILINE) == targets


def test_every_requirement_has_a_lower_bound_for_make_floor() -> None:
    named = {re.split(r"[\[<>=!; ]", requirement)[0] for requirement in requires("mnist-lightning") or ()}
    assert {constraint.partition("==")[0] for constraint in constraints()} == named - {"mnist-lightning"}


@pytest.mark.skipif(not (CHECKOUT / ".venv" / ".ready").exists(), reason="the tests do not run from the project's own .venv")
def test_make_venv_does_nothing_when_up_to_date() -> None:
    assert subprocess.run(["make", "-q", "venv"], cwd=CHECKOUT, check=False).returncode == 0


def test_no_tracked_file_is_large_or_data() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    for name in tracked.stdout.splitlines():
        path = CHECKOUT / name
        if path.is_file():
            assert path.stat().st_size < 1_000_000, name
            assert not name.endswith(("ubyte", "ubyte.gz", ".ckpt"))
