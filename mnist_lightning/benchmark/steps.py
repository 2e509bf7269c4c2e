"""`python -m mnist_lightning benchmark`: what a training step costs here, against the published loop and against the machine.

Five contestants take the same number of steps with the same network and batch size, each in a process of its own, in
interleaved rounds of one run, so that what else the machine does falls on all alike; a figure is the median over the rounds.
Overrides as for `mnist_lightning` (`model=net1 data.batch_size=256`), and `rounds=`, `steps=`, `out=` of its own. `table=cost`
measures this project alone, over networks and batch sizes; `table=sweep` what sweeps cost, up to one of `jobs=` jobs.
"""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

import torch
from omegaconf import DictConfig
from torch import nn

from mnist_lightning.benchmark.contestants import CONTESTANTS, InProcess, read_data, timed
from mnist_lightning.config.build import build
from mnist_lightning.config.compose import compose_config
from mnist_lightning.models.summary import summarize
from mnist_lightning.training.environment import device_name, device_of, versions

OWN_OPTIONS = {"rounds": 5, "steps": 40, "jobs": 64}
TABLES = ("contestants", "cost", "sweep")
NETWORKS = ("net1", "net2", "net3")
BATCH_SIZES = (32, 64, 128, 256, 512, 1024, 2048)


# --- what the machine could do ------------------------------------------------------------------------------------------


def matrix_product_flops(device: torch.device, size: int = 2048) -> float:
    """Floating-point operations per second of a large float32 matrix product: the best of a few, a bound and not a mean."""
    a, b = torch.randn(size, size, device=device), torch.randn(size, size, device=device)

    def product() -> None:
        (a @ b).sum().item()  # waits for the device

    return 2 * size**3 / min(timed(product, 1) for _ in range(5))


def step_flops(net: nn.Module, batch_size: int) -> int:
    """Of one training step: a forward and two backward products per multiply-add, the first layer's input gradient left out."""
    layers = [layer.multiply_adds for layer in summarize(net) if layer.multiply_adds]
    return batch_size * 2 * (3 * sum(layers) - layers[0])


