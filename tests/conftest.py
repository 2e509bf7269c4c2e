"""What the tests share: composed configurations, the command line in-process, a miniature MNIST, and the real one."""

import csv
import gzip
import hashlib
import itertools
import json
import logging
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import yaml
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from mnist_lightning.__main__ import main
from mnist_lightning.config.compose import compose_config, groups, use_directories
from mnist_lightning.data.data_sets import DATA_SETS, IDXFile
from mnist_lightning.data.datamodule import mnist_files, synthetic
from mnist_lightning.evaluation.verdict import Verdict
from mnist_lightning.training import fit
from mnist_lightning.training.fit import run
from mnist_lightning.training.lit_module import LitClassifier

# Tensors this small gain nothing from a second thread, and the tests share the machine.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"  # of the processes they start


def own_recipe(*overrides: str) -> DictConfig:
    """What these compose where each class of one's own has an empty group; without Hydra's tenth of a second each time."""
    cfg = compose_config(*(text for text in overrides if text.partition("=")[0] in groups()))
    for text in (text.lstrip("+") for text in overrides if text.partition("=")[0] not in groups()):
        key, _, value = text.partition("=")
        if key.endswith("._target_"):
            empty = {"_partial_": True} if key.startswith(("optimizer", "scheduler")) else {}
            OmegaConf.update(cfg, key.removesuffix("._target_"), empty, merge=False, force_add=True)
        OmegaConf.update(cfg, key, yaml.safe_load(value), force_add=True)
    return cfg


# A run that takes a second: what is small is the data, nothing else.
TINY = ("data=synthetic", "data.train_images=320", "data.test_images=100", "trainer.max_epochs=1", "trainer.accelerator=cpu")
TINY += ("pictures=none",)  # a second's worth of matplotlib
ALONE = TINY  # of a run or a search; a sweep would start processes
TINY += ("sweep.jobs=1",)


def quiet_trainer(folder: Path, max_epochs: int, accelerator: str = "cpu") -> L.Trainer:
    """A Trainer on one device that shows and keeps nothing."""
    return L.Trainer(
        max_epochs=max_epochs,
        accelerator=accelerator,
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=folder,
    )


@dataclass
class Finished:
    """How a command ended."""

    status: int
    out: str
    err: str


def one_error(done: Finished, status: int) -> str:
    """The single line of an error; nothing else was said."""
    assert done.status == status, done.err
    [line] = done.err.splitlines()
    assert line.startswith("error: ")
    return line.removeprefix("error: ")


@pytest.fixture
def cli(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Finished]]:
    """Runs `python -m mnist_lightning ARGS` in this process, in an empty working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])  # a command adds the working directory
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}

    def run(*args: object, full_error: str = "") -> Finished:
        monkeypatch.setenv("HYDRA_FULL_ERROR", full_error)
        monkeypatch.setattr(sys, "argv", ["mnist_lightning", *map(str, args)])
        capfd.readouterr()
        try:
            main()
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            HydraConfig.instance().cfg = None  # Hydra keeps that of --cfg
            for handler in [one for one in logging.getLogger().handlers if isinstance(one, logging.FileHandler)]:
                logging.getLogger().removeHandler(handler)  # run.log, which ends with the process otherwise
                handler.close()
        out, err = capfd.readouterr()
        return Finished(status, out, err)

    yield run
    use_directories(None, [])  # a search has composed from another file
    for name, module in list(sys.modules.items()):  # networks of a test's own
        if str(getattr(module, "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


def spawn(*args: str, cwd: Path, module: str = "mnist_lightning", **env: str) -> "subprocess.Popen[str]":
    """Starts `python -m MODULE ARGS` as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *args],
        cwd=cwd,
        env=os.environ | env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: "subprocess.Popen[str]", timeout_s: float = 120) -> Finished:
    try:
        out, err = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    return Finished(process.returncode, out, err)


def wait_for(process: "subprocess.Popen[str]", folder: Path, name: str) -> None:
    """Waits until the process has written a file of that name below the folder."""
    deadline = time.monotonic() + 150
    while not list(folder.rglob(name)):
        assert process.poll() is None, f"it ended without {name}: {process.communicate()}"
        assert time.monotonic() < deadline, f"no {name} appeared"
        time.sleep(0.05)


def only_run(root: Path) -> Path:
    """The one run directory under a folder."""
    [verdict] = root.rglob("verdict.json")
    return verdict.parent


def read_verdict(run_dir: Path) -> dict[str, Any]:
    verdict: dict[str, Any] = json.loads((run_dir / "verdict.json").read_text("utf-8"))
    return verdict


def read_rows(run_dir: Path) -> list[dict[str, str]]:
    """Of metrics.csv, without the seconds, which differ from run to run."""
    table = csv.DictReader((run_dir / "metrics.csv").read_text("utf-8").splitlines())
    return [{name: value for name, value in row.items() if name != "seconds"} for row in table]


