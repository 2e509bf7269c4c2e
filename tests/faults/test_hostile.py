"""Files from a stranger, in the place of a run or a model: refused in one line, nothing of them run, nothing written."""

import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from mnist_lightning.config.build import KINDS, refuse_strangers
from mnist_lightning.config.compose import CONF_DIR, compose_config
from mnist_lightning.config.errors import ConfigError
from mnist_lightning.inference.load import load, load_data, with_places_of_here
from mnist_lightning.training import checkpoints, resume
from mnist_lightning.training.fit import run
from tests.conftest import TINY, Finished, one_error
from tests.faults.conftest import Trials
from tests.inference.test_load import change

Cli = Callable[..., Finished]


@pytest.fixture(scope="module")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a second."""
    directory = tmp_path_factory.mktemp("small") / "run"
    run(compose_config(*TINY), directory)
    return directory


@pytest.fixture
def run_dir(small_run: Path, tmp_path: Path) -> Path:
    """A copy of it, for a stranger to change."""
    shutil.copytree(small_run, tmp_path / "run")
    return tmp_path / "run"


def contents(directory: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in directory.rglob("*") if path.is_file()}


# --- code in checkpoints ------------------------------------------------------------------------------------------------


class Planted:
    """A pickle that makes a file when it is loaded without care."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (Path.touch, (self.mark,))


def plant(path: Path, mark: Path, form: str) -> None:
    """Makes a checkpoint one that would make a file, in one of the forms that torch reads."""
    if form == "plain pickle":
        path.write_bytes(pickle.dumps({"state_dict": Planted(mark)}))
        return
    changed = {"weights": {"state_dict": Planted(mark)}, "optimizer": {"optimizer_states": [Planted(mark)]}}[form]
    torch.save(torch.load(path, weights_only=True) | changed, path)


@pytest.mark.parametrize(
    ("command", "form"),
    [
        *(("evaluate", form) for form in ("weights", "plain pickle", "optimizer")),
        *((command, "weights") for command in ("predict", "export", "draw", "reproduce")),
    ],
)
def test_code_in_a_checkpoint_is_not_run(run_dir: Path, cli: Cli, command: str, form: str) -> None:
    mark = run_dir.parent / "mark"
    plant(run_dir / "last.ckpt", mark, form)
    before = contents(run_dir.parent)
    done = cli(command, run_dir, *(["picture.png"] if command == "predict" else []))
    assert re.search(r"last\.ckpt: is (damaged or holds more than weights|no checkpoint of a run)", one_error(done, 2))
    assert contents(run_dir.parent) == before  # no mark, nothing written
    if form != "plain pickle":
        torch.load(run_dir / "last.ckpt", weights_only=False)
        assert mark.exists()  # it would have


@pytest.mark.parametrize("name", ["last.ckpt", "best.ckpt"])
def test_code_in_a_checkpoint_is_not_gone_on_with(run_dir: Path, name: str) -> None:
    (run_dir / "verdict.json").unlink()
    cfg = compose_config(*TINY, "resume=true")
    shutil.copytree(run_dir, whole := run_dir.parent / "whole")
    assert resume.take_up(whole, cfg).checkpoint == whole / "last.ckpt"
    plant(run_dir / name, mark := run_dir.parent / "mark", "weights")
    assert resume.take_up(run_dir, cfg).checkpoint is None
    assert (run_dir / "set-aside-1" / name).exists()
    assert not mark.exists()


def test_a_changed_byte_of_a_checkpoint_is_seen(small_run: Path, tmp_path: Path, trials: Trials) -> None:
    """torch reads most of them without complaint."""
    whole = (small_run / "last.ckpt").read_bytes()
    expected = bytes_of_weights(small_run / "last.ckpt")
    path, refused = tmp_path / "last.ckpt", 0
    for trial in trials("hostile files", few=20, all=500):
        damaged = bytearray(whole)
        damaged[trial.rng.randrange(len(whole))] ^= 1 << trial.rng.randrange(8)
        path.write_bytes(damaged)
        try:
            assert bytes_of_weights(path) == expected  # it lay between the members
        except ConfigError:
            refused += 1
    assert refused > 0


def bytes_of_weights(path: Path) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in checkpoints.read(path)["state_dict"].items()}


def test_a_checkpoint_names_no_file_to_remove(tmp_path: Path) -> None:
    """Lightning removes what was the best checkpoint, by the path that the resumed checkpoint has for it."""
    callback = checkpoints.EpochCheckpoint(tmp_path, "best", monitor="test/acc")
    theirs, score = str(tmp_path / "victim"), torch.tensor(0.5)
    paths = {"best_model_path": theirs, "kth_best_model_path": theirs, "last_model_path": theirs, "dirpath": theirs}
    callback.load_state_dict(callback.state_dict() | paths | {"best_k_models": {theirs: score}})
    ours = str(tmp_path / "best.ckpt")
    assert (callback.best_model_path, callback.kth_best_model_path, callback.dirpath) == (ours, ours, str(tmp_path))
    assert (callback.best_k_models, callback.last_model_path) == ({ours: score}, "")


# --- code in configurations ---------------------------------------------------------------------------------------------


