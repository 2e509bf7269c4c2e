"""Exported files do what the network does, by themselves, and are refused where they do not."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mnist_lightning.data.datamodule import SyntheticDataModule
from mnist_lightning.export.grey_values import GreyValues
from mnist_lightning.export.onnx_file import ExportError
from mnist_lightning.inference import export
from mnist_lightning.inference.load import load, load_data
from tests.conftest import Finished, one_error, read_verdict
from tests.inference.test_load import change

onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
pytest.importorskip("onnxscript", reason="the extra onnx is not installed")
# Of the exporters' own calls.
pytestmark = [pytest.mark.filterwarnings("ignore::DeprecationWarning"), pytest.mark.filterwarnings("ignore::FutureWarning")]


def exported(trained_run: Path, path: Path, int8: bool = False) -> str:
    """Writes an ONNX file; returns what is said of it."""
    trained = load(trained_run)
    return export.export(trained, load_data(trained.cfg), "onnx", int8, path)


@pytest.fixture(scope="module")
def file(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained network as ONNX, and beside it what was said of it."""
    path = tmp_path_factory.mktemp("onnx") / "net.onnx"
    path.with_suffix(".txt").write_text(exported(trained_run, path), "utf-8")
    return path


@pytest.fixture(scope="module")
def images() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (7, 28, 28), generator=generator, dtype=torch.uint8)


