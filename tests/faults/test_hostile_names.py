"""Names, paths and values that are markup, formulas or terminal escapes are shown as text wherever a run is shown."""

import csv
import io
import json
import logging
import random
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import markdown
import pytest
import torch
from omegaconf import OmegaConf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugin_util import markdown_to_safe_html
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from mnist_lightning.config.check import check
from mnist_lightning.config.compose import compose_config
from mnist_lightning.config.errors import ConfigError
from mnist_lightning.evaluation.run_directories import read_run
from mnist_lightning.evaluation.verdict import Verdict
from mnist_lightning.inference import draw, predict
from mnist_lightning.study import leaderboard, report
from mnist_lightning.training.tensorboard import record
from tests.conftest import TINY, Finished, leave_run, only_run
from tests.faults.conftest import Trials

HOSTILE = (
    *(
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "</td></tr></table><h1>x",
        "&lt;b&gt;",
        '" onload="x',
        "'><b>",
    ),
    *("{{ 7 * 7 }}", "{% raw %}", "${seed}", "[x](javascript:alert(1))", "![x](https://example.org/x.png)", "`x`", "*x* __x__"),
    *("https://example.org/x", "| a | b |", "a\n\n# heading", "- item", "1. item", "<!-- x", "\\", "~~x~~"),
    *("=1+1", "+1+1", "-1+1", "@SUM(A1)", "=cmd|' /C calc'!A0", "\t=1", "\r=1", "a,b\n=1"),
    *("\x1b[31mred", "\x1b]0;title\x07", "\x9b2J", "a\rPASSED", "a\nerror: forged", "\x00x", "\x7f", "a\x08b"),
    *("\u202egpj.exe", "\u2066x\u2069", "\u200b", "\u2028x", "\ufeff", "e\u0301", "\U0001f600", "\udc80", "x" * 4000),
)
PLAIN = "plain"


class Named(torch.nn.Linear):
    """A network of a user's own that is told any text."""

    def __init__(self, label: str) -> None:
        super().__init__(28, 10)
        self.label = label


class Tags(HTMLParser):
    """The elements of a page with the names of their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, ...]] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, *(name for name, value in attrs if (name, value) != ("class", "long"))))

    def handle_comment(self, data: str) -> None:
        self.found.append(("comment",))

    def handle_data(self, data: str) -> None:
        self.text += data


def hostile_name(rng: random.Random) -> str:
    return "".join(rng.sample(HOSTILE, rng.choice((1, 1, 2))))


def leave_runs(folder: Path, name: str) -> None:
    """Two finished runs and one that failed, called by a name and with it wherever a run's files hold text."""
    # A file in UTF-8 cannot hold half a character; the name of one can. "${" is refused before a run (see below).
    text = name.encode("utf-8", "replace").decode().replace("${", "$ {")
    path = "".join(c for c in name if c not in "/\x00")[:60].strip(".") or "_"
    for number in range(3):
        verdict = {"device": text, "dataset": text, "model": text, "seed": number, "versions": {"torch": text}}
        if number == 2:
            verdict |= {"status": "error", "passed": False, "reasons": [text], "accuracy": None}
        run_dir = leave_run(folder / f"{number} {path}", f"seed={number}", **verdict)
        cfg = OmegaConf.load(run_dir / "config.yaml")
        cfg.model[f"note {text}"] = f"{text} {number}"
        OmegaConf.save(cfg, run_dir / "config.yaml")


def check_lines(done: Finished) -> None:
    """Every line is printable, and none is forged."""
    for line in (done.out + done.err).split("\n"):
        assert line.isprintable(), repr(line)
        assert not line.startswith(("PASSED", "error: forged")), line


def tags_of_markdown(page: str) -> list[tuple[str, ...]]:
    return Tags(markdown.markdown(page, extensions=["tables", "fenced_code"])).found


def test_reports_and_tables_hold_the_same_elements_whatever_runs_are_called(
    trials: Trials, tmp_path: Path, cli: Callable[..., Finished]
) -> None:
    def pages(folder: Path, name: str) -> dict[str, str]:
        leave_runs(folder, name)
        for module in (report, leaderboard):
            done = cli(module, folder)
            assert done.status == 0, done.err
            check_lines(done)
        leaderboard.write(folder, leaderboard.find_runs([folder]))
        check_lines(cli("results", "collect", folder / "runs.csv", folder, "--preset", "default"))
        return {path.name: path.read_text("utf-8") for path in folder.iterdir() if path.is_file()}

    plain = pages(tmp_path / "plain", PLAIN)
    for trial in trials("hostile names", few=8, all=60):
        written = pages(tmp_path / str(trial.number), hostile_name(trial.rng))
        assert Tags(written["report.html"]).found == Tags(plain["report.html"]).found
        for name in ("report.md", "leaderboard.md"):
            assert tags_of_markdown(written[name]) == tags_of_markdown(plain[name]), written[name]
        for name in ("leaderboard.csv", "runs.csv"):
            for row in csv.reader(io.StringIO(written[name])):
                for cell in row:
                    assert cell.isprintable(), cell
                    assert not cell.startswith(("=", "+", "-", "@")) or cell[1:].replace(".", "").isdigit(), cell


@pytest.mark.parametrize("place", ["value", "key", "list"])
def test_text_that_would_be_read_as_a_reference_is_refused(place: str) -> None:
    cfg = compose_config("augmentation=none")
    hidden = {"value": {"note": "\\${seed}"}, "key": {"${seed}": 1}, "list": {"note": ["\\${seed}"]}}[place]
    OmegaConf.update(cfg, "model", hidden, merge=True, force_add=True)
    with pytest.raises(ConfigError, match=r"^model\.\S+: .* may not hold \$\{ as text"):
        check(cfg)


