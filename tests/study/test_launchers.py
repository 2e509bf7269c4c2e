"""Sweeps side by side, on this machine and on clusters of it: Slurm by stand-ins for its commands, Ray with two workers."""

import csv
import importlib.util
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import TINY, assert_same_weights, finish, read_verdict, spawn, wait_for

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "sweeps.md").read_text("utf-8")
SWEEP = (*TINY, "trainer.max_epochs=10", "gate.on_miss=warn", "--multirun", "seed=0,1")


def process_of(run: Path) -> int:
    """The process that writes a run's events, which are named after it."""
    newest = max(run.glob("events.*"), key=lambda path: path.stat().st_mtime_ns)
    return int(newest.name.split(".")[-2])


def table(sweep: Path) -> list[dict[str, str]]:
    with (sweep / "leaderboard.csv").open(encoding="utf-8") as file:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]


# --- side by side -------------------------------------------------------------------------------------------------------

TWO_AT_A_TIME = (*SWEEP[:-1], "seed=0,1,2", "sweep.jobs=2", "hydra.sweep.dir=sweep")


def wait_for_two(process: "subprocess.Popen[str]", sweep: Path) -> list[Path]:
    """Waits until two jobs have finished an epoch; returns their directories."""
    deadline = time.monotonic() + 150
    while len(begun := sorted(path.parent for path in sweep.rglob("last.ckpt"))) < 2:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return begun


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to stop a job in order")
def test_a_stop_reaches_every_job_and_a_job_that_dies_ends_no_other(tmp_path: Path) -> None:
    """And the same command goes on, to the weights of a run of its own."""
    process = spawn(*TWO_AT_A_TIME, cwd=tmp_path)
    first, second = wait_for_two(process, tmp_path / "sweep")
    os.kill(process_of(first), signal.SIGKILL)
    wait_for(process, tmp_path / "sweep" / "net3" / "lr-0.015" / "seed-2", "last.ckpt")
    process.send_signal(signal.SIGTERM)
    done = finish(process)
    assert (done.status, "Traceback" in done.err) == (143, False)
    assert not (first / "verdict.json").exists()
    for job in (second, second.parent / "seed-2"):
        assert read_verdict(job)["reasons"] in (["stopped by SIGTERM"], [])  # or it was done
    done = finish(spawn(*TWO_AT_A_TIME, "resume=true", cwd=tmp_path))
    assert (done.status, "3 of 3 jobs finished" in done.out) == (0, True), done.err
    assert finish(spawn(*SWEEP[:-2], first.name.replace("-", "="), "hydra.run.dir=alone", cwd=tmp_path)).status == 0
    assert_same_weights(first, tmp_path / "alone")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to stop a job in order")
def test_jobs_end_with_a_sweep_that_is_killed(tmp_path: Path) -> None:
    process = spawn(*TWO_AT_A_TIME, cwd=tmp_path)
    jobs = wait_for_two(process, tmp_path / "sweep")
    process.kill()
    finish(process)  # and so do its jobs, which print to the same pipes
    assert {read_verdict(job)["status"] for job in jobs} <= {"interrupted", "passed", "missed"}
    assert not list((tmp_path / "sweep").rglob("seed-2"))


# --- Slurm --------------------------------------------------------------------------------------------------------------

SLURM = {
    # Keeps the script, for submitit moves its own, and starts it as the two tasks of an array.
    "sbatch": """cp "$1" "$SCRIPT"; echo Submitted batch job 4711
        for task in 0 1; do
            SLURM_JOB_ID=$((4711 + task)) SLURM_ARRAY_JOB_ID=4711 SLURM_ARRAY_TASK_ID=$task SLURM_JOB_NAME=mnist_lightning \\
            SLURM_NTASKS=1 SLURM_NTASKS_PER_NODE=1 SLURM_JOB_NUM_NODES=1 SLURM_PROCID=0 SLURM_LOCALID=0 SLURM_NODEID=0 \\
            sh "$SCRIPT" >> "$SCRIPT.log" 2>&1 &
        done""",
    "srun": """while [ "${1#--}" != "$1" ]; do [ "$1" = --unbuffered ] || shift; shift; done; exec "$@" """,
    "scontrol": """(sleep 2; sh "$SCRIPT") >> "$SCRIPT.log" 2>&1 &""",  # requeue
    "sacct": """echo 'JobID|State|NodeList'""",
}


