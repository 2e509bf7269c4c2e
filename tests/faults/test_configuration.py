"""Every key of the configuration under every value that can be typed: a run, or status 2 and a line that names what was typed.

hypothesis draws the command lines. In process, where `check` and every `build` are the true ones and only `Trainer.fit` and
`Trainer.test` do nothing; a sample of them trains as processes of their own.
"""

import functools
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
import torch
from hydra import compose, initialize_config_dir
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf

from mnist_lightning.config.build import build
from mnist_lightning.config.check import check
from mnist_lightning.config.compose import CONF_DIR, compose_config
from mnist_lightning.config.errors import ConfigError
from mnist_lightning.terminal import printable
from tests.conftest import TINY, Finished, finish, spawn
from tests.faults.conftest import SEED, Trials

CHUNK = 50  # command lines that hypothesis draws together
SMALL = ("data=synthetic", "data.train_images=320", "data.test_images=100", "trainer.accelerator=cpu", "pictures=none")

called: list[object] = []


def canary(*args: object, **kwargs: object) -> int:
    """A callable that is no class: nothing that a configuration names may be called unless it is of its group's kind."""
    called.append((args, kwargs))
    return 0


class Canary:
    """A class of no group's kind."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        canary(*args, **kwargs)


# --- what there is to override ------------------------------------------------------------------------------------------


def _choices() -> list[str]:
    """Every choice of every group, presets among them, as an override."""
    files = (path.relative_to(CONF_DIR).with_suffix("") for path in sorted(CONF_DIR.glob("*/*.yaml")))
    return [f"{path.parent}={path.name}" for path in files if path.parts[0] != "hydra"]


def _keys_of(node: DictConfig, prefix: str = "") -> Iterator[str]:
    for key in map(str, node):
        yield prefix + key
        child = node._get_node(key)
        if isinstance(child, DictConfig) and not child._is_none() and not child._is_interpolation():
            yield from _keys_of(child, f"{prefix}{key}.")


@functools.cache
def _places() -> list[tuple[str, str]]:
    """Every key, of every choice, with the override that makes it one; "" for the default's."""
    places: dict[str, str] = {}
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        for choice in ("", *_choices()):
            overrides = [choice] if choice else []
            cfg = compose("config", overrides=overrides, return_hydra_config=True)
            for key in _keys_of(cfg):
                places.setdefault(key, choice)
    return [(choice, key) for key, choice in places.items()]


# --- what can be typed --------------------------------------------------------------------------------------------------

NUMBERS = ("0", "-0", "-1", "1", "0.5", "1e400", "-1e400", "1e-400", "nan", "inf", "-inf", "1_000", "0x10")
NUMBERS += (str(2**31), str(2**70))
WORDS = ("null", "true", "True", "yes", "''", "???", "~", "auto", "last", "best", "32-true", "a b", "a,b", "a: b")
WORDS += ("None", "${}")
NESTED = ("[]", "[1]", "[null]", "[[1],[2]]", "[1,2]", "{}", "{a: 1}", "{a: {b: 1}}")
NESTED += ("[{_target_: os.getcwd}]", "{_target_: os.getcwd}")
INTERPOLATIONS = (
    *("${oc.env:HOME}", "${oc.env:NO_SUCH}", "${oc.env:}", "${data.root}", "${nowhere}", "${seed}", "${hydra:runtime.cwd}"),
    *("${hydra:nowhere}", "${hydra.job.name}", "${nothing:1}", "${now:%Y}", "${run_name:}", "${run_name:1}", "${launch_id:}"),
    *("${gate_rule:}", "${gate_rule:1}", "${is_last:last}", "${oc.decode:'['}", "${oc.create:{a: 1}}", "${oc.select:seed}"),
    *("${", "$", "${.}", "${..seed}", "${oc.dict.keys:data}", "${${seed}}", "${python_version:minor}"),
)
SWEEPS = ("1,2", "choice(1,2)", "range(3)", "range(0,1,0)", "interval(0,1)", "glob(*)", "sort(2,1)", "shuffle(1,2)")
SWEEPS += ("tag(t,1,2)", "int(x)", "float(1)", "extend_list(1)", "choice(", "range(a)", "a,", ",a", "choice()", "nothing(1)")
SWEEPS += ("range(100000000)",)
BROKEN = ("[", "]", "{", "}", "{a", "[1", "'", '"', "'a", '"a', "a'b", "\\", "a\\", ":", "=", "a=b", "a=b=c", "(", ")")
BROKEN += ("%", "@", "#", "&")
TARGETS = (
    *("os.system", "os.getcwd", "builtins.print", "builtins.exit", "sys.exit", "subprocess.Popen", "builtins.eval"),
    *(f"{__name__}.canary", f"{__name__}.Canary", "torch.nn", "torch.nn.Nothing", "nowhere.Net", "Net3", ".", "..", "a..b"),
    *(".Net3", "torch.nn.Linear", "torch.optim.SGD", "lightning.Trainer", "torch.nn.Module", "torch.optim.Optimizer"),
    *("mnist_lightning", "mnist_lightning.models.Net1", "mnist_lightning.training.schedules.linear", "torch.hub.load"),
    *("functools.partial", "types.SimpleNamespace", "time.sleep"),
)
HOSTILE = ("\x1b[31mred", "a\nb", "a\r\nb", "\x00", "\t", "\x7f", "\u202egnp.exe", "\u2028", "\ufeff", "e\u0301")
HOSTILE += ("\U0001f600", "٣", "x" * 5000)

