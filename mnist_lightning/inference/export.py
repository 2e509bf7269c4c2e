"""A trained network as one file that runs without this project: `images` uint8 `(N, 28, 28)` in, `logits` `(N, 10)` out."""

import statistics
import timeit
from pathlib import Path

import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from mnist_lightning.config.compose import without_places
from mnist_lightning.config.errors import ConfigError
from mnist_lightning.data.datamodule import DigitsDataModule
from mnist_lightning.evaluation.run_directories import read_run
from mnist_lightning.evaluation.verdict import percent
from mnist_lightning.export.fold import fold
from mnist_lightning.export.grey_values import GreyValues, behind_normalization
from mnist_lightning.export.onnx_file import ANY_NUMBER, BATCH, ExportError, exporting, write_onnx
from mnist_lightning.files import replacing
from mnist_lightning.inference import weights
from mnist_lightning.inference.load import OnnxNetwork, Trained

INT8_COST = 0.001  # of the gate's accuracy, that eight bits may cost on its data set
TOLERANCE = 1e-3  # of the largest logit; single precision sums in another order, no more


def export(trained: Trained, data: DigitsDataModule, file_format: str, int8: bool, path: Path) -> str:
    """Writes a network of a checkpoint as "onnx" or "torch_export", compares both on all test images, says what it found.

    Raises:
        ConfigError: The file exists, or a library is missing.
        ExportError: The file predicts otherwise than the network, or with int8 falls by more than INT8_COST below the gate.
    """
    _refuse_existing(path)
    assert isinstance(trained.net, GreyValues)
    folded = behind_normalization(fold(trained.net.net), trained.cfg)
    images = data.splits["test"].images[:2].clone()  # a view would take the whole test set into the file
    with replacing(path) as part:
        if file_format == "onnx":
            write_onnx(folded, trained.cfg, trained.sizes, data, int8, part)
            exported: nn.Module = OnnxNetwork(part, num_threads=1)
        else:
            with exporting(trained.cfg):
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


def _batch_norms(net: nn.Module, folded: nn.Module) -> str:
    before, left = (sum(isinstance(module, nn.BatchNorm2d) for module in one.modules()) for one in (net, folded))
    if left:
        return f"{left} of {before} left, which no convolution can take over"
    return "all folded into convolutions" if before else "none"


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
