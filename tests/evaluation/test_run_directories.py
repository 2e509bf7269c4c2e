"""What is read of the files that runs left behind: damage is named and left, and nothing else is taken for a run."""

import json
import math
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from mnist_lightning.config.errors import ConfigError
from mnist_lightning.evaluation import run_directories
from mnist_lightning.evaluation.run_directories import find_runs, lock, read_epochs, read_run, shown
from tests.conftest import leave_run, read_verdict

TABLE = "epoch,step,test/acc\r\n1,10,0.5\r\n2,20,\r\n"
DAMAGES: dict[str, tuple[str, bytes, str]] = {
    "verdict cut off": ("verdict.json", b'{"status": "passed", "passed": tr', "verdict.json: "),
    "verdict empty": ("verdict.json", b"", "verdict.json: "),
    "verdict of binary garbage": ("verdict.json", b"\x00\xff\xfe\x80", "verdict.json: "),
    "verdict a list": ("verdict.json", b"[1, 2]", "verdict.json: Input should be "),
    "verdict of nothing": ("verdict.json", b"{}", "verdict.json: status: "),
    "config cut off": ("config.yaml", b"model:\n  _target_: mnist_lightning.models.Net3\n  drop", "ScannerError: "),
    "config cut off after a line": ("config.yaml", b"model:\n  dropout: 0.1\n", "config.yaml holds no whole configuration"),
    "config empty": ("config.yaml", b"", "config.yaml holds no whole configuration"),
    "config of binary garbage": ("config.yaml", b"\x00\xff\xfe\x80", "Error: "),
    "config a list": ("config.yaml", b"- 1\n- 2\n", "config.yaml holds no whole configuration"),
    "config with a list for its seed": ("config.yaml", b"gate: {}\nseed: [0, 1]\n", "holds no whole configuration"),
    "metrics cut off": ("metrics.csv", TABLE[:-4].encode(), "metrics.csv: a row is cut off"),
    "metrics cut off in a figure": ("metrics.csv", TABLE[:-14].encode(), "metrics.csv: a row is cut off"),
    "metrics without an epoch": ("metrics.csv", TABLE[:-7].encode(), "metrics.csv: not a row for each of 2 epochs"),
    "metrics empty": ("metrics.csv", b"", "metrics.csv: a row is cut off"),
    "metrics of binary garbage": ("metrics.csv", b"\x00\xff\xfe\x80", "metrics.csv: "),
}
VALUES: tuple[tuple[str, Any], ...] = (
    *(("accuracy", "0.99"), ("accuracy", [0.99]), ("accuracy", math.nan), ("best_accuracy", {"epoch": 1})),
    *(("seconds", None), ("params", "7496"), ("epochs", 1.5), ("seed", True), ("reasons", "none"), ("status", ["passed"])),
)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = leave_run(tmp_path_factory.mktemp("runs") / "original", epochs=2)
    (run / "metrics.csv").write_bytes(TABLE.encode())
    return run


@pytest.fixture
def run(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "runs" / "run"))


def test_a_whole_run_is_read(run: Path) -> None:
    [found] = find_runs([run])
    assert (found.directory, found.status, found.finished) == (run, "passed", True)
    assert found.config["optimizer.lr"] == 0.015
    assert "data.root" not in found.config  # no result depends on where the data lies
    first, second = read_epochs(run)
    assert first == {"epoch": 1, "step": 10, "test/acc": 0.5}
    assert math.isnan(second["test/acc"])  # it was not measured


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_named_and_left(run: Path, damage: str) -> None:
    file, contents, why = DAMAGES[damage]
    (run / file).write_bytes(contents)
    [found] = find_runs([run])
    assert (found.status, found.finished) == ("unreadable", False)
    assert why in found.why
    assert (run / file).read_bytes() == contents


@pytest.mark.parametrize(("field", "value"), VALUES)
def test_a_value_of_the_wrong_type_makes_no_result(run: Path, field: str, value: Any) -> None:
    (run / "verdict.json").write_text(json.dumps(read_verdict(run) | {field: value}), "utf-8")
    [found] = find_runs([run])
    assert not found.finished
    assert f"verdict.json: {field}: " in found.why


def test_without_a_verdict_it_is_unfinished(run: Path) -> None:
    (run / "verdict.json").unlink()
    assert [found.status for found in find_runs([run])] == ["unfinished"]


def test_what_hydra_and_others_left_is_no_run(run: Path) -> None:
    (run / ".hydra").mkdir()
    elsewhere = run.parent / "other" / "record"  # hydra.output_subdir=record
    elsewhere.mkdir(parents=True)
    for folder in (run / ".hydra", elsewhere):
        for name in ("config.yaml", "hydra.yaml", "overrides.yaml"):
            shutil.copy(run / "config.yaml", folder / name)
    (elsewhere.parent / "config.yaml").write_text("seed: 0\ndefaults: [model: net3]\n", "utf-8")
    shutil.copytree(run, run / "set-aside-1")
    assert [found.directory for found in find_runs([run.parent])] == [run]


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_links_are_followed_and_a_run_is_found_once(run: Path, tmp_path: Path) -> None:
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "linked").symlink_to(run.parent)
    assert [found.directory for found in find_runs([tmp_path / "links"])] == [tmp_path / "links" / "linked" / "run"]
    (run.parent / "latest").symlink_to(run)
    (run / "round").symlink_to(run.parent)  # in a circle
    assert [found.directory for found in find_runs([run.parent, tmp_path])] == [run]


def test_a_run_is_read_again_only_where_it_has_changed(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep looks at all its runs after every job."""
    before = read_run(run)
    with monkeypatch.context() as patch:
        patch.setattr(run_directories, "read_config", None)
        assert read_run(run) == before
    (run / "verdict.json").write_text(json.dumps(read_verdict(run) | {"status": "missed"}), "utf-8")
    assert read_run(run).status == "missed"


def test_a_second_command_is_kept_out_of_a_directory(tmp_path: Path) -> None:
    with lock(tmp_path / "new"), pytest.raises(ConfigError, match="another command is at work there; wait for its end"):
        lock(tmp_path / "new")
    lock(tmp_path / "new").release()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("mnist_lightning.models.Net3", "Net3"),
        (0.015, "0.015"),
        ([0.8, 1.2], "[0.8,1.2]"),
        (None, "None"),
        ("16-mixed", "16-mixed"),
    ],
)
def test_values_are_short_in_tables(value: object, text: str) -> None:
    assert shown(value) == text


def test_a_run_from_before_a_key_counts_as_one_with_what_the_key_stood_for(tmp_path: Path) -> None:
    then, now = leave_run(tmp_path / "then"), leave_run(tmp_path / "now")
    text = (then / "config.yaml").read_text("utf-8")
    sizes = ("multiply_adds", "activation_bytes", "file_bytes")
    for line in ("  dataset: MNIST\n", *(f"  max_{size}: null\n" for size in sizes)):
        assert line in text
        text = text.replace(line, "")
    (then / "config.yaml").write_text(text, "utf-8")
    verdict = json.loads((then / "verdict.json").read_text("utf-8"))
    for field in ("gate_dataset", *sizes, *(f"max_{size}" for size in sizes)):
        del verdict[field]
    (then / "verdict.json").write_text(json.dumps(verdict), "utf-8")
    assert read_run(then).config == read_run(now).config
    assert read_run(then).verdict == read_run(now).verdict
