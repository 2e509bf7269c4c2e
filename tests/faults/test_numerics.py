"""Numbers that are none, in weights, losses and accuracies, and data without sense: a run stops and says where, or trains."""

import json
import math
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mnist_lightning.config.build import build
from mnist_lightning.config.check import check
from mnist_lightning.config.compose import compose_config
from mnist_lightning.config.errors import ConfigError
from mnist_lightning.data.batches import Batch, IndexBatches, InMemoryImages, num_training_batches
from mnist_lightning.data.datamodule import DigitsDataModule, SyntheticDataModule
from mnist_lightning.evaluation.gate import RULES, GateError, NotMeasuredError
from mnist_lightning.evaluation.verdict import Verdict
from mnist_lightning.training import cuda_graph
from mnist_lightning.training.cuda_graph import GraphedClassifier
from mnist_lightning.training.fit import run
from mnist_lightning.training.lit_module import LitClassifier, NonFiniteLossError
from mnist_lightning.training.schedules import Schedule
from tests.conftest import Finished, quiet_trainer, read_verdict, read_weights
from tests.evaluation.test_gate import Stub, run_gate
from tests.faults.conftest import Trials

EPOCHS, STEPS = 3, 5
SMALL = ("data=synthetic", "data.train_images=160", "data.test_images=40", "data.batch_size=32", "pictures=none")
SMALL += (f"trainer.max_epochs={EPOCHS}", "trainer.accelerator=cpu", "augmentation=none")
WHERE = re.compile(
    r"^the (training|test|val) loss is (nan|inf) (at|after) epoch (\d+), (after )?step (\d+)\b.*; lower optimizer\.lr"
)


def outcome(directory: Path, *overrides: str) -> tuple[Verdict | None, int, int]:
    """A run's verdict, or None and the epoch and step that its error names."""
    try:
        return run(compose_config(*SMALL, *overrides), directory), 0, 0
    except NonFiniteLossError as error:
        message = str(error)
    match = WHERE.match(message)
    assert match, message
    verdict = read_verdict(directory)
    assert (verdict["status"], verdict["passed"], verdict["exit_status"], verdict["accuracy"]) == ("error", False, 1, None)
    assert verdict["reasons"] == [f"NonFiniteLossError: {message}"]
    return None, int(match[4]), int(match[6])


def finite(directory: Path) -> bool:
    return all(bool(values.isfinite().all()) for values in read_weights(directory / "last.ckpt").values())


def poison(tensors: list[Tensor], value: float, rng: random.Random) -> None:
    """Sets one element of one tensor."""
    with torch.no_grad():
        tensor = rng.choice(tensors)
        tensor[tuple(rng.randrange(size) for size in tensor.shape)] = value


@pytest.mark.slow
def test_a_weight_that_is_no_number_stops_the_run(trials: Trials, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """After any step, the last one of the run too, where only the evaluation can find it; under every rule."""
    for trial in trials("numerics", few=5, all=80):
        rng, statistics = trial.rng, trial.number % 3 == 0
        rule = ("last", "best", "mean_last_3", "selected")[trial.number % 4]
        epoch, step = (EPOCHS, STEPS) if trial.number % 5 == 0 else (rng.randint(1, EPOCHS), rng.randint(1, STEPS))

        def on_train_batch_end(
            self: LitClassifier, outputs: Any, batch: Batch, batch_idx: int,
            at: tuple[int, int] = (epoch, step), statistics: bool = statistics, rng: Any = rng,
        ) -> None:  # fmt: skip
            if (self.current_epoch + 1, batch_idx + 1) == at:
                buffers = [norm.running_mean for norm in self.net.modules() if isinstance(norm, nn.BatchNorm2d)]
                poison(buffers if statistics else list(self.net.parameters()), math.nan, rng)

        hold_out = ("data.val_images=20",) if rule == "selected" else ()
        with monkeypatch.context() as patch:
            patch.setattr(LitClassifier, "on_train_batch_end", on_train_batch_end, raising=False)
            verdict, *found = outcome(tmp_path / str(trial.number), f"gate.rule={rule}", *hold_out)
        # A weight is met by the next step, statistics by the next evaluation; the count there is the run's.
        met_by_a_step = step < STEPS and not statistics
        assert (verdict, found) == (None, [epoch, step + 1 if met_by_a_step else STEPS * epoch])


@pytest.mark.parametrize("training", [True, False])
def test_a_loss_that_overflows_stops_the_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, training: bool) -> None:
    when = 8 if training else 2  # of the steps, or of the evaluations
    original, seen = LitClassifier.loss_and_logits, []

    def huge(self: LitClassifier, batch: Batch) -> tuple[Tensor, Tensor]:
        loss, logits = original(self, batch)
        seen.extend([1] * (self.training == training))
        return (loss * 1e38 * 1e3 if self.training == training and len(seen) == when else loss), logits

    monkeypatch.setattr(LitClassifier, "loss_and_logits", huge)
    assert outcome(tmp_path) == (None, 2, 3 if training else 10)
    assert len(seen) == when  # at once


