"""docs/notebook.ipynb, executed by Jupyter's kernel, and what only a kernel shows: interrupts, errors in a line, a bar."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import start_new_kernel
from nbclient import NotebookClient

from tests.conftest import TINY, assert_same_weights

CHECKOUT = Path(__file__).resolve().parent.parent.parent
NOTEBOOK = nbformat.read(CHECKOUT / "docs" / "notebook.ipynb", as_version=4)
CODE = [cell for cell in NOTEBOOK.cells if cell.cell_type == "code"]
INSTALL = "%pip install -q mnist-lightning"
TIMEOUT_S = 240


def test_the_notebook_has_ten_cells_begins_with_its_installation_and_keeps_no_outputs() -> None:
    assert len(CODE) == 10
    assert CODE[0].source == INSTALL
    assert not any(cell.outputs or cell.execution_count for cell in CODE)


@pytest.fixture
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the kernel, a process elsewhere."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(CHECKOUT), os.environ.get("PYTHONPATH", "")]))


@pytest.mark.slow
@pytest.mark.usefixtures("_importable")
def test_the_notebook_goes_to_a_verdict_a_sweep_and_a_drawing(tmp_path: Path) -> None:
    notebook = nbformat.from_dict(NOTEBOOK)
    notebook.cells = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source != INSTALL]
    NotebookClient(notebook, timeout=TIMEOUT_S, resources={"metadata": {"path": str(tmp_path)}}).execute()
    _, run, verdict, epochs, curves, mistakes, sweep, picture, answer = ({}, *map(_outputs, notebook.cells[1:]))
    lines = run["text"].replace("\r", "\n").splitlines()
    assert [sum(line.startswith(f"epoch {number}/4  train loss") for line in lines) for number in range(1, 5)] == [1] * 4
    assert "<b>PASSED  net3 on synthetic, seed 0, 4 epochs" in verdict["text/html"]
    assert "test/acc" in epochs["text/html"]
    assert all("image/png" in cell for cell in (curves, mistakes, picture, answer))
    assert sweep["text/html"].count("<tr") == 1 + 3
    assert "<td>7</td>" in answer["text/html"]


def _outputs(cell: Any) -> dict[str, str]:
    """Of a cell: each kind of what it shows, and the text that it prints."""
    shown: dict[str, str] = {"text": "".join(output.text for output in cell.outputs if output.output_type == "stream")}
    for output in cell.outputs:
        shown |= output.get("data", {})
    return shown


@pytest.fixture
def kernel(_importable: None, tmp_path: Path) -> Iterator[tuple[Any, BlockingKernelClient]]:
    manager, client = start_new_kernel(cwd=str(tmp_path))
    try:
        yield manager, client
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


@pytest.mark.slow
def test_an_interrupted_cell_shows_a_line_and_the_kernel_resumes_the_run(
    kernel: tuple[Any, BlockingKernelClient], tmp_path: Path
) -> None:
    manager, client = kernel
    words = [*TINY[:3], "trainer.max_epochs=3", *TINY[4:], "data.train_images=3200"]
    _execute(client, f"import mnist_lightning as ml\ncfg = ml.compose(*{words!r})\nstraight = ml.run(cfg)")
    client.execute(f"ml.run(ml.compose(*{words!r}, 'hydra.run.dir=stopped'))")
    deadline = time.monotonic() + TIMEOUT_S
    while not (tmp_path / "stopped" / "last.ckpt").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    manager.interrupt_kernel()
    error = client.get_shell_msg(timeout=TIMEOUT_S)["content"]
    assert (error["status"], error["ename"]) == ("error", "Stopped")
    assert error["traceback"] == ["interrupted; the same with resume=True goes on after the last whole epoch"]
    _execute(client, "assert ml.Run('stopped').verdict.status == 'interrupted'")
    _execute(client, f"run = ml.run(ml.compose(*{words!r}, 'hydra.run.dir=stopped'), resume=True)")
    [straight] = (tmp_path / "outputs").rglob("verdict.json")
    assert_same_weights(straight.parent, tmp_path / "stopped")
    error = _execute(client, "ml.compose('optimizer.lr=-1')", "error")
    assert error["traceback"] == ["error: optimizer.lr=-1: input should be greater than 0"]


def _execute(client: BlockingKernelClient, code: str, status: str = "ok") -> dict[str, Any]:
    content: dict[str, Any] = client.execute_interactive(code, timeout=TIMEOUT_S, output_hook=lambda message: None)["content"]
    assert content["status"] == status, content
    return content
