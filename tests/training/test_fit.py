"""A whole run on drawn digits: what it leaves, that it repeats bit for bit, and how it refuses and fails."""

import csv
import re
from pathlib import Path

import pytest
import torch
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import OmegaConf

from mnist_lightning.config.build import build
from mnist_lightning.config.compose import compose_config
from mnist_lightning.config.errors import ConfigError
from mnist_lightning.data.datamodule import normalize
from mnist_lightning.evaluation.gate import GateError
from mnist_lightning.evaluation.run_directories import LOCK
from mnist_lightning.training import checkpoints
from mnist_lightning.training.fit import run
from mnist_lightning.training.lit_module import LitClassifier
from tests.conftest import TINY, read_rows, read_verdict, read_weights


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a run of three epochs."""
    run_dir = tmp_path_factory.mktemp("run")
    run(compose_config(*TINY, "trainer.max_epochs=3"), run_dir)
    return run_dir


def test_a_run_leaves_what_it_promises(finished: Path) -> None:
    names = {re.sub(r"^events\.out\.tfevents\..*", "events", path.name) for path in finished.iterdir()}
    files = {"config.yaml", "environment.json", "metrics.csv", "verdict.json", "events", "best.ckpt", "last.ckpt"}
    assert names - {LOCK} == files  # on Windows the lock's file goes with the lock


def test_the_resolved_config_composes_the_same_run(finished: Path) -> None:
    cfg = OmegaConf.load(finished / "config.yaml")
    assert cfg == OmegaConf.create(OmegaConf.to_container(compose_config(*TINY, "trainer.max_epochs=3"), resolve=True))


def test_metrics_have_a_row_per_epoch(finished: Path) -> None:
    table = list(csv.DictReader((finished / "metrics.csv").read_text("utf-8").splitlines()))
    columns = ["epoch", "step", "train/loss", "train/acc", "test/loss", "test/acc", "lr", "seconds"]
    assert list(table[0]) == columns
    assert [(row["epoch"], row["step"]) for row in table] == [("1", "5"), ("2", "10"), ("3", "15")]
    assert float(table[-1]["lr"]) == 0.0
    assert all(0 <= float(row["test/acc"]) <= 1 and float(row["seconds"]) > 0 for row in table)


def test_the_verdict_has_every_field(finished: Path) -> None:
    verdict = read_verdict(finished)
    promised = "passed rule accuracy best_accuracy best_epoch last_accuracy params max_params min_accuracy model seed dataset"
    assert set(promised.split()) | {"epochs", "seconds", "versions"} <= set(verdict)
    assert (verdict["passed"], verdict["status"], verdict["exit_status"]) == (True, "passed", 0)
    assert (verdict["model"], verdict["params"], verdict["dataset"], verdict["epochs"]) == ("net3", 7496, "synthetic", 3)
    table = read_rows(finished)
    assert verdict["last_accuracy"] == pytest.approx(float(table[-1]["test/acc"]), abs=1e-6)
    assert verdict["best_accuracy"] == pytest.approx(max(float(row["test/acc"]) for row in table), abs=1e-6)
    assert {"python", "torch", "lightning"} <= set(verdict["versions"])


def test_checkpoints_load_as_plain_weights(finished: Path) -> None:
    """last.ckpt, read with weights_only, classifies the test images as well as the verdict says."""
    cfg = compose_config(*TINY)
    net = build(cfg, "model")
    net.load_state_dict({name.removeprefix("net."): value for name, value in read_weights(finished / "last.ckpt").items()})
    data = build(cfg, "data", seed=0, augmentation=torch.nn.Identity())
    data.setup("test")
    images, labels = data.splits["test"].images, data.splits["test"].labels
    with torch.no_grad():
        preds = net.eval()(normalize(images[:, None].float())).argmax(1)
    assert (preds == labels).float().mean().item() == pytest.approx(read_verdict(finished)["last_accuracy"])


def test_best_is_the_best_epochs_and_last_the_last(finished: Path) -> None:
    best, last = (torch.load(finished / f"{name}.ckpt", weights_only=True)["epoch"] + 1 for name in ("best", "last"))
    assert (best, last) == (read_verdict(finished)["best_epoch"], 3)


@pytest.mark.parametrize(("rule", "checkpoint"), [("selected", "best.ckpt"), ("last", "last.ckpt")])
def test_a_hold_out_selects_and_the_test_set_is_measured_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rule: str, checkpoint: str
) -> None:
    tested, chosen = [], []
    step, read = LitClassifier.test_step, checkpoints.read
    monkeypatch.setattr(LitClassifier, "test_step", lambda self, b, i: tested.append(len(b[1])) or step(self, b, i))
    monkeypatch.setattr(checkpoints, "read", lambda path: chosen.append(path.name) or read(path))
    options = ("trainer.max_epochs=2", "data.val_images=50", f"gate.rule={rule}")
    verdict = run(compose_config(*TINY, *options), tmp_path / "run")
    assert (sum(tested), chosen) == (100, [checkpoint])
    assert (verdict.rule, verdict.epoch_split, verdict.selected_on_test, verdict.test_images) == (rule, "val", False, 100)
    assert list(read_rows(tmp_path / "run")[0])[4:6] == ["val/loss", "val/acc"]


def test_over_the_budget_no_step_is_taken_and_a_verdict_left(tmp_path: Path) -> None:
    with pytest.raises(GateError, match="net1 has 10,970 trainable parameters"):
        run(compose_config(*TINY, "model=net1"), tmp_path)
    assert read_rows(tmp_path) == [] if (tmp_path / "metrics.csv").exists() else True
    assert not list(tmp_path.glob("*.ckpt"))
    verdict = read_verdict(tmp_path)
    assert (verdict["status"], verdict["passed"], verdict["exit_status"], verdict["epochs"]) == ("missed", False, 3, 0)
    assert verdict["params"] == 10_970


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the exporters
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_every_budget_is_told_of_a_run_that_only_warns(tmp_path: Path) -> None:
    """The file's at its end, here after the one test of a hold-out."""
    pytest.importorskip("onnxscript", reason="the extra onnx is not installed")
    over = ("gate.max_multiply_adds=1000", "gate.max_activation_bytes=58496", "gate.max_file_bytes=1000", "gate.on_miss=warn")
    run(compose_config(*TINY, *over, "data.val_images=50"), tmp_path)
    verdict = read_verdict(tmp_path)
    assert (verdict["status"], verdict["exit_status"], verdict["epochs"]) == ("missed", 0, 1)
    assert (verdict["multiply_adds"], verdict["activation_bytes"]) == (1_031_808, 58_496)
    assert 7496 < verdict["file_bytes"] < 4 * 7496  # a byte a weight, ONNX's graph, the configuration
    assert verdict["reasons"] == [
        "net3 has 1,031,808 multiply-adds; gate.max_multiply_adds=1000 wants fewer",
        "net3 has 58,496 bytes of activations; gate.max_activation_bytes=58496 wants fewer",
        f"net3 has {verdict['file_bytes']:,} bytes as a file; gate.max_file_bytes=1000 wants fewer",
    ]


