"""`init`: two files that work at once, and never in the place of others."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mnist_lightning.config.compose import compose_config
from tests.conftest import TINY, Finished, one_error, read_verdict


def test_a_new_network_is_chosen_shown_and_trained_at_once(cli: Callable[..., Finished], tmp_path: Path) -> None:
    done = cli("init", "my_net")
    assert (done.status, done.err) == (0, "")
    assert sorted(path.as_posix() for path in Path().rglob("*.*")) == ["conf/model/my_net.yaml", "my_net.py"]
    *_, summary, train = (line.split() for line in done.out.splitlines())  # the commands to type next
    assert (summary[:3], train[:3]) == (["python", "-m", "mnist_lightning"],) * 2
    shown = cli(*summary[3:])
    assert "total" in shown.out
    assert cli(*train[3:], *TINY, "hydra.run.dir=run").status == 0
    verdict = read_verdict(tmp_path / "run")
    assert (verdict["model"], verdict["passed"]) == ("mynet", True)
    assert f"{verdict['params']:,} parameters" in Path("conf/model/my_net.yaml").read_text("utf-8")
    assert verdict["params"] < compose_config().gate.max_params


@pytest.mark.parametrize("name", ["", "3x", "a.b", "a/b", "../a", "Net", "class", "a b", "ñ", "net3", "torch", "json"])
def test_a_name_that_cannot_be_or_is_taken_is_refused(cli: Callable[..., Finished], name: str) -> None:
    assert one_error(cli("init", name), 2).startswith(f"init {name}: ")
    assert not list(Path().iterdir())


@pytest.mark.parametrize("there", ["my_net.py", "conf/model/my_net.yaml"])
def test_nothing_is_overwritten(cli: Callable[..., Finished], there: str) -> None:
    Path("conf/model").mkdir(parents=True)
    Path(there).write_text("precious", "utf-8")
    assert (
        one_error(cli("init", "my_net"), 2) == f"init my_net: {there} exists already and is not overwritten; use another name"
    )
    assert [path.as_posix() for path in Path().rglob("*.*")] == [there]
    assert Path(there).read_text("utf-8") == "precious"


def test_a_file_where_a_folder_is_needed_is_named(cli: Callable[..., Finished]) -> None:
    Path("conf").write_text("precious", "utf-8")
    assert one_error(cli("init", "my_net"), 2).startswith("init my_net: conf is a file, where a folder is needed; ")
    assert [path.name for path in Path().iterdir()] == ["conf"]


@pytest.mark.slow
def test_the_script_finds_what_python_m_finds(cli: Callable[..., Finished]) -> None:
    cli("init", "my_net")
    Path("bin").mkdir()
    Path("bin/mnist-lightning").write_text("from mnist_lightning.__main__ import main\nmain()\n", "utf-8")
    for start in (["-m", "mnist_lightning"], ["bin/mnist-lightning"]):
        subprocess.run([sys.executable, *start, *TINY, "model=my_net"], check=True, capture_output=True)
