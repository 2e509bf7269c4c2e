"""What a training step costs here: against the published loop and the machine, and by network and batch size."""

import functools
import os
import statistics
import tempfile
from contextlib import ExitStack
from typing import Any

import torch
from omegaconf import DictConfig
from tabulate import tabulate
from torch import nn

from mnist_lightning.benchmark.contestants import CONTESTANTS, WARM_UP, Contestant, evaluation, timed
from mnist_lightning.benchmark.processes import own_process, peak_bytes, run_command
from mnist_lightning.config.build import build
from mnist_lightning.config.compose import compose_config
from mnist_lightning.config.errors import ConfigError
from mnist_lightning.data.datamodule import DigitsDataModule
from mnist_lightning.inference.load import read_data
from mnist_lightning.models.probe import probe
from mnist_lightning.models.summary import summarize
from mnist_lightning.training.compiled import require_compiler
from mnist_lightning.training.environment import device_name, device_of, versions
from mnist_lightning.training.fit import quieten

NETWORKS = ("net1", "net2", "net3")
BATCH_SIZES = (32, 64, 128, 256, 512, 1024, 2048)


def matrix_product_flops(device: torch.device, size: int = 2048) -> float:
    """Floating-point operations per second of a large float32 matrix product: the best of a few, a bound and not a mean."""
    a, b = torch.randn(size, size, device=device), torch.randn(size, size, device=device)
    return 2 * size**3 / min(timed(lambda: a @ b, 1) for _ in range(5))


def step_flops(net: nn.Module, batch_size: int) -> int:
    """Of one training step: a forward and two backward products per multiply-add, the first layer's input gradient left out."""
    # torch's FlopCounterMode takes the backward of depthwise convolutions for that of dense ones.
    layers = [layer.multiply_adds for layer in summarize(net) if layer.multiply_adds]
    return batch_size * 2 * (3 * sum(layers) - layers[0])


def short_run(overrides: list[str], epochs: int) -> dict[str, Any]:
    """Seconds and peak memory of a whole command with one training step an epoch, and all test images after it."""
    with tempfile.TemporaryDirectory() as folder:
        once = [f"trainer.max_epochs={epochs}", "+trainer.limit_train_batches=1", f"hydra.run.dir={folder}/run"]
        seconds, status, output = run_command(*overrides, *once, "gate.on_miss=warn")
    if status:
        raise RuntimeError(f"a run of {epochs} epochs ended with status {status}\n{output}")
    return {"seconds": seconds, "peak_bytes": peak_bytes(of_children=True)}


def compiles(cfg: DictConfig) -> bool:
    """Whether there is what `compile=true` needs."""
    try:
        require_compiler(device_of(str(cfg.trainer.accelerator)))
    except ConfigError:
        return False
    return True


def take_round(name: str, overrides: tuple[str, ...], steps: int) -> tuple[float, int | None]:
    """Seconds of a step of one of `CONTESTANTS` or of "evaluation", and the peak memory of this process so far."""
    return _contestant(name, overrides)(steps), peak_bytes()


@functools.cache
def _contestant(name: str, overrides: tuple[str, ...]) -> Contestant:
    quieten()
    cfg = compose_config(*overrides, "gate.on_miss=warn")
    return (CONTESTANTS | {"evaluation": evaluation})[name](cfg, data_of(cfg), device_of(str(cfg.trainer.accelerator)))


def data_of(cfg: DictConfig) -> DigitsDataModule:
    data = read_data(cfg, build(cfg, "augmentation"))
    if data.num_images("train") < (WARM_UP + 1) * data.batch_size:
        raise ConfigError(f"data.batch_size={data.batch_size}: an epoch must have more than {WARM_UP} steps to be timed")
    return data


