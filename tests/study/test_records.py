"""Finished runs become rows, rows become the README's table."""

import csv
import re
from pathlib import Path

import pytest

from mnist_lightning.config.errors import ConfigError
from mnist_lightning.study import records
from tests.conftest import TINY, finish, leave_run, spawn

REPOSITORY = Path(__file__).resolve().parents[1]


def test_a_row_names_what_a_run_changed(tmp_path: Path) -> None:
    leave_run(tmp_path / "b", "seed=1")
    leave_run(tmp_path / "a", "seed=0", "data.root=/elsewhere", "gate.on_miss=warn", "trainer.accelerator=cpu")
    leave_run(tmp_path / "c", "optimizer.momentum=0.95", "augmentation.scale=[0.8,1.2]", epoch_split="val")
    rows = records.collect([tmp_path], "default")
    assert [(row.changed, row.seed) for row in rows] == [
        ("", 0),
        ("", 1),
        ("optimizer.momentum=0.95 augmentation.scale=[0.8,1.2]", 0),
    ]
    assert (rows[0].last_accuracy, rows[0].best_accuracy, rows[0].val_accuracy) == (0.994, 0.995, None)
    assert (rows[2].last_accuracy, rows[2].best_accuracy, rows[2].val_accuracy) == (None, None, 0.994)
    assert (rows[0].preset, rows[0].device, rows[0].git, rows[0].seconds) == ("default", "a processor", "abc", 100.0)


def test_a_preset_is_the_starting_point(tmp_path: Path) -> None:
    leave_run(tmp_path / "a", "experiment=exp1")
    assert records.collect([tmp_path], "exp1")[0].changed == ""
    assert "model._target_=mnist_lightning.models.Net1" in records.collect([tmp_path], "default")[0].changed
    with pytest.raises(ConfigError, match=r"preset nosuch: must be one of default, .*exp1"):
        records.collect([tmp_path], "nosuch")


def test_unfinished_and_broken_runs_are_named_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    leave_run(tmp_path / "good")
    leave_run(tmp_path / "crashed", status="error")
    (leave_run(tmp_path / "cut") / "verdict.json").write_text('{"status": "pas', "utf-8")
    (leave_run(tmp_path / "running") / "verdict.json").unlink()
    assert len(records.collect([tmp_path], "default")) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [re.search(r"/(\w+): left out", line)[1] for line in lines] == ["crashed", "cut", "running"]
    assert all((tmp_path / name / "config.yaml").exists() for name in ("crashed", "cut", "running"))


def test_csv_gives_back_the_same_rows(tmp_path: Path) -> None:
    leave_run(tmp_path / "a")
    leave_run(tmp_path / "b", epoch_split="val")
    (tmp_path / "b" / "metrics.csv").write_text(
        "epoch,train/acc,val/loss\n" + "".join(f"{epoch},0.98,0.0{epoch:02}\n" for epoch in range(1, 16)), "utf-8"
    )
    rows = records.collect([tmp_path], "default")
    assert [(row.train_accuracy, row.val_loss) for row in rows] == [(None, None), (0.98, 0.015)]
    records.write_csv(rows, tmp_path / "x" / "default.csv")
    assert records.read_csv(tmp_path / "x" / "default.csv") == rows


def test_the_table_has_mean_spread_and_share(tmp_path: Path) -> None:
    for seed, accuracy in enumerate([0.9930, 0.9940, 0.9950]):
        leave_run(tmp_path / "runs" / str(seed), f"seed={seed}", last_accuracy=accuracy, best_accuracy=0.9955)
    records.write_csv(records.collect([tmp_path / "runs"], "default"), tmp_path / "default.csv")
    row = records.table(tmp_path).splitlines()[-1]
    assert row == (
        "| `default` | 7,496 | 15 | – | –, 99.55 % | **99.400** ± 0.100 % | 99.30 % | 2 of 3 (95 %: 21–94 %) |"
    )  # 0.9940 is at the target


@pytest.mark.slow
def test_command_collects_real_runs(tmp_path: Path) -> None:
    assert finish(spawn(*TINY, "gate.on_miss=warn", "hydra.run.dir=run", cwd=tmp_path)).status == 0
    done = finish(spawn("collect", "default.csv", "run", cwd=tmp_path, module="mnist_lightning.study.records"))
    assert (done.status, done.out) == (0, "default.csv: 1 runs\n")
    with (tmp_path / "default.csv").open(encoding="utf-8") as file:
        [row] = csv.DictReader(file)
    assert row["device"].endswith("1 thread")
    assert "data.train_images" in row["changed"]
    empty = finish(
        spawn("collect", "x.csv", "nothing", "--preset", "exp1", cwd=tmp_path, module="mnist_lightning.study.records")
    )
    assert (empty.status, empty.err) == (2, "error: nothing: no finished run below; name the folder of a sweep\n")
    assert not (tmp_path / "x.csv").exists()


@pytest.mark.skipif(not (REPOSITORY / "README.md").exists(), reason="run outside a checkout")
def test_the_readme_has_the_table_of_the_results() -> None:
    assert records.table(REPOSITORY / "results") in (REPOSITORY / "README.md").read_text("utf-8")
    committed = [path.stem for path in (REPOSITORY / "results").glob("*.csv")]
    assert set(committed) - set(records.PRESETS) == {name for name in committed if name.startswith("search")}


def test_seeds_are_added_to_a_csv_and_never_replaced(tmp_path: Path) -> None:
    leave_run(tmp_path / "a", "seed=0")
    leave_run(tmp_path / "b", "seed=1")
    file = tmp_path / "default.csv"
    first, second = records.collect([tmp_path], "default")
    assert [records.add_to_csv([second], file), records.add_to_csv([first], file), records.add_to_csv([first], file)] == [
        1,
        2,
        2,
    ]
    assert records.read_csv(file) == [first, second]
    first.last_accuracy = 0.999
    with pytest.raises(ConfigError, match=r"default.csv: default seed=0 is there already with other figures; take its row out"):
        records.add_to_csv([first], file)
    assert records.read_csv(file)[0].last_accuracy == 0.994
