"""Files from a stranger, in the place of a run or a model: refused in one line, nothing of them run, memory bounded."""

import copy
import io
import json
import os
import pickle
import re
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from mnist_lightning.config.compose import compose_config
from mnist_lightning.config.errors import ConfigError
from mnist_lightning.evaluation.run_directories import find_runs, read_epochs, read_run
from mnist_lightning.inference import draw, evaluate, export, predict
from mnist_lightning.inference.load import load, refuse_strangers, with_places_of_here
from mnist_lightning.study import leaderboard, reproduce
from mnist_lightning.training import checkpoints, resume
from mnist_lightning.training.fit import run
from tests.conftest import TINY, Finished
from tests.faults.conftest import Trials
from tests.test_resume import FOUR, run_until, weights
from tests.test_trained import Planted, change

AREA = "hostile files"
MIB = 2**20
Cli = Callable[..., Finished]
COMMANDS: dict[str, tuple[ModuleType, tuple[object, ...]]] = {
    "evaluate": (evaluate, ()),
    "predict": (predict, ("picture.png",)),
    "export": (export, ()),
    "draw": (draw, ("--port", 0)),
    "reproduce": (reproduce, ()),
}


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


@contextmanager
def little_memory(mib: int = 300) -> Iterator[None]:
    """Fails where the process has held so much more for a moment."""

    def read(field: str) -> int:
        status = Path("/proc/self/status").read_text("ascii")
        return int(re.search(rf"^{field}:\s+(\d+) kB", status, re.MULTILINE)[1]) // 1024  # type: ignore[index]

    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("the peak of memory is measured on Linux")
    Path("/proc/self/clear_refs").write_text("5", "ascii")  # forgets the peak so far
    before = read("VmRSS")
    yield
    assert read("VmHWM") - before < mib


def contents(directory: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in directory.rglob("*") if path.is_file()}


# --- code ---------------------------------------------------------------------------------------------------------------


def planted(path: Path, mark: Path, form: str) -> None:
    """A checkpoint that would make a file, in one of the forms that torch reads."""
    whole = torch.load(path, weights_only=True)
    if form == "plain pickle":
        path.write_bytes(pickle.dumps({"state_dict": Planted(mark)}))
    elif form == "weights":
        torch.save(whole | {"state_dict": Planted(mark)}, path)
    else:
        torch.save(whole | {"optimizer_states": [Planted(mark)]}, path)


@pytest.mark.parametrize("form", ["weights", "plain pickle", "optimizer"])
@pytest.mark.parametrize("command", COMMANDS)
def test_code_in_a_checkpoint_is_not_run(run_dir: Path, cli: Cli, trials: Trials, command: str, form: str) -> None:
    for _ in trials(AREA, few=1, all=1):
        mark = run_dir.parent / "mark"
        planted(run_dir / "last.ckpt", mark, form)
        before = contents(run_dir.parent)
        module, more = COMMANDS[command]
        done = cli(module, run_dir, *more)
        assert done.status == 2
        assert re.fullmatch(r"error: .*last\.ckpt: is damaged or holds more than weights, code .*\n", done.err), done.err
        assert contents(run_dir.parent) == before  # no mark, nothing written
        if form != "plain pickle":
            torch.load(run_dir / "last.ckpt", weights_only=False)
            assert mark.exists()  # it would have


@pytest.mark.parametrize("name", ["last.ckpt", "best.ckpt"])
@pytest.mark.parametrize("form", ["weights", "plain pickle", "optimizer"])
def test_code_in_a_checkpoint_is_not_gone_on_with(run_dir: Path, trials: Trials, name: str, form: str) -> None:
    for _ in trials(AREA, few=1, all=1):
        (run_dir / "verdict.json").unlink()
        cfg = compose_config(*TINY, "resume=true")
        shutil.copytree(run_dir, whole := run_dir.parent / "whole")
        assert resume.take_up(whole, cfg).checkpoint == whole / "last.ckpt"
        planted(run_dir / name, mark := run_dir.parent / "mark", form)
        assert resume.take_up(run_dir, cfg).checkpoint is None
        assert (run_dir / "set-aside-1" / name).exists()
        assert not mark.exists()


