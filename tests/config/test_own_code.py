"""A class in a file of the user's own: what is wrong with it is a line; its files are part of what a result depends on."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mnist_lightning.config.compose import compose_config
from mnist_lightning.config.own_code import own_files
from mnist_lightning.training.environment import code_hash
from tests.conftest import TINY, Finished, one_error, read_verdict

Cli = Callable[..., Finished]

GOOD = """
from torch import nn
from my_parts import hidden

class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(784, hidden), nn.Linear(hidden, 10))
"""
OWN = ("~model.channels", "~model.dropout", "model._target_=my_file.Net")
HEAD = "from torch import nn\nclass Net(nn.Module):\n    def __init__(self):\n        "
WRONG = {
    "calls sys.exit": ("import sys\nsys.exit(0)\n", "cannot be imported: SystemExit: 0 (my_file.py, line 2)"),
    "lacks an import": ("import torch\nimport nosuch\n", "cannot be imported: No module named 'nosuch' (my_file.py, line 2)"),
    "is no Python": ("class Net(\n", "cannot be imported: SyntaxError: '(' was never closed (my_file.py, line 1)"),
    "raises": ("1 / 0\n", "cannot be imported: ZeroDivisionError: division by zero (my_file.py, line 1)"),
    "raises without words": ("assert False\n", "cannot be imported: AssertionError (my_file.py, line 1)"),
    "has no such class": ("class Other: pass\n", "cannot be imported: module 'my_file' has no attribute 'Net'"),
    "another file does": ("import my_parts\n", "cannot be imported: RuntimeError: no (my_parts.py, line 3)"),
    "its constructor exits": (f"{HEAD}exit(0)\n", "my_file.Net refuses it: SystemExit: 0 (my_file.py, line 4)"),
    "its constructor raises": (f"{HEAD}{{}}['a']\n", "my_file.Net refuses it: KeyError: 'a' (my_file.py, line 4)"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_what_is_wrong_with_a_file_is_one_line(cli: Cli, fault: str) -> None:
    code, why = WRONG[fault]
    Path("my_file.py").write_text(code, "utf-8")
    Path("my_parts.py").write_text("\n\nraise RuntimeError('no')\n", "utf-8")
    for command in ((), ("summary",)):
        line = one_error(cli(*command, *TINY, *OWN), 2)
        assert line.startswith("model")
        assert why in line
        assert len(line) <= 190


def test_the_way_out_is_that_of_the_fault(cli: Cli) -> None:
    """A file that is elsewhere, one with a fault, a name that it has not."""
    Path("my_file.py").write_text("import nowhere\n", "utf-8")
    Path("my_other.py").write_text("", "utf-8")
    for target, way_out in {
        "my_files.Net": "type the command where my_files.py lies, or install my_files",
        "my_file.Net": "No module named 'nowhere' (my_file.py, line 1); mend that line",
        "my_other.Net": "module 'my_other' has no attribute 'Net'; give a class's import path",
    }.items():
        assert one_error(cli("summary", *OWN[:2], f"model._target_={target}"), 2).endswith(way_out)


def test_a_sweep_and_an_evaluation_say_it_too(cli: Cli, tmp_path: Path) -> None:
    Path("my_parts.py").write_text("hidden = 3\n", "utf-8")
    Path("my_file.py").write_text(GOOD, "utf-8")
    Path("my_other.py").write_text("raise SystemExit(0)\n", "utf-8")
    sweep = cli("-m", *TINY, *OWN[:2], "model._target_=my_other.Net,my_file.Net", "hydra.sweep.dir=sweep")
    assert sweep.status == 2
    assert sweep.err.startswith("error: model._target_=my_other.Net: cannot be imported: SystemExit: 0 (my_other.py, line 1)")
    assert "1 of 2 jobs finished" in sweep.out
    [run] = [path.parent for path in tmp_path.glob("sweep/**/last.ckpt")]
    (run / "config.yaml").write_text((run / "config.yaml").read_text("utf-8").replace("my_file", "my_other"), "utf-8")
    assert "(my_other.py, line 1)" in one_error(cli("evaluate", run, "--trust"), 2)


def test_a_network_in_a_package_is_found_by_its_whole_path(cli: Cli) -> None:
    Path("my_nets/deep").mkdir(parents=True)
    Path("my_nets/deep/net.py").write_text(GOOD.replace("from my_parts", "from ..parts"), "utf-8")
    Path("my_nets/parts.py").write_text("hidden = 3\n", "utf-8")
    words = (*OWN[:2], "model._target_=my_nets.deep.net.Net")
    assert cli("summary", *words).status == 0
    assert [path.as_posix() for path in map(Path, map(os.path.relpath, own_files(compose_config(*words))))] == [
        "my_nets/deep/net.py",
        "my_nets/parts.py",
    ]


# --- what a result depends on -------------------------------------------------------------------------------------------


def test_the_code_is_that_of_all_own_files_and_of_no_other(cli: Cli) -> None:
    Path("my_parts.py").write_text("hidden = 3\n", "utf-8")
    Path("my_file.py").write_text(GOOD, "utf-8")
    shipped, own = compose_config(), compose_config(*OWN)
    before = code_hash(shipped), code_hash(own)
    Path("my_notes.py").write_text("import my_file\n", "utf-8")  # imports it, and is not imported
    Path("json.py").write_text("", "utf-8")
    assert (code_hash(shipped), code_hash(own)) == before
    Path("my_parts.py").write_text("hidden = 4\n", "utf-8")
    assert code_hash(shipped) == before[0] != before[1] != code_hash(own)
    assert own_files(shipped) == own_files(compose_config("model._target_=torchvision.models.resnet18")) == []


def test_a_run_whose_own_code_was_edited_is_no_result_of_the_new_code(cli: Cli, tmp_path: Path) -> None:
    Path("my_parts.py").write_text("hidden = 3\n", "utf-8")
    Path("my_file.py").write_text(GOOD, "utf-8")
    words = (*TINY, *OWN, "hydra.run.dir=run", "resume=true")
    assert cli(*words).status == 0
    assert cli(*words).out.startswith("KEPT  run: ")
    before = read_verdict(tmp_path / "run")["versions"]["code"]
    Path("my_parts.py").write_text("hidden = 3  # edited\n", "utf-8")
    again = cli(*words)
    assert (again.status, "KEPT" in again.out) == (0, False)
    assert (tmp_path / "run" / "set-aside-1" / "verdict.json").exists()
    after = read_verdict(tmp_path / "run")["versions"]["code"]
    assert cli(*words).out.startswith("KEPT  run: ")
    repeated = cli("reproduce", tmp_path / "run" / "set-aside-1", "--trust")
    assert f"code {before} -> {after}" in repeated.out
