"""Names, paths and values that are markup or terminal escapes are shown as text wherever a run is shown."""

import json
import logging
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import markdown
import pytest
import torch
from omegaconf import OmegaConf

from mnist_lightning.inference import draw
from tests.conftest import TINY, Finished, leave_run, only_run

Cli = Callable[..., Finished]
HOSTILE = {
    "html": "</td></tr></table><script>alert(1)</script><img src=x onerror='alert(1)'>\" onload=\"x' ><b>&lt;i&gt;<!-- c",
    "markdown": "[x](javascript:alert(1)) ![x](https://x.org/x.png) | a | `x` *y* ~~s~~\n\n# heading\n- {{ 7 * 7 }}{% raw %}",
    "terminal": "\x1b[31mred\x1b]0;title\x07\x9b2J\ra\nPASSED\nerror: forged\u202egpj.exe\u2066x\u2069\u2028\x7f\x08",
}


def as_name(text: str) -> str:
    """What of a text can name a file."""
    return "".join(c for c in text if c not in "/\x00")[:60]


class Tags(HTMLParser):
    """The elements of a page with the names of their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, ...]] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, *(name for name, value in attrs if (name, value) != ("class", "long"))))

    def handle_comment(self, data: str) -> None:
        self.found.append(("comment",))


def check_lines(done: Finished) -> None:
    """Every line is printable, and none is forged."""
    for line in (done.out + done.err).split("\n"):
        assert line.isprintable(), repr(line)
        assert not line.startswith(("PASSED", "error: forged")), line


def leave_runs(folder: Path, text: str) -> None:
    """A finished run and one that failed, with a text wherever a run's files hold some."""
    for number in range(2):
        verdict = {"device": text, "dataset": text, "model": text, "seed": number, "versions": {"torch": text}}
        if number == 1:
            verdict |= {"status": "error", "passed": False, "reasons": [text], "accuracy": None}
        run_dir = leave_run(folder / f"{number} {as_name(text)}", f"seed={number}", **verdict)
        cfg = OmegaConf.load(run_dir / "config.yaml")
        cfg.model[f"note {text}"] = f"{text} {number}"
        OmegaConf.save(cfg, run_dir / "config.yaml")


def pages(folder: Path, text: str, cli: Cli) -> dict[str, list[tuple[str, ...]]]:
    """The elements of the tables and pages that show runs in which the text stands."""
    leave_runs(folder, text)
    for command in (("report", folder), ("leaderboard", folder)):
        done = cli(*command)
        assert done.status == 0, done.err
        check_lines(done)
    text_of = {path.name: path.read_text("utf-8") for path in (folder / "report.html", folder / "report.md")}
    text_of["report.md"] = markdown.markdown(text_of["report.md"], extensions=["tables", "fenced_code"])
    return {name: Tags(page).found for name, page in text_of.items()}


def test_reports_hold_the_same_elements_whatever_runs_are_called(tmp_path: Path, cli: Cli) -> None:
    plain = pages(tmp_path / "plain", "plain", cli)
    for kind, text in HOSTILE.items():
        assert pages(tmp_path / kind, text, cli) == plain, kind


@pytest.mark.parametrize("kind", HOSTILE)
def test_pictures_of_any_name_are_predicted_and_refused_in_a_line(
    tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    name = as_name(HOSTILE[kind])
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / f"{name}.png").write_bytes(b"no picture")
    (folder / f"{name}.pgm").write_bytes(b"P5 28 28 255\n" + bytes(280) + b"\xff" * 56 + bytes(448))
    trained = SimpleNamespace(source=f"{folder}/{name}", net=lambda images: torch.zeros(len(images), 10))
    monkeypatch.setattr("mnist_lightning.inference.load.load", lambda *args: trained)
    done = cli("predict", "model", folder)
    check_lines(done)
    assert (done.status, len(done.out.splitlines()), len(done.err.splitlines())) == (2, 2, 1)
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


def test_a_run_and_its_log_in_a_directory_of_any_name(tmp_path: Path, cli: Cli) -> None:
    name = "\u202egpj.exe \x9b2J <b>"
    done = cli(*TINY, "optimizer.lr=1e30", f"hydra.run.dir='{name}'")
    assert done.status == 1, done.err
    check_lines(done)
    logging.getLogger().warning("named %s", name)
    log = (only_run(tmp_path) / "run.log").read_text("utf-8")
    assert "Traceback" in log
    assert f"named {name}" not in log
    assert all(line.isprintable() for line in log.split("\n"))
