"""A directory of the user's own choices: by --config-dir, by hydra.searchpath, or as conf in the working directory."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hydra.errors import HydraException

from mnist_lightning.config.compose import choices, compose_config, groups
from tests.conftest import TINY, Finished, one_error, only_run, read_verdict

Cli = Callable[..., Finished]

NET = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self, width):
        super().__init__(nn.Flatten(), nn.Linear(784, width), nn.Linear(width, 10))
"""
ODD = "my 'own' directory"


def leave_choices(folder: Path) -> None:
    """A network and an experiment of a user's own; the class lies in the working directory."""
    for group in ("model", "experiment"):
        (folder / group).mkdir(parents=True)
    (folder / "model" / "mine.yaml").write_text("_target_: my_nets.Net\nwidth: 3\n", "utf-8")
    text = "# @package _global_\ndefaults:\n  - override /model: mine\nseed: 7\n"
    (folder / "experiment" / "own.yaml").write_text(text, "utf-8")
    Path("my_nets.py").write_text(NET, "utf-8")


WAYS = {  # to name a directory; conf is not named
    "--config-dir": (ODD, ("--config-dir", ODD)),
    "-cd": ("elsewhere/mine", ("-cd", "elsewhere/mine")),
    "hydra.searchpath": ("mine", ("hydra.searchpath=[mine]",)),
    "conf": ("conf", ()),
}


@pytest.fixture(params=WAYS)
def words(request: pytest.FixtureRequest, cli: Cli) -> tuple[str, ...]:
    folder, words = WAYS[request.param]
    leave_choices(Path(folder))
    return words


def test_every_command_that_composes_finds_the_choices_and_names_them(cli: Cli, words: tuple[str, ...]) -> None:
    known = "there is no such choice; model must be one of mine, net1, net2, net3, plan, shared, two_pool; "
    known += "one of your own: conf/model/NAME.yaml"
    for command in ("train", "summary", "benchmark"):
        assert one_error(cli(command, "model=5", *words, "seed=1"), 2) == f"model=5: {known}"
    assert one_error(cli("--multirun", "model=nine", *words), 2) == f"model=nine: {known}"
    summary = cli("summary", "experiment=own", *words, "model.width=2")
    assert (summary.status, summary.err) == (0, "")
    assert f"{785 * 2 + 30:,}" in summary.out


def test_a_key_that_is_none_is_told_from_those_of_the_own_class(cli: Cli) -> None:
    leave_choices(Path("conf"))
    line = one_error(cli("model=mine", "model.lay=4"), 2)
    assert line == "model.lay=4: there is no key lay; model has width; +model.lay=4 adds an argument of the class"
    assert one_error(cli("-m", "seed=range(3)", "model=mine,net1", "model.lay=4"), 2) == line
    assert one_error(cli("-m", "model=mine,5"), 2).startswith("model=mine,5: ")


BROKEN = {  # conf/model/mine.yaml, and what is said of it
    b"_target_: a.B\n width: [1": "model=mine: conf/model/mine.yaml, line 2: mapping values are not allowed here",
    b"_target_: a.B\nc: 1\nc: 2": "model=mine: conf/model/mine.yaml, line 3: found duplicate key c; mend that line",
    "# ü".encode("utf-16"): "model=mine: its YAML is no UTF-8 text (",
    b"- a": "model=[a]: must be keys with values, such as _target_: my_net.MyNet",
    b"_target_: my-net.MyNet": "model._target_=my-net.MyNet: must be a class's import path, such as my_net.MyNet",
    b"_target_: 4": "model._target_=4: must be a class's import path, such as my_net.MyNet",
    b"_target_: a.B\nc: ???": "model.c: the key needs a value; give model.c=VALUE",
    b"_target_: a.B\nc: ${d}": "model.c: Interpolation key 'd' not found",
}


@pytest.mark.parametrize("text", BROKEN)
def test_what_is_wrong_with_an_own_yaml_is_a_line(cli: Cli, text: bytes) -> None:
    Path("conf/model").mkdir(parents=True)
    Path("conf/model/mine.yaml").write_bytes(text)
    for words in (("summary", "model=mine"), ("-m", "model=net3,mine")):
        line = one_error(cli(*words), 2)
        assert line.replace("net3,", "").startswith(BROKEN[text])
        assert len(line) <= 200


