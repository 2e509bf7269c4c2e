"""`python -m mnist_lightning.benchmark`: what a training step costs here, against the published loop and against the machine.

Five contestants take the same number of steps with the same network and batch size, in interleaved rounds of one run, so that
what else the machine does falls on all alike; a figure is the median over the rounds. Overrides as for `mnist_lightning`
(`model=net1 data.batch_size=256`), and `rounds=`, `steps=`, `out=` of its own.
"""

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from torch import nn

from mnist_lightning.config import ConfigError, build, check, compose_config, register_resolvers
from mnist_lightning.contestants import CONTESTANTS, silence, timed
from mnist_lightning.data import DigitsDataModule
from mnist_lightning.explain import complain, explain
from mnist_lightning.launch import BAD_CONFIG
from mnist_lightning.summary import summarize
from mnist_lightning.train import assemble, make_gate, quieten, versions

OWN_OPTIONS = {"rounds": 5, "steps": 40}


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


def evaluation_seconds(cfg: DictConfig, data: DigitsDataModule) -> float:
    """Seconds of the project's own evaluation of all test images."""
    with tempfile.TemporaryDirectory() as folder, silence():
        parts = assemble(cfg, Path(folder), make_gate(cfg))
        parts.data.splits = data.splits
        start = time.perf_counter()
        parts.trainer.validate(parts.classifier, datamodule=parts.data, verbose=False)
        return time.perf_counter() - start


