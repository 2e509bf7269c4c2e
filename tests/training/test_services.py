"""MLflow with a store of its own and Weights & Biases offline, by the real packages; `make loggers` installs them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mnist_lightning.evaluation.gate import Gate
from tests.conftest import TINY, Finished, killed_at, only_run

SMALL = (*TINY, "data.train_images=128", "trainer.max_epochs=2", "pictures=last")
PICTURES = ("test/confusion_matrix", "test/worst_mistakes", "train/augmentation", "network/first_filters")
OFFLINE = ("logger=wandb", "logger.wandb.offline=true")
Cli = Callable[..., Finished]

pytestmark = pytest.mark.filterwarnings("ignore")  # what these packages say of each other


@pytest.fixture(autouse=True)
def nothing_of_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "WANDB_MODE", "WANDB_API_KEY", "WANDB_PROJECT", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


def test_mlflow_has_a_run_that_was_killed_and_resumed_once(cli: Cli, tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    words = (*SMALL, "logger=mlflow", "hydra.run.dir=run")
    with killed_at(2, "on_train_epoch_end", Gate):  # the second epoch was told, and has no checkpoint
        cli(*words)
    done = cli(*words, "resume=true")
    assert (done.status, done.err) == (0, "")
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'outputs' / 'mlflow.db'}")
    [experiment] = [found for found in client.search_experiments() if found.name == "mnist_lightning"]
    [run] = client.search_runs([experiment.experiment_id])
    for name in ("train/loss", "test/acc", "gap/acc", "lr"):
        assert [point.step for point in client.get_metric_history(run.info.run_id, name)] == [1, 2]
    assert (run.info.status, run.info.run_name) == ("FINISHED", "run")
    assert (run.data.params["optimizer.lr"], run.data.tags["verdict"]) == ("0.015", "passed")
    assert run.data.tags["verdict.params"] == "7496"
    root = tmp_path / "outputs" / "mlflow" / run.info.run_id / "artifacts"
    assert all((root / f"{name}-2.png").stat().st_size for name in PICTURES)
    assert json.loads((root / "verdict.json").read_text("utf-8"))["status"] == "passed"


def test_an_mlflow_server_that_is_away_ends_no_run(cli: Cli) -> None:
    pytest.importorskip("mlflow")
    done = cli(*TINY, "logger=mlflow", "logger.mlflow.tracking_uri=http://127.0.0.1:9", "hydra.run.dir=run")
    assert (done.status, done.err) == (0, "")
    [line] = [line for line in done.out.splitlines() if "logger" in line]
    assert line.startswith("the logger mlflow failed, and the run goes on without it: ")


def test_a_store_that_is_none_is_refused_before_training(cli: Cli) -> None:
    pytest.importorskip("mlflow")
    done = cli(*TINY, "logger=mlflow", "logger.mlflow.tracking_uri=nonsense://x")
    assert (done.status, len(done.err.splitlines())) == (2, 1)
    assert done.err.startswith("error: logger.mlflow: ")


def test_wandb_keeps_a_run_that_was_interrupted_and_resumed_offline_under_one_id(cli: Cli, tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    words = (*SMALL, *OFFLINE, "hydra.run.dir=run")
    with killed_at(2, "on_train_epoch_end", Gate):
        cli(*words)
    import wandb

    wandb.finish()  # which the end of the process would have done
    done = cli(*words, "resume=true")
    assert (done.status, done.err) == (0, "")
    run = only_run(tmp_path)
    memory = json.loads((run / "wandb.json").read_text("utf-8"))
    assert memory["epochs"] == 2
    folders = sorted((run / "wandb").glob("offline-run-*"))
    assert len(folders) == 2
    assert {folder.name.rpartition("-")[2] for folder in folders} == {memory["run"]}
    first, second = (next(folder.glob("*.wandb")).read_bytes() for folder in folders)
    assert (first.count(b"gap/acc") > 0, second.count(b"gap/acc")) == (True, 0)  # the points of both epochs, once
    assert second.count(b"Verdict/params") > 0
    assert all(list((folders[0] / "files" / "media" / "images").glob(f"{name}_*.png")) for name in PICTURES)


def test_wandb_without_a_login_ends_no_run(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # for which no key is known
    done = cli(*TINY, "logger=wandb", "hydra.run.dir=run")
    assert (done.status, done.err) == (0, "")
    [line] = [line for line in done.out.splitlines() if "logger" in line]
    assert line.startswith("the logger wandb failed, and the run goes on without it: ")
