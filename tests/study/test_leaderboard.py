"""The table of runs: what it says of seeds, misses and failures, its order, its files."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from mnist_lightning.evaluation.run_directories import find_runs
from mnist_lightning.study.aggregate import Rows, aggregate
from mnist_lightning.study.leaderboard import failures_of, leaderboard, ranked, rows_of, seeds_verdict, write
from tests.conftest import Finished
from tests.study.conftest import leave


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Two learning rates with three seeds each; one run of the second crashed, one of the first missed."""
    for seed, accuracy in enumerate([0.9950, 0.9940, 0.9930]):
        status = "passed" if accuracy >= 0.994 else "missed"
        leave(tmp_path / f"a{seed}", f"seed={seed}", accuracy=accuracy, last_accuracy=accuracy, status=status)
    leave(tmp_path / "b0", "seed=0", "optimizer.lr=0.1", accuracy=0.9960, seconds=50.0)
    leave(tmp_path / "b1", "seed=1", "optimizer.lr=0.1", accuracy=0.9970, seconds=70.0)
    leave(tmp_path / "b2", "seed=2", "optimizer.lr=0.1", status="error", accuracy=None, reasons=["ValueError: no"])
    return tmp_path


def rows(folder: Path, sort_by: str | None = None) -> Rows:
    return rows_of(ranked(aggregate(find_runs([folder])), sort_by))


def test_seeds_are_averaged_and_the_best_row_comes_first(sweep: Path) -> None:
    assert [(row["lr"], row["n"], row["test acc %"], row["best"]) for row in rows(sweep)] == [
        ("0.1", "2", "99.650 ± 0.071", "99.70"),
        ("0.015", "3", "99.400 ± 0.100", "99.50"),
    ]
    assert [row["passed"] for row in rows(sweep)] == ["2/2 (34–100 %)", "2/3 (21–94 %)"]
    assert [row["status"] for row in rows(sweep)] == ["2 passed, 1 error", "2 passed, 1 missed"]
    assert [row["seconds"] for row in rows(sweep)] == ["60", "100"]


def test_a_row_that_lost_seeds_to_pruning_is_no_rival_of_a_whole_one(sweep: Path) -> None:
    """What is left of it are its lucky seeds."""
    leave(sweep / "c0", "seed=0", "optimizer.lr=0.2", accuracy=0.9990)
    leave(sweep / "c1", "seed=1", "optimizer.lr=0.2", status="pruned", accuracy=None, reasons=["below the median"])
    assert [row["lr"] for row in rows(sweep)] == ["0.1", "0.015", "0.2"]
    assert rows(sweep)[-1]["status"] == "1 passed, 1 pruned"
    assert rows(sweep, "accuracy")[0]["lr"] == "0.2"


def test_what_was_not_judged_did_not_pass(tmp_path: Path) -> None:
    """On drawn digits no accuracy is asked for."""
    for seed in (0, 1):
        leave(tmp_path / f"{seed}", f"seed={seed}", dataset="synthetic", accuracy_judged=False, accuracy=0.5)
    [row] = rows(tmp_path)
    assert (row["test acc %"], row["passed"], row["status"]) == ("50.000 ± 0.000", "not judged", "2 not judged")
    text = leaderboard(find_runs([tmp_path]))
    assert "seeds: not judged: the target is for other data" in text
    assert "100 %" not in text


def test_failures_are_named_with_reason_and_log(sweep: Path) -> None:
    (sweep / "a0" / "verdict.json").write_text('{"status": "pass', "utf-8")  # a power cut
    (sweep / "a1" / "verdict.json").unlink()
    failures = failures_of(find_runs([sweep]))
    assert [(Path(row["run"]).name, row["status"]) for row in failures] == [
        ("a0", "unreadable"),
        ("a1", "unfinished"),
        ("b2", "error"),
    ]
    assert (failures[2]["why"], failures[2]["log"]) == ("ValueError: no", str(sweep / "b2" / "run.log"))
    assert rows(sweep)[1]["n"] == "1"  # what is whole is counted


def test_a_hold_out_is_what_rows_are_ranked_by(tmp_path: Path) -> None:
    with_hold_out = ("data.val_images=5000",)
    leave(tmp_path / "1", *with_hold_out, accuracy=0.999, best_accuracy=0.980, epoch_split="val")
    leave(tmp_path / "2", *with_hold_out, "optimizer.lr=0.1", accuracy=0.990, best_accuracy=0.985, epoch_split="val")
    assert [(row["lr"], row["val acc %"]) for row in rows(tmp_path)] == [("0.1", "98.500"), ("0.015", "98.000")]
    assert rows(tmp_path, "accuracy")[0]["lr"] == "0.015"


@pytest.mark.parametrize(
    ("sort_by", "first"), [("seconds", "0.1"), ("lr", "0.015"), ("passed", "0.1"), ("params", "0.015"), ("best", "0.1")]
)
def test_rows_can_be_sorted(sweep: Path, sort_by: str, first: str) -> None:
    assert rows(sweep, sort_by)[0]["lr"] == first


