"""The verdict's text and its file."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from mnist_lightning.evaluation.verdict import Verdict


def verdict(**fields: Any) -> Verdict:
    defaults: dict[str, Any] = {
        "status": "passed",
        "passed": True,
        "reasons": [],
        "rule": "last",
        "accuracy": 0.9943,
        "best_accuracy": 0.9945,
        "best_epoch": 12,
        "last_accuracy": 0.9943,
        "epoch_split": "test",
        "interval_95": (0.9926, 0.9956),
        "test_images": 10_000,
        "selected_on_test": False,
        "accuracy_judged": True,
        "params": 7496,
        "max_params": 8000,
        "min_accuracy": 0.994,
        "within_epochs": 15,
        "on_miss": "fail",
        "model": "net3",
        "seed": 0,
        "dataset": "MNIST",
        "epochs": 15,
        "seconds": 300.4,
    }
    return Verdict(**(defaults | fields))


def test_text_says_all_that_a_reader_must_know() -> None:
    text = verdict().text()
    for part in (
        "PASSED  net3 on MNIST, seed 0, 15 epochs, 300 s",
        "99.43 % test accuracy by the rule 'last'",
        "95 % interval 99.26 to 99.56 % on 10,000 images",
        "target 99.40 % within 15 epochs",
        "best test accuracy 99.45 % (epoch 12), last 99.43 % (epoch 15)",
        "7,496, budget fewer than 8,000: 503 to spare",
        "not used to select anything",
    ):
        assert part in text


def test_text_of_an_optimistic_choice() -> None:
    assert "used to select the epoch: the accuracy is optimistic" in verdict(rule="best", selected_on_test=True).text()


def test_text_with_a_hold_out() -> None:
    text = verdict(epoch_split="val", rule="selected").text()
    assert "best hold-out accuracy 99.45 %" in text
    assert "measured once, at the end; not used to select anything" in text


def test_text_on_other_data_says_that_it_does_not_judge() -> None:
    text = verdict(dataset="synthetic", accuracy_judged=False).text()
    assert text.startswith("NOT JUDGED  net3 on synthetic, seed 0")
    assert "not judged: the target of 99.40 % is for MNIST, not for synthetic" in text


def test_text_of_a_budget_miss_has_no_accuracy() -> None:
    missed = {"status": "missed", "passed": False, "reasons": ["net1 has 10,970 trainable parameters"], "params": 10_970}
    unmeasured = dict.fromkeys(("accuracy", "best_accuracy", "best_epoch", "last_accuracy", "interval_95"))
    text = verdict(**missed, **unmeasured, epochs=0).text()
    assert "MISSED" in text
    assert "reason      net1 has 10,970 trainable parameters" in text
    assert "10,970, budget fewer than 8,000: 2,971 too many" in text
    assert "accuracy    not measured" in text
    assert "test set" not in text


def test_file_holds_every_field_and_no_leftover(tmp_path: Path) -> None:
    path = tmp_path / "verdict.json"
    written = verdict()
    written.write(path)
    read = json.loads(path.read_text("utf-8"))
    assert read == json.loads(json.dumps(dataclasses.asdict(written)))
    assert [p.name for p in tmp_path.iterdir()] == ["verdict.json"]


def test_every_size_with_a_limit_is_told_and_must_be_known() -> None:
    limits = {"max_multiply_adds": 1_050_000, "max_activation_bytes": 60_000, "max_file_bytes": 20_000}
    sizes = {"multiply_adds": 1_031_808, "activation_bytes": 58_496, "file_bytes": 19_999}
    known = verdict(**limits, **sizes)
    assert known.passed
    assert known.text().splitlines()[4:7] == [
        "  operations  1,031,808 multiply-adds, budget fewer than 1,050,000: 18,191 to spare",
        "  memory      58,496 bytes of activations, budget fewer than 60,000: 1,503 to spare",
        "  file        19,999 bytes as a file, budget fewer than 20,000: 0 to spare",
    ]
    assert "<tr><th>memory</th><td>58,496 bytes of activations, " in known._repr_html_()
    for size, unit in (("multiply_adds", "multiply-adds"), ("file_bytes", "bytes as a file")):
        unknown = verdict(**limits, **(sizes | {size: None}))
        assert (unknown.status, unknown.reasons) == ("error", [f"the {unit} were not counted"])


@pytest.mark.parametrize(
    ("params", "count", "line"),
    [
        (7496, "trainable", "7,496 trainable, 68,000 frozen; budget fewer than 8,000 trainable: 503 to spare"),
        (75_496, "all", "75,496, 68,000 of them frozen; budget fewer than 8,000 in all: 67,497 too many"),
    ],
)
def test_frozen_parameters_are_told_beside_the_others(params: int, count: str, line: str) -> None:
    assert f"  parameters  {line}" in verdict(params=params, frozen_params=68_000, count=count).text().splitlines()