def test_tensorboard_is_shown_text(trials: Trials, tmp_path: Path) -> None:
    for trial in trials("hostile names", few=6, all=40):
        leave_runs(tmp_path / str(trial.number), hostile_name(trial.rng))
        for run_dir in (tmp_path / str(trial.number)).iterdir():
            into = tmp_path / f"events {trial.number} {run_dir.name[0]}"
            record(Verdict(**read_run(run_dir).verdict), OmegaConf.load(run_dir / "config.yaml"), into)
            events = EventAccumulator(str(into)).Reload()
            [text] = events.Tensors("verdict/text_summary")
            shown = text.tensor_proto.string_val[0].decode()
            assert {tag for tag, *_ in Tags(markdown_to_safe_html(shown)).found} == {"pre", "code"}, shown
            assert all(line.isprintable() for line in shown.split("\n")), shown
            start = HParamsPluginData.FromString(events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content)
            for key, value in start.session_start_info.hparams.items():
                assert (key + value.string_value).isprintable(), (key, value)


def test_pictures_of_any_name_are_predicted_and_refused_in_a_line(
    trials: Trials, tmp_path: Path, cli: Callable[..., Finished], monkeypatch: pytest.MonkeyPatch
) -> None:
    for trial in trials("hostile names", few=8, all=60):
        name = "".join(c for c in hostile_name(trial.rng) if c not in "/\x00")[:60]
        folder = tmp_path / str(trial.number)
        folder.mkdir()
        (folder / f"{name}.png").write_bytes(b"no picture")
        (folder / f"{name}.pgm").write_bytes(b"P5 28 28 255\n" + bytes(280) + b"\xff" * 56 + bytes(448))
        trained = SimpleNamespace(source=f"{folder}/{name}", net=lambda images: torch.zeros(len(images), 10))
        monkeypatch.setattr(predict, "load", lambda *_, trained=trained: trained)
        done = cli("predict", "model", folder)
        assert done.status == 2
        check_lines(done)
        assert len(done.out.splitlines()) == 2
        assert len(done.err.splitlines()) == 1
        done = cli("predict", "model", folder, "--json")
        check_lines(done)
        assert json.loads(done.out)[0]["file"] == f"{folder}/{name}.pgm"
        answer = draw.make_app(torch.nn.Identity(), trained.source).test_client().get("/source")
        assert (answer.mimetype, answer.headers["X-Content-Type-Options"]) == ("application/json", "nosniff")
        assert answer.json["source"].isprintable()


def test_the_page_writes_no_markup() -> None:
    script = (draw.PAGE / "page.js").read_text("utf-8")
    assert "textContent = source" in script
    assert not any(way in script for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("))


def test_a_run_and_its_log_in_a_directory_of_any_name(
    trials: Trials, tmp_path: Path, cli: Callable[..., Finished], monkeypatch: pytest.MonkeyPatch
) -> None:
    for trial in trials("hostile names", few=2, all=12):
        cwd = tmp_path / str(trial.number)
        cwd.mkdir()
        monkeypatch.chdir(cwd)
        name = "".join(c for c in hostile_name(trial.rng) if c.isprintable() and c not in "/\\'\"$")[:60].strip(".") or "_"
        name += trial.rng.choice(("\x1b[31m", "\u202e", "\x9b2J"))
        override = f"hydra.run.dir='{name}'" if "\x1b" not in name else "hydra.run.dir=out"
        done = cli(*TINY, "optimizer.lr=1e30", override)
        assert done.status == 1, done.err
        check_lines(done)
        logging.getLogger().warning("named %s", name)
        log = (only_run(cwd) / "run.log").read_text("utf-8")
        assert "Traceback" in log
        assert f"named {name}" not in log
        assert all(line.isprintable() for line in log.split("\n"))


def test_jobs_of_a_sweep_over_any_text_have_a_directory_each(
    trials: Trials, tmp_path: Path, cli: Callable[..., Finished], untrained: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = ("--multirun", "~model.channels", "~model.dropout", f"model._target_={__name__}.Named")
    for trial in trials("hostile names", few=3, all=40):
        cwd = tmp_path / str(trial.number)
        cwd.mkdir()
        monkeypatch.chdir(cwd)
        name = hostile_name(trial.rng).replace("\x00", "").replace("\udc80", "").replace("${", "$ {").strip("\\")
        twins = [f"{name}{end}" for end in trial.rng.sample(("", "/", "/../../x", "<", ">", " ", "\u200b", "."), 2)]
        quoted = ",".join("'" + twin.replace("\\'", "'").replace("'", "\\'") + "'" for twin in twins)
        done = cli(*TINY, *own, f"+model.label={quoted}")
        assert done.status == 0, done.err
        verdicts = [line for line in done.out.split("\n") if line.startswith("NOT JUDGED  named on ")]
        check_lines(Finished(done.status, done.out.replace("NOT JUDGED  named on ", ""), done.err))
        assert len(verdicts) == 2, done.out
        [sweep] = (cwd / "outputs" / "sweeps").iterdir()
        runs = [path.parent for path in cwd.rglob("verdict.json")]
        assert len(runs) == 2, runs
        for run_dir in runs:
            model, _, seed, job = run_dir.relative_to(sweep).parts
            assert (model, seed) == ("net3", "seed=0"), run_dir
            assert re.fullmatch(r"[\w.,=+@\[\]-]{1,130}", job, re.ASCII), job
        assert {OmegaConf.load(run_dir / "config.yaml").model.label for run_dir in runs} == set(twins)