def test_a_directory_that_holds_a_run_is_refused_and_left(finished: Path) -> None:
    before = {path: path.read_bytes() for path in finished.iterdir()}
    with pytest.raises(ConfigError, match="the directory holds a run already"):
        run(compose_config(*TINY), finished)
    assert {path: path.read_bytes() for path in finished.iterdir()} == before


@pytest.mark.parametrize(
    "overrides",
    [
        ("augmentation=rotation", "optimizer=adamw", "optimizer.lr=0.01", "scheduler=constant", "model=net2"),
        ("augmentation=affine", "scheduler=cosine"),
        ("augmentation=published", "optimizer=muon", "scheduler=onecycle"),
    ],
)
def test_every_augmentation_optimizer_and_schedule_trains(tmp_path: Path, overrides: tuple[str, ...]) -> None:
    assert run(compose_config(*TINY, *overrides, "data.train_images=128"), tmp_path / "run").passed


@pytest.mark.slow
@pytest.mark.mnist
@pytest.mark.parametrize(("experiment", "least"), [("exp1", 0.9), ("exp2", 0.3), ("exp3", 0.7)])
def test_each_published_experiment_learns_real_mnist(
    tmp_path: Path, real_mnist: list[str], experiment: str, least: float
) -> None:
    """A fifth of an epoch of each published recipe on the real images, measured on all 10,000 test images."""
    cfg = compose_config(
        f"experiment={experiment}",
        *real_mnist,
        "trainer.max_epochs=1",
        "gate.on_miss=warn",
        "trainer.accelerator=cpu",
        "+trainer.limit_train_batches=94",
    )
    verdict = run(cfg, tmp_path / "run")
    assert (verdict.dataset, verdict.test_images, verdict.accuracy_judged) == ("MNIST", 10_000, True)
    assert verdict.accuracy is not None
    assert verdict.accuracy > least


def test_a_run_of_one_process_is_the_first_whatever_a_launcher_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = {"RANK": 2, "LOCAL_RANK": 1, "WORLD_SIZE": 4, "SLURM_NTASKS": 2, "SLURM_JOB_ID": 7, "SLURM_JOB_NAME": "a"}
    left |= {"SLURM_PROCID": 1, "SLURM_LOCALID": 1, "SLURM_NODEID": 0, "SLURM_NTASKS_PER_NODE": 2, "MASTER_ADDR": "nowhere"}
    for name, value in left.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(rank_zero_only, "rank", 2)  # as Lightning reads it from them when it is imported
    assert run(compose_config(*TINY), tmp_path).passed
    assert (tmp_path / "last.ckpt").exists()


def test_the_place_of_a_run_that_was_refused_is_free_for_the_corrected_command(tmp_path: Path) -> None:
    wrong = compose_config(*TINY)
    wrong.model = {"_target_": "torch.nn.Flatten"}
    with pytest.raises(ConfigError, match=r"^model: Flatten returns"):
        run(wrong, tmp_path)
    assert read_verdict(tmp_path)["exit_status"] == 2
    assert run(compose_config(*TINY), tmp_path).passed
    assert (tmp_path / "set-aside-1" / "verdict.json").exists()
