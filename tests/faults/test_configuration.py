"""Every key of the configuration under every value that can be typed: a run, or status 2 and a line that names what was typed.

In process, where `check` and every `build` are the true ones and only `Trainer.fit` and `Trainer.test` do nothing.
"""

import functools
import json
import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from mnist_lightning.config.compose import CONF_DIR, compose_config, flatten, groups
from mnist_lightning.terminal import printable
from tests.conftest import Finished
from tests.faults.conftest import Trials

pytestmark = pytest.mark.slow

SMALL = ("data=synthetic", "data.train_images=320", "data.test_images=100", "trainer.accelerator=cpu", "pictures=none")
SMALL += ("sweep.jobs=1",)  # in this process
NUMBERS = ("0", "-0", "-1", "1", "0.5", "1e400", "-1e400", "1e-400", "nan", "inf", "-inf", "1_000", "0x10", str(2**70))
WORDS = ("null", "true", "yes", "''", "???", "~", "auto", "last", "best", "32-true", "a b", "a,b", "a: b", "None")
NESTED = ("[]", "[1]", "[null]", "[[1],[2]]", "[1,2]", "{}", "{a: 1}", "{a: {b: 1}}", "[{_target_: os.getcwd}]")
INTERPOLATIONS = (
    "${oc.env:HOME}",
    "${oc.env:NO_SUCH}",
    "${data.root}",
    "${nowhere}",
    "${seed}",
    "${nothing:1}",
    "${",
    "$",
    "${.}",
)
SWEEPS = ("1,2", "choice(1,2)", "range(3)", "range(0,1,0)", "interval(0,1)", "glob(*)", "sort(2,1)", "tag(t,1,2)", "choice(")
BROKEN = ("[", "]", "{", "}", "{a", "[1", "'", '"', "'a", "a'b", "\\", ":", "=", "a=b", "a=b=c", "(", ")", "%", "@", "#", "&")
TARGETS = (
    *("os.system", "os.getcwd", "builtins.print", "sys.exit", "subprocess.Popen", "builtins.eval", "time.sleep"),
    *("torch.nn", "torch.nn.Nothing", "nowhere.Net", "Net3", ".", "..", "a..b", "torch.nn.Linear", "torch.optim.SGD"),
    *("mnist_lightning", "mnist_lightning.models.Net1", "torch.hub.load", "functools.partial"),
    *(f"{__name__}.canary", f"{__name__}.Canary"),
)
HOSTILE = (
    "\x1b[31mred",
    "a\nb",
    "a\r\nb",
    "\x00",
    "\t",
    "\x7f",
    "\u202egnp.exe",
    "\u2028",
    "\ufeff",
    "\U0001f600",
    "٣",
    "x" * 300,
)
VALUES = (NUMBERS, WORDS, NESTED, INTERPOLATIONS, SWEEPS, BROKEN, TARGETS, HOSTILE)

called: list[object] = []


def canary(*args: object, **kwargs: object) -> int:
    """A callable that is no class: nothing that a configuration names may be called unless it is of its group's kind."""
    called.append((args, kwargs))
    return 0


class Canary:
    """A class of no group's kind."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        canary(*args, **kwargs)


@functools.cache
def _places() -> list[tuple[str, str]]:
    """Every key, of every choice, with the override that makes it one; "" for the default's."""
    chosen = ["", *(f"{group}={path.stem}" for group in groups() for path in sorted((CONF_DIR / group).glob("*.yaml")))]
    places: dict[str, str] = {}
    for choice in chosen:
        for key in (*flatten(compose_config(*filter(None, [choice]))), *groups()):
            places.setdefault(key, choice)
    return [(choice, key) for key, choice in places.items()]


