"""The command `search`: trials are runs on a hold-out, within the budget, and the same words go on."""

import csv
import re
import shlex
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from mnist_lightning.config.compose import CONF_DIR, use_directories
from mnist_lightning.search.launch import prepare
from mnist_lightning.training.lit_module import LitClassifier
from tests.conftest import Finished, at_call, one_error, read_verdict, throw
from tests.search.conftest import TINY_SEARCH

DOCS = CONF_DIR.parent / "docs/search.md"
Cli = Callable[..., Finished]
SMALL = (
    *TINY_SEARCH,
    "search.trials=2",
    "search.plan.width={low:4,high:9}",
    "search.plan.blocks=[1]",
    "search.plan.stages=[2]",
)
SMALL += ("search.plan.kind=[c]", "search.plan.end=['gap,head']", "gate.max_params=600")


def rows(directory: Path) -> list[dict[str, str]]:
    return [*csv.DictReader((directory / "search.csv").read_text("utf-8").splitlines())]


def test_a_search_trains_within_the_budget_tests_nothing_and_is_adopted(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LitClassifier, "test_step", lambda *args: throw(AssertionError("the test set was read")))
    done = cli("search", *SMALL)
    assert (done.status, done.err) == (0, "")
    directory = tmp_path / "outputs/search/s"
    found = rows(directory)
    assert [(row["state"], int(row["params"]) < 600) for row in found] == [("finished", True)] * 2
    verdicts = {run.name: read_verdict(run) for run in directory.glob("trial-*")}
    assert verdicts.keys() == {f"trial-{int(row['trial']):04}" for row in found}
    assert {(one["epoch_split"], one["accuracy"], one["test_images"]) for one in verdicts.values()} == {("val", None, None)}
    assert "2 of 2 trials" in done.out
    assert (directory / "search.png").read_bytes().startswith(b"\x89PNG")
    assert cli("leaderboard", directory).out.count("not judged") >= 2

    again = cli("search", *SMALL)
    assert (again.status, rows(directory)) == (0, found)  # nothing is left to do
    assert one_error(cli("search", *SMALL, "optimizer.lr=0.5"), 2).startswith(
        "outputs/search/s: holds a search with optimizer.lr"
    )

    adopted = cli("search", "adopt", "--name", "my_net")
    assert (adopted.status, adopted.err) == (0, "")
    assert cli("summary", "experiment=my_net").status == 0


@pytest.mark.slow
def test_ctrl_c_ends_with_130_and_the_same_command_goes_on(cli: Cli, tmp_path: Path) -> None:
    with at_call(2, lambda: signal.raise_signal(signal.SIGINT)):
        stopped = cli("search", *SMALL)
    assert stopped.status == 130
    assert "stopped; the same command goes on, in outputs/search/s" in stopped.out
    done = cli("search", *SMALL)
    assert (done.status, done.err) == (0, "")
    assert len(rows(tmp_path / "outputs/search/s")) == len([*tmp_path.rglob("trial-*/verdict.json")]) == 2


def test_a_trial_whose_loss_is_no_number_has_failed_and_the_search_goes_on(cli: Cli, tmp_path: Path) -> None:
    done = cli("search", *SMALL, "optimizer.lr=1e30", "search.trials=1")
    assert (done.status, [row["state"] for row in rows(tmp_path / "outputs/search/s")]) == (1, ["failed"])


@pytest.mark.parametrize(
    "command", re.findall(r"^python -m mnist_lightning search (?!adopt)(.*)", DOCS.read_text("utf-8"), re.MULTILINE)
)
def test_every_command_of_the_docs_is_a_search(command: str, cli: Cli, tmp_path: Path) -> None:
    use_directories(None, [], "search")
    assert prepare(shlex.split(command)).directory.is_dir()


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("search.trials=0", "search.trials=0: input should be greater than or equal to 1"),
        ("data.val_images=0", "data.val_images=0: a search compares on a hold-out"),
        ("search.plan=null", "search.plan=null: leaves nothing to try"),
        ("search.plan.widht=3", "search.plan.widht=3: there is no such key"),
        ("search.plan.share=[true]", "search.plan.share=[true]: input should be 'none', 'stage' or 'net'"),
        ("search.vary={optimizer.lrr:[1]}", "search.vary: optimizer.lrr=1: "),
        ("search.storage=foo://x", "search.storage=foo://x: cannot be used: "),
        ("sweep=lr", "sweep=lr: goes with a run or a sweep"),
        ("gate.max_file_bytes=9000", "gate.max_file_bytes=9000: is judged by an export"),
        ("trainer=ddp", "trainer=ddp: a trial is one process"),
    ],
)
def test_a_bad_value_is_a_line_before_any_trial(word: str, says: str, cli: Cli, tmp_path: Path) -> None:
    assert one_error(cli("search", *TINY_SEARCH, word), 2).startswith(says)
    assert not [*tmp_path.rglob("trial-*")]
