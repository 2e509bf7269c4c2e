"""Networks as ONNX files that run without this project: `images` uint8 `(N, 28, 28)` in, `logits` `(N, 10)` out."""

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from mnist_lightning.config.compose import without_places
from mnist_lightning.config.errors import ConfigError, UserError, fitted, one_line
from mnist_lightning.data.datamodule import DigitsDataModule
from mnist_lightning.export.fold import fold
from mnist_lightning.export.grey_values import behind_normalization

CALIBRATION_IMAGES = 1000  # of the training set, by which the ranges of int8 are chosen
BATCH = 250  # images
ANY_NUMBER = {"images": {0: torch.export.Dim("N", max=2**31 - 1)}}  # torch 2.6 exports no dimension without a bound
OPSET, IR_VERSION = 18, 8  # of ONNX files: what ONNX Runtime 1.15 reads
SIZE_NOTES = {  # in a file, of the sizes that it does not tell by itself
    **{"params": "parameters", "frozen_params": "frozen"},
    **{name: name for name in ("multiply_adds", "activation_bytes")},
}


class ExportError(UserError, RuntimeError):
    """The network cannot be exported, or the file does not do what the network does; none is left."""


@contextlib.contextmanager
def exporting(cfg: DictConfig) -> Iterator[None]:
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
        name = str(cfg.model._target_).rpartition(".")[2]
        rule = f"{name} cannot be exported; its forward must not branch on values of tensors: "
        raise ExportError(fitted(rule, one_line(cause))) from error
    finally:
        logging.disable(told)


def int8_bytes(net: nn.Module, cfg: DictConfig, sizes: Mapping[str, int], data: DigitsDataModule) -> int:
    """Size of the file that `export --int8` writes of a network, wherever that is; arguments and errors as of `write_onnx`."""
    plain = fold(net).cpu().float().to(memory_format=torch.contiguous_format)
    # Not in the inference mode that Lightning tests in: torch exports nothing there.
    with torch.inference_mode(False), tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        write_onnx(behind_normalization(plain, cfg), cfg, sizes, data, True, path)
        return path.stat().st_size


def write_onnx(
    net: nn.Module, cfg: DictConfig, sizes: Mapping[str, int], data: DigitsDataModule, int8: bool, path: Path
) -> None:
    """Writes a network of grey values, with the configuration and the sizes of its run, by which `evaluate` judges the file.

    Raises:
        ConfigError: A library is missing.
        ExportError: torch cannot export the network.
    """
    with exporting(cfg):
        _write(net, data.splits["test"].images[:2].cpu(), path)
    if int8:
        _quantize(path, data)
    _complete(path, cfg, sizes)


def _write(net: nn.Module, images: Tensor, part: Path) -> None:
    try:
        import onnxruntime  # noqa: F401  # what reads it, and quantizes
        import onnxscript  # noqa: F401  # what torch.onnx.export writes its operators with
    except ImportError as error:
        raise ConfigError(f"ONNX: {error.name} is missing; pip install 'mnist-lightning[onnx]'") from None
    kept: dict[str, Any] = {"input_names": ["images"], "output_names": ["logits"], "opset_version": OPSET, "verbose": False}
    if torch.torch_version.TorchVersion(torch.__version__) >= "2.9":
        torch.onnx.export(net, (images,), part, **kept, dynamic_shapes=ANY_NUMBER, dynamo=True, external_data=False)
    else:  # what was the default until then: today's onnxscript does not work with the new one of that time
        torch.onnx.export(net, (images,), part, **kept, dynamic_axes={"images": {0: "N"}, "logits": {0: "N"}}, dynamo=False)


def _quantize(part: Path, data: DigitsDataModule) -> None:
    from onnxruntime import quantization

    batches = iter(data.splits["train"].images[:CALIBRATION_IMAGES].cpu().split(BATCH))
    reader = SimpleNamespace(get_next=lambda: next(({"images": images.numpy()} for images in batches), None))
    quantization.quant_pre_process(part, part, skip_symbolic_shape=True)
    quantization.quantize_static(part, part, reader, per_channel=True)


def _complete(part: Path, cfg: DictConfig, sizes: Mapping[str, int]) -> None:
    """Adds to an ONNX file what `evaluate` needs of the run."""
    import onnx

    model = onnx.load(part)
    model.ir_version = IR_VERSION
    del model.opset_import[1:]  # the quantizer notes domains that no node is of, and that older versions refuse
    # What no reader needs and makes most of the bytes: where in which source file a node comes from, its name, known shapes.
    for node in model.graph.node:
        del node.metadata_props[:]
        node.ClearField("name")
    del model.graph.value_info[:]
    notes = {note: str(sizes[name]) for name, note in SIZE_NOTES.items() if name in sizes}
    onnx.helper.set_model_props(model, {"config": OmegaConf.to_yaml(without_places(cfg), resolve=True), **notes})
    onnx.save(model, part)