@pytest.mark.slow
def test_slurm_gets_the_script_of_the_docs_and_a_preempted_job_goes_on(tmp_path: Path) -> None:
    for name, lines in SLURM.items():
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{lines}\n", "utf-8")
        path.chmod(0o755)
    [command] = re.findall(r"^python -m mnist_lightning (.*submitit_slurm(?:.*\\\n)*.*)", PAGE, re.MULTILINE)
    options = [word for word in shlex.split(command) if word.startswith(("hydra", "resume"))]
    environment = {
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "SCRIPT": str(tmp_path / "sent"),
        "OMP_NUM_THREADS": "",
        "OMP_WAIT_POLICY": "passive",
    }
    sweep = tmp_path / "sweep"
    process = spawn(*SWEEP, *options, f"hydra.sweep.dir={sweep}", cwd=tmp_path, **environment)
    wait_for(process, sweep, "last.ckpt")
    preempted = next(sweep.rglob("last.ckpt")).parent
    os.kill(process_of(preempted), signal.SIGUSR2)
    try:
        done = finish(process)
    finally:
        print((tmp_path / "sent.log").read_text("utf-8"))  # which pytest shows where this fails
    assert done.status == 0, done.err
    assert "2 of 2 jobs finished" in done.out
    verdicts = [read_verdict(path.parent) for path in sweep.rglob("verdict.json")]
    assert [(verdict["epochs"], verdict["device"].rpartition(", ")[2]) for verdict in verdicts] == [(10, "2 threads")] * 2
    [unbroken] = {path.parent for path in sweep.rglob("last.ckpt")} - {preempted}
    # Begun, and gone on with: every process that writes begins files of its own.
    assert len(list(preempted.glob("events.*"))) > len(list(unbroken.glob("events.*")))
    assert not list(sweep.rglob("set-aside-*"))

    def comparable(script: str) -> list[str]:
        return re.sub(r"array=\S+", "array=…", script).strip().splitlines()

    sent = (
        (tmp_path / "sent").read_text("utf-8").replace(str(sweep), "SWEEP_DIR").replace(shlex.quote(sys.executable), "python")
    )
    [documented] = re.findall(r"^```bash\n(#!/bin/bash\n.*?)```", PAGE, re.MULTILINE | re.DOTALL)
    assert comparable(sent) == comparable(documented)


# --- Ray ----------------------------------------------------------------------------------------------------------------


@pytest.mark.ray
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed: make ray")
def test_a_sweep_on_ray_goes_on_after_a_worker_was_killed(tmp_path: Path) -> None:
    """It ends with the table of a sweep that nothing happened to, and runs nothing twice that had finished."""
    four = (*SWEEP, "optimizer.lr=0.01,0.05")
    unbroken = spawn(*four, "hydra.sweep.dir=unbroken", cwd=tmp_path)
    assert finish(unbroken).status == 0
    two_workers = (
        "hydra/launcher=ray",
        "+hydra.launcher.ray.init.num_cpus=2",
        "+hydra.launcher.ray.init.include_dashboard=false",
    )
    environment = {"OMP_NUM_THREADS": "", "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    # For a busy machine: by default workers have a niceness of 15, and 30 s to start.
    environment |= {"RAY_worker_niceness": "0", "RAY_raylet_start_wait_time_s": "120"}

    broken = tmp_path / "broken"
    process = spawn(*four, *two_workers, "hydra.sweep.dir=broken", cwd=tmp_path, **environment)
    wait_for(process, broken, "last.ckpt")
    killed = next(broken.rglob("last.ckpt")).parent
    os.kill(process_of(killed), signal.SIGKILL)
    done = finish(process)
    assert done.status == 1
    assert "3 of 4 jobs finished" in done.out
    assert "the directory holds a run already" in done.err  # Ray starts a lost job again
    finished = {path: path.stat().st_mtime_ns for path in broken.rglob("verdict.json")}
    assert killed / "verdict.json" not in finished
    assert all(read_verdict(path.parent)["device"].endswith(", 1 thread") for path in finished)

    done = finish(spawn(*four, *two_workers, "hydra.sweep.dir=broken", "resume=true", cwd=tmp_path, **environment))
    assert done.status == 0, done.err
    assert "4 of 4 jobs finished" in done.out
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert not list(broken.rglob("set-aside-*"))
    assert table(broken) == table(tmp_path / "unbroken")
