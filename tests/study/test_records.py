"""Finished runs become rows, rows become the README's table."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from mnist_lightning.config.errors import ConfigError
from mnist_lightning.study import records
from tests.conftest import Finished
from tests.study.conftest import leave

REPOSITORY = Path(__file__).resolve().parents[2]


def cells(markdown: str) -> list[list[str]]:
    """The rows of Markdown's tables, whatever their columns' widths."""
    lines = [line for line in markdown.splitlines() if line.startswith("|") and "---" not in line]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_a_row_names_what_a_run_changed(tmp_path: Path) -> None:
    leave(tmp_path / "b", "seed=1")
    leave(tmp_path / "a", "seed=0", "data.root=/elsewhere", "gate.on_miss=warn", "trainer.accelerator=cpu")
    leave(tmp_path / "c", "optimizer.momentum=0.95", "augmentation.scale=[0.8,1.2]", epoch_split="val")
    first, second, third = records.collect([tmp_path], "default").itertuples()
    changes = "optimizer.momentum=0.95 augmentation.scale=[0.8,1.2]"
    assert [(row.changed, row.seed) for row in (first, second, third)] == [("", "0"), ("", "1"), (changes, "0")]
    assert (first.last_accuracy, first.best_accuracy, first.val_accuracy) == ("0.994", "0.995", "")
    assert (third.last_accuracy, third.best_accuracy, third.val_accuracy) == ("", "", "0.994")
    assert (first.preset, first.device, first.git, first.seconds) == ("default", "a processor", "abc", "100.0")


def test_a_preset_is_the_starting_point(tmp_path: Path) -> None:
    leave(tmp_path / "a", "experiment=exp1")
    assert records.collect([tmp_path], "exp1").changed[0] == ""
    assert "model._target_=mnist_lightning.models.Net1" in records.collect([tmp_path], "default").changed[0]
    with pytest.raises(ConfigError, match=r"preset nosuch: must be one of default, .*exp1"):
        records.collect([tmp_path], "nosuch")


def test_unfinished_and_broken_runs_are_named_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    leave(tmp_path / "good")
    leave(tmp_path / "crashed", status="error")
    (leave(tmp_path / "cut") / "verdict.json").write_text('{"status": "pas', "utf-8")
    (leave(tmp_path / "running") / "verdict.json").unlink()
    assert len(records.collect([tmp_path], "default")) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [re.search(r"/(\w+): left out", line)[1] for line in lines] == ["crashed", "cut", "running"]
    assert all((tmp_path / name / "config.yaml").exists() for name in ("crashed", "cut", "running"))


def test_csv_gives_back_the_same_rows(tmp_path: Path) -> None:
    leave(tmp_path / "a")
    leave(tmp_path / "b", "seed=1", epoch_split="val")
    (tmp_path / "b" / "metrics.csv").write_text(
        "epoch,train/acc,val/loss\n" + "".join(f"{epoch},0.98,0.0{epoch:02}\n" for epoch in range(1, 16)), "utf-8"
    )
    rows = records.collect([tmp_path], "default")
    assert [(row.train_accuracy, row.val_loss) for row in rows.itertuples()] == [("", ""), ("0.98", "0.015")]
    records.add_to_csv(rows, tmp_path / "x" / "default.csv")
    assert records.read_csv(tmp_path / "x" / "default.csv").equals(rows)


def test_the_table_has_mean_spread_and_share(tmp_path: Path) -> None:
    for seed, accuracy in enumerate([0.9930, 0.9940, 0.9950]):
        leave(tmp_path / "runs" / str(seed), f"seed={seed}", last_accuracy=accuracy, best_accuracy=0.9955)
    records.add_to_csv(records.collect([tmp_path / "runs"], "default"), tmp_path / "default.csv")
    assert cells(records.table(tmp_path))[-1] == [
        *("`default`", "7,496", "15", "–", "–, 99.55 %", "**99.400** ± 0.100 %", "99.30 %"),
        "2 of 3 (95 %: 21–94 %)",  # 0.9940 is at the target
    ]


def test_the_command_collects_runs(cli: Callable[..., Finished], tmp_path: Path) -> None:
    leave(tmp_path / "runs" / "a", "optimizer.lr=0.1")
    done = cli("results", "collect", "x/default.csv", "runs")
    assert (done.status, done.out) == (0, "x/default.csv: 1 runs\n")
    assert records.read_csv(tmp_path / "x" / "default.csv").changed[0] == "optimizer.lr=0.1"
    empty = cli("results", "collect", "x.csv", "nothing", "--preset", "exp1")
    assert (empty.status, empty.err) == (2, "error: nothing: no finished run below; name the folder of a sweep\n")
    assert not (tmp_path / "x.csv").exists()


def test_the_front_names_what_none_smaller_beats(cli: Callable[..., Finished], tmp_path: Path) -> None:
    measured = {"default": (7496, [0.995, 0.996]), "rotation": (7496, [0.992, 0.993]), "tiny": (2496, [0.9935])}
    for preset, (params, accuracies) in measured.items():
        for seed, accuracy in enumerate(accuracies):
            leave(tmp_path / preset / str(seed), f"seed={seed}", last_accuracy=accuracy, params=params)
        records.add_to_csv(records.collect([tmp_path / preset], preset), tmp_path / "docs" / "results" / f"{preset}.csv")
    axes = records.front(tmp_path / "docs" / "results").axes[0]
    assert {text.get_text(): tuple(text.xy) for text in axes.texts} == {
        "default": (7496, pytest.approx(99.55)),
        "tiny": (2496, pytest.approx(99.35)),
    }
    done = cli("results", "front", "front.png")
    assert (done.status, done.err, (tmp_path / "front.png").read_bytes()[:4]) == (0, "", b"\x89PNG")


def test_without_results_there_is_no_front(cli: Callable[..., Finished], tmp_path: Path) -> None:
    done = cli("results", "front", "front.png")
    assert (done.status, "no CSV of a preset there" in done.err) == (2, True)
    assert not (tmp_path / "front.png").exists()


@pytest.mark.skipif(not (REPOSITORY / "README.md").exists(), reason="run outside a checkout")
def test_the_readme_has_the_table_of_the_results() -> None:
    rows = cells(records.table(REPOSITORY / "docs" / "results"))
    assert len(rows) == 1 + len(records.PRESETS)
    readme = cells((REPOSITORY / "README.md").read_text("utf-8"))
    assert all(row in readme for row in rows)
    committed = [path.stem for path in (REPOSITORY / "docs" / "results").glob("*.csv")]
    assert set(committed) - set(records.PRESETS) == {name for name in committed if name.startswith("search")}


def test_seeds_are_added_to_a_csv_and_never_replaced(tmp_path: Path) -> None:
    leave(tmp_path / "a", "seed=0")
    leave(tmp_path / "b", "seed=1")
    file = tmp_path / "default.csv"
    rows = records.collect([tmp_path], "default")
    assert [records.add_to_csv(added, file) for added in (rows[1:], rows[:1], rows[:1])] == [1, 2, 2]
    assert records.read_csv(file).equals(rows)
    again = rows[:1].assign(last_accuracy="0.999")
    with pytest.raises(ConfigError, match=r"default.csv: default seed=0 is there already with other figures; take its row out"):
        records.add_to_csv(again, file)
    assert records.read_csv(file).equals(rows)