def short_run(overrides: list[str], epochs: int) -> tuple[float, float]:
    """Seconds and peak resident bytes of a whole command with one training step an epoch, and all test images after it."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "mnist_lightning", *overrides, f"trainer.max_epochs={epochs}", "gate.on_miss=warn"]
        command += ["+trainer.limit_train_batches=1", f"hydra.run.dir={folder}/run"]
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        seconds = time.perf_counter() - start
    return seconds, max(before, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) * 1024


# --- the report ---------------------------------------------------------------------------------------------------------


def measure(cfg: DictConfig, overrides: list[str], rounds: int, steps: int) -> dict[str, Any]:
    """Runs all rounds and returns every figure of the report."""
    seconds_to_end, resident_bytes = short_run(overrides, epochs=1)
    _, resident_bytes_later = short_run(overrides, epochs=15)
    contestants = {name: InProcess(name, overrides) for name in (*CONTESTANTS, "evaluation")}
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    try:
        for _ in range(rounds):
            for name, contestant in contestants.items():
                each = 1 if name == "evaluation" else steps
                seconds[name].append(contestant.round_of(each) / each)
    finally:
        for contestant in contestants.values():
            contestant.close()
    evaluation_s = statistics.median(seconds.pop("evaluation"))
    net, data, device = build(cfg, "model"), read_data(cfg), device_of(str(cfg.trainer.accelerator))
    flops, peak = step_flops(net, data.batch_size), matrix_product_flops(device)
    steps_per_epoch = -(-data.num_images("train") // data.batch_size)
    median = {name: statistics.median(of_rounds) for name, of_rounds in seconds.items()}
    ours = median["this project"]
    training_s = ours * steps_per_epoch
    return {
        "network": type(net).__name__,
        "batch_size": data.batch_size,
        "rounds": rounds,
        "steps": steps,
        "steps_per_epoch": steps_per_epoch,
        "ms_per_step": {
            name: {"median": 1000 * median[name], "rounds": [1000 * s for s in of_rounds]}
            for name, of_rounds in seconds.items()
        },
        "resident_bytes": {name: contestants[name].peaks_bytes for name in seconds},
        "flop_bound_ms": 1000 * flops / peak,
        "flop_per_step": flops,
        "flops_of_matrix_product": peak,
        "ratios": {
            "published loop / this project": median["published loop"] / ours,
            "typical Lightning / this project": median["typical Lightning"] / ours,
            "this project / bare loop": ours / median["bare loop"],
            "this project / floor": ours / median["floor: fixed batch"],
            "epoch with evaluation / training alone": (training_s + evaluation_s) / training_s,
        },
        "evaluation_s": evaluation_s,
        "one_step_run_s": seconds_to_end,
        "one_step_run_resident_bytes": resident_bytes,
        "15_epochs_resident_bytes": resident_bytes_later,
    } | environment(cfg)


def measure_cost(overrides: list[str], rounds: int, steps: int) -> dict[str, Any]:
    """Milliseconds per step of this project for every network and batch size: the median over the rounds."""
    ms: dict[str, dict[int, float]] = {}
    for network in NETWORKS:
        ms[network] = {}
        for batch_size in BATCH_SIZES:
            each = max(5, steps * 32 // batch_size)  # large batches have few steps in an epoch
            contestant = InProcess("this project", [*overrides, f"model={network}", f"data.batch_size={batch_size}"])
            try:
                seconds = [contestant.round_of(each) for _ in range(rounds)]
            finally:
                contestant.close()
            ms[network][batch_size] = 1000 * statistics.median(seconds) / each
    return {"ms_per_step": ms} | environment(compose_config(*overrides))


def cost_text(report: dict[str, Any]) -> str:
    """The cost table for the terminal: ms/step and images/s, batch sizes down, networks across."""
    columns = report["ms_per_step"]
    lines = ["batch  " + "".join(f"{network:>22}" for network in columns)]
    lines.append("       " + f"{'ms/step':>12}{'images/s':>10}" * len(columns))
    for batch in BATCH_SIZES:
        lines.append(f"{batch:5}  " + "".join(f"{ms[batch]:12.1f}{1000 * batch / ms[batch]:10,.0f}" for ms in columns.values()))
    return "\n".join([*lines, where(report)])


def environment(cfg: DictConfig) -> dict[str, Any]:
    """What the figures were measured on and with."""
    device = device_of(str(cfg.trainer.accelerator))
    return {"device": device_name(device), "cores": os.cpu_count(), "versions": versions()}


def where(report: dict[str, Any]) -> str:
    """The report's last line."""
    return f"on {report['device']} of {report['cores']} cores; {report['versions']}"


def text(report: dict[str, Any]) -> str:
    """The report as a table for the terminal."""
    batch, steps = report["batch_size"], report["steps_per_epoch"]
    lines = [f"{report['network']}, batch {batch}, {report['rounds']} interleaved rounds of {report['steps']} steps"]
    lines.append(f"{'':20} {'ms/step':>8} {'(lowest-highest)':>18} {'images/s':>9} {'s/epoch':>8} {'peak MB':>8}")
    for name, figures in report["ms_per_step"].items():
        ms, spread = figures["median"], f"({min(figures['rounds']):.1f}-{max(figures['rounds']):.1f})"
        megabytes = report["resident_bytes"][name][-1] / 1e6
        line = f"{name:20} {ms:8.1f} {spread:>18} {1000 * batch / ms:9,.0f} {ms * steps / 1000:8.1f} {megabytes:8,.0f}"
        lines.append(line)
    bound, flops = report["flop_bound_ms"], report["flop_per_step"] / 1e9
    peak = report["flops_of_matrix_product"] / 1e9
    lines.append(f"{'FLOP bound':20} {bound:8.1f}   {flops:.2f} GFLOP a step at {peak:.0f} GFLOPS of a float32 matrix product")
    lines += [f"{ratio:42} {value:6.2f}" for ratio, value in report["ratios"].items()]
    megabytes = report["one_step_run_resident_bytes"] / 1e6
    lines.append(
        f"a whole command of one step and an evaluation: {report['one_step_run_s']:.1f} s, peak {megabytes:,.0f} MB resident; "
        f"of 15 such epochs {report['15_epochs_resident_bytes'] / 1e6:,.0f} MB"
    )
    return "\n".join([*lines, where(report)])
