"""One run on two processes: the same number of steps, every test image once, one verdict."""

import csv
import os
import signal
import sys
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import DataLoader

from mnist_lightning.data.batches import IndexBatches, InMemoryImages
from tests.conftest import finish, read_verdict, spawn, wait_for

RUN = ("data=synthetic", "data.train_images=640", "data.test_images=203", "trainer.max_epochs=2", "gate.on_miss=warn")
RUN += ("trainer=ddp", "trainer.accelerator=cpu", "hydra.run.dir=run")


@pytest.mark.slow
def test_two_processes_train_one_network(tmp_path: Path) -> None:
    done = finish(spawn(*RUN, cwd=tmp_path))
    assert done.status == 0, done.err
    assert done.out.count("NOT JUDGED") == 1
    assert done.out.count("epoch 2/2") == 1
    verdict = read_verdict(tmp_path / "run")
    assert verdict["test_images"] == 203
    correct = verdict["accuracy"] * 203
    assert correct == pytest.approx(round(correct), abs=1e-9)
    rows = list(csv.DictReader((tmp_path / "run" / "metrics.csv").read_text("utf-8").splitlines()))
    assert [row["step"] for row in rows] == ["10", "20"]  # 640 images in batches of 64, whatever the number of processes
    assert float(rows[1]["test/acc"]) == pytest.approx(verdict["accuracy"])
    assert len(list((tmp_path / "run").glob("*tfevents*"))) == 2  # the run's and its verdict's: the first process alone writes
    events = EventAccumulator(str(tmp_path / "run")).Reload()
    assert [event.step for event in events.Scalars("test/acc")] == [1, 2]
    assert "test/confusion_matrix" in events.Tags()["images"]
    resumed = finish(spawn(*RUN, "resume=true", cwd=tmp_path))
    assert (resumed.status, "KEPT" in resumed.out) == (0, True)


@pytest.mark.slow
def test_it_ends_with_the_gates_status(tmp_path: Path) -> None:
    done = finish(spawn(*RUN, "gate.on_miss=fail", "gate.max_params=100", cwd=tmp_path))
    assert done.status == 3
    assert done.out.count("MISSED") == 1


@pytest.mark.torture
@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes of torchrun in /proc")
def test_torchrun_goes_on_after_one_of_its_processes_was_killed(tmp_path: Path) -> None:
    """Each process looks at the directory by itself, and they see the same checkpoint to go on from."""
    command = ("--standalone", "--nproc_per_node=2", "-m", "mnist_lightning", *RUN)
    command += ("trainer.max_epochs=20", "gate.within_epochs=20")
    process = spawn(*command, cwd=tmp_path, module="torch.distributed.run")
    wait_for(process, tmp_path, "last.ckpt")
    *_, last = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text("utf-8").split()
    os.kill(int(last), signal.SIGKILL)
    assert finish(process).status == 1
    done = finish(spawn(*command, "resume=true", cwd=tmp_path, module="torch.distributed.run"))
    assert done.status == 0, done.err
    assert "epoch  1/20" not in done.out
    assert done.out.count("epoch 20/20") == done.out.count("NOT JUDGED") == 1
    assert read_verdict(tmp_path / "run")["epochs"] == 20
    assert not list(tmp_path.rglob("set-aside-*"))


@pytest.mark.parametrize("num_processes", [1, 2, 3, 7])
@pytest.mark.parametrize("num_images", [7, 20, 203])
def test_an_evaluation_counts_every_image_once(num_processes: int, num_images: int) -> None:
    dataset = InMemoryImages(torch.zeros(num_images, 28, 28, dtype=torch.uint8), torch.arange(num_images))
    seen: list[int] = []
    for rank in range(num_processes):
        batches = IndexBatches(dataset, 4, num_replicas=num_processes, rank=rank, shuffle=False)
        loader = DataLoader(dataset, batch_size=None, sampler=batches)
        parts = [labels.tolist() for _, labels in loader]
        assert len(parts) == len(loader)
        seen += [label for part in parts for label in part]
    assert sorted(seen) == list(range(num_images))