@pytest.mark.parametrize("command", [(), ("summary",)])
def test_a_list_for_a_group_and_a_group_of_another_project_are_a_line(cli: Cli, command: tuple[str, ...]) -> None:
    Path("conf/logging").mkdir(parents=True)
    Path("conf/logging/short.yaml").write_text("a: [", "utf-8")
    assert one_error(cli(*command, "model=[1]"), 2).startswith("model=[1]: there is no such choice; ")
    line = one_error(cli(*command, "logging=short"), 2)
    assert line == "logging=short: the configuration has no group logging; +logging=short adds it"
    assert cli("summary").status == 0


def test_an_own_experiment_trains_an_own_network_in_a_run_and_a_sweep(cli: Cli, tmp_path: Path) -> None:
    leave_choices(Path("conf"))
    assert cli(*TINY, "experiment=own", "hydra.run.dir=run").status == 0
    assert (read_verdict(tmp_path / "run")["params"], read_verdict(tmp_path / "run")["seed"]) == (785 * 3 + 40, 7)
    # The jobs' own working directories are others.
    sweep = cli("-m", *TINY, "model=mine", "model.width=2,4", "hydra.job.chdir=true", "hydra.sweep.dir=sweep")
    assert (sweep.status, sweep.err) == (0, "")
    assert "2 of 2 jobs finished" in sweep.out


@pytest.mark.torture
def test_a_launchers_processes_find_an_own_network(cli: Cli, tmp_path: Path) -> None:
    leave_choices(tmp_path / "conf")
    for launcher in ("side_by_side", "submitit_local"):
        words = (
            "-m",
            *TINY,
            "sweep.jobs=2",
            "model=mine",
            "seed=0,1",
            f"hydra/launcher={launcher}",
            f"hydra.sweep.dir={launcher}",
        )
        done = cli(*words)
        assert (done.status, "2 of 2 jobs finished" in done.out) == (0, True), done


@pytest.mark.parametrize("command", ["train", "summary", "benchmark"])
@pytest.mark.parametrize("words", [("--config-dir", "nowhere"), ("hydra.searchpath=[nowhere]",)])
def test_a_directory_that_is_none_is_refused(cli: Cli, command: str, words: tuple[str, ...]) -> None:
    line = one_error(cli(command, *words, "model=net1"), 2)
    assert line.startswith(f"{' '.join(words)}: there is no such folder; ")


def test_own_choices_add_to_ours_and_replace_none(cli: Cli) -> None:
    leave_choices(Path("conf"))
    Path("conf/model/net1.yaml").write_text("_target_: my_nets.Net\n", "utf-8")
    Path("conf/config.yaml").write_text("nothing: 1\n", "utf-8")
    assert compose_config("model=net1").model._target_ == "mnist_lightning.models.Net1"
    Path("conf/kind").mkdir()
    Path("conf/kind/one.yaml").write_text("a: 1\n", "utf-8")
    assert "kind" in groups()
    assert choices("kind") == ["one"]


def test_what_one_directory_has_another_has_not(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_choices(Path("conf"))
    assert compose_config("model=mine").model.width == 3
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    with pytest.raises(HydraException):
        compose_config("model=mine")
    assert "mine" not in choices("model")


@pytest.mark.parametrize("how", ["root", "environment"])
def test_a_relative_folder_of_data_is_one_where_the_command_was_typed(
    cli: Cli, miniature: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Also where every run has a working directory of its own."""
    words = ["data.mirrors=[]", "data.places=[]", "gate.on_miss=warn", "hydra.job.chdir=true", "hydra.run.dir=run", *TINY[3:]]
    if how == "root":
        words.append(f"data.root={miniature.name}")
    else:
        monkeypatch.setenv("MNIST_ROOT", miniature.name)
    done = cli(*words)
    assert (done.status, done.err) == (0, "")
    assert done.out.splitlines()[-1].split() == ["outputs", "run"]
    assert only_run(tmp_path) == tmp_path / "run"
    assert cli(*words, "resume=true").out.startswith("KEPT  run: ")
