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
from mnist_lightning.data.datamodule import (
    Batch,
    DigitsDataModule,
    IndexBatches,
    InMemoryImages,
    SyntheticDataModule,
    num_training_batches,
)
from mnist_lightning.evaluation.gate import GateError
from mnist_lightning.evaluation.verdict import Verdict
from mnist_lightning.inference import evaluate
from mnist_lightning.training import cuda_graph
from mnist_lightning.training.cuda_graph import GraphedClassifier
from mnist_lightning.training.fit import run
from mnist_lightning.training.lit_module import LitClassifier, NonFiniteLossError
from tests.conftest import Finished, quiet_trainer, read_verdict
from tests.faults.conftest import Trials
from tests.test_gate import Stub, run_gate

EPOCHS, STEPS = 3, 5
SMALL = ("data=synthetic", "data.train_images=160", "data.test_images=40", "data.batch_size=32", "pictures=none")
SMALL += (f"trainer.max_epochs={EPOCHS}", "trainer.accelerator=cpu", "augmentation=none")
NOT_FINITE = (math.nan, math.inf, -math.inf)
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
    return None, int(match[4]), int(match[6])


def weights(directory: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = torch.load(directory / "last.ckpt", weights_only=True)["state_dict"]
    return state


def finite(directory: Path) -> bool:
    return all(bool(values.isfinite().all()) for values in weights(directory).values())


def poison(tensors: list[Tensor], value: float, rng: random.Random) -> None:
    """Sets one element of one tensor."""
    with torch.no_grad():
        tensor = rng.choice(tensors)
        tensor[tuple(rng.randrange(size) for size in tensor.shape)] = value


# --- made during training -----------------------------------------------------------------------------------------------


def test_a_weight_that_is_no_number_stops_the_run(trials: Trials, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """After any step, the last one of the run too, where only the evaluation can find it; under every rule."""
    for trial in trials("numerics", few=5, all=80):
        rng = trial.rng
        rule = ("last", "best", "mean_last_3", "selected")[trial.number % 4]
        statistics = trial.number % 3 == 0
        value = rng.choice(NOT_FINITE) if trial.number % 4 == 2 else math.nan
        epoch, step = (EPOCHS, STEPS) if trial.number % 5 == 0 else (rng.randint(1, EPOCHS), rng.randint(1, STEPS))

        def on_train_batch_end(
            self: LitClassifier, outputs: Any, batch: Batch, batch_idx: int,
            epoch: int = epoch, step: int = step, value: float = value, statistics: bool = statistics, rng: Any = rng,
        ) -> None:  # fmt: skip
            if (self.current_epoch + 1, batch_idx + 1) == (epoch, step):
                buffers = [norm.running_mean for norm in self.net.modules() if isinstance(norm, nn.BatchNorm2d)]
                poison(buffers if statistics else list(self.net.parameters()), value, rng)

        directory = tmp_path / str(trial.number)
        hold_out = ("data.val_images=20",) if rule == "selected" else ()
        with monkeypatch.context() as patch:
            patch.setattr(LitClassifier, "on_train_batch_end", on_train_batch_end, raising=False)
            verdict, found_epoch, found_step = outcome(directory, f"gate.rule={rule}", *hold_out)
        if verdict:  # an infinite one that met nothing but zeros
            assert not math.isnan(value)
        elif math.isnan(value):
            assert found_epoch == epoch
            # A weight is met by the next step, statistics by the next evaluation; the count there is the run's.
            assert found_step == (step + 1 if step < STEPS and not statistics else STEPS * epoch)


def test_a_loss_that_overflows_stops_the_run(trials: Trials, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for trial in trials("numerics", few=2, all=20):
        training, when = trial.number % 2 == 0, trial.rng.randint(1, EPOCHS * (STEPS if trial.number % 2 == 0 else 1))
        original, seen = LitClassifier.loss_and_logits, []

        def huge(
            self: LitClassifier, batch: Batch, training: bool = training, when: int = when,
            original: Any = original, seen: list[int] = seen,
        ) -> tuple[Tensor, Tensor]:  # fmt: skip
            loss, logits = original(self, batch)
            seen += [1] * (self.training == training)
            return (loss * 1e38 * 1e3 if self.training == training and len(seen) == when else loss), logits

        with monkeypatch.context() as patch:
            patch.setattr(LitClassifier, "loss_and_logits", huge)
            verdict, epoch, step = outcome(tmp_path / str(trial.number))
        assert verdict is None
        if training:
            assert (epoch, step) == ((when - 1) // STEPS + 1, (when - 1) % STEPS + 1)
        else:
            assert (epoch, step) == (when, when * STEPS)


def test_a_chunk_names_the_step_within_it(trials: Trials, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As a GPU does, of which the losses are asked for once for many steps."""
    monkeypatch.setattr(cuda_graph, "BATCHES_PER_CHUNK", STEPS)
    for trial in trials("numerics", few=2, all=10):
        step = trial.rng.randint(1, STEPS)
        data, classifier = chunked(STEPS, *SMALL)
        original, taken = classifier._plain_step, []

        def poisoned(images: Tensor, targets: Tensor, original: Any = original, taken: list = taken, step: int = step) -> Any:
            taken.append(1)
            loss, logits = original(images, targets)
            return (loss * math.nan if len(taken) == STEPS + step else loss), logits

        monkeypatch.setattr(classifier, "_plain_step", poisoned)
        with pytest.raises(NonFiniteLossError, match=rf"at epoch 2, step {step} \(step {STEPS + step} of the run\)"):
            quiet_trainer(tmp_path, EPOCHS).fit(classifier, datamodule=data)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
def test_a_huge_learning_rate_stops_or_trains(trials: Trials, tmp_path: Path, optimizer: str) -> None:
    for trial in trials("numerics", few=1, all=8):
        lr = 1e6 if trial.number == 0 else 10 ** trial.rng.uniform(3, 30)
        directory = tmp_path / str(trial.number)
        verdict, epoch, _ = outcome(directory, f"optimizer={optimizer}", f"optimizer.lr={lr!r}", "scheduler=constant")
        assert 1 <= epoch <= EPOCHS if verdict is None else finite(directory)


@pytest.mark.parametrize("key", ["lr", "weight_decay"])
def test_what_single_precision_cannot_hold_is_refused(trials: Trials, key: str) -> None:
    for trial in trials("numerics", few=1, all=8):
        value = 10 ** trial.rng.uniform(30.1, 300)
        with pytest.raises(ConfigError, match=rf"^optimizer\.{key}={re.escape(str(value))}: .* 1e30; try optimizer\.{key}="):
            check(compose_config(f"optimizer.{key}={value!r}"))
        check(compose_config(f"optimizer.{key}=1e30"))


# --- verdict ------------------------------------------------------------------------------------------------------------


def test_no_rule_passes_on_an_accuracy_that_is_no_number(trials: Trials) -> None:
    for trial in trials("numerics", few=200, all=2000):
        rng = trial.rng
        rule = rng.choice(("last", "best", "mean_last_3", "selected"))
        accuracies: list[float | None] = [rng.uniform(0.995, 1) for _ in range(rng.randint(3, 15))]
        stub = Stub(split="val" if rule == "selected" else "test", dataset=rng.choice(("MNIST", "synthetic")))
        assert run_gate(accuracies, rule=rule, stub=stub, test=0.999 if rule == "selected" else None).passed
        wrong = rng.choice(NOT_FINITE)
        if rule != "selected":
            accuracies[rng.randrange(len(accuracies))] = wrong
        test = wrong if rule == "selected" else None
        with pytest.raises(GateError, match=rf"test/acc is {wrong}"):
            run_gate(accuracies, rule=rule, stub=stub, test=test)
        verdict = run_gate(accuracies, rule=rule, stub=stub, test=test, on_miss="warn")
        assert (verdict.status, verdict.passed, verdict.accuracy) == ("missed", False, None)
        json.dumps(vars(verdict), allow_nan=False)


@pytest.mark.filterwarnings("ignore:.*could not find the monitored key")
def test_what_was_not_trained_or_not_measured_does_not_pass(trials: Trials, tmp_path: Path) -> None:
    for trial in trials("numerics", few=2, all=8):
        limit = ("limit_train_batches=0", "limit_val_batches=0")[trial.number % 2]
        rule = ("last", "best", "mean_last_3", "last")[trial.number // 2]
        with pytest.raises(GateError, match=r"was never logged|was not measured"):
            run(compose_config(*SMALL, f"+trainer.{limit}", f"gate.rule={rule}"), tmp_path / str(trial.number))
        assert not read_verdict(tmp_path / str(trial.number))["passed"]


# --- from a checkpoint --------------------------------------------------------------------------------------------------


def test_a_checkpoint_that_holds_no_numbers_is_not_gone_on_with_nor_measured(
    trials: Trials, cli: Callable[..., Finished], tmp_path: Path
) -> None:
    """Though its gate remembers the accuracies of every epoch, and no step of training is left to find out."""
    for trial in trials("numerics", few=1, all=12):
        directory = tmp_path / str(trial.number)
        run(compose_config(*SMALL), directory)
        checkpoint = torch.load(directory / "last.ckpt", weights_only=True)
        floats = [values for values in checkpoint["state_dict"].values() if values.is_floating_point()]
        poison(floats, trial.rng.choice(NOT_FINITE), trial.rng)
        torch.save(checkpoint, directory / "last.ckpt")
        measured = cli("evaluate", directory)
        assert (measured.status, measured.out) == (2, "")
        assert re.fullmatch(
            rf"error: {directory}/last.ckpt: holds weights that are NaN or infinite \(\S+\); .*\n", measured.err
        )
        (directory / "verdict.json").unlink()
        assert run(compose_config(*SMALL, "resume=true"), directory).passed
        assert finite(directory)
        assert (directory / "set-aside-1" / "last.ckpt").exists()


def test_logits_that_are_no_numbers_are_no_accuracy(tmp_path: Path) -> None:
    """Of a network whose weights are finite, or cannot be looked into."""

    class Overflowing(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            logits = torch.zeros(len(images), 10)
            logits[0, 0] = math.nan
            return logits

    data: DigitsDataModule = build(compose_config(*SMALL), "data", seed=0, augmentation=nn.Identity())
    data.setup("test")
    trained = evaluate.Trained("a file", tmp_path, Overflowing(), compose_config(*SMALL), 10)
    with pytest.raises(ConfigError, match="a file: gives NaN or infinite logits for 1 of 40 test images"):
        evaluate.evaluate(trained, data)


# --- data ---------------------------------------------------------------------------------------------------------------


def one_class(images: Tensor, labels: Tensor) -> Batch:
    return images, torch.full_like(labels, 3)


DATA: dict[str, Callable[[Tensor, Tensor], Batch]] = {
    "all black": lambda images, labels: (torch.zeros_like(images), labels),
    "one class": one_class,
    "all white": lambda images, labels: (torch.full_like(images, 255), labels),
    "one image": lambda images, labels: (images[:1].expand_as(images), labels),
    "one image of one class": lambda images, labels: one_class(images[:1].expand_as(images), labels),
    "noise": lambda images, labels: (torch.randint(256, images.shape, dtype=torch.uint8), labels),
    "one white pixel": lambda images, labels: (torch.zeros_like(images).index_fill_(1, torch.tensor([0]), 255), labels),
}


def test_data_with_nothing_to_learn_trains(trials: Trials, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    original = SyntheticDataModule.load
    for trial in trials("numerics", few=4, all=6 * len(DATA)):
        kind = list(DATA)[trial.number % len(DATA)]
        options = ("augmentation=affine", "augmentation=published", "augmentation=elastic", "augmentation=none")
        model = trial.rng.choice(("net1", "net2", "net3", "two_pool", "shared"))
        chosen = [trial.rng.choice(options), f"model={model}", "gate.max_params=20000"]
        chosen += ["pictures=last"] * (trial.number == 1)

        def load(self: SyntheticDataModule, kind: str = kind) -> dict[str, Batch]:
            return {split: DATA[kind](*batch) for split, batch in original(self).items()}

        with monkeypatch.context() as patch:
            patch.setattr(SyntheticDataModule, "load", load)
            verdict, _, _ = outcome(tmp_path / str(trial.number), *chosen, "trainer.max_epochs=1")
        if kind in ("all black", "all white") and not verdict:
            continue  # a batch norm of maps that are constant multiplies gradients by 300, layer after layer
        assert verdict, kind
        assert verdict.passed
        assert finite(tmp_path / str(trial.number))


# --- batches ------------------------------------------------------------------------------------------------------------


def chunked(chunk: int, *overrides: str) -> tuple[DigitsDataModule, GraphedClassifier]:
    """The parts of a run that takes several batches at a time."""
    cfg = compose_config(*overrides)
    data: DigitsDataModule = build(cfg, "data", seed=0, augmentation=nn.Identity())
    data.batches_per_chunk = chunk
    parts = (build(cfg, "model"), build(cfg, "optimizer"), build(cfg, "scheduler"), 0.0, data.epoch_split)
    return data, GraphedClassifier(*parts, batch_size=cfg.data.batch_size, prepare=data.prepare)


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


def test_a_last_batch_of_one_image_trains(trials: Trials, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for trial in trials("numerics", few=2, all=20):
        batch_size = 2 if trial.number == 0 else trial.rng.randint(2, 30)
        num_whole = trial.rng.randint(-(-9 // batch_size), 6)
        images = f"data.train_images={batch_size * num_whole + 1}"
        verdict, _, _ = outcome(tmp_path / str(trial.number), images, f"data.batch_size={batch_size}", "trainer.max_epochs=1")
        assert verdict
        assert verdict.passed
        # The same a chunk at a time, wherever chunks end.
        monkeypatch.setattr(cuda_graph, "BATCHES_PER_CHUNK", chunk := trial.rng.randint(2, 4))
        data, classifier = chunked(chunk, *SMALL, images, f"data.batch_size={batch_size}")
        trainer = quiet_trainer(tmp_path, 1)
        trainer.fit(classifier, datamodule=data)
        assert trainer.global_step == num_training_batches(batch_size * num_whole + 1, batch_size) == num_whole
        assert trainer.optimizers[0].param_groups[0]["lr"] == 0.0  # the schedule has counted them alike


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (("data.batch_size=1",), "data.batch_size=1: data.batch_size must be an integer of at least 2, for batch norms; try "),
        (("trainer=ddp", "data.batch_size=2"), "data.batch_size=2: gives each of 2 processes one image, and a batch norm "),
        (("trainer=ddp", "data.val_images=1"), "data.val_images=1: 2 processes need two images each and have 1; give more "),
    ],
)
def test_a_batch_of_one_image_is_refused_before_the_run(overrides: tuple[str, ...], line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check(compose_config(*SMALL, "data.batch_size=32", *overrides))
    assert str(caught.value).startswith(line)
    assert len(str(caught.value).splitlines()) == 1