def test_a_run_starts_over_beside_a_planted_checkpoint(run_dir: Path, trials: Trials) -> None:
    for _ in trials(AREA, few=1, all=1):
        before = weights(run_dir)
        (run_dir / "verdict.json").unlink()
        planted(run_dir / "last.ckpt", mark := run_dir.parent / "mark", "weights")
        assert run(compose_config(*TINY, "resume=true"), run_dir).status == "passed"
        assert all(torch.equal(before[name], values) for name, values in weights(run_dir).items())
        assert not mark.exists()


def touching(mark: Path) -> dict[str, object]:
    """A node of a configuration that makes a file when Hydra builds it."""
    return {"_target_": "pathlib.Path.touch", "_args_": [{"_target_": "pathlib.Path", "_args_": [str(mark)]}]}


@pytest.mark.parametrize("group", ["model", "optimizer", "scheduler", "augmentation", "data", "trainer"])
@pytest.mark.parametrize("place", ["itself", "argument"])
def test_a_run_that_names_other_code_is_not_repeated(run_dir: Path, cli: Cli, trials: Trials, group: str, place: str) -> None:
    for _ in trials(AREA, few=1, all=1):
        mark = run_dir.parent / "mark"
        if place == "itself":
            change(run_dir, **{f"{group}___target_": "pathlib.Path.touch", f"{group}___args_": [str(mark)]})
        else:
            change(run_dir, **{f"{group}__more": [touching(mark)]})
        done = cli("reproduce", run_dir)
        assert done.status == 2
        assert re.fullmatch(rf"error: {group}\.\S+=pathlib\.Path(\.touch)?: does not come with .*give --trust.*\n", done.err)
        assert not mark.exists()


def test_every_choice_of_this_project_is_repeated_without_trust(trials: Trials) -> None:
    for _ in trials(AREA, few=1, all=1):
        groups = ("model", "optimizer", "scheduler", "augmentation", "data", "trainer")
        conf = Path(__file__).parents[2] / "conf"
        for group in groups:
            for path in (conf / group).glob("*.yaml"):
                refuse_strangers(compose_config(f"{group}={path.stem}"))


def test_a_run_says_nothing_of_where_to_download_from(trials: Trials) -> None:
    for _ in trials(AREA, few=1, all=1):
        cfg = compose_config("data.root=/stranger", "data.mirrors=[http://stranger.example/]")
        here = with_places_of_here(cfg).data
        assert (here.mirrors, here.root) == (compose_config().data.mirrors, compose_config().data.root)
        assert here.places[0] == "/stranger"  # where the files may lie: only read, and only if they are MNIST


# --- places -------------------------------------------------------------------------------------------------------------


def test_a_checkpoint_names_no_file_to_remove(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trials: Trials) -> None:
    """Lightning removes what was the best checkpoint, by the path that the resumed checkpoint has for it."""
    for trial in trials(AREA, few=1, all=2):
        directory, victim = tmp_path / f"run{trial.number}", tmp_path / "victim"
        victim.mkdir(exist_ok=True)
        (victim / "file").touch()
        run_until(monkeypatch, directory, 2)
        whole = torch.load(directory / "last.ckpt", weights_only=True)
        [state] = [state for key, state in whole["callbacks"].items() if "test/acc" in key]
        path = f"{state['dirpath']}/../victim"
        state.update(best_model_path=path, kth_best_model_path=path, best_k_models={path: torch.tensor(-1.0)})
        state.update(kth_value=torch.tensor(-1.0), best_model_score=torch.tensor(-1.0))
        torch.save(whole, directory / "last.ckpt")
        assert run(compose_config(*FOUR, "resume=true"), directory).epochs == 4
        assert (victim / "file").exists()
        assert (directory / "best.ckpt").exists()


