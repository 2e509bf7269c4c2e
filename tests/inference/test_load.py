"""A trained network is found and loaded, and nothing that lies in its place is run."""

import io
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from mnist_lightning.config.errors import ConfigError
from mnist_lightning.inference.load import load, read_data
from mnist_lightning.models import Net2
from tests.conftest import Finished, one_error


@pytest.fixture
def run_dir(trained_run: Path, tmp_path: Path) -> Path:
    """A copy of the trained run, to be damaged."""
    shutil.copytree(trained_run, tmp_path / "run")
    return tmp_path / "run"


def change(run_dir: Path, **values: object) -> None:
    """Sets values in a run's config.yaml, `__` in place of the dots."""
    cfg = OmegaConf.load(run_dir / "config.yaml")
    for key, value in values.items():
        OmegaConf.update(cfg, key.replace("__", "."), value, merge=False, force_add=True)
    OmegaConf.save(cfg, run_dir / "config.yaml")


def test_a_run_directory_gives_what_its_rule_judges(run_dir: Path) -> None:
    last = load(run_dir)
    assert (last.path, last.sizes["params"]) == (run_dir / "last.ckpt", 7288)
    assert last.source == f"{run_dir}/last.ckpt, weights of the last epoch: gate.rule=last"
    change(run_dir, gate__rule="best")
    best = load(run_dir)
    assert best.source == f"{run_dir}/best.ckpt, weights of the best epoch: gate.rule=best"
    assert load(run_dir / "last.ckpt").source == f"{run_dir}/last.ckpt"


def test_the_network_is_the_one_that_was_trained(trained_run: Path) -> None:
    trained = load(trained_run)
    test = read_data(trained.cfg, nn.Identity()).splits["test"]
    assert (trained.net(test.images).argmax(1) == test.labels).double().mean() > 0.95
    assert not trained.net.training


def test_a_configuration_from_before_a_key_existed_will_do(run_dir: Path) -> None:
    cfg = OmegaConf.load(run_dir / "config.yaml")
    del cfg["cuda_graph"]
    OmegaConf.save(cfg, run_dir / "config.yaml")
    assert load(run_dir).cfg.cuda_graph is False


def saved(**contents: object) -> bytes:
    torch.save(contents, file := io.BytesIO())
    return file.getvalue()


OTHER = saved(state_dict={f"net.{name}": value for name, value in Net2().state_dict().items()})
NO_CONFIG = r"config\.yaml: holds no run's configuration, by which the network is built: "


@pytest.mark.parametrize(
    ("file", "content", "model", "message"),
    [
        ("nowhere", None, "nowhere", r"nowhere: there is no such file or folder; name a run directory"),
        ("last.ckpt", None, ".", r"run: there is no last\.ckpt, which gate\.rule=last judges; has the run finished\?"),
        ("last.ckpt", OTHER, ".", r"ckpt: holds the weights of another network than config\.yaml's .*Plan: Missing key"),
        ("last.ckpt", OTHER[:5000], "last.ckpt", r"last\.ckpt: is no checkpoint of a run: "),
        ("last.ckpt", saved(weights=torch.zeros(3)), ".", r"last\.ckpt: is no checkpoint of a run: KeyError: 'state_dict'"),
        ("config.yaml", None, "best.ckpt", NO_CONFIG + "No such file or directory"),
        ("config.yaml", b"- a\n: b", ".", NO_CONFIG),
        ("config.yaml", b"seed: -1", ".", NO_CONFIG + "seed=-1: "),
        ("net.pt2", b"", "net.pt2", r"net\.pt2: torch\.export files can hold code, and are not read; name the run directory"),
    ],
)
def test_bad_input_gets_one_line(
    run_dir: Path, cli: Callable[..., Finished], file: str, content: bytes | None, model: str, message: str
) -> None:
    (run_dir / file).unlink(missing_ok=True)
    if content is not None:
        (run_dir / file).write_bytes(content)
    assert re.search(message, one_error(cli("predict", run_dir / model, "picture.png"), 2))


class Own(nn.Sequential):
    """A network of a user's own."""

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(784, 10))


def test_a_network_of_ones_own_needs_trust(run_dir: Path) -> None:
    change(run_dir, model={"_target_": f"{__name__}.Own"})
    torch.save({"state_dict": {f"net.{name}": value for name, value in Own().state_dict().items()}}, run_dir / "last.ckpt")
    with pytest.raises(ConfigError, match="give --trust"):
        load(run_dir)
    assert load(run_dir, trust=True).sizes["params"] == 7850


def test_images_are_normalised_as_in_training_and_older_runs_as_ever(run_dir: Path) -> None:
    cfg = OmegaConf.load(run_dir / "config.yaml")
    for key in ("data.mean", "data.std", "callbacks", "scheduler.interval"):  # which older runs do not have
        group, _, name = key.rpartition(".")
        del (cfg[group] if group else cfg)[name]
    OmegaConf.save(cfg, run_dir / "config.yaml")
    older = load(run_dir).net
    assert (older.mean, older.std) == (0.1307, 0.3081)
    change(run_dir, data__mean=0.25, data__std=0.5)
    newer = load(run_dir).net
    assert (newer.mean, newer.std) == (0.25, 0.5)
    images = torch.randint(256, (3, 28, 28), dtype=torch.uint8)
    torch.testing.assert_close(newer(images), newer.net((images[:, None] / 255 - 0.25) / 0.5))
