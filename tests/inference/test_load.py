"""A trained network is found and loaded, and nothing that lies in its place is run."""

import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from mnist_lightning.config.errors import ConfigError
from mnist_lightning.inference.load import load, load_data
from mnist_lightning.models import Net2
from tests.conftest import Finished


@pytest.fixture
def run_dir(trained_run: Path, tmp_path: Path) -> Path:
    """A copy of the trained run, to be damaged."""
    shutil.copytree(trained_run, tmp_path / "run")
    return tmp_path / "run"


def change(run_dir: Path, **values: object) -> None:
    """Sets values in a run's config.yaml, `__` in place of the dots."""
    cfg = OmegaConf.load(run_dir / "config.yaml")
    for key, value in values.items():
        OmegaConf.update(cfg, key.replace("__", "."), value, force_add=True)
    OmegaConf.save(cfg, run_dir / "config.yaml")


class Planted:
    """A pickle that makes a file when it is loaded without care."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (Path.touch, (self.mark,))


def test_a_run_directory_gives_what_its_rule_judges(run_dir: Path) -> None:
    last = load(run_dir)
    assert (last.path, last.params) == (run_dir / "last.ckpt", 7288)
    assert last.source == f"{run_dir}/last.ckpt, weights of the last epoch: gate.rule=last"
    change(run_dir, gate__rule="best")
    best = load(run_dir)
    assert best.source == f"{run_dir}/best.ckpt, weights of the best epoch: gate.rule=best"
    assert load(run_dir / "last.ckpt").source == f"{run_dir}/last.ckpt"


def test_the_network_is_the_one_that_was_trained(trained_run: Path) -> None:
    trained = load(trained_run)
    test = load_data(trained.cfg).splits["test"]
    assert (trained.net(test.images).argmax(1) == test.labels).double().mean() > 0.95
    assert not trained.net.training


def test_a_configuration_from_before_a_key_existed_will_do(run_dir: Path) -> None:
    cfg = OmegaConf.load(run_dir / "config.yaml")
    del cfg["cuda_graph"]
    OmegaConf.save(cfg, run_dir / "config.yaml")
    assert load(run_dir).cfg.cuda_graph is False


def without_checkpoint(run_dir: Path) -> Path:
    (run_dir / "last.ckpt").unlink()
    return run_dir


def without_config(run_dir: Path) -> Path:
    (run_dir / "config.yaml").unlink()
    return run_dir / "best.ckpt"


def of_another_network(run_dir: Path) -> Path:
    state = {f"net.{name}": value for name, value in Net2().state_dict().items()}
    torch.save({"state_dict": state}, run_dir / "last.ckpt")
    return run_dir


def cut_off(run_dir: Path) -> Path:
    path = run_dir / "last.ckpt"
    path.write_bytes(path.read_bytes()[:5000])
    return path


def no_lightning(run_dir: Path) -> Path:
    torch.save({"weights": torch.zeros(3)}, run_dir / "last.ckpt")
    return run_dir


def text_for_config(run_dir: Path) -> Path:
    (run_dir / "config.yaml").write_text("- a\n: b", "utf-8")
    return run_dir


def broken_rule(run_dir: Path) -> Path:
    change(run_dir, gate__min_accuracy=99.4)
    return run_dir


def torch_export(run_dir: Path) -> Path:
    (run_dir / "net.pt2").touch()
    return run_dir / "net.pt2"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run_dir: run_dir / "nowhere", r"nowhere: there is no such file or folder; name a run directory"),
        (without_checkpoint, r"run: there is no last\.ckpt, which gate\.rule=last judges; has the run finished\?"),
        (without_config, r"config\.yaml: there is no such file, .*; name a run directory"),
        (of_another_network, r"last\.ckpt: holds the weights of another network than config\.yaml's .*TwoPool: Missing key"),
        (cut_off, r"last\.ckpt: is no checkpoint of a run: \w+Error: "),
        (no_lightning, r"last\.ckpt: is no checkpoint of a run: KeyError: 'state_dict'"),
        (text_for_config, r"config\.yaml: cannot be used as a run's configuration"),
        (broken_rule, r"config\.yaml: .*gate\.min_accuracy=99\.4: gate\.min_accuracy must be"),
        (torch_export, r"net\.pt2: torch\.export files can hold code, and are not read; name the run directory"),
    ],
)
def test_bad_input_gets_one_line(
    run_dir: Path, cli: Callable[..., Finished], damage: Callable[[Path], Path], message: str
) -> None:
    done = cli("predict", damage(run_dir), "picture.png")
    assert done.status == 2
    assert re.fullmatch(rf"error: .*{message}.*\n", done.err), done.err


@pytest.mark.parametrize("zipped", [True, False], ids=["as torch saves", "plain pickle"])
def test_a_pickle_with_code_is_refused_and_not_run(run_dir: Path, zipped: bool) -> None:
    mark, path = run_dir / "mark", run_dir / "last.ckpt"
    if zipped:
        torch.save({"state_dict": Planted(mark)}, path)
    else:
        path.write_bytes(pickle.dumps({"state_dict": Planted(mark)}))
    with pytest.raises(ConfigError, match=r"last\.ckpt: .*more than weights, code perhaps; nothing of it was run"):
        load(run_dir)
    assert not mark.exists()
    torch.load(path, weights_only=False) if zipped else pickle.loads(path.read_bytes())
    assert mark.exists()  # it would have


@pytest.mark.parametrize(
    "target",
    [
        "pathlib.Path.touch",
        "tests.nowhere.Net",
        "torch.nn.Linear",
        "mnist_lightning.models.net3.nn.Linear",
        "mnist_lightning.models.net3.Tensor",
        "mnist_lightning.models.layers.batchnorm.torch.hub.load",
        "mnist_lightning.models",
        "mnist_lightning.modelsx.Net",
    ],
)
def test_a_configuration_that_names_anything_else_is_refused(run_dir: Path, target: str) -> None:
    change(run_dir, model___target_=target)
    with pytest.raises(ConfigError, match=rf"^model\._target_={re.escape(target)}: is no class of .*give --trust"):
        load(run_dir)


def test_a_class_that_a_module_of_ours_only_imports_is_refused(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnist_lightning.models.net3.Linear", nn.Linear, raising=False)
    change(run_dir, model___target_="mnist_lightning.models.net3.Linear")
    with pytest.raises(ConfigError, match=r"is no class of .*give --trust"):
        load(run_dir)


def test_an_argument_of_the_network_builds_nothing(run_dir: Path) -> None:
    mark = run_dir / "mark"
    cfg = OmegaConf.load(run_dir / "config.yaml")
    cfg.model.num_classes = {"_target_": "pathlib.Path.touch", "_args_": [{"_target_": "pathlib.Path", "_args_": [str(mark)]}]}
    OmegaConf.save(cfg, run_dir / "config.yaml")
    with pytest.raises(ConfigError, match="takes no num_classes"):
        load(run_dir)
    assert not mark.exists()


def test_data_of_another_project_is_refused(trained_run: Path) -> None:
    cfg = load(trained_run).cfg
    cfg.data._target_ = "pathlib.Path.touch"
    with pytest.raises(ConfigError, match=r"^data\._target_=pathlib\.Path\.touch: is no class of mnist_lightning\.data"):
        load_data(cfg)


class Own(nn.Sequential):
    """A network of a user's own."""

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(784, 10))


def test_a_network_of_ones_own_needs_trust(run_dir: Path) -> None:
    cfg = OmegaConf.load(run_dir / "config.yaml")
    cfg.model = {"_target_": f"{__name__}.Own"}
    OmegaConf.save(cfg, run_dir / "config.yaml")
    torch.save({"state_dict": {f"net.{name}": value for name, value in Own().state_dict().items()}}, run_dir / "last.ckpt")
    with pytest.raises(ConfigError, match="give --trust"):
        load(run_dir)
    assert load(run_dir, trust=True).params == 7850