def test_a_run_that_was_moved_keeps_its_best_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trials: Trials) -> None:
    for _ in trials(AREA, few=1, all=1):
        straight = run(compose_config(*FOUR, "data.val_images=50"), tmp_path / "straight")
        run_until(monkeypatch, tmp_path / "here", 2, "data.val_images=50")
        (tmp_path / "here").rename(tmp_path / "there")
        moved = run(compose_config(*FOUR, "data.val_images=50", "resume=true"), tmp_path / "there")
        assert (moved.accuracy, moved.best_epoch) == (straight.accuracy, straight.best_epoch)
        states = [torch.load(tmp_path / name / "best.ckpt", weights_only=True)["state_dict"] for name in ("straight", "there")]
        assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_an_export_follows_no_link(run_dir: Path, cli: Cli, trials: Trials) -> None:
    for _ in trials(AREA, few=1, all=1):
        victim = run_dir.parent / "victim"
        victim.write_text("mine", "utf-8")
        for name in ("last.part.pt2", "last.pt2.part"):
            (run_dir / name).symlink_to(victim)
        done = cli("export", run_dir, "--format", "torch_export")
        assert done.status == 0, done.err
        assert victim.read_text("utf-8") == "mine"
        assert (run_dir / "last.pt2").stat().st_size > 1000


def test_names_in_an_archive_lead_nowhere(run_dir: Path, cli: Cli, trials: Trials) -> None:
    for _ in trials(AREA, few=1, all=1):
        with zipfile.ZipFile(run_dir / "last.ckpt", "a") as archive:
            archive.writestr("../../escaped", "data")
            archive.writestr("/tmp/escaped-from-a-checkpoint", "data")
        before = contents(run_dir.parent)
        assert cli("evaluate", run_dir).status in (0, 2)
        assert contents(run_dir.parent) == before
        assert not Path("/tmp/escaped-from-a-checkpoint").exists()


# --- bombs --------------------------------------------------------------------------------------------------------------


