"""Runs put together: what varied, seeds averaged, failures named, in figures worked out by hand."""

import csv
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from mnist_lightning.config.errors import ConfigError
from mnist_lightning.evaluation.run_directories import find_runs
from mnist_lightning.study import leaderboard
from mnist_lightning.study.leaderboard import entries_of, resolve_keys, rows_of, seeds_verdict, short_names, varied_keys
from tests.conftest import finish, leave_run, read_verdict, spawn


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Two learning rates with three seeds each; one run of the second crashed, one of the first missed."""
    for seed, accuracy in enumerate([0.9950, 0.9940, 0.9930]):
        status = "passed" if accuracy >= 0.994 else "missed"
        leave_run(tmp_path / f"a{seed}", f"seed={seed}", accuracy=accuracy, last_accuracy=accuracy, status=status)
    leave_run(tmp_path / "b0", "seed=0", "optimizer.lr=0.1", accuracy=0.9960, seconds=50.0)
    leave_run(tmp_path / "b1", "seed=1", "optimizer.lr=0.1", accuracy=0.9970, seconds=70.0)
    leave_run(tmp_path / "b2", "seed=2", "optimizer.lr=0.1", status="error", accuracy=None, reasons=["ValueError: no"])
    return tmp_path


def test_seeds_are_averaged_and_the_best_row_comes_first(sweep: Path) -> None:
    runs = find_runs([sweep])
    rows = rows_of(entries_of(runs, varied_keys(runs)))
    assert [(row["lr"], row["n"], row["test acc %"], row["best"]) for row in rows] == [
        ("0.1", "2", "99.650 ± 0.071", "99.70"),
        ("0.015", "3", "99.400 ± 0.100", "99.50"),
    ]
    assert [row["passed"] for row in rows] == ["2/2 (34–100 %)", "2/3 (21–94 %)"]
    assert [row["status"] for row in rows] == ["2 passed, 1 error", "2 passed, 1 missed"]
    assert [row["seconds"] for row in rows] == ["60", "100"]


def test_failures_are_named_with_reason_and_log(sweep: Path) -> None:
    (sweep / "a0" / "verdict.json").write_text('{"status": "pass', "utf-8")  # a power cut
    (sweep / "a1" / "verdict.json").unlink()
    (sweep / "a2" / "config.yaml").write_text("", "utf-8")
    failures = leaderboard.failures_of(find_runs([sweep]))
    assert [(Path(f["run"]).name, f["status"]) for f in failures] == [
        ("a0", "unreadable"),
        ("a1", "unfinished"),
        ("a2", "unreadable"),
        ("b2", "error"),
    ]
    assert failures[3]["why"] == "ValueError: no"
    assert failures[3]["log"] == str(sweep / "b2" / "run.log")
    assert (sweep / "a0" / "verdict.json").read_text("utf-8") == '{"status": "pass'  # nothing is deleted


def test_a_swapped_network_is_one_column_not_its_widths_too(tmp_path: Path) -> None:
    leave_run(tmp_path / "1", "model=net2")
    leave_run(tmp_path / "2", "model=net3")
    leave_run(tmp_path / "3", "model=net3", "model.dropout=0.1")
    runs = find_runs([tmp_path])
    keys = varied_keys(runs)
    assert short_names(keys) == {"model._target_": "model", "model.dropout": "dropout"}
    labels = [tuple(entry.label.values()) for entry in entries_of(runs, keys)]
    assert sorted(labels) == [("Net2", "0.05"), ("Net3", "0.025"), ("Net3", "0.1")]


def test_a_key_that_only_some_runs_have_tells_them_apart(tmp_path: Path) -> None:
    leave_run(tmp_path / "1", "scheduler=constant")  # has no warm-up
    leave_run(tmp_path / "2", "scheduler.warmup=0.1")
    leave_run(tmp_path / "3", "scheduler.warmup=0.2")
    runs = find_runs([tmp_path])
    labels = [tuple(entry.label.values()) for entry in entries_of(runs, varied_keys(runs))]
    assert sorted(labels) == [("constant", "–"), ("linear", "0.1"), ("linear", "0.2")]


def test_columns_of_one_name_keep_their_groups() -> None:
    assert short_names(["augmentation.degrees", "other.degrees", "optimizer.lr"]) == {
        "augmentation.degrees": "augmentation.degrees",
        "other.degrees": "other.degrees",
        "optimizer.lr": "lr",
    }


def test_a_hold_out_is_what_rows_are_ranked_by(tmp_path: Path) -> None:
    leave_run(tmp_path / "1", "data.val_images=5000", accuracy=0.999, best_accuracy=0.980, epoch_split="val")
    leave_run(
        tmp_path / "2", "data.val_images=5000", "optimizer.lr=0.1", accuracy=0.990, best_accuracy=0.985, epoch_split="val"
    )
    runs = find_runs([tmp_path])
    rows = rows_of(entries_of(runs, varied_keys(runs)))
    assert [(row["lr"], row["val acc %"]) for row in rows] == [("0.1", "98.500"), ("0.015", "98.000")]
    assert rows_of(entries_of(runs, varied_keys(runs), "accuracy"))[0]["lr"] == "0.015"


@pytest.mark.parametrize(
    ("sort_by", "first"), [("seconds", "0.1"), ("lr", "0.015"), ("passed", "0.1"), ("params", "0.015"), ("best", "0.1")]
)
def test_rows_can_be_sorted(sweep: Path, sort_by: str, first: str) -> None:
    runs = find_runs([sweep])
    assert entries_of(runs, varied_keys(runs), sort_by)[0].label["lr"] == first


def test_keys_are_found_by_short_name_or_refused(sweep: Path) -> None:
    runs = find_runs([sweep])
    assert resolve_keys(["lr", "model", "optimizer.momentum", "seed"], runs) == [
        "optimizer.lr",
        "model._target_",
        "optimizer.momentum",
        "seed",
    ]
    for typed, rule in (
        ("nosuch", "is in no run's configuration"),
        ("warmup.x", "is in no run's"),
        ("_target_", "stands for "),
    ):
        with pytest.raises(
            ConfigError, match=rf"--group-by {typed}: {typed} {rule}.*; what varies between these runs: lr, seed"
        ):
            resolve_keys([typed], runs)
    with pytest.raises(ConfigError, match=r"--sort-by x: must be one of accuracy, val, best, passed, params, seconds, lr"):
        entries_of(runs, varied_keys(runs), "x")


@pytest.mark.parametrize(
    ("passed", "num_runs", "text"),
    [
        (18, 20, "18 of 20 pass, 95 % interval 70–97 %, target 95 %: not shown, and no number of seeds will at this rate"),
        (20, 20, "20 of 20 pass, 95 % interval 84–100 %, target 95 %: not shown yet, about 53 more seeds needed at this rate"),
        (73, 73, "73 of 73 pass, 95 % interval 95–100 %, target 95 %: shown"),
        (10, 20, "10 of 20 pass, 95 % interval 30–70 %, target 95 %: missed"),
    ],
)
def test_the_verdict_over_seeds(passed: int, num_runs: int, text: str) -> None:
    assert seeds_verdict(passed, num_runs) == text


def test_the_files_hold_the_table(sweep: Path) -> None:
    report = leaderboard.write(sweep, find_runs([sweep]))
    unescaped = (sweep / "leaderboard.md").read_text("utf-8").replace("\\_", "_")  # of the paths: Markdown's emphasis
    assert [line.split() for line in unescaped.splitlines() if "--" not in line] == [
        line.split()
        for line in report.splitlines()
        if "--" not in line  # the table's rules are as wide as its columns
    ]
    with (sweep / "leaderboard.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["lr"] for row in rows] == ["0.1", "0.015"]
    assert "lr=0.015: 2 of 3 pass, 95 % interval 21–94 %" in report
    assert not list(sweep.glob("*.part"))


def test_runs_without_a_figure_come_last(tmp_path: Path) -> None:
    leave_run(tmp_path / "1", status="error", accuracy=None)
    leave_run(tmp_path / "2", "optimizer.lr=0.1", accuracy=0.5)
    runs = find_runs([tmp_path])
    entries = entries_of(runs, varied_keys(runs))
    assert [entry.label["lr"] for entry in entries] == ["0.1", "0.015"]
    assert math.isnan(entries[1].value("accuracy"))
    assert rows_of(entries)[1]["test acc %"] == ""


WHOLE_TABLE = "epoch,step,test/acc\r\n1,10,0.5\r\n2,20,0.6\r\n"
DAMAGES: dict[str, tuple[str, bytes, str]] = {
    "verdict cut off": ("verdict.json", b'{"status": "passed", "passed": tr', "verdict.json: Invalid JSON: "),
    "verdict empty": ("verdict.json", b"", "verdict.json: Invalid JSON: "),
    "verdict of binary garbage": ("verdict.json", b"\x00\xff\xfe\x80", "verdict.json: Invalid JSON: "),
    "verdict a list": ("verdict.json", b"[1, 2]", "verdict.json: Input should be "),
    "verdict a string": ("verdict.json", b'"passed"', "verdict.json: Input should be "),
    "verdict of nothing": ("verdict.json", b"{}", "verdict.json: status: "),
    "config cut off": ("config.yaml", b"model:\n  _target_: mnist_lightning.models.Net3\n  drop", "ScannerError: "),
    "config cut off after a line": ("config.yaml", b"model:\n  dropout: 0.1\n", "config.yaml holds no whole configuration"),
    "config empty": ("config.yaml", b"", "config.yaml holds no whole configuration"),
    "config of binary garbage": ("config.yaml", b"\x00\xff\xfe\x80", "Error: "),
    "config a list": ("config.yaml", b"- 1\n- 2\n", "config.yaml holds no whole configuration"),
    "config with a list for its seed": ("config.yaml", b"seed: [0, 1]\n", "config.yaml holds no whole configuration"),
    "metrics cut off": ("metrics.csv", WHOLE_TABLE[:-9].encode(), "metrics.csv: not a whole row for each of 2 epochs"),
    "metrics cut off in a figure": ("metrics.csv", WHOLE_TABLE[:-3].encode(), "metrics.csv: not a whole row"),
    "metrics without an epoch": ("metrics.csv", WHOLE_TABLE[:-10].encode(), "metrics.csv: not a whole row"),
    "metrics empty": ("metrics.csv", b"", "metrics.csv: not a whole row"),
    "metrics of binary garbage": ("metrics.csv", b"\x00\xff\xfe\x80", "UnicodeDecodeError: "),
}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = leave_run(tmp_path_factory.mktemp("runs") / "good", epochs=2)
    (run / "metrics.csv").write_bytes(WHOLE_TABLE.encode())
    return run


def damaged_is_named_not_counted_and_left(good: Path, run: Path, file: str, contents: bytes, why: str) -> None:
    """Beside a good run."""
    for folder in (run.parent / "good", run):
        shutil.copytree(good, folder)
    (run / file).write_bytes(contents)
    runs = find_runs([run.parent])
    assert [Path(failure["run"]).name for failure in leaderboard.failures_of(runs)] == ["damaged"]
    assert why in leaderboard.failures_of(runs)[0]["why"]
    report = leaderboard.write(run.parent, runs)
    assert "damaged" in report
    assert sum(len(entry.finished) for entry in entries_of(runs, [])) == 1
    assert (run / file).read_bytes() == contents


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_named_and_its_run_not_counted(tmp_path: Path, good: Path, damage: str) -> None:
    damaged_is_named_not_counted_and_left(good, tmp_path / "damaged", *DAMAGES[damage])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("accuracy", "0.99"),
        ("accuracy", [0.99]),
        ("accuracy", math.nan),
        ("best_accuracy", {"epoch": 1}),
        ("seconds", None),
        ("params", "7496"),
        ("params", None),
        ("epochs", 1.5),
        ("seed", True),
        ("reasons", "none"),
        ("epoch_split", 5),
        ("status", ["passed"]),
        ("status", "won"),
    ],
)
def test_a_value_of_the_wrong_type_is_named_and_its_run_not_counted(tmp_path: Path, good: Path, field: str, value: Any) -> None:
    contents = json.dumps(read_verdict(good) | {field: value}).encode()
    damaged_is_named_not_counted_and_left(good, tmp_path / "damaged", "verdict.json", contents, f"verdict.json: {field}: ")


def test_a_run_is_read_again_only_where_it_has_changed(sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep looks at all its runs after every job."""
    before = find_runs([sweep])
    read: list[Path] = []

    def record(path: Path) -> dict[str, Any]:
        read.append(path)
        return read_verdict(path.parent)

    monkeypatch.setattr("mnist_lightning.evaluation.run_directories._read_verdict", record)
    assert find_runs([sweep]) == before
    (sweep / "b1" / "verdict.json").write_text(json.dumps(read_verdict(sweep / "b1") | {"status": "missed"}), "utf-8")
    assert [run.status for run in find_runs([sweep]) if run.directory.name == "b1"] == ["missed"]
    assert read == [sweep / "b1" / "verdict.json"]


@pytest.mark.slow
def test_command_prints_the_table_or_one_line(sweep: Path) -> None:
    def command(*arguments: str) -> Any:
        return finish(spawn(*arguments, cwd=sweep, module="mnist_lightning.study.leaderboard"))

    done = command(".", "--group-by", "seed", "--sort-by", "seed")
    assert done.status == 0
    assert [line.split()[1] for line in done.out.splitlines()[2:5]] == ["0", "1", "2"]
    for arguments, start in (
        ((".", "--group-by", "nosuch"), "error: --group-by nosuch: nosuch is in no run's configuration; what varies"),
        ((".", "--sort-by", "nosuch"), "error: --sort-by nosuch: must be one of accuracy, "),
        (("nowhere",), "error: nowhere: no run below (no config.yaml); name the folder of a run or of a sweep"),
    ):
        done = command(*arguments)
        assert (done.status, done.out) == (2, "")
        assert done.err.startswith(start)
        assert len(done.err.splitlines()) == 1