def _command(rng: random.Random) -> list[str]:
    """One key's place, an override of it in one of the ways to write to it, sometimes another, sometimes a sweep."""

    def value() -> str:
        return rng.choice(rng.choice(VALUES))

    def override(key: str) -> str:
        at = rng.randrange(len(key))
        misspelled = f"{key[:at]}{rng.choice('aZ._/@:~')}{key[at + 1 :]}"
        ways = [f"{key}={value()}"] * 4 + [f"+{key}={value()}", f"++{key}={value()}", f"~{key}", f"{misspelled}={value()}"]
        return rng.choice([*ways, f"{key}.x.y={value()}", f"+{key}._target_={value()}"])

    choice, key = rng.choice(_places())
    command = [*filter(None, [choice]), override(key)]
    if rng.random() < 0.25:
        command.append(override(rng.choice([key for needed, key in _places() if not needed])))
    return ["--multirun", *command] if rng.random() < 0.1 else command


def _judge(command: list[str], done: Finished, cwd: Path) -> None:
    """One line for each thing refused, and nothing made; or a run, and no file but in its output directory."""
    shown = f"{command!r}\nstatus {done.status}\nout {done.out!r}\nerr {done.err!r}"
    assert done.status in (0, 2), shown
    assert "Traceback" not in done.out + done.err, shown
    assert not called, shown
    made = sorted(path.name for path in cwd.iterdir())
    if done.status == 0:
        assert made == ["outputs"], f"{made}\n{shown}"
        return
    # What only the class itself can judge is told by a run that has begun, and left its verdict.
    verdicts = [json.loads(path.read_text("utf-8")) for path in cwd.rglob("verdict.json")]
    assert not made or (verdicts and all(verdict["exit_status"] == 2 for verdict in verdicts)), f"{made}\n{shown}"
    lines = done.err.splitlines()
    assert lines, shown
    assert all(line.startswith("error: ") and line.isprintable() for line in lines), shown
    typed = [argument for argument in command if argument != "--multirun"]
    names = {re.split(r"[=@.]", argument.lstrip("+~"))[0] for argument in typed}
    assert any(name and name in line for line in lines for name in names) or any(
        printable(argument)[:20] in line for line in lines for argument in typed
    ), f"nothing typed is named\n{shown}"


# A set-up of logging that is refused midway leaves its open file to the end of the process.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_any_command_line_runs_or_is_refused_in_a_clear_line(
    trials: Trials, cli: Callable[..., Finished], untrained: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for trial in trials("configuration", few=20, all=2000):
        cwd = tmp_path / f"{trial.number}"
        cwd.mkdir()
        monkeypatch.chdir(cwd)
        called.clear()
        command = _command(trial.rng)
        words = [word for word in command if word == "--multirun"]
        _judge(command, cli(*words, *SMALL, *(word for word in command if word not in words)), cwd)


OWN = ("~model.channels", "~model.dropout")  # a network of a user's own takes its own arguments
KNOWN = {
    ("model._target_=nowhere.Net",): "model._target_=nowhere.Net: cannot be imported: No module named 'nowhere'",
    ("model._target_=os.getcwd",): "model._target_=os.getcwd: is no torch.nn.Module; ",
    (f"model._target_={__name__}.canary",): f"model._target_={__name__}.canary: is no torch.nn.Module; ",
    (f"optimizer._target_={__name__}.Canary",): f"optimizer._target_={__name__}.Canary: is no torch.optim.Optimizer; ",
    (
        *OWN,
        "model._target_=torch.nn.ReLU",
        f"+model.inplace._target_={__name__}.Canary",
    ): f"model.inplace._target_={__name__}.Canary: is no ",
}


@pytest.mark.parametrize("command", KNOWN, ids=lambda command: command[-1])
def test_what_is_of_no_groups_kind_is_refused_and_not_called(
    cli: Callable[..., Finished], untrained: None, command: tuple[str, ...]
) -> None:
    called.clear()
    done = cli(*SMALL, *command)
    assert done.status == 2
    assert done.err.startswith(f"error: {KNOWN[command]}"), done.err
    assert not called