def deflated(run_dir: Path) -> Path:
    """800 MB of zeros in less than one."""
    path = run_dir / "last.ckpt"
    with zipfile.ZipFile(path) as archive:
        members = {member.filename: archive.read(member) for member in archive.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, stored in members.items():
            archive.writestr(name, bytes(800 * MIB) if name.endswith("data/0") else stored)
    return path


def overlapping(run_dir: Path) -> Path:
    """10,000 members that are all the same bytes."""
    path = run_dir / "last.ckpt"
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/zeros", bytes(MIB))
        largest = archive.getinfo("archive/zeros")
        for number in range(10_000):
            again = copy.copy(largest)
            again.filename = f"archive/{number}"
            archive.filelist.append(again)
    return path


class Bomb:
    """A pickle that weights_only lets pass, and that asks for 3 GB."""

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (bytearray, (3 * 2**30,))


def allocating(run_dir: Path) -> Path:
    torch.save({"state_dict": {"net.bomb": Bomb()}}, run_dir / "last.ckpt")
    return run_dir


def wide(run_dir: Path) -> Path:
    change(run_dir, model__channels=[16_000] * 7)  # a layer of 9.2 GB
    return run_dir


def many_images(run_dir: Path) -> Path:
    change(run_dir, data__test_images=10**12)
    return run_dir


def config(text: str) -> Callable[[Path], Path]:
    def write(run_dir: Path) -> Path:
        with (run_dir / "config.yaml").open("a", encoding="utf-8") as file:
            file.write(text)
        return run_dir

    return write


LAUGHS = "a0: &a0 [ha, ha]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))


def pipe(run_dir: Path) -> Path:
    (run_dir / "config.yaml").unlink()
    os.mkfifo(run_dir / "config.yaml")
    return run_dir


def endless(run_dir: Path) -> Path:
    (run_dir / "config.yaml").unlink()
    (run_dir / "config.yaml").symlink_to("/dev/zero")
    return run_dir


def sparse(run_dir: Path) -> Path:
    os.truncate(run_dir / "config.yaml", 100 * 2**30)
    return run_dir


def checkpoint_pipe(run_dir: Path) -> Path:
    (run_dir / "last.ckpt").unlink()
    os.mkfifo(run_dir / "last.ckpt")
    return run_dir


def exported_program(name: str) -> Callable[[Path], Path]:
    """An archive of torch.export's with a pickle, under any name."""

    def write(run_dir: Path) -> Path:
        path = run_dir / name
        with zipfile.ZipFile(path, "w") as archive:
            for member in ("archive_format", "models/model.json", "data/weights/model.pt", "serialized_state_dict.pt"):
                archive.writestr(member, pickle.dumps(Planted(run_dir.parent / "mark")))
        return path

    return write


@pytest.mark.parametrize(
    ("plant", "message"),
    [
        (deflated, r"last\.ckpt: is no checkpoint .*unpacks to 83\d,\d{3},\d{3} bytes; torch does not compress"),
        (overlapping, r"last\.ckpt: is no checkpoint .*unpacks to 10,\d{3},\d{3},\d{3} bytes; torch does not compress"),
        (allocating, r"last\.ckpt: asks for more memory than its [\d,]+ bytes explain; not read"),
        (checkpoint_pipe, r"last\.ckpt: is no checkpoint of a run: ValueError: it is no regular file"),
        (wide, r"model: mnist_lightning\.models\.Net3 refuses it: .*"),
        (many_images, r"config\.yaml: .*data\.test_images=1000000000000: .* must be an integer from 10 to 100000; .*"),
        (config(LAUGHS), r"config\.yaml: .*config\.yaml repeats \*a0 by reference, which no run does"),
        (config(f"deep: {'[' * 5000}{']' * 5000}\n"), r"config\.yaml: .*config\.yaml is nested more than 20 deep"),
        (config(f"deep: {'{a: ' * 5000}1{'}' * 5000}\n"), r"config\.yaml: .*config\.yaml is nested more than 20 deep"),
        (
            config("label: ${oc.env:HOME}\n"),
            r"config\.yaml: .*config\.yaml holds \$\{oc\.env:HOME\}; a run's configuration is resolved",
        ),
        (config("label: !!python/object/apply:os.mkdir [mark]\n"), r"config\.yaml: .*python/object/apply:os\.mkdir.*"),
        (pipe, r"config\.yaml: .*config\.yaml is no regular file"),
        (endless, r"config\.yaml: .*config\.yaml is no regular file"),
        (sparse, r"config\.yaml: .*config\.yaml is larger than 100,000 bytes, which no run writes"),
        (exported_program("net.pt2"), r"net\.pt2: torch\.export files can hold code, and are not read; .*"),
        (exported_program("last.ckpt"), r"last\.ckpt: is no checkpoint of a run: .*"),
        (exported_program("net.onnx"), r"net\.onnx: cannot be read as an ONNX file: .*"),
    ],
)
def test_a_bomb_is_refused(run_dir: Path, cli: Cli, trials: Trials, plant: Callable[[Path], Path], message: str) -> None:
    for _ in trials(AREA, few=1, all=1):
        model = plant(run_dir)
        before = contents(run_dir.parent)
        start = time.process_time()
        with little_memory():
            done = cli("evaluate", model)
        assert time.process_time() - start < 30
        assert (done.status, len(done.err.splitlines()), done.out) == (2, 1, ""), done.err
        assert re.fullmatch(rf"error: (\S*/)?{message}\n", done.err), done.err
        assert contents(run_dir.parent) == before
        assert not Path("mark").exists()


def test_a_changed_byte_of_a_checkpoint_is_seen(small_run: Path, tmp_path: Path, trials: Trials) -> None:
    """torch reads most of them without complaint."""
    whole = (small_run / "last.ckpt").read_bytes()
    expected = {name: value.tobytes() for name, value in numpy_weights(small_run / "last.ckpt").items()}
    refused = 0
    for trial in trials(AREA, few=20, all=500):
        damaged = bytearray(whole)
        damaged[trial.rng.randrange(len(whole))] ^= 1 << trial.rng.randrange(8)
        path = tmp_path / "last.ckpt"
        path.write_bytes(damaged)
        try:
            found = numpy_weights(path)
        except ConfigError:
            refused += 1
            continue
        assert {name: value.tobytes() for name, value in found.items()} == expected  # it lay between the members
    assert refused > 0


def numpy_weights(path: Path) -> dict[str, Any]:
    return {name: value.numpy() for name, value in checkpoints.read(path)["state_dict"].items()}


# --- what runs leave beside their weights -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("verdict.json", "[" * 5_000_000, r"verdict\.json: .*"),
        ("verdict.json", '{"a":' * 100_000, r"verdict\.json: .*"),
        ("verdict.json", None, r"verdict\.json is larger than 10,000,000 bytes, which no run writes"),
        ("metrics.csv", None, r"metrics\.csv is larger than 10,000,000 bytes, which no run writes"),
        ("metrics.csv", "," * 1_000_000, r"metrics\.csv: not a whole row for each of 1 epochs"),
        ("config.yaml", None, r"config\.yaml is larger than 100,000 bytes, which no run writes"),
        ("config.yaml", LAUGHS, r"config\.yaml repeats \*a0 by reference, which no run does"),
        ("config.yaml", "[" * 50_000, r"config\.yaml is nested more than 20 deep"),
    ],
    ids=["nested verdict", "nested objects", "huge verdict", "huge table", "wide table", "huge config", "laughs", "nested"],
)
def test_a_table_of_runs_lists_one_that_cannot_be_read(
    run_dir: Path, trials: Trials, name: str, text: str | None, why: str
) -> None:
    for _ in trials(AREA, few=1, all=1):
        if text is None:
            os.truncate(run_dir / name, 100 * 2**30)  # takes no room on the disk
        else:
            (run_dir / name).write_text(text, "utf-8")
        with little_memory():
            found = read_run(run_dir)
            if name == "metrics.csv":
                with pytest.raises(ValueError, match="metrics"):
                    read_epochs(run_dir)
        assert found.status == "unreadable"
        assert re.fullmatch(rf"(ValueError|ConfigError): {why}", found.why), found.why
        assert "unreadable" in leaderboard.write(run_dir.parent, find_runs([run_dir.parent]))
        assert resume.take_up(run_dir, compose_config(*TINY)).checkpoint is None