BELOW = ("x", "x.y", "_target_", "_partial_", "_args_", "_recursive_", "_convert_")

_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_values = st.one_of(
    *map(st.sampled_from, (NUMBERS, WORDS, NESTED, INTERPOLATIONS, SWEEPS, BROKEN, TARGETS, HOSTILE)),
    st.integers().map(str),
    st.floats().map(str),
    _text,
    _text.map(lambda text: "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"),
)


def _misspelled(key: str, at: int, letter: str) -> str:
    at %= len(key)
    return f"{key[:at]}{letter}{key[at + 1 :]}"


@st.composite
def _override(draw: st.DrawFn, keys: list[str]) -> str:
    """One argument: a key in one of the ways to write to it, and any value; or any text."""
    key = draw(st.sampled_from(keys))
    match draw(
        st.sampled_from(("set",) * 6 + ("add", "force", "delete", "delete value", "misspell", "below", "add below", "text"))
    ):
        case "set":
            return f"{key}={draw(_values)}"
        case "add":
            return f"+{key}={draw(_values)}"
        case "force":
            return f"++{key}={draw(_values)}"
        case "delete":
            return f"~{key}"
        case "delete value":
            return f"~{key}={draw(_values)}"
        case "misspell":
            return f"{_misspelled(key, draw(st.integers(0, 40)), draw(st.sampled_from('aZ._/@:+~- ')))}={draw(_values)}"
        case "below":
            return f"{key}.x.y={draw(_values)}"
        case "add below":
            return f"+{key}.{draw(st.sampled_from(BELOW))}={draw(_values)}"
        case _:
            return draw(_text.filter(lambda text: not text.startswith("-")))


@st.composite
def _command(draw: st.DrawFn, places: list[tuple[str, str]]) -> list[str]:
    """A command line: one key's place, one or two overrides of that and other keys, and sometimes a sweep."""
    choice, key = draw(st.sampled_from(places))
    everywhere = [name for needed, name in places if not needed]
    overrides = [choice] if choice else []
    overrides.append(draw(_override([key])))
    if draw(st.integers(0, 3)) == 0:
        overrides.append(draw(_override(everywhere)))
    if draw(st.integers(0, 7)) == 0:  # a whole group replaced
        group = draw(st.sampled_from(sorted({name.split("=")[0] for name in _choices()})))
        overrides += [f"~{group}", f"+{group}={draw(_values)}"]
    if draw(st.integers(0, 9)) == 0:
        overrides.append("--multirun")
    return overrides


