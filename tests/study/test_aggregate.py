"""Runs put together: seeds averaged, configurations told apart by everything that is in them, in figures worked out by hand."""

import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from mnist_lightning.config.errors import ConfigError
from mnist_lightning.evaluation.run_directories import Run
from mnist_lightning.study.aggregate import aggregate, cut, escape_markdown, markdown, mean_sd, resolve_keys, short_names


def run(accuracy: float = 0.99, status: str = "passed", params: int | None = 7496, **config: object) -> Run:
    values: dict[str, object] = {"seed": 0, "model._target_": "a.Net", "optimizer.lr": 0.1}
    figures = {"accuracy": accuracy, "best_accuracy": accuracy, "last_accuracy": accuracy, "epoch_split": "test"}
    more = {"status": status, "params": params, "seconds": 1.0, "accuracy_judged": True}
    return Run(Path("x"), status, values | {key.replace("__", "."): value for key, value in config.items()}, figures | more)


def told_apart(*runs: Run) -> list[dict[str, str]]:
    return sorted(aggregate(runs).label, key=str)


def test_seeds_of_one_configuration_are_one_row() -> None:
    runs = [run(0.9, seed=0), run(0.8, "missed", seed=1), run(math.nan, "error", params=None, seed=2)]
    [row] = aggregate(runs).itertuples()
    assert (row.n, row.judged, row.passed, row.params) == (2, 2, 1, 7496)
    assert (row.accuracy, row.best) == (pytest.approx(0.85), 0.9)
    assert row.runs == runs
    assert row.label == {}


def test_networks_of_one_class_name_are_told_apart_by_their_import_path() -> None:
    runs = [run(model___target_=f"{module}.Net", seed=seed) for module in ("mine", "yours") for seed in (0, 1)]
    assert told_apart(*runs) == [{"model": "mine.Net"}, {"model": "yours.Net"}]


def test_a_network_whose_code_was_changed_is_told_apart_by_its_parameters() -> None:
    runs = [run(params=7496), run(params=7496, seed=1), run(params=10_970, seed=2)]
    assert told_apart(*runs) == [{"params": "10,970"}, {"params": "7,496"}]


def test_equal_numbers_are_one_value_however_they_were_typed() -> None:
    assert len(aggregate([run(a__p=0), run(a__p=0.0, seed=1)])) == 1


def test_a_swapped_network_is_one_column_not_its_widths_too() -> None:
    runs = [run(model___target_="m.Net2", model__dropout=0.05), run(model___target_="m.Net3", model__dropout=0.025)]
    assert told_apart(*runs) == [{"model": "Net2"}, {"model": "Net3"}]
    more = run(model___target_="m.Net3", model__dropout=0.1)
    assert told_apart(*runs, more)[1:] == [{"model": "Net3", "dropout": "0.025"}, {"model": "Net3", "dropout": "0.1"}]


def test_a_key_that_only_some_runs_have_tells_them_apart() -> None:
    runs = [
        run(a__kind="constant"),
        *(run(a__kind="linear", a__warmup=warmup) for warmup in (0.1, 0.2)),
    ]
    assert [tuple(label.values()) for label in told_apart(*runs)] == [("constant", "–"), ("linear", "0.1"), ("linear", "0.2")]


def test_columns_of_one_name_keep_their_groups() -> None:
    assert short_names(["augmentation.degrees", "other.degrees", "optimizer.lr"]) == {
        "augmentation.degrees": "augmentation.degrees",
        "other.degrees": "other.degrees",
        "optimizer.lr": "lr",
    }


def test_keys_are_found_by_short_name_or_refused() -> None:
    runs = [run(), run(optimizer__lr=0.2, b___target_="s")]
    assert resolve_keys(["lr", "model", "seed"], runs) == ["optimizer.lr", "model._target_", "seed"]
    for typed, rule in (
        ("nosuch", "is in no run's configuration"),
        ("_target_", "stands for model._target_, b._target_"),
    ):
        with pytest.raises(ConfigError, match=f"--group-by {typed}: {typed} {rule}; what varies between these runs: lr, "):
            resolve_keys([typed], runs)


@pytest.mark.parametrize(
    ("fractions", "text"),
    [([0.99, 0.991, 0.992], "99.10 ± 0.10"), ([0.994], "99.40"), ([None, 0.99, math.nan], "99.00"), ([], ""), ([None], "")],
)
def test_a_mean_has_its_spread_and_nan_is_never_shown(fractions: Sequence[float | None], text: str) -> None:
    assert mean_sd(fractions) == text


def test_a_table_keeps_its_text_and_markdown_finds_no_markup_in_it() -> None:
    rows = [{"a": "0.10", "b": "1e-3|*x*"}, {"a": "", "b": "\x1b[2J"}]
    assert [line.split() for line in markdown(rows).splitlines()[2:]] == [
        ["|", "0.10", "|", "1e-3|*x*", "|"],  # numbers as they are
        ["|", "|", "\\x1b[2J", "|"],
    ]
    assert r"1e-3\|\*x\*" in markdown(rows, escape_markdown)


def test_long_lists_are_cut() -> None:
    assert (cut(["a"]), cut(list("abcdefg"))) == ("a", "a, b, c, d, e and 2 more")
