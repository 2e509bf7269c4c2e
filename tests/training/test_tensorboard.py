"""What TensorBoard shows, read back by TensorBoard itself: from event files, and from a running server."""

import csv
import json
import re
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer
from tensorboard.plugin_util import markdown_to_safe_html
from torch import Tensor, nn

from mnist_lightning.config.compose import compose_config
from mnist_lightning.evaluation.gate import Gate, GateError
from mnist_lightning.models import Net3
from mnist_lightning.training import fit, tensorboard
from mnist_lightning.training.events import EventWriter
from mnist_lightning.training.fit import run
from mnist_lightning.training.lit_module import LitClassifier
from mnist_lightning.training.signals import Interrupted
from tests.conftest import TINY, leave_run

DRAWN = (*TINY, "pictures=last")
PICTURES = {"test/confusion_matrix", "test/worst_mistakes", "train/augmentation"}
PICTURES |= {"network/first_filters", "network/receptive_fields"}
CURVES = {"train/loss", "train/acc", "test/loss", "test/acc", "gap/acc", "target/acc", "lr", "seconds"}


def read(run_dir: Path) -> EventAccumulator:
    return EventAccumulator(str(run_dir), size_guidance={"images": 0}).Reload()


def steps(events: EventAccumulator, tag: str) -> list[int]:
    images = tag in events.Tags()["images"]
    return [event.step for event in (events.Images(tag) if images else events.Scalars(tag))]


class Killed(BaseException):
    """Stands for what gives a run no time to clean up."""


@contextmanager
def ended_by(error: BaseException, owner: type, method: str, number: int) -> Iterator[None]:
    """Lets the given call of a method, counted from 1, end the run instead; killed runs leave no verdict."""
    calls = 0
    original: Callable[..., Any] = getattr(owner, method)

    def dying(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number:
            raise error
        return original(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, method, dying)
        if isinstance(error, Killed):
            patch.setattr(fit.Verdict, "write", lambda *args: None)
            patch.setattr(fit, "record", lambda *args: None)
        with pytest.raises(type(error)):
            yield


# --- event files --------------------------------------------------------------------------------------------------------


def test_every_curve_has_a_point_per_epoch(tmp_path: Path) -> None:
    run(compose_config(*DRAWN, "trainer.max_epochs=3"), tmp_path)
    events = read(tmp_path)
    with (tmp_path / "metrics.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {tag for tag in events.Tags()["scalars"] if not tag.startswith("Verdict/")} == CURVES
    for tag in CURVES - {"gap/acc", "target/acc"}:
        points = [(event.step, event.value) for event in events.Scalars(tag)]
        assert points == [(int(row["epoch"]), pytest.approx(float(row[tag]))) for row in rows]
    gaps = [event.value for event in events.Scalars("gap/acc")]
    assert gaps == pytest.approx([float(row["train/acc"]) - float(row["test/acc"]) for row in rows], abs=1e-6)
    assert [event.value for event in events.Scalars("target/acc")] == pytest.approx([0.994] * 3)
    assert set(events.Tags()["images"]) == PICTURES
    assert all(steps(events, tag) == [3] for tag in PICTURES)


def test_pictures_of_every_epoch_do_not_touch_training(tmp_path: Path) -> None:
    for pictures in ("every", "none"):
        run(compose_config(*TINY, "trainer.max_epochs=2", f"pictures={pictures}"), tmp_path / pictures)
    events = read(tmp_path / "every")
    assert all(steps(events, tag) == [1, 2] for tag in PICTURES)
    assert read(tmp_path / "none").Tags()["images"] == []
    states = [torch.load(tmp_path / p / "last.ckpt", weights_only=True)["state_dict"] for p in ("every", "none")]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.filterwarnings("ignore:.*could not find the monitored key")
def test_an_epoch_without_an_evaluation_has_no_gap_and_no_pictures(tmp_path: Path) -> None:
    run(compose_config(*DRAWN, "+trainer.limit_val_batches=0", "gate.on_miss=warn"), tmp_path)
    events = read(tmp_path)
    assert {tag for tag in events.Tags()["scalars"] if "/acc" in tag} == {"train/acc"}
    assert events.Tags()["images"] == []


def test_with_a_hold_out_the_pictures_are_of_the_test_images_and_come_once(tmp_path: Path) -> None:
    """Also of a run that was killed after the test and before its verdict."""
    options = (*DRAWN, "data.val_images=50", "trainer.max_epochs=2", "gate.on_miss=warn")
    with ended_by(Killed(), Gate, "on_test_end", 1):
        run(compose_config(*options), tmp_path)
    run(compose_config(*options, "resume=true"), tmp_path)
    events = read(tmp_path)
    assert steps(events, "val/acc") == [1, 2]
    assert all(steps(events, tag) == [3] for tag in (*PICTURES, "test/acc", "test/loss"))


@pytest.mark.parametrize("epoch", [2, 3], ids=["between an epoch's points and its checkpoint", "and its pictures"])
def test_a_resumed_run_has_one_history(tmp_path: Path, epoch: int) -> None:
    three = (*DRAWN, "trainer.max_epochs=3")
    with ended_by(Killed(), Gate, "on_train_epoch_end", epoch):  # called after the dashboard's
        run(compose_config(*three), tmp_path)
    assert steps(read(tmp_path), "test/acc") == list(range(1, epoch + 1))
    assert hparams_tags(tmp_path) == set()
    verdict = run(compose_config(*three, "resume=true"), tmp_path)
    events = read(tmp_path)
    assert all(steps(events, tag) == [1, 2, 3] for tag in CURVES)
    assert all(steps(events, tag) == [3] for tag in PICTURES)
    assert len(events.Tensors("config/text_summary")) == 1
    assert verdict.seconds > sum(event.value for event in events.Scalars("seconds"))
    assert hparams_tags(tmp_path) == {"_hparams_/session_start_info", "_hparams_/session_end_info"}


def hparams_tags(run_dir: Path) -> set[str]:
    return {tag for tag in read(run_dir).summary_metadata if tag.startswith("_hparams_")}


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
    monkeypatch.setattr(tensorboard, "gather_all_tensors", lambda part: [whole[rank::3] for rank in range(3)])
    assert torch.equal(tensorboard._of_all_processes(whole[::3], 3), whole)


# --- a running server ---------------------------------------------------------------------------------------------------


class Server:
    """`tensorboard --logdir DIR` in a process of its own, asked over HTTP as its pages ask it."""

    def __init__(self, logdir: Path) -> None:
        command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(logdir), "--port", "0", "--host", "127.0.0.1"]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        assert self.process.stderr is not None
        found = None
        while found is None:
            line = self.process.stderr.readline()
            assert line, "the server ended"
            found = re.search(r"at (http://\S+?)/? ", line)
        self.address = found[1]

    def get(self, path: str, **query: str) -> Any:
        return self._ask(f"{self.address}/data/{path}?{urllib.parse.urlencode(query)}", None)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        return self._ask(f"{self.address}/data/{path}", json.dumps(body).encode())

    def _ask(self, url: str, body: bytes | None) -> Any:
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)


