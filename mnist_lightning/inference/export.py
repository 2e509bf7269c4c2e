"""A trained network as one file that runs without this project: `images` uint8 `(N, 28, 28)` in, `logits` `(N, 10)` out."""

import contextlib
import io
import logging
import statistics
import textwrap
import timeit
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from mnist_lightning.config.errors import ConfigError, UserError
from mnist_lightning.data.datamodule import DigitsDataModule
from mnist_lightning.evaluation.run_directories import read_run
from mnist_lightning.evaluation.verdict import percent
from mnist_lightning.files import replacing
from mnist_lightning.inference import weights
from mnist_lightning.inference.fold import fold
from mnist_lightning.inference.load import GreyValues, OnnxNetwork, Trained, without_places

INT8_COST = 0.001  # of the gate's accuracy, that eight bits may cost on its data set
CALIBRATION_IMAGES = 1000  # of the training set, by which the ranges of int8 are chosen
BATCH = 250  # images
ANY_NUMBER = {"images": {0: torch.export.Dim("N", max=2**31 - 1)}}  # torch 2.6 exports no dimension without a bound
OPSET, IR_VERSION = 18, 8  # of ONNX files: what ONNX Runtime 1.15 reads
MAX_SAID = 90  # characters of torch's message
TOLERANCE = 1e-3  # of the largest logit; single precision sums in another order, no more


class ExportError(UserError, RuntimeError):
    """The network cannot be exported, or the file does not do what the network does; none is left."""


def export(trained: Trained, data: DigitsDataModule, file_format: str, int8: bool, path: Path) -> str:
    """Writes a network of a checkpoint as "onnx" or "torch_export", compares both on all test images, says what it found.

    Raises:
        ConfigError: The file exists, or a library is missing.
        ExportError: The file predicts otherwise than the network, or with int8 falls by more than INT8_COST below the gate.
    """
    _refuse_existing(path)
    assert isinstance(trained.net, GreyValues)
    folded = GreyValues(fold(trained.net.net)).eval().requires_grad_(False)
    images = data.splits["test"].images[:2].clone()  # a view would take the whole test set into the file
    with replacing(path) as part:
        if file_format == "onnx":
            with _exporting(trained):
                _write_onnx(folded, images, part)
            if int8:
                _quantize(part, data)
            _complete(part, trained)
            exported: nn.Module = OnnxNetwork(part, num_threads=1)
        else:
            with _exporting(trained):
                torch.export.save(torch.export.export(folded, (images,), dynamic_shapes=ANY_NUMBER), part)
            exported = torch.export.load(part).module()  # written a moment ago: safe to read
        compared = _compare(trained, exported, data, int8)
    own_ms, exported_ms = (_latency_ms(run, images[:1]) for run in (trained.net, exported))
    return "\n".join(
        [
            f"{path}: {path.stat().st_size:,} bytes, {'int8' if int8 else 'float32'}",
            "  input        images uint8 (N, 28, 28), light on black; output: logits (N, 10)",
            f"  batch norms  {_batch_norms(trained.net, folded)}",
            f"  compared     {compared}",
            f"  latency      {exported_ms:.3f} ms an image on one thread; {own_ms:.3f} ms by PyTorch",
        ]
    )


def save_weights(trained: Trained, path: Path) -> str:
    """Writes the network of a finished run as safetensors, with what is known of the run; says what the file holds.

    Raises:
        ConfigError: The file exists, or the directory holds no finished run.
    """
    _refuse_existing(path)
    assert isinstance(trained.net, GreyValues)
    run = read_run(trained.path.parent)
    if not run.finished:
        raise ConfigError(
            f"{trained.path.parent}: holds no finished run ({run.why or run.status}); name one that has a verdict"
        )
    facts = {name: str(run.verdict[name]) for name in ("accuracy", "dataset", "seed", "epochs", "params")}
    notes = {
        "config": OmegaConf.to_yaml(without_places(trained.cfg)),
        "code": str(run.verdict["versions"].get("code")),
        **facts,
    }
    weights.write(path, trained.net.net.state_dict(), notes)
    reached = f"{percent(run.verdict['accuracy'])} test accuracy on {facts['dataset']}, seed {facts['seed']}"
    return f"{path}: {path.stat().st_size:,} bytes, float32\n  network      {facts['params']} parameters, {reached}"


def _refuse_existing(path: Path) -> None:
    if path.exists():
        raise ConfigError(f"{path}: exists already and is not overwritten; name another file with --out FILE")