def test_a_nested_record_of_the_surroundings_is_none(run_dir: Path, trials: Trials) -> None:
    for _ in trials(AREA, few=1, all=1):
        (run_dir / "environment.json").write_text('{"versions":' * 100_000, "utf-8")
        assert resume.take_up(run_dir, compose_config(*TINY)).finished is None
        assert (run_dir / "set-aside-1" / "verdict.json").exists()


def test_an_unfinished_table_is_known(run_dir: Path, trials: Trials) -> None:
    """A row whose last figure is cut short looks like a row."""
    for _ in trials(AREA, few=1, all=1):
        whole = (run_dir / "metrics.csv").read_bytes()
        (run_dir / "metrics.csv").write_bytes(whole[:-3])
        with pytest.raises(ValueError, match="a row is cut off"):
            read_epochs(run_dir)


# --- ONNX ---------------------------------------------------------------------------------------------------------------


def onnx_model(nodes: list[Any], *weights_of: Any) -> bytes:
    from onnx import TensorProto, helper

    images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", 28, 28])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "net", [images], [logits], initializer=list(weights_of))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    cfg = OmegaConf.to_yaml(compose_config(*TINY), resolve=True)
    helper.set_model_props(model, {"config": cfg, "parameters": "10"})
    return bytes(model.SerializeToString())


