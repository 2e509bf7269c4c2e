"""Exported files do what the network does, by themselves, and are refused where they do not."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mnist_lightning.data.datamodule import SyntheticDataModule
from mnist_lightning.inference import export
from mnist_lightning.inference.export import ExportError
from mnist_lightning.inference.load import load, load_data
from tests.conftest import Finished, read_verdict

onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
pytest.importorskip("onnxscript", reason="the extra onnx is not installed")
# Of the exporters' own calls.
pytestmark = [pytest.mark.filterwarnings("ignore::DeprecationWarning"), pytest.mark.filterwarnings("ignore::FutureWarning")]


@pytest.fixture(scope="module")
def files(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the trained network in every format, and what was said of it."""
    folder = tmp_path_factory.mktemp("files")
    trained = load(trained_run)
    data = load_data(trained.cfg)
    for name, file_format, int8 in (
        ("net.onnx", "onnx", False),
        ("int8.onnx", "onnx", True),
        ("net.pt2", "torch_export", False),
    ):
        said = export.export(trained, data, file_format, int8, folder / name)
        (folder / name).with_suffix(".txt" if not int8 else ".int8").write_text(said, "utf-8")
    return folder


@pytest.fixture(scope="module")
def images() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (7, 28, 28), generator=generator, dtype=torch.uint8)


def test_onnx_takes_grey_values_of_any_number_of_images(files: Path, trained_run: Path, images: Tensor) -> None:
    """By ONNX Runtime alone, without this project's classes."""
    session = onnxruntime.InferenceSession(files / "net.onnx")
    assert [(node.name, node.type) for node in session.get_inputs()] == [("images", "tensor(uint8)")]
    for some in (images, images[:1]):
        [logits] = session.run(["logits"], {"images": some.numpy()})
        torch.testing.assert_close(torch.from_numpy(logits), load(trained_run).net(some), rtol=1e-4, atol=1e-4)


def test_torch_export_takes_grey_values_of_any_number_of_images(files: Path, trained_run: Path, images: Tensor) -> None:
    net = torch.export.load(files / "net.pt2").module()
    for some in (images, images[:1]):
        torch.testing.assert_close(net(some), load(trained_run).net(some), rtol=1e-4, atol=1e-4)
    assert (files / "net.pt2").stat().st_size < 200_000  # and holds no test set


def test_files_hold_no_batch_norm_and_no_path_of_this_machine(files: Path) -> None:
    model = onnx.load(files / "net.onnx")
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("Conv") == 8
    assert "BatchNormalization" not in kinds
    for name in ("net.onnx", "int8.onnx"):
        assert str(Path(__file__).resolve().parents[1]).encode() not in (files / name).read_bytes()


def test_what_is_said(files: Path) -> None:
    lines = (files / "net.txt").read_text("utf-8").splitlines()
    assert lines[0] == f"{files}/net.pt2: {(files / 'net.pt2').stat().st_size:,} bytes, float32"
    assert lines[2] == "  batch norms  all folded into convolutions"
    assert lines[3].startswith("  compared     same predictions on 200 test images of synthetic, logits differ by at most ")
    assert " ms an image on one thread; " in lines[4]
    assert "other predictions on 200 test images" in (files / "int8.int8").read_text("utf-8")


def test_int8_has_integer_weights(files: Path) -> None:
    model = onnx.load(files / "int8.onnx")
    assert (
        sum(weights.data_type == onnx.TensorProto.INT8 and len(weights.dims) == 4 for weights in model.graph.initializer) == 8
    )


def test_an_onnx_file_is_a_model_like_a_run(files: Path, trained_run: Path, cli: Callable[..., Finished]) -> None:
    done = cli("evaluate", files / "net.onnx")
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


def test_a_file_that_answers_otherwise_gets_no_name(trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "fold", lambda net: Shifted(net))
    trained = load(trained_run)
    with pytest.raises(ExportError, match=r"^200 predictions of 200 test images of synthetic differ.*nothing was written$"):
        export.export(trained, load_data(trained.cfg), "torch_export", False, tmp_path / "net.pt2")
    assert list(tmp_path.iterdir()) == []


def test_int8_below_its_accuracy_is_refused_with_the_figure(trained_run: Path) -> None:
    trained = load(trained_run)
    data = load_data(trained.cfg)
    assert isinstance(data, SyntheticDataModule)
    message = r"^--int8: test accuracy \d\.\d\d % is below 99\.30 % \(float32: \d+\.\d\d %\); nothing was written"
    data.name = "MNIST"
    with pytest.raises(ExportError, match=message):
        export._compare(trained.net, Shifted(trained.net), data, int8=True)


def test_nothing_is_overwritten(trained_run: Path, tmp_path: Path, cli: Callable[..., Finished]) -> None:
    (tmp_path / "a.onnx").write_bytes(b"precious")
    done = cli("export", trained_run, "--out", tmp_path / "a.onnx")
    assert (done.status, done.err) == (
        2,
        f"error: {tmp_path}/a.onnx: exists already and is not overwritten; name another file with --out FILE\n",
    )
    assert (tmp_path / "a.onnx").read_bytes() == b"precious"


def another_network(folder: Path) -> Path:
    class Double(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return 2 * images

    torch.onnx.export(Double().eval(), (torch.zeros(2, 3),), folder / "a.onnx", input_names=["x"], dynamo=True, verbose=False)
    return folder / "a.onnx"


def no_onnx(folder: Path) -> Path:
    (folder / "a.onnx").write_bytes(b"no graph at all")
    return folder / "a.onnx"


@pytest.mark.parametrize(
    ("make", "message"),
    [(no_onnx, "cannot be read as an ONNX file"), (another_network, r"does not map images uint8")],
)
def test_other_onnx_files_are_refused(
    tmp_path: Path, cli: Callable[..., Finished], make: Callable[[Path], Path], message: str
) -> None:
    done = cli("predict", make(tmp_path), "a.png")
    assert done.status == 2
    [line] = [line for line in done.err.splitlines() if line.startswith("error")]
    assert re.match(rf"error: {tmp_path}/a\.onnx: {message}", line)


def test_what_does_not_go_together_is_refused(files: Path, trained_run: Path, cli: Callable[..., Finished]) -> None:
    done = cli("export", trained_run, "--int8", "--format", "torch_export")
    assert done.err == "error: --int8: is for --format onnx, not for --format torch_export; leave one of them out\n"
    again = cli("export", files / "net.onnx")
    assert again.err == f"error: {files}/net.onnx: is exported already; name a run directory or a checkpoint\n"
    assert (done.status, again.status) == (2, 2)


def test_the_file_lies_beside_its_checkpoint(trained_run: Path, tmp_path: Path, cli: Callable[..., Finished]) -> None:
    shutil.copytree(trained_run, tmp_path / "run")
    done = cli("export", tmp_path / "run" / "best.ckpt", "--format", "torch_export")
    assert (done.status, (tmp_path / "run" / "best.pt2").exists()) == (0, True), done.err