@contextlib.contextmanager
def _exporting(trained: Trained) -> Iterator[None]:
    """An ExportError in a line where torch cannot export a network, of which torch would tell in hundreds of lines."""
    told = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    except UserError:  # a library is missing
        raise
    except Exception as error:
        cause = error.__cause__ or error
        said = textwrap.shorten(str(cause).strip().splitlines()[0], MAX_SAID, placeholder=" …")
        name = str(trained.cfg.model._target_).rpartition(".")[2]
        raise ExportError(f"{name} cannot be exported; its forward must not branch on values of tensors: {said}") from error
    finally:
        logging.disable(told)


def _batch_norms(net: nn.Module, folded: nn.Module) -> str:
    before, left = (sum(isinstance(module, nn.BatchNorm2d) for module in one.modules()) for one in (net, folded))
    if left:
        return f"{left} of {before} left, which no convolution can take over"
    return "all folded into convolutions" if before else "none"


def _write_onnx(net: nn.Module, images: Tensor, part: Path) -> None:
    try:
        import onnxruntime  # noqa: F401  # what reads it, and quantizes
        import onnxscript  # noqa: F401  # what torch.onnx.export writes its operators with
    except ImportError as error:
        raise ConfigError(f"--format onnx: {error.name} is missing; pip install 'mnist-lightning[onnx]'") from None
    kept: dict[str, Any] = {"input_names": ["images"], "output_names": ["logits"], "opset_version": OPSET, "verbose": False}
    if torch.torch_version.TorchVersion(torch.__version__) >= "2.9":
        torch.onnx.export(net, (images,), part, **kept, dynamic_shapes=ANY_NUMBER, dynamo=True, external_data=False)
    else:  # what was the default until then: today's onnxscript does not work with the new one of that time
        torch.onnx.export(net, (images,), part, **kept, dynamic_axes={"images": {0: "N"}, "logits": {0: "N"}}, dynamo=False)


def _quantize(part: Path, data: DigitsDataModule) -> None:
    from onnxruntime import quantization

    batches = iter(data.splits["train"].images[:CALIBRATION_IMAGES].split(BATCH))
    reader = SimpleNamespace(get_next=lambda: next(({"images": images.numpy()} for images in batches), None))
    quantization.quant_pre_process(part, part, skip_symbolic_shape=True)
    quantization.quantize_static(part, part, reader, per_channel=True)


def _complete(part: Path, trained: Trained) -> None:
    """Adds to an ONNX file what `evaluate` needs of the run."""
    import onnx

    model = onnx.load(part)
    model.ir_version = IR_VERSION
    del model.opset_import[1:]  # the quantizer notes domains that no node is of, and that older versions refuse
    for node in model.graph.node:  # the exporter notes where in which source file each comes from, half of the bytes
        del node.metadata_props[:]
    notes = {"parameters": str(trained.params), "frozen": str(trained.frozen_params)}
    onnx.helper.set_model_props(model, {"config": OmegaConf.to_yaml(without_places(trained.cfg)), **notes})
    onnx.save(model, part)


def _compare(trained: Trained, exported: nn.Module, data: DigitsDataModule, int8: bool) -> str:
    """What differs on the test images, in words; an ExportError where it is too much."""
    test = data.splits["test"]
    before, after = (torch.cat([run(images) for images in test.images.split(BATCH)]) for run in (trained.net, exported))
    largest = float((before - after).abs().max())
    changed = int((before.argmax(1) != after.argmax(1)).sum())
    accuracies = [float((logits.argmax(1) == test.labels).double().mean()) for logits in (before, after)]
    on = f"{len(test):,} test images of {data.name}"
    if int8:
        limit = trained.cfg.gate.min_accuracy - INT8_COST
        if data.name == trained.cfg.gate.dataset and accuracies[1] < limit:
            raise ExportError(
                f"--int8: test accuracy {percent(accuracies[1])} is below {percent(limit)} "
                f"(float32: {percent(accuracies[0])}); nothing was written, export without --int8"
            )
        return f"accuracy {percent(accuracies[1])}, float32 {percent(accuracies[0])}; {changed} other predictions on {on}"
    if changed or not largest <= TOLERANCE * float(before.abs().max()):
        raise ExportError(f"{changed} predictions of {on} differ, logits by up to {largest:.1e}; nothing was written")
    return f"same predictions on {on}, logits differ by at most {largest:.1e}"


def _latency_ms(run: nn.Module, image: Tensor) -> float:
    """Median wall time of one image on one thread, of 100 after 10 that warm up."""
    # Not torch.utils.benchmark: where a CUDA toolkit is installed and no GPU, its import warns of that.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.inference_mode():
        times_s = timeit.repeat(lambda: run(image), repeat=110, number=1)
    torch.set_num_threads(threads)
    return 1000 * statistics.median(times_s[10:])