def one_step_run(overrides: list[str]) -> tuple[float, float]:
    """Seconds and peak resident bytes of a whole command that takes one training step and evaluates all test images."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "mnist_lightning", *overrides, "trainer.max_epochs=1", "gate.on_miss=warn"]
        command += ["+trainer.limit_train_batches=1", f"hydra.run.dir={folder}/run"]
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        seconds = time.perf_counter() - start
    return seconds, max(before, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) * 1024


# --- the report ---------------------------------------------------------------------------------------------------------


@dataclass
class Result:
    """Milliseconds per step of one contestant, a figure per round."""

    name: str
    rounds_ms: list[float]

    @property
    def ms(self) -> float:
        return statistics.median(self.rounds_ms)


def measure(cfg: DictConfig, overrides: list[str], rounds: int, steps: int) -> dict[str, Any]:
    """Runs all rounds and returns every figure of the report."""
    quieten()
    accelerator = str(cfg.trainer.accelerator)
    use_cuda = accelerator in ("gpu", "cuda") or (accelerator == "auto" and torch.cuda.is_available())
    device = torch.device("cuda" if use_cuda else "cpu")
    seconds_to_end, resident_bytes = one_step_run(overrides)  # first: a child's peak is the largest of all so far
    data: DigitsDataModule = build(cfg, "data", seed=cfg.seed, augmentation=build(cfg, "augmentation"))
    data.prepare_data()
    data.setup("fit")
    contestants = {name: make(cfg, data, device) for name, make in CONTESTANTS.items()}
    results = {name: Result(name, []) for name in contestants}
    for _ in range(rounds):
        for name, round_of in contestants.items():
            results[name].rounds_ms.append(1000 * round_of(steps) / steps)
    flops, peak = step_flops(build(cfg, "model"), data.batch_size), matrix_product_flops(device)
    steps_per_epoch = -(-data.num_images("train") // data.batch_size)
    ours = results["this project"].ms
    training_s = ours * steps_per_epoch / 1000
    evaluation_s = statistics.median(evaluation_seconds(cfg, data) for _ in range(3))
    return {
        "network": type(build(cfg, "model")).__name__,
        "batch_size": data.batch_size,
        "rounds": rounds,
        "steps": steps,
        "steps_per_epoch": steps_per_epoch,
        "ms_per_step": {name: {"median": r.ms, "rounds": r.rounds_ms} for name, r in results.items()},
        "flop_bound_ms": 1000 * flops / peak,
        "flop_per_step": flops,
        "flops_of_matrix_product": peak,
        "ratios": {
            "published loop / this project": results["published loop"].ms / ours,
            "typical Lightning / this project": results["typical Lightning"].ms / ours,
            "this project / bare loop": ours / results["bare loop"].ms,
            "this project / floor": ours / results["floor: fixed batch"].ms,
            "epoch with evaluation / training alone": (training_s + evaluation_s) / training_s,
        },
        "evaluation_s": evaluation_s,
        "one_step_run_s": seconds_to_end,
        "one_step_run_resident_bytes": resident_bytes,
        "machine": {
            "device": torch.cuda.get_device_name() if device.type == "cuda" else cpu_name(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
        },
        "versions": versions(),
    }


def cpu_name() -> str:
    """The processor as Linux names it, or what Python knows of it elsewhere."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text("utf-8").splitlines() if info.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def text(report: dict[str, Any]) -> str:
    """The report as a table for the terminal."""
    batch, steps = report["batch_size"], report["steps_per_epoch"]
    lines = [f"{report['network']}, batch {batch}, {report['rounds']} interleaved rounds of {report['steps']} steps"]
    lines.append(f"{'':20} {'ms/step':>8} {'(lowest-highest)':>18} {'images/s':>9} {'s/epoch':>8}")
    for name, figures in report["ms_per_step"].items():
        ms, spread = figures["median"], f"({min(figures['rounds']):.1f}-{max(figures['rounds']):.1f})"
        lines.append(f"{name:20} {ms:8.1f} {spread:>18} {1000 * batch / ms:9,.0f} {ms * steps / 1000:8.1f}")
    bound, flops = report["flop_bound_ms"], report["flop_per_step"] / 1e9
    peak = report["flops_of_matrix_product"] / 1e9
    lines.append(f"{'FLOP bound':20} {bound:8.1f}   {flops:.2f} GFLOP a step at {peak:.0f} GFLOPS of a float32 matrix product")
    lines += [f"{ratio:42} {value:6.2f}" for ratio, value in report["ratios"].items()]
    megabytes = report["one_step_run_resident_bytes"] / 1e6
    lines.append(
        f"a whole command of one step and an evaluation: {report['one_step_run_s']:.1f} s, {megabytes:,.0f} MB resident"
    )
    machine = report["machine"]
    lines.append(f"on {machine['device']}, {machine['cores']} cores, {machine['threads']} threads; {report['versions']}")
    return "\n".join(lines)


def count_of(key: str, typed: str) -> int:
    if not typed.isdecimal() or int(typed) < 1:
        raise ConfigError(f"{key}={typed}: {key} must be an integer of at least 1; try {key}={OWN_OPTIONS[key]}")
    return int(typed)


def main() -> None:
    """Measures, prints the table, and writes all figures as JSON to `out=` (default `outputs/benchmark.json`)."""
    register_resolvers()
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(
            f"{__doc__}\nUsage: python -m mnist_lightning.benchmark [rounds=5] [steps=40] [out=FILE] [group=choice] [key=value]"
        )
        return
    own = dict(argument.split("=", 1) for argument in sys.argv[1:] if argument.split("=")[0] in {*OWN_OPTIONS, "out"})
    overrides = [argument for argument in sys.argv[1:] if argument.split("=")[0] not in own]
    try:
        counts = {key: count_of(key, own.get(key, str(default))) for key, default in OWN_OPTIONS.items()}
        # The published batch size, so that all contestants do the published work.
        cfg = compose_config("data.batch_size=128", *overrides)
        check(cfg)
    except (ConfigError, HydraException, OmegaConfBaseException) as error:
        complain(explain(error, overrides))
        sys.exit(BAD_CONFIG)
    report = measure(cfg, overrides, **counts)
    print(text(report))
    out = Path(own.get("out", "outputs/benchmark.json"))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