RUNS = {"sweeps/a/lr=0.01": "passed", "sweeps/a/lr=0.02": "missed", "net1/seed=0": "missed", "net3/crash": "error"}
RUNS |= {"net3/stopped": "interrupted", "net3/resumed": "passed"}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs that ended in every way."""
    folder = tmp_path_factory.mktemp("outputs")
    run(
        compose_config(*DRAWN, "trainer.max_epochs=2", "optimizer.lr=0.01", "gate.min_accuracy=0.05"),
        folder / "sweeps/a/lr=0.01",
    )
    leave_run(folder / "eventless")  # without events: no run for TensorBoard
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Gate, "_accuracy_judged", lambda self: True)
        run(compose_config(*TINY, "optimizer.lr=0.02", "gate.min_accuracy=1", "gate.on_miss=warn"), folder / "sweeps/a/lr=0.02")
    with pytest.raises(GateError):
        run(compose_config(*TINY, "model=net1"), folder / "net1/seed=0")
    with pytest.raises(ArithmeticError):
        run(compose_config(*TINY, "optimizer.lr=1e30"), folder / "net3/crash")
    for name in ("stopped", "resumed"):
        with ended_by(Interrupted(signal.SIGINT), LitClassifier, "training_step", 7):
            run(compose_config(*TINY, "trainer.max_epochs=2"), folder / "net3" / name)
    run(compose_config(*TINY, "trainer.max_epochs=2", "resume=true"), folder / "net3/resumed")
    return folder


@pytest.fixture(scope="module")
def server(outputs: Path) -> Iterator[Server]:
    running = Server(outputs)
    try:
        deadline = time.monotonic() + 60
        while len(hparams(running)) < len(RUNS):  # files are read in the background
            assert time.monotonic() < deadline, f"shown are only {sorted(hparams(running))}"
            time.sleep(0.2)
        yield running
    finally:
        running.process.terminate()
        running.process.communicate()


def hparams(server: Server) -> dict[str, Any]:
    """The sessions of the tab HPARAMS by run."""
    statuses = ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"]
    page = {"allowedStatuses": statuses, "startIndex": 0, "sliceSize": 100, "colParams": []}
    return {group["name"]: group for group in server.post("plugin/hparams/session_groups", page).get("sessionGroups", [])}


def test_only_runs_are_shown_as_runs(server: Server) -> None:
    assert set(server.get("runs")) == set(RUNS)


def test_hparams_tell_how_each_run_ended(server: Server) -> None:
    groups = hparams(server)
    assert {name: group["hparams"]["Status"] for name, group in groups.items()} == RUNS
    statuses = {name: group["sessions"][0]["status"] for name, group in groups.items()}
    assert statuses == {name: "STATUS_SUCCESS" if RUNS[name] == "passed" else "STATUS_FAILURE" for name in RUNS}
    assert groups["sweeps/a/lr=0.02"]["hparams"]["optimizer.lr"] == 0.02
    assert groups["net1/seed=0"]["hparams"]["model"] == "Net1"


def test_hparams_have_the_results(server: Server, outputs: Path) -> None:
    columns = [metric["name"]["tag"] for metric in server.post("plugin/hparams/experiment", {})["metricInfos"]]
    results = ["best_acc", "epochs_to_target", "last_acc", "params", "seconds"]
    assert columns[:5] == [f"Verdict/{name}" for name in results]  # as many as are shown unasked

    def measured(name: str) -> dict[str, float]:
        values = hparams(server)[name]["sessions"][0]["metricValues"]
        found = {value["name"]["tag"]: value.get("value", 0) for value in values}
        return {name: found[f"Verdict/{name}"] for name in results if f"Verdict/{name}" in found}

    verdict = json.loads((outputs / "sweeps/a/lr=0.01/verdict.json").read_text("utf-8"))
    assert verdict["epochs_to_target"] in (1, 2)
    assert measured("sweeps/a/lr=0.01") == {
        "best_acc": pytest.approx(verdict["best_accuracy"]),
        "epochs_to_target": verdict["epochs_to_target"],
        "last_acc": pytest.approx(verdict["last_accuracy"]),
        "params": 7496,
        "seconds": pytest.approx(verdict["seconds"], abs=1e-3),
    }
    assert set(measured("sweeps/a/lr=0.02")) == {"best_acc", "last_acc", "params", "seconds"}  # never at the target
    assert measured("net1/seed=0") == {"params": 10970, "seconds": 0}  # over the budget before the first step
    assert set(measured("net3/crash")) == {"params", "seconds"}
    assert measured("net3/crash")["seconds"] > 0


def test_train_and_test_are_on_one_chart(server: Server) -> None:
    [category] = server.get("plugin/custom_scalars/layout")["category"]
    patterns = {chart["title"]: chart["multiline"]["tag"] for chart in category["chart"]}

    def curves(title: str, name: str) -> dict[str, list[float]]:
        [pattern] = patterns[title]
        return server.get("plugin/custom_scalars/scalars", run=name, tag=pattern)["tag_to_events"]

    shown = curves("accuracy: train, evaluation, target", "sweeps/a/lr=0.01")
    assert set(shown) == {"train/acc", "test/acc", "target/acc"}
    assert [step for _, step, _ in shown["test/acc"]] == [1, 2]
    assert set(curves("loss: train, evaluation", "sweeps/a/lr=0.01")) == {"train/loss", "test/loss"}
    assert all(curves(title, "sweeps/a/lr=0.01") for title in patterns)  # none is empty
    resumed = curves("accuracy: train, evaluation, target", "net3/resumed")
    assert {name: [step for _, step, _ in points] for name, points in resumed.items()} == {key: [1, 2] for key in shown}


def test_images_texts_and_the_graph_are_served(server: Server) -> None:
    name = "sweeps/a/lr=0.01"
    assert {tag: tags["samples"] for tag, tags in server.get("plugin/images/tags")[name].items()} == dict.fromkeys(PICTURES, 1)
    [image] = server.get("plugin/images/images", run=name, tag="test/confusion_matrix", sample="0")
    assert image["step"] == 2
    [layers] = server.get("plugin/text/text", run=name, tag="layers/text_summary")
    assert re.search(r"Conv2d-1\s+8×26×26\s+3×3\s+1\s+0\s+3\s+1\s+72", layers["text"])
    [config] = server.get("plugin/text/text", run=name, tag="config/text_summary")
    assert "lr: 0.01" in config["text"]
    [verdict] = server.get("plugin/text/text", run="net3/crash", tag="verdict/text_summary")
    assert "NonFiniteLossError: the training loss is nan" in verdict["text"]
    assert server.get("plugin/graphs/info")[name]["run_graph"]


def test_a_network_is_traced_once_for_all_jobs_of_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch keeps 5 MB of every graph that it traces."""
    traced: list[nn.Module] = []
    original = tensorboard.graph

    def trace(net: nn.Module, images: Tensor) -> Any:
        traced.append(net)
        return original(net, images)

    monkeypatch.setattr(tensorboard, "graph", trace)
    monkeypatch.setattr(tensorboard, "_graphs", {})
    for job, configuration in enumerate(("net3", "net3", "net2")):
        writer = EventWriter(tmp_path / str(job))
        tensorboard._add_graph(writer, Net3(), configuration)
        writer.close()
        assert EventAccumulator(str(tmp_path / str(job))).Reload().Graph().node
    assert len(traced) == 2