def test_onnx_takes_grey_values_of_any_number_of_images(file: Path, trained_run: Path, images: Tensor) -> None:
    """By ONNX Runtime alone, without this project's classes."""
    session = onnxruntime.InferenceSession(file)
    assert [(node.name, node.type) for node in session.get_inputs()] == [("images", "tensor(uint8)")]
    for some in (images, images[:1]):
        [logits] = session.run(["logits"], {"images": some.numpy()})
        torch.testing.assert_close(torch.from_numpy(logits), load(trained_run).net(some), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("count", [1, 7])
def test_opencv_reads_any_number_of_images(file: Path, trained_run: Path, images: Tensor, count: int) -> None:
    """As (N, 1, 28, 28): OpenCV 4 takes an array of three dimensions for one picture with channels."""
    cv2 = pytest.importorskip("cv2", reason="opencv-python-headless is not installed")
    net = cv2.dnn.readNetFromONNX(str(file))
    net.setInput(images[:count, None].numpy())
    torch.testing.assert_close(torch.from_numpy(net.forward()), load(trained_run).net(images[:count]), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_torch_export_takes_grey_values_of_any_number_of_images(
    trained_run: Path, tmp_path: Path, images: Tensor, cli: Callable[..., Finished]
) -> None:
    shutil.copytree(trained_run, tmp_path / "run")
    change(tmp_path / "run", data__mean=0.3, data__std=0.2)  # the file normalises as the run did
    done = cli("export", tmp_path / "run" / "last.ckpt", "--format", "torch_export")
    assert done.status == 0, done.err
    path = tmp_path / "run" / "last.pt2"  # beside its checkpoint
    net = torch.export.load(path).module()
    for some in (images, images[:1]):
        torch.testing.assert_close(net(some), load(tmp_path / "run").net(some), rtol=1e-4, atol=1e-4)
    assert path.stat().st_size < 200_000  # and holds no test set


def test_a_file_is_for_old_readers_and_holds_no_batch_norm_and_no_path_of_this_machine(file: Path) -> None:
    model = onnx.load(file)
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("Conv") == 8
    assert "BatchNormalization" not in kinds
    assert "Unsqueeze" not in kinds  # with which OpenCV dies
    assert (model.ir_version, [(one.domain, one.version) for one in model.opset_import]) == (8, [("", 18)])
    assert str(Path(__file__).resolve().parents[2]).encode() not in file.read_bytes()


def test_what_is_said(file: Path) -> None:
    lines = file.with_suffix(".txt").read_text("utf-8").splitlines()
    assert lines[0] == f"{file}: {file.stat().st_size:,} bytes, float32"
    assert lines[2] == "  batch norms  all folded into convolutions"
    assert lines[3].startswith("  compared     same predictions on 200 test images of synthetic, logits differ by at most ")
    assert " ms an image on one thread; " in lines[4]


@pytest.mark.slow
def test_int8_has_integer_weights(trained_run: Path, tmp_path: Path) -> None:
    assert "other predictions on 200 test images" in exported(trained_run, tmp_path / "net.onnx", int8=True)
    weights = [tensor for tensor in onnx.load(tmp_path / "net.onnx").graph.initializer if len(tensor.dims) == 4]
    assert [tensor.data_type for tensor in weights] == [onnx.TensorProto.INT8] * 8


@pytest.mark.slow
def test_the_gate_judges_the_file_that_export_writes(trained_run: Path, tmp_path: Path, cli: Callable[..., Finished]) -> None:
    limits = {"gate__max_multiply_adds": 10**7, "gate__max_file_bytes": 10**7}
    shutil.copytree(trained_run, tmp_path / "run")
    change(tmp_path / "run", **limits)
    sizes = [json.loads(cli("evaluate", "run", "--json").out)]
    assert cli("export", "run", "--int8").status == 0
    sizes.append(json.loads(cli("evaluate", "run/last-int8.onnx", "--json").out))
    assert [size["file_bytes"] for size in sizes] == 2 * [(tmp_path / "run" / "last-int8.onnx").stat().st_size]
    assert [(size["params"], size["multiply_adds"], size["activation_bytes"]) for size in sizes] == 2 * [(7288, 995_632, None)]


def test_an_onnx_file_is_a_model_like_a_run(file: Path, trained_run: Path, cli: Callable[..., Finished]) -> None:
    done = cli("evaluate", file)
    assert (done.status, done.err) == (0, "")
    assert f"accuracy     {100 * read_verdict(trained_run)['accuracy']:.2f} %" in done.out
    assert "parameters   7,288" in done.out


class Shifted(nn.Module):
    """Answers with another digit."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images).roll(1, 1)


def test_a_file_that_answers_otherwise_gets_no_name(
    file: Path, trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "write_onnx", lambda *args: shutil.copy(file, args[-1]))
    trained = load(trained_run)
    other = replace(trained, net=GreyValues(Shifted(trained.net.net)))
    with pytest.raises(ExportError, match=r"^200 predictions of 200 test images of synthetic differ.*nothing was written$"):
        export.export(other, load_data(trained.cfg), "onnx", False, tmp_path / "net.onnx")
    assert list(tmp_path.iterdir()) == []


def test_int8_below_its_accuracy_is_refused_with_the_figure(trained_run: Path) -> None:
    trained = load(trained_run)
    data = load_data(trained.cfg)
    assert isinstance(data, SyntheticDataModule)
    message = r"^--int8: test accuracy \d\.\d\d % is below 99\.30 % \(float32: \d+\.\d\d %\); nothing was written"
    data.name = "MNIST"
    with pytest.raises(ExportError, match=message):
        export._compare(trained, Shifted(trained.net), data, int8=True)


def test_nothing_is_overwritten_and_what_is_no_onnx_file_refused(
    trained_run: Path, tmp_path: Path, cli: Callable[..., Finished]
) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(b"precious")
    line = one_error(cli("export", trained_run, "--out", path), 2)
    assert line == f"{path}: exists already and is not overwritten; name another file with --out FILE"
    assert path.read_bytes() == b"precious"
    assert one_error(cli("predict", path, "a.png"), 2).startswith(f"{path}: cannot be read as an ONNX file: ")


def test_what_does_not_go_together_is_refused(file: Path, trained_run: Path, cli: Callable[..., Finished]) -> None:
    line = one_error(cli("export", trained_run, "--int8", "--format", "torch_export"), 2)
    assert line == "--int8: is for --format onnx, not for --format torch_export; leave one of them out"
    line = one_error(cli("export", file), 2)
    assert line == f"{file}: is exported already; name a run directory or a checkpoint"