def read_weights(checkpoint: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = torch.load(checkpoint, weights_only=True)["state_dict"]
    return state


def assert_same_weights(one: Path, other: Path, checkpoint: str = "last.ckpt") -> None:
    """Bit for bit, of two run directories."""
    mine, others = read_weights(one / checkpoint), read_weights(other / checkpoint)
    assert mine.keys() == others.keys()
    assert [name for name in mine if not torch.equal(mine[name], others[name])] == []


@contextmanager
def at_call(
    number: int, act: Callable[[], object], method: str = "training_step", owner: type = LitClassifier
) -> Iterator[None]:
    """Lets something happen before the given call of a method, counted from 1."""
    calls, original = itertools.count(1), getattr(owner, method)

    def called(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == number:
            act()
        return original(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, method, called)
        yield


def throw(error: BaseException) -> None:
    raise error


class Killed(BaseException):
    """Stands for what gives a run no time to clean up."""


@contextmanager
def killed_at(number: int, method: str = "training_step", owner: type = LitClassifier) -> Iterator[None]:
    """A run in it dies before the given call of a method, and leaves no verdict."""
    with pytest.MonkeyPatch.context() as patch, at_call(number, lambda: throw(Killed()), method, owner):
        patch.setattr(fit, "conclude", lambda *args: None)
        with pytest.raises(Killed):
            yield


def idx_bytes(tensor: Tensor) -> bytes:
    """A uint8 tensor in the IDX format, written here independently of the reader."""
    header = struct.pack(">HBB", 0, 8, tensor.dim()) + b"".join(struct.pack(">I", n) for n in tensor.shape)
    return header + tensor.numpy().tobytes()


@pytest.fixture
def miniature(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A place with MNIST's four files gzipped, 200 training and 100 test images of drawn digits, known to the project."""
    place = tmp_path / "place"
    folder = place / "MNIST" / "raw"
    folder.mkdir(parents=True)
    kept: dict[tuple[str, str], IDXFile] = {}
    for split, num in (("train", 200), ("test", 100)):
        images, labels = synthetic.draw(num, seed=num)
        for what, tensor in (("images", images), ("labels", labels.byte())):
            name = DATA_SETS["MNIST"].files[split, what].name
            contents = idx_bytes(tensor)
            zipped = gzip.compress(contents, mtime=0)
            (folder / f"{name}.gz").write_bytes(zipped)
            md5s = [hashlib.md5(held).hexdigest() for held in (zipped, contents)]
            kept[split, what] = IDXFile(f"{name}.gz", *md5s)
    monkeypatch.setitem(DATA_SETS, "MNIST", replace(DATA_SETS["MNIST"], files=kept))
    return place


@pytest.fixture(scope="session")
def real_mnist() -> Iterator[Sequence[str]]:
    """Overrides with which the project's own configuration finds the real MNIST; skips where it does not."""
    data = compose_config().data
    folders = mnist_files.candidates(data.root, data.places)
    for folder in folders:
        if all(mnist_files.find(folder, file) for file in DATA_SETS["MNIST"].files.values()):
            yield [f"data.root={folder}"]
            return
    pytest.skip(f"real MNIST is in none of {', '.join(map(str, folders))}; set MNIST_ROOT to the folder that holds it")


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a run that has learned the project's own digits; tests only read it."""
    directory = tmp_path_factory.mktemp("trained") / "run"
    overrides = (
        "data.train_images=2000",
        "trainer.max_epochs=4",
        "model=two_pool",
        "model.activation=relu",
        "optimizer.lr=0.03",
    )
    run(compose_config(*TINY, "data.test_images=200", *overrides), directory)
    return directory


def leave_run(folder: Path, *overrides: str, **verdict: Any) -> Path:
    """The files by which a finished run is read, or with `status` another's; makes the folder."""
    folder.mkdir(parents=True)
    cfg = compose_config(*overrides)
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(cfg, resolve=True), "utf-8")
    record = Verdict(
        status="passed",
        passed=True,
        reasons=[],
        rule="last",
        accuracy=0.994,
        best_accuracy=0.995,
        best_epoch=12,
        last_accuracy=0.994,
        epoch_split="test",
        interval_95=(0.992, 0.996),
        test_images=10_000,
        selected_on_test=False,
        accuracy_judged=True,
        params=7496,
        max_params=8000,
        min_accuracy=0.994,
        within_epochs=15,
        on_miss="fail",
        model="net3",
        seed=cfg.seed,
        dataset="MNIST",
        epochs=15,
        seconds=100.0,
        device="a processor",
        versions={"python": "3.11", "torch": "2.15", "lightning": "2.6", "git": "abc"},
    )
    passed = verdict.get("status", "passed") == "passed"
    (folder / "verdict.json").write_text(json.dumps(asdict(record) | {"passed": passed} | verdict), "utf-8")
    return folder
