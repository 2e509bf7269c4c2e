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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchmetrics.classification import MulticlassAccuracy
from torchvision.transforms import v2

from mnist_lightning.config import CONF_DIR, ConfigError, build, check, register_resolvers
from mnist_lightning.data import MEAN, NUM_CLASSES, STD, Batch, DigitsDataModule
from mnist_lightning.launch import BAD_CONFIG, complain, explain
from mnist_lightning.models.dropout import Dropout
from mnist_lightning.summary import summarize
from mnist_lightning.train import assemble, make_gate, quieten, versions

WARM_UP = 5  # steps of each round that are not timed: workers start, caches fill
WORKERS = 2  # of the contestants that load by worker processes: the fastest number on two cores
OWN_OPTIONS = {"rounds": 5, "steps": 40}


class Clock(L.Callback):
    """Times the steps of one Lightning epoch after the warm-up: from one step's end to the last's."""

    def __init__(self) -> None:
        self.first = self.last = 0.0

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        self.last = time.perf_counter()
        if trainer.fit_loop.epoch_loop.batch_idx == WARM_UP - 1:
            self.first = self.last


def timed(step: Callable[[], object], steps: int) -> float:
    """Seconds of `steps` calls after the warm-up."""
    for _ in range(WARM_UP):
        step()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    return time.perf_counter() - start


# --- the contestants ----------------------------------------------------------------------------------------------------


class PerImage(Dataset[tuple[Tensor, int]]):
    """The published way to data: one PIL image at a time through torchvision's transforms."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels
        self.transform = v2.Compose(
            [
                v2.ToPILImage(),
                v2.ColorJitter(brightness=0.4, contrast=0.4),
                v2.RandomRotation(5),
                v2.ToImage(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize((MEAN,), (STD,)),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.images[index][None]), int(self.labels[index])


def stock_network(cfg: DictConfig) -> nn.Module:
    """The configured network with torch's own dropout."""
    net: nn.Module = build(cfg, "model")
    for name, module in list(net.named_modules()):
        if isinstance(module, Dropout):
            parent = net.get_submodule(name.rpartition(".")[0])
            setattr(parent, name.rpartition(".")[2], nn.Dropout(module.p))
    return net


def published_sgd(net: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(net.parameters(), lr=0.015, momentum=0.9)


def per_image_loader(data: DigitsDataModule) -> DataLoader[Any]:
    dataset = PerImage(data.splits["train"].images, data.splits["train"].labels)
    return DataLoader(dataset, batch_size=data.batch_size, shuffle=True, num_workers=WORKERS, drop_last=True)


def published_loop(cfg: DictConfig, data: DigitsDataModule, device: torch.device) -> Callable[[int], float]:
    """1. The published loop, written out: per-image PIL transforms, workers, stock modules, `.item()` every step."""
    net = stock_network(cfg).to(device).train()
    optimizer, loader = published_sgd(net), per_image_loader(data)

    def round_of(steps: int) -> float:
        batches, losses = endless(loader), []

        def step() -> None:
            images, targets = next(batches)
            images, targets = images.to(device), targets.to(device)
            optimizer.zero_grad()
            loss = F.cross_entropy(net(images), targets)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())

        return timed(step, steps)

    return round_of


class TypicalModule(L.LightningModule):
    """A LightningModule as tutorials write it: torchmetrics, and loss and accuracy logged every step."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.accuracy = MulticlassAccuracy(NUM_CLASSES, average="micro")

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        images, targets = batch
        logits = self.net(images)
        loss = F.cross_entropy(logits, targets)
        self.accuracy(logits, targets)
        self.log("train_loss", loss, on_step=True, on_epoch=True, prog_bar=True)
        self.log("train_acc", self.accuracy, on_step=True, on_epoch=True, prog_bar=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return published_sgd(self.net)


def typical_lightning(cfg: DictConfig, data: DigitsDataModule, device: torch.device) -> Callable[[int], float]:
    """2. A usual Lightning set-up: transforms in the dataset, workers, torchmetrics, a log entry every step."""

    def round_of(steps: int) -> float:
        clock = Clock()
        with tempfile.TemporaryDirectory() as folder:
            trainer = L.Trainer(
                accelerator=device.type,
                devices=1,
                max_epochs=1,
                limit_train_batches=steps + WARM_UP,
                log_every_n_steps=1,
                callbacks=[clock],
                default_root_dir=folder,
                enable_model_summary=False,
                enable_progress_bar=sys.stderr.isatty(),
            )
            trainer.fit(TypicalModule(stock_network(cfg)), per_image_loader(data))
        return clock.last - clock.first

    return round_of


def this_project(cfg: DictConfig, data: DigitsDataModule, device: torch.device) -> Callable[[int], float]:
    """3. This project as a user runs it: gate, epoch table, checkpoints, events, the configured augmentation."""

    def round_of(steps: int) -> float:
        clock, gate = Clock(), make_gate(cfg)
        gate.on_miss = "warn"
        with tempfile.TemporaryDirectory() as folder, silence():
            parts = assemble(cfg, Path(folder), gate)
            parts.data.splits = data.splits  # read once for all contestants
            parts.trainer.limit_train_batches = steps + WARM_UP
            parts.trainer.limit_val_batches = 1
            parts.trainer.fit_loop.max_epochs = 1
            parts.trainer.callbacks.append(clock)  # type: ignore[attr-defined]
            parts.trainer.fit(parts.classifier, datamodule=parts.data)
        return clock.last - clock.first

    return round_of


def bare_loop(cfg: DictConfig, data: DigitsDataModule, device: torch.device) -> Callable[[int], float]:
    """4. The same batches, augmentation, network and optimizer as 3, in a loop without Lightning that logs nothing."""
    net = build(cfg, "model").to(device).train()
    optimizer = build(cfg, "optimizer")(net.parameters())
    loader = data.train_dataloader()

    def round_of(steps: int) -> float:
        batches = endless(loader)

        def step() -> None:
            images, targets = (tensor.to(device) for tensor in next(batches))
            images = (data.augmentation(images[:, None].float()) / 255 - MEAN) / STD
            loss = F.cross_entropy(net(images), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        return timed(step, steps)

    return round_of


def fixed_batch(cfg: DictConfig, data: DigitsDataModule, device: torch.device) -> Callable[[int], float]:
    """5. The floor: forward, backward and optimizer on one batch that lies ready."""
    net = build(cfg, "model").to(device).train()
    optimizer = build(cfg, "optimizer")(net.parameters())
    images = torch.randn(data.batch_size, 1, 28, 28, device=device)
    targets = torch.randint(NUM_CLASSES, (data.batch_size,), device=device)

    def step() -> None:
        loss = F.cross_entropy(net(images), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return lambda steps: timed(step, steps)


CONTESTANTS = {
    "published loop": published_loop,
    "typical Lightning": typical_lightning,
    "this project": this_project,
    "bare loop": bare_loop,
    "floor: fixed batch": fixed_batch,
}


def endless(loader: DataLoader[Any]) -> Iterator[Any]:
    while True:
        yield from loader


@contextmanager
def silence() -> Iterator[None]:
    """Keeps the line per epoch of the timed runs out of the table."""
    stdout = sys.stdout
    with Path(os.devnull).open("w", encoding="utf-8") as sys.stdout:
        try:
            yield
        finally:
            sys.stdout = stdout


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
        with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
            # The published batch size, so that all contestants do the published work.
            cfg = compose("config", overrides=["data.batch_size=128", *overrides])
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
