"""What TensorBoard shows of a run, read back from its event files by TensorBoard's own reader."""

import csv
import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer
from tensorboard.plugin_util import markdown_to_safe_html
from tensorboard.plugins.hparams.api_pb2 import Status
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from mnist_lightning.config.compose import compose_config
from mnist_lightning.evaluation.gate import Gate, GateError, NotMeasuredError
from mnist_lightning.training import dashboard, tensorboard
from mnist_lightning.training.fit import run
from mnist_lightning.training.signals import Interrupted
from tests.conftest import TINY, assert_same_weights, at_call, killed_at, throw

DRAWN = (*TINY, "pictures=last")
PICTURES = {"test/confusion_matrix", "test/worst_mistakes", "train/augmentation"}
PICTURES |= {"network/first_filters", "network/receptive_fields"}
CURVES = {"train/loss", "train/acc", "test/loss", "test/acc", "gap/acc", "target/acc", "lr", "seconds"}


def read(run_dir: Path) -> EventAccumulator:
    return EventAccumulator(str(run_dir), size_guidance={"images": 0}).Reload()


def steps(events: EventAccumulator, tag: str) -> list[int]:
    images = tag in events.Tags()["images"]
    return [event.step for event in (events.Images(tag) if images else events.Scalars(tag))]


def hparams(events: EventAccumulator) -> tuple[dict[str, Any], str] | None:
    """What the tab HPARAMS lists of a run, and how TensorBoard says that it ended; None for a run that it does not list."""
    tags = [f"_hparams_/session_{end}_info" for end in ("start", "end")]
    if not set(tags) & set(events.summary_metadata):
        return None
    start, end = (HParamsPluginData.FromString(events.SummaryMetadata(tag).plugin_data.content) for tag in tags)
    listed = {name: getattr(value, value.WhichOneof("kind")) for name, value in start.session_start_info.hparams.items()}
    return listed, Status.Name(end.session_end_info.status)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three epochs with its pictures."""
    directory = tmp_path_factory.mktemp("drawn") / "run"
    run(compose_config(*DRAWN, "trainer.max_epochs=3", "gate.min_accuracy=0.05"), directory)
    return directory


def test_every_curve_has_a_point_per_epoch(drawn: Path) -> None:
    events = read(drawn)
    rows = list(csv.DictReader((drawn / "metrics.csv").read_text("utf-8").splitlines()))
    # No curve of the epoch and no hp_metric, which Lightning adds by itself.
    assert {tag for tag in events.Tags()["scalars"] if not tag.startswith("Verdict/")} == CURVES
    for tag in CURVES - {"gap/acc", "target/acc"}:
        points = [(event.step, event.value) for event in events.Scalars(tag)]
        assert points == [(int(row["epoch"]), pytest.approx(float(row[tag]))) for row in rows]
    gaps = [event.value for event in events.Scalars("gap/acc")]
    assert gaps == pytest.approx([float(row["train/acc"]) - float(row["test/acc"]) for row in rows], abs=1e-6)
    assert set(events.Tags()["images"]) == PICTURES
    assert all(steps(events, tag) == [3] for tag in PICTURES)


def test_texts_and_the_graph_are_there_and_every_chart_has_its_curves(drawn: Path) -> None:
    events = read(drawn)
    [layers] = events.Tensors("layers/text_summary")
    assert re.search(r"Conv2d-1\s+8×26×26\s+3×3\s+1\s+0\s+3\s+1\s+72", layers.tensor_proto.string_val[0].decode())
    [config] = events.Tensors("config/text_summary")
    assert b"min_accuracy: 0.05" in config.tensor_proto.string_val[0]
    assert events.Graph().node
    assert events.Tensors("custom_scalars__config__")
    for pattern in tensorboard.CHARTS.values():
        assert [tag for tag in CURVES if re.search(pattern, tag)]


def test_hparams_have_the_configuration_and_the_results(drawn: Path) -> None:
    events, verdict = read(drawn), json.loads((drawn / "verdict.json").read_text("utf-8"))
    listed, status = hparams(events)  # type: ignore[misc]
    assert (listed["Status"], status, listed["model"], listed["optimizer.lr"]) == ("passed", "STATUS_SUCCESS", "Net3", 0.015)
    results = {tag: events.Scalars(tag)[-1].value for tag in events.Tags()["scalars"] if tag.startswith("Verdict/")}
    fields = ("best_accuracy", "last_accuracy", "epochs_to_target", "params", "seconds")
    names = ("best_acc", "last_acc", "epochs_to_target", "params", "seconds")
    assert results == {f"Verdict/{name}": pytest.approx(verdict[field]) for name, field in zip(names, fields, strict=True)}


@pytest.mark.parametrize("end", ["missed", "over the budget", "error", "interrupted"])
def test_only_a_run_that_passed_is_a_success(tmp_path: Path, end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if end == "missed":
        monkeypatch.setattr("mnist_lightning.data.datamodule.SyntheticDataModule.name", "MNIST")  # judged, then
        run(compose_config(*TINY, "gate.min_accuracy=1", "gate.on_miss=warn"), tmp_path)
    elif end == "over the budget":
        with pytest.raises(GateError):
            run(compose_config(*TINY, "model=net1"), tmp_path)
    elif end == "error":
        with pytest.raises(ArithmeticError):
            run(compose_config(*TINY, "optimizer.lr=1e30"), tmp_path)
    else:
        with at_call(3, lambda: throw(Interrupted(signal.SIGINT))), pytest.raises(Interrupted):
            run(compose_config(*TINY), tmp_path)
    listed, status = hparams(read(tmp_path))  # type: ignore[misc]
    assert (listed["Status"], status) == ("missed" if end == "over the budget" else end, "STATUS_FAILURE")


@pytest.mark.parametrize("epoch", [2, pytest.param(3, marks=pytest.mark.slow)], ids=["before a checkpoint", "and pictures"])
def test_a_resumed_run_has_one_history(tmp_path: Path, epoch: int) -> None:
    """What an epoch logged is in the file before its checkpoint; what is logged again takes its place."""
    three = (*DRAWN, "trainer.max_epochs=3")
    with killed_at(epoch, "on_train_epoch_end", Gate):  # called after the dashboard's
        run(compose_config(*three), tmp_path)
    assert steps(read(tmp_path), "test/acc") == list(range(1, epoch + 1))
    assert hparams(read(tmp_path)) is None  # a run that was killed has no status
    verdict = run(compose_config(*three, "resume=true"), tmp_path)
    events = read(tmp_path)
    assert all(steps(events, tag) == [1, 2, 3] for tag in CURVES)
    assert all(steps(events, tag) == [3] for tag in PICTURES)
    assert len(events.Tensors("config/text_summary")) == 1
    assert verdict.seconds > sum(event.value for event in events.Scalars("seconds"))
    assert hparams(events) is not None


@pytest.mark.slow
def test_an_interrupted_run_that_goes_on_is_listed_as_it_ended_at_last(tmp_path: Path) -> None:
    with at_call(7, lambda: throw(Interrupted(signal.SIGINT))), pytest.raises(Interrupted):
        run(compose_config(*TINY, "trainer.max_epochs=2"), tmp_path)
    run(compose_config(*TINY, "trainer.max_epochs=2", "resume=true"), tmp_path)
    assert hparams(read(tmp_path))[1] == "STATUS_SUCCESS"  # type: ignore[index]


@pytest.mark.slow
def test_with_a_hold_out_the_pictures_are_of_the_test_images_and_come_once(tmp_path: Path) -> None:
    """Also of a run that was killed after the test and before its verdict."""
    options = (*DRAWN, "data.val_images=50", "trainer.max_epochs=2", "gate.on_miss=warn")
    with killed_at(1, "on_test_end", Gate):
        run(compose_config(*options), tmp_path)
    run(compose_config(*options, "resume=true"), tmp_path)
    events = read(tmp_path)
    assert steps(events, "val/acc") == [1, 2]
    assert all(steps(events, tag) == [3] for tag in (*PICTURES, "test/acc", "test/loss"))


@pytest.mark.slow
def test_pictures_of_every_epoch_do_not_touch_training(tmp_path: Path) -> None:
    for pictures in ("every", "none"):
        run(compose_config(*TINY, "trainer.max_epochs=2", f"pictures={pictures}"), tmp_path / pictures)
    events = read(tmp_path / "every")
    assert all(steps(events, tag) == [1, 2] for tag in PICTURES)
    assert read(tmp_path / "none").Tags()["images"] == []
    assert_same_weights(tmp_path / "every", tmp_path / "none")


@pytest.mark.parametrize(
    "end",
    [
        ("+trainer.max_steps=10",),  # of 5 an epoch
        ("callbacks=early_stopping", "callbacks.early_stopping.min_delta=1", "callbacks.early_stopping.patience=1"),
    ],
    ids=["max_steps", "EarlyStopping"],
)
def test_a_run_that_ends_early_has_the_pictures_of_its_last_epoch(tmp_path: Path, end: tuple[str, ...]) -> None:
    run(compose_config(*DRAWN, *end, "trainer.max_epochs=9", "gate.on_miss=warn"), tmp_path)
    assert all(steps(read(tmp_path), tag) == [2] for tag in PICTURES)


@pytest.mark.filterwarnings("ignore:.*could not find the monitored key")
def test_an_epoch_without_an_evaluation_has_no_gap_and_no_pictures(tmp_path: Path) -> None:
    with pytest.raises(NotMeasuredError):
        run(compose_config(*DRAWN, "+trainer.limit_val_batches=0", "gate.on_miss=warn"), tmp_path)
    assert {tag for tag in read(tmp_path).Tags()["scalars"] if "/acc" in tag} == {"train/acc"}
    assert read(tmp_path).Tags()["images"] == []


@pytest.mark.slow
def test_what_was_set_aside_is_no_run(tmp_path: Path) -> None:
    run(compose_config(*TINY), tmp_path / "a")
    (tmp_path / "a" / "verdict.json").write_text("{", "utf-8")
    run(compose_config(*TINY, "resume=true"), tmp_path / "a")
    assert list((tmp_path / "a" / "set-aside-1").glob("events.*"))
    assert list(EventMultiplexer().AddRunsFromDirectory(str(tmp_path)).Reload().Runs()) == ["a"]


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", "# no heading", "```", "a | b\n--|--\n1 | 2", "\n\n*x*", "`x`"])
def test_text_is_shown_as_it_is(text: str) -> None:
    html = markdown_to_safe_html(tensorboard._as_code(f"key: 1\n{text}\n"))
    assert re.fullmatch(r"<pre><code>[^<>]*</code></pre>", html)


def test_processes_are_put_back_in_the_order_of_the_images(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = torch.arange(14).view(7, 2)
    monkeypatch.setattr(dashboard, "gather_all_tensors", lambda part: [whole[rank::3] for rank in range(3)])
    assert torch.equal(dashboard._of_all_processes(whole[::3], 3), whole)