def test_sizes_are_columns_where_a_run_has_such_a_budget(tmp_path: Path) -> None:
    for name, size in (("1", 70_000), ("2", 50_000)):
        leave(tmp_path / name, f"optimizer.lr=0.{name}", activation_bytes=size, max_activation_bytes=60_000)
    leave(tmp_path / "3", "optimizer.lr=0.3")
    unit = "bytes of activations"
    assert [row[unit] for row in rows(tmp_path, "activation_bytes")] == ["50,000", "70,000", ""]
    assert not any(column.endswith(("adds", "file")) for row in rows(tmp_path) for column in row)


def test_runs_without_a_figure_come_last(tmp_path: Path) -> None:
    leave(tmp_path / "1", status="error", accuracy=None)
    leave(tmp_path / "2", "optimizer.lr=0.1", accuracy=0.5)
    assert [(row["lr"], row["test acc %"]) for row in rows(tmp_path)] == [("0.1", "50.000"), ("0.015", "")]


@pytest.mark.parametrize(
    ("passed", "judged", "text"),
    [
        (18, 20, "18 of 20 pass, 95 % interval 70–97 %, target 95 %: not shown, and no number of seeds will at this rate"),
        (20, 20, "20 of 20 pass, 95 % interval 84–100 %, target 95 %: not shown yet, about 53 more seeds needed at this rate"),
        (73, 73, "73 of 73 pass, 95 % interval 95–100 %, target 95 %: shown"),
        (10, 20, "10 of 20 pass, 95 % interval 30–70 %, target 95 %: missed"),
        (0, 0, "not judged: the target is for other data"),
    ],
)
def test_the_verdict_over_seeds(passed: int, judged: int, text: str) -> None:
    assert seeds_verdict(passed, judged) == text


def test_the_files_hold_the_table(sweep: Path) -> None:
    text = write(sweep, find_runs([sweep]))
    unescaped = (sweep / "leaderboard.md").read_text("utf-8").replace("\\_", "_")  # of the paths: Markdown's emphasis
    assert [line.split() for line in unescaped.splitlines() if "--" not in line] == [
        line.split()
        for line in text.splitlines()
        if "--" not in line  # the table's rules are as wide as its columns
    ]
    with (sweep / "leaderboard.csv").open(encoding="utf-8") as file:
        written = list(csv.DictReader(file))
    assert written == rows(sweep)
    assert "lr=0.015: 2 of 3 pass, 95 % interval 21–94 %" in text
    assert not list(sweep.glob("*.part"))


def test_a_sweep_without_a_run_has_an_empty_table(tmp_path: Path) -> None:
    assert write(tmp_path, []) == ""
    assert (tmp_path / "leaderboard.csv").exists()


def test_the_command_prints_the_table_or_one_line(cli: Callable[..., Finished], sweep: Path) -> None:
    done = cli("leaderboard", ".", "--group-by", "seed", "--sort-by", "seed")
    assert done.status == 0
    assert [line.split()[1] for line in done.out.splitlines()[2:5]] == ["0", "1", "2"]
    for arguments, start in (
        ((".", "--group-by", "nosuch"), "error: --group-by nosuch: nosuch is in no run's configuration; what varies"),
        ((".", "--sort-by", "nosuch"), "error: --sort-by nosuch: must be one of accuracy, val, best, passed, params, "),
        (("nowhere",), "error: nowhere: no run below (no config.yaml); name the folder of a run or of a sweep"),
    ):
        done = cli("leaderboard", *arguments)
        assert (done.status, done.out, len(done.err.splitlines())) == (2, "", 1)
        assert done.err.startswith(start)


def test_networks_of_one_class_name_are_rows_told_apart_by_import_path_and_parameters(tmp_path: Path) -> None:
    """Most networks of one's own are called Net; one file of them may change between two runs."""
    for number, (module, params) in enumerate([("mine", 7000), ("mine", 7000), ("yours", 7000), ("mine", 5000)]):
        leave(tmp_path / f"{number}", f"seed={number}", f"model._target_={module}.net.Net", params=params, model="net")
    found = sorted((row["model"], row["params"], row["n"]) for row in rows(tmp_path))
    assert found == [("mine.net.Net", "5,000", "1"), ("mine.net.Net", "7,000", "2"), ("yours.net.Net", "7,000", "1")]
    text = leaderboard(find_runs([tmp_path]))
    assert "model=mine.net.Net, params=7,000: 2 of 2 pass" in text


def test_rows_by_network_are_by_the_whole_import_path(tmp_path: Path) -> None:
    for number, module in enumerate(["mine", "yours"]):
        leave(
            tmp_path / f"{number}",
            f"seed={number}",
            f"model._target_={module}.Net",
            f"optimizer.lr={0.1 + number}",
            model="net",
        )
    table = leaderboard(find_runs([tmp_path]), group_by="model")
    assert [line.split()[1] for line in table.splitlines()[2:4]] == ["mine.Net", "yours.Net"]