def test_a_chunk_names_the_step_within_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As a GPU does, of which the losses are asked for once for many steps."""
    monkeypatch.setattr(cuda_graph, "BATCHES_PER_CHUNK", STEPS)
    data, classifier = chunked(*SMALL)
    original, taken = classifier._plain_step, []

    def poisoned(images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        taken.append(1)
        loss, logits = original(images, targets)
        return (loss * math.nan if len(taken) == STEPS + 3 else loss), logits

    monkeypatch.setattr(classifier, "_plain_step", poisoned)
    with pytest.raises(NonFiniteLossError, match=rf"at epoch 2, step 3 \(step {STEPS + 3} of the run\)"):
        quiet_trainer(tmp_path, EPOCHS).fit(classifier, datamodule=data)


@pytest.mark.parametrize(("optimizer", "lr"), [("sgd", 1e6), ("adamw", 1e30), ("muon", 1e20)])
def test_a_huge_learning_rate_stops_or_trains(tmp_path: Path, optimizer: str, lr: float) -> None:
    verdict, epoch, _ = outcome(tmp_path, f"optimizer={optimizer}", f"optimizer.lr={lr!r}", "scheduler=constant")
    assert 1 <= epoch <= EPOCHS if verdict is None else finite(tmp_path)


@pytest.mark.parametrize("key", ["lr", "weight_decay"])
def test_what_single_precision_cannot_hold_is_refused(key: str) -> None:
    with pytest.raises(ConfigError, match=rf"optimizer\.{key}=1e\+?31"):
        check(compose_config(f"optimizer.{key}=1e31"))
    check(compose_config(f"optimizer.{key}=1e30"))


@pytest.mark.parametrize("rule", RULES)
def test_no_rule_passes_on_an_accuracy_that_is_no_number(trials: Trials, rule: str) -> None:
    for trial in trials("numerics", few=20, all=500):
        accuracies: list[float | None] = [trial.rng.uniform(0.995, 1) for _ in range(trial.rng.randint(3, 15))]
        dataset, wrong = trial.rng.choice(("MNIST", "synthetic")), trial.rng.choice((math.nan, math.inf, -math.inf))
        stub = Stub(split="val" if rule == "selected" else "test", dataset=dataset)
        assert run_gate(accuracies, rule=rule, stub=stub, test=0.999 if rule == "selected" else None).passed
        if rule != "selected":
            accuracies[trial.rng.randrange(len(accuracies))] = wrong
        test = wrong if rule == "selected" else None
        with pytest.raises(GateError, match=rf"test/acc is {wrong}"):
            run_gate(accuracies, rule=rule, stub=stub, test=test)
        verdict = run_gate(accuracies, rule=rule, stub=stub, test=test, on_miss="warn")
        assert (verdict.status, verdict.passed, verdict.accuracy) == ("missed", False, None)
        json.dumps(vars(verdict), allow_nan=False)


@pytest.mark.filterwarnings("ignore:.*could not find the monitored key")
@pytest.mark.parametrize("limit", ["limit_train_batches=0", "limit_val_batches=0"])
def test_what_was_not_trained_or_not_measured_does_not_pass(tmp_path: Path, limit: str) -> None:
    with pytest.raises(NotMeasuredError, match=r"was never logged|was not measured"):
        run(compose_config(*SMALL, f"+trainer.{limit}"), tmp_path)
    assert not read_verdict(tmp_path)["passed"]


def test_a_checkpoint_that_holds_no_numbers_is_not_measured(cli: Callable[..., Finished], tmp_path: Path) -> None:
    run(compose_config(*SMALL, "trainer.max_epochs=1"), tmp_path / "run")
    checkpoint = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)
    next(values for values in checkpoint["state_dict"].values() if values.is_floating_point()).view(-1)[0] = math.nan
    torch.save(checkpoint, tmp_path / "run" / "last.ckpt")
    measured = cli("evaluate", tmp_path / "run")
    assert (measured.status, measured.out, len(measured.err.splitlines())) == (2, "", 1)
    assert "NaN" in measured.err


DATA: dict[str, Callable[[Tensor, Tensor], Batch]] = {
    "all black": lambda images, labels: (torch.zeros_like(images), labels),
    "one class": lambda images, labels: (images, torch.full_like(labels, 3)),
    "one image of one class": lambda images, labels: (images[:1].expand_as(images), torch.full_like(labels, 3)),
    "noise": lambda images, labels: (torch.randint(256, images.shape, dtype=torch.uint8), labels),
}


@pytest.mark.parametrize("kind", DATA)
def test_data_with_nothing_to_learn_trains(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str) -> None:
    load = SyntheticDataModule.load
    changed = lambda self: {split: DATA[kind](*batch) for split, batch in load(self).items()}  # noqa: E731
    monkeypatch.setattr(SyntheticDataModule, "load", changed)
    pictures = "last" if kind == "one class" else "none"
    verdict, _, _ = outcome(tmp_path, "augmentation=published", "trainer.max_epochs=1", f"pictures={pictures}")
    # A batch norm of maps that are constant multiplies gradients by 300, layer after layer: black images may stop it.
    assert verdict or kind == "all black"
    assert finite(tmp_path) or not verdict


def chunked(*overrides: str) -> tuple[DigitsDataModule, GraphedClassifier]:
    """The parts of a run that takes several batches at a time."""
    cfg = compose_config(*overrides)
    data: DigitsDataModule = build(cfg, "data", seed=0, augmentation=nn.Identity())
    parts = (build(cfg, "model"), build(cfg, "optimizer"), Schedule.of(cfg), 0.0, data.epoch_split)
    return data, GraphedClassifier(*parts, data=data)


def test_no_batch_has_one_image_and_every_image_has_its_batch(trials: Trials) -> None:
    for trial in trials("numerics", few=100, all=1000):
        batch_size, num_processes = trial.rng.randint(2, 40), trial.rng.choice((1, 1, 2, 3))
        num_images = 2 * num_processes + trial.rng.randrange(200)
        dataset = InMemoryImages(torch.zeros(num_images), torch.arange(num_images))
        seen: set[int] = set()
        for rank in range(num_processes):
            batches = IndexBatches(dataset, batch_size, num_replicas=num_processes, rank=rank, shuffle=True)
            sizes = [len(batch) for batch in batches]
            assert len(sizes) == len(batches)
            assert min(sizes) > 1
            assert max(sizes) <= batch_size + 1
            assert sum(sizes) == -(-num_images // num_processes)
            seen.update(index for batch in batches for index in batch.tolist())
        assert seen == set(range(num_images))


@pytest.mark.parametrize("batch_size", [2, 13])
def test_a_last_batch_of_one_image_trains(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, batch_size: int) -> None:
    options = (f"data.train_images={6 * batch_size + 1}", f"data.batch_size={batch_size}", "trainer.max_epochs=1")
    verdict, _, _ = outcome(tmp_path / "run", *options)
    assert verdict
    # The same a chunk at a time, wherever chunks end.
    monkeypatch.setattr(cuda_graph, "BATCHES_PER_CHUNK", 4)
    data, classifier = chunked(*SMALL, *options)
    trainer = quiet_trainer(tmp_path, 1)
    trainer.fit(classifier, datamodule=data)
    assert trainer.global_step == num_training_batches(6 * batch_size + 1, batch_size) == 6
    assert trainer.optimizers[0].param_groups[0]["lr"] == 0.0  # the schedule has counted them alike


@pytest.mark.parametrize(
    "overrides",
    [("data.batch_size=1",), ("trainer=ddp", "data.batch_size=2"), ("trainer=ddp", "data.val_images=1")],
)
def test_a_batch_of_one_image_is_refused_before_the_run(overrides: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        check(compose_config(*SMALL, "data.batch_size=32", *overrides))
    assert str(caught.value).startswith(overrides[-1])
    assert len(str(caught.value).splitlines()) == 1