def measure(cfg: DictConfig, overrides: list[str], rounds: int, steps: int) -> dict[str, Any]:
    """Runs all rounds and returns every figure of the report."""
    short_runs = {epochs: short_run(overrides, epochs) for epochs in (1, 15)}
    with own_process() as process:
        names = [name for name in CONTESTANTS if name != "compiled" or process.submit(compiles, cfg).result()]
    taken: dict[str, list[tuple[float, int | None]]] = {name: [] for name in (*names, "evaluation")}
    with ExitStack() as stack:
        # Before this process reads data of its own: on Linux, a process's peak is at least that of the one that started it.
        processes = {name: stack.enter_context(own_process()) for name in taken}
        for _ in range(rounds):
            for name, process in processes.items():
                each = 1 if name == "evaluation" else steps
                taken[name].append(process.submit(take_round, name, tuple(overrides), each).result())
    net, data, device = probe(build(cfg, "model")), data_of(cfg), device_of(str(cfg.trainer.accelerator))
    seconds = {name: statistics.median(s for s, _ in of_rounds) for name, of_rounds in taken.items()}
    ours = seconds["this project"]
    steps_per_epoch = len(data.train_dataloader())
    training = ours * steps_per_epoch
    return {
        "network": type(net).__name__,
        "batch_size": data.batch_size,
        "rounds": rounds,
        "steps": steps,
        "steps_per_epoch": steps_per_epoch,
        "flop_per_step": step_flops(net, data.batch_size),
        "flops_of_matrix_product": matrix_product_flops(device),
        "short_runs": short_runs,
        "contestants": {
            name: {"s_per_step": [s for s, _ in taken[name]], "peak_bytes": [peak for _, peak in taken[name]]} for name in names
        },
        "ratios": {
            **{f"this project / {name}": ours / seconds[name] for name in ("compiled", "bfloat16") if name in names},
            "published loop / this project": seconds["published loop"] / ours,
            "this project / bare loop": ours / seconds["bare loop"],
            "this project / floor": ours / seconds["floor: fixed batch"],
            "epoch with evaluation / training alone": (training + seconds["evaluation"]) / training,
        },
    } | environment(cfg)


def text(report: dict[str, Any]) -> str:
    """The report as a table for the terminal."""
    head = ("", "ms/step", "lowest", "highest", "× bound", "images/s", "s/epoch", "peak MB")
    flop, flops = report["flop_per_step"], report["flops_of_matrix_product"]
    rows: list[list[Any]] = []
    for name, figures in report["contestants"].items():
        of_rounds, peak = figures["s_per_step"], figures["peak_bytes"][-1]
        s = statistics.median(of_rounds)
        rows.append([name, 1000 * s, 1000 * min(of_rounds), 1000 * max(of_rounds), s * flops / flop])
        rows[-1] += [report["batch_size"] / s, s * report["steps_per_epoch"], peak and peak / 1e6]
    rows.append(["FLOP bound", 1000 * flop / flops])
    parts = [
        f"{report['network']}, batch {report['batch_size']}, {report['rounds']} interleaved rounds of {report['steps']} steps",
        tabulate(rows, head, floatfmt=("", ".1f", ".1f", ".1f", ".1f", ",.0f", ".1f", ",.0f")),
        f"FLOP bound: {flop / 1e9:.2f} GFLOP a step at {flops / 1e9:.0f} GFLOPS of a float32 matrix product",
        tabulate(report["ratios"].items(), tablefmt="plain", floatfmt=".2f"),
    ]
    for epochs, run in report["short_runs"].items():
        memory = f", peak {run['peak_bytes'] / 1e6:,.0f} MB" if run["peak_bytes"] else ""
        parts.append(f"a command of {epochs} epochs of one step and an evaluation: {run['seconds']:.1f} s{memory}")
    return "\n".join([*parts, where(report)])


def measure_cost(overrides: list[str], rounds: int, steps: int) -> dict[str, Any]:
    """Milliseconds per step of this project for every network and batch size: the median over the rounds."""
    ms: dict[str, dict[int, float]] = {network: {} for network in NETWORKS}
    for network in NETWORKS:
        for batch_size in BATCH_SIZES:
            words = (*overrides, f"model={network}", f"data.batch_size={batch_size}")
            each = max(5, steps * 32 // batch_size)  # large batches have few steps in an epoch
            with own_process() as process:
                of_rounds = [process.submit(take_round, "this project", words, each).result()[0] for _ in range(rounds)]
            ms[network][batch_size] = 1000 * statistics.median(of_rounds)
    return {"ms_per_step": ms} | environment(compose_config(*overrides))


def cost_text(report: dict[str, Any]) -> str:
    """The cost table for the terminal: batch sizes down, networks across."""
    columns = report["ms_per_step"]
    head = ["batch", *(f"{network}, {unit}" for network in columns for unit in ("ms/step", "images/s"))]
    rows = [[batch, *(x for ms in columns.values() for x in (ms[batch], 1000 * batch / ms[batch]))] for batch in BATCH_SIZES]
    return f"{tabulate(rows, head, floatfmt=('', *('.1f', ',.0f') * len(columns)))}\n{where(report)}"


def environment(cfg: DictConfig) -> dict[str, Any]:
    """What the figures were measured on and with."""
    device = device_of(str(cfg.trainer.accelerator))
    return {"device": device_name(device), "cores": os.cpu_count(), "versions": versions(cfg)}


def where(report: dict[str, Any]) -> str:
    """The report's last line."""
    return f"on {report['device']} of {report['cores']} cores; {report['versions']}"