def linear(plus: str) -> list[Any]:
    """Nodes from images to logits `(N, 10)`: ten times their sum, plus a tensor."""
    from onnx import TensorProto, helper

    return [
        helper.make_node("Cast", ["images"], ["grey"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMax", ["grey"], ["most"], axes=[1, 2], keepdims=0),
        helper.make_node("Flatten", ["most"], ["column"]),
        helper.make_node("Add", ["column", plus], ["logits"]),
    ]


def of_another_file() -> bytes:
    from onnx import TensorProto

    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[10], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", "secret.bin"), ("offset", "0"), ("length", "40")):
        weight.external_data.add(key=key, value=value)
    return onnx_model(linear("w"), weight)


def of_another_file_inside_a_node() -> bytes:
    from onnx import TensorProto, helper

    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[10], data_location=TensorProto.EXTERNAL)
    weight.external_data.add(key="location", value="secret.bin")
    return onnx_model([helper.make_node("Constant", [], ["w"], value=weight), *linear("w")])


def huge_constant() -> bytes:
    """10 GB, made when it runs."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    shape = numpy_helper.from_array(np.array([50_000, 50_000], np.int64), "shape")
    one = helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])
    nodes = [helper.make_node("ConstantOfShape", ["shape"], ["huge"], value=one)]
    nodes.append(helper.make_node("ReduceSum", ["huge"], ["w"], keepdims=0))
    return onnx_model(nodes + linear("w"), shape)


def huge_declared() -> bytes:
    from onnx import TensorProto

    return onnx_model(linear("w"), TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2**20, 2**20]))


def one_logit() -> bytes:
    import numpy as np
    from onnx import numpy_helper

    return onnx_model(linear("w"), numpy_helper.from_array(np.zeros(1, np.float32), "w"))


def good() -> bytes:
    import numpy as np
    from onnx import numpy_helper

    return onnx_model(linear("w"), numpy_helper.from_array(np.arange(10, dtype=np.float32), "w"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (of_another_file, r"cannot be read as an ONNX file: its weights lie in other files, which are not read; .*"),
        (of_another_file_inside_a_node, r"cannot be read as an ONNX file: its weights lie in other files, .*"),
        (huge_constant, r"(fails on 100 images|cannot be read as an ONNX file): .*"),
        (huge_declared, r"cannot be read as an ONNX file: .*"),
        (one_logit, r"gives float32 \(100, 1\), not logits float32 \(N, 10\); name a file that `export` wrote"),
    ],
)
def test_a_hostile_onnx_file_is_refused(
    tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch, trials: Trials, make: Callable[[], bytes], message: str
) -> None:
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    for _ in trials(AREA, few=1, all=1):
        monkeypatch.chdir(tmp_path)  # ONNX Runtime looks for other files in the working directory
        (tmp_path / "secret.bin").write_bytes(bytes(40))
        path = tmp_path / "net.onnx"
        path.write_bytes(good())
        assert load(path).params == 10  # what is refused below is not the frame
        path.write_bytes(make())
        with little_memory():
            done = cli("evaluate", path)
        assert (done.status, done.out) == (2, "")
        assert re.fullmatch(rf"error: \S*net\.onnx: {message}\n", done.err), done.err


def test_a_json_of_an_evaluation_is_of_what_was_read(small_run: Path, cli: Cli, trials: Trials) -> None:
    """The same commands take what is no stranger's."""
    for _ in trials(AREA, few=1, all=1):
        done = cli("evaluate", small_run, "--json")
        assert done.status == 0
        assert json.load(io.StringIO(done.out))["params"] == 7496