def touching(mark: Path) -> dict[str, object]:
    """A node of a configuration that makes a file when Hydra builds it."""
    return {"_target_": "pathlib.Path.touch", "_args_": [{"_target_": "pathlib.Path", "_args_": [str(mark)]}]}


@pytest.fixture(scope="module")
def composed() -> DictConfig:
    return compose_config(*TINY)


@pytest.mark.parametrize("place", ["itself", "argument", "reference"])
def test_other_code_is_refused_wherever_it_is_named(composed: DictConfig, tmp_path: Path, place: str) -> None:
    for group in KINDS:
        cfg = composed.copy()
        if place == "itself":
            OmegaConf.update(cfg, f"{group}._target_", "pathlib.Path.touch", force_add=True)
        elif place == "argument":
            OmegaConf.update(cfg, f"{group}.more", [touching(tmp_path / "mark")], force_add=True)
        else:  # to what would change before anything is built
            more = {"_target_": "${.${pictures}}", "none": "pathlib.Path.touch"}
            OmegaConf.update(cfg, f"{group}.more", more, force_add=True)
        with pytest.raises(ConfigError, match=rf"^{group}\.\S+=pathlib\.Path\.touch: does not come with .*give --trust"):
            refuse_strangers(cfg)
        assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("command", ["evaluate", "reproduce"])
def test_a_run_that_names_other_code_is_not_used(run_dir: Path, cli: Cli, command: str) -> None:
    change(run_dir, model__more=touching(run_dir.parent / "mark"))
    before = contents(run_dir.parent)
    line = one_error(cli(command, run_dir), 2)
    assert line.startswith("model.more._target_=pathlib.Path.touch: does not come with this project"), line
    assert contents(run_dir.parent) == before


@pytest.mark.parametrize(
    "target",
    [
        "tests.nowhere.Net",
        "torch.nn.Linear",
        "mnist_lightning.models",
        "mnist_lightning.modelsx.Net",
        "mnist_lightning.models.net3.nn.Linear",
        "mnist_lightning.models.layers.batchnorm.torch.hub.load",
        "mnist_lightning.inference.load.load_data",  # a function
    ],
)
def test_only_classes_that_this_project_defines_are_its_own(composed: DictConfig, target: str) -> None:
    cfg = composed.copy()
    cfg.data._target_ = target
    with pytest.raises(ConfigError, match=rf"^data\._target_={re.escape(target)}: does not come with .*give --trust"):
        load_data(cfg)


def test_every_choice_of_this_project_needs_no_trust() -> None:
    choices = {group: [path.stem for path in (CONF_DIR / group).glob("*.yaml")] for group in KINDS if "." not in group}
    for number in range(max(map(len, choices.values()))):
        chosen = [f"{group}={names[number % len(names)]}" for group, names in choices.items()]
        refuse_strangers(compose_config(*chosen))


def test_a_configuration_in_yaml_builds_nothing(run_dir: Path, cli: Cli) -> None:
    with (run_dir / "config.yaml").open("a", encoding="utf-8") as file:
        file.write("label: !!python/object/apply:os.mkdir [mark]\n")
    assert "python/object/apply:os.mkdir" in one_error(cli("evaluate", run_dir), 2)
    assert not Path("mark").exists()


def test_a_run_says_nothing_of_where_to_download_from() -> None:
    cfg = compose_config("data.root=/stranger", "data.mirrors=[http://stranger.example/]")
    here = with_places_of_here(cfg).data
    assert (here.mirrors, here.root) == (compose_config().data.mirrors, compose_config().data.root)
    assert here.places[0] == "/stranger"  # where the files may lie: only read, and only if they are MNIST


# --- ONNX ---------------------------------------------------------------------------------------------------------------


def onnx_file(path: Path, width: int, external: bool) -> Path:
    """A graph from images to `width` logits, its one tensor in another file if asked."""
    onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("Cast", ["images"], ["grey"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMax", ["grey"], ["most"], axes=[1], keepdims=0),
        helper.make_node("MatMul", ["most", "w"], ["logits"]),
    ]
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", 28, 28])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", width])
    weights = helper.make_tensor("w", TensorProto.FLOAT, [28, width], bytes(4 * 28 * width), raw=True)
    graph = helper.make_graph(nodes, "net", [images], [logits], initializer=[weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"config": OmegaConf.to_yaml(compose_config(*TINY), resolve=True), "parameters": "10"})
    options: dict[str, Any] = {"save_as_external_data": True, "location": "secret.bin", "size_threshold": 0}
    onnx.save(model, path, **(options if external else {}))
    return path


def test_an_onnx_file_that_is_no_network_of_this_project_is_refused(tmp_path: Path, cli: Cli) -> None:
    path = tmp_path / "net.onnx"
    assert load(onnx_file(path, 10, external=False)).sizes["params"] == 10  # what is refused below is not the frame
    elsewhere = one_error(cli("evaluate", onnx_file(path, 10, external=True)), 2)
    assert elsewhere.startswith(f"{path}: cannot be read as an ONNX file: its weights lie in other files")
    one_logit = one_error(cli("evaluate", onnx_file(path, 1, external=False)), 2)
    assert one_logit.startswith(f"{path}: does not map images uint8 (N, 28, 28) to logits (N, 10)")