@functools.cache
def _drawn(chunk: int) -> list[list[str]]:
    """The command lines of the trials from `chunk * CHUNK` on, the same for one seed."""
    places, commands = _places(), []
    ours = [place for place in places if not place[1].startswith("hydra")]

    @hypothesis.seed(f"{SEED}/{chunk}")
    @hypothesis.settings(
        max_examples=2 * CHUNK,  # some of them come twice
        database=None,
        deadline=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    # hydra.* keys are most of all keys, and not most of what can go wrong.
    @hypothesis.given(st.one_of(_command(ours), _command(ours), _command(places)))
    def collect(command: list[str]) -> None:
        if command not in commands:
            commands.append(command)

    collect()
    return commands[:CHUNK]


# --- what must hold -----------------------------------------------------------------------------------------------------

written: list[str] | None = None  # the paths that this process writes to, while a list is here
PATHS = {"os.mkdir": 1, "os.rename": 2, "os.link": 2, "os.symlink": 2, "os.truncate": 1, "os.remove": 1, "os.rmdir": 1}
PATHS |= {"os.chmod": 1}  # event -> how many of its first arguments are paths
FOR_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def _note_writes(event: str, args: tuple[object, ...]) -> None:
    """An audit hook of Python's, which hears of every file that Python's own functions open, make, rename or remove."""
    if written is not None and (event in PATHS or (event == "open" and isinstance(args[2], int) and args[2] & FOR_WRITING)):
        paths = args[: PATHS.get(event, 1)]
        written.extend(str(Path(os.fsdecode(path)).absolute()) for path in paths if isinstance(path, (str, bytes, os.PathLike)))


sys.addaudithook(_note_writes)  # there is no way to take one off again


def _tame(command: list[str]) -> list[str]:
    """Leaves a user's own output directories below the working directory: they may lie anywhere, and must not in a test."""
    return [o for o in command if not o.lstrip("+~").startswith("hydra.") or not re.search(r"=['\"]?[/~]|\.\.|HOME", o)]


def _judge(command: list[str], done: Finished, cwd: Path) -> None:
    """One line for each thing refused, and nothing made; or a run, and no file but in its output directory."""
    shown = f"{command!r}\nstatus {done.status}\nout {done.out!r}\nerr {done.err!r}"
    assert done.status in (0, 2), shown
    assert "Traceback" not in done.out + done.err, shown
    assert not called, shown
    made = sorted(path.name for path in cwd.iterdir())
    # Which directory it is, and what Hydra makes there before it refuses its own settings, hydra.* may say.
    ours = not any(argument.lstrip("+~").startswith("hydra") for argument in command)
    if done.status == 0:
        assert made == ["outputs"] or not ours, f"{made}\n{shown}"
        return
    # What only the class itself can judge is told by a run that has begun, and left its verdict.
    verdicts = [json.loads(path.read_text("utf-8")) for path in cwd.rglob("verdict.json")]
    assert not made or not ours or (verdicts and all(verdict["exit_status"] == 2 for verdict in verdicts)), f"{made}\n{shown}"
    lines = done.err.split("\n")
    assert lines.pop() == "", shown
    assert lines, shown
    assert all(line.startswith("error: ") and line.isprintable() for line in lines), shown
    assert not done.out or "--multirun" in command, shown
    typed = [argument for argument in command if argument != "--multirun"]
    names = {re.split(r"[=@]", argument.lstrip("+~"))[0] for argument in typed}
    assert any(name and name.split(".")[0] in line for line in lines for name in names) or any(
        printable(argument)[:20] in line for line in lines for argument in typed
    ), f"nothing typed is named\n{shown}"


# A set-up of logging that is refused midway leaves its open file to the end of the process.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_any_command_line_runs_or_is_refused_in_a_clear_line(
    trials: Trials, cli: Callable[..., Finished], untrained: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for trial in trials("configuration", few=80, all=2000):
        cwd = tmp_path / f"{trial.number}"
        cwd.mkdir()
        monkeypatch.chdir(cwd)
        called.clear()
        command = _tame(_drawn(trial.number // CHUNK)[trial.number % CHUNK])
        monkeypatch.setattr(sys.modules[__name__], "written", paths := [])
        done = cli(*SMALL, *command)
        monkeypatch.setattr(sys.modules[__name__], "written", None)
        _judge(command, done, cwd)
        outside = [path for path in paths if not Path(path).is_relative_to(cwd)]
        assert not outside, f"{command!r} wrote to {outside}"


def test_processes_train_or_refuse_in_a_clear_line(trials: Trials, tmp_path: Path) -> None:
    for trial in trials("configuration", few=2, all=40):
        cwd = tmp_path / f"{trial.number}"
        cwd.mkdir()
        # What a process gets as an argument can hold no NUL.
        command = [argument.replace("\0", "") for argument in _tame(_drawn(trial.number // CHUNK)[trial.number % CHUNK])]
        _judge(command, finish(spawn(*TINY, *command, cwd=cwd)), cwd)


LONG = "x" * 5000  # longer than a file's name can be
OWN = ("~model.channels", "~model.dropout")  # a network of a user's own takes its own arguments
KNOWN = {
    (f"trainer={LONG}",): f"trainer={LONG}: there is no such choice; trainer must be one of ddp, default",
    ("~gate", "+gate=5"): "gate=5: there is no such choice; gate must be one of default",
    ("model._target_=nowhere.Net",): "model._target_=nowhere.Net: cannot be imported: No module named 'nowhere'; give ",
    ("scheduler._target_=linear",): "scheduler._target_=linear: scheduler._target_ must be a class's import path; try ",
    ("model._target_=os.getcwd",): "model._target_=os.getcwd: is no torch.nn.Module; ",
    (f"model._target_={__name__}.canary",): f"model._target_={__name__}.canary: is no torch.nn.Module; ",
    (f"optimizer._target_={__name__}.Canary",): f"optimizer._target_={__name__}.Canary: is no torch.optim.Optimizer; ",
    (
        *OWN,
        f"model._target_={__name__}.Net",
        f"+model.x._target_={__name__}.Canary",
    ): f"model.x._target_={__name__}.Canary: is no ",
    (
        f"hydra.callbacks.study._target_={__name__}.canary",
    ): f"hydra.callbacks.study._target_={__name__}.canary: hydra.callbacks ",
    ("-optimizer.lr=0.1",): "unrecognized arguments: -optimizer.lr=0.1; ",
    ("--multirun", "@optimizer.lr=0.1"): "@optimizer.lr=0.1: ",
    ("--multirun", "seed=range(100000000)"): "seed=range(100000000): makes a sweep of more than 10,000 jobs; ",
    ("optimizer._partial_=false",): "optimizer._partial_=false: optimizer._partial_ must be true; try optimizer._partial_=true",
}


class Net(torch.nn.Linear):
    """A network of a user's own, with a part that is one too."""

    def __init__(self, x: torch.nn.Module | None = None) -> None:
        super().__init__(28, 10)


def declared() -> Net:
    return Net()


def undeclared():  # type: ignore[no-untyped-def]
    return canary()


@pytest.mark.parametrize("command", KNOWN, ids=lambda command: " ".join(command)[:120])
def test_what_is_of_no_groups_kind_is_refused_and_not_called(
    cli: Callable[..., Finished], untrained: None, command: tuple[str, ...]
) -> None:
    called.clear()
    done = cli(*SMALL, *command)
    assert done.status == 2
    assert done.err.startswith(f"error: {KNOWN[command]}"), done.err
    assert not called


def test_a_group_that_is_no_mapping_is_refused_in_one_line() -> None:
    """As a config.yaml that was written by hand has it."""
    cfg = compose_config()
    OmegaConf.update(cfg, "gate", 5, merge=False)
    with pytest.raises(ConfigError, match=r"^gate=5: gate must be a group of keys; choose one of default$"):
        check(cfg)


def test_a_users_own_network_is_a_class_or_a_function_declared_to_return_one() -> None:
    def net(*overrides: str) -> object:
        return build(compose_config(*OWN, *overrides), "model")

    assert isinstance(net(f"model._target_={__name__}.Net"), Net)
    assert isinstance(net(f"model._target_={__name__}.Net", "+model.x._target_=torch.nn.ReLU"), Net)
    assert isinstance(net(f"model._target_={__name__}.declared"), Net)
    with pytest.raises(ConfigError, match=r"undeclared: is no torch\.nn\.Module"):
        net(f"model._target_={__name__}.undeclared")
