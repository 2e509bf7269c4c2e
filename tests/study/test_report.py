"""The report: its figures against the runs' files, nothing from outside in it, hostile names, bad input, its width."""

import base64
import hashlib
import html
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mnist_lightning.config.compose import compose_config
from mnist_lightning.evaluation.run_directories import find_runs, read_epochs
from mnist_lightning.evaluation.verdict import percent
from mnist_lightning.inference.load import load, load_data
from mnist_lightning.models import Net3
from mnist_lightning.models.summary import summarize
from mnist_lightning.study import report
from mnist_lightning.study.report import MAX_RUNS, make_report
from mnist_lightning.study.report_pages import FOLDER, write_pages
from mnist_lightning.training.fit import run
from tests.conftest import TINY, Finished, read_verdict
from tests.study.conftest import leave

HOSTILE = "<img src=x onerror=alert(1)>|`x` [a](http://evil.example) \x1b[31m\u202e$x$"
CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two networks trained on drawn digits, and a run that failed, with a name and a reason that want to be more than text."""
    root = tmp_path_factory.mktemp("study")
    for model in ("net2", "net3"):
        run(compose_config(*TINY, "data.train_images=640", "trainer.max_epochs=2", f"model={model}"), root / model)
    leave(root / HOSTILE, status="error", reasons=[f"ValueError: {HOSTILE}\n# head"], accuracy=None)
    return root


@pytest.fixture(scope="module")
def made(study: Path) -> dict[str, Any]:
    return make_report(find_runs([study]))


@pytest.fixture(scope="module")
def written(made: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the report of the study."""
    folder = tmp_path_factory.mktemp("report")
    write_pages(folder, made)
    return folder


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out the curves, which take seconds."""
    monkeypatch.setattr(report, "_curves", lambda *args: ("", []))


# --- what it says -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["net2", "net3"])
def test_figures_are_those_of_the_runs_files(made: dict[str, Any], study: Path, folder: str) -> None:
    rows, verdict = read_epochs(study / folder), read_verdict(study / folder)
    [row] = [row for row in made["experiments"] if row["parameters"] == f"{verdict['params']:,}"]
    train, test = ([100 * epoch[f"{split}/acc"] for epoch in rows] for split in ("train", "test"))
    assert row["verdict"] == "not judged"
    assert row["train acc %"] == f"{train[-1]:.2f}"
    assert (row["best test acc %"], row["last test acc %"]) == (f"{max(test):.2f}", f"{test[-1]:.2f}")
    assert row["judged acc %"] == f"{100 * verdict['accuracy']:.2f}"
    [section] = [section for section in made["sections"] if section.label == row["experiment"]]
    analysis = "\n".join(section.analysis)
    assert f"a gap of {train[-1] - test[-1]:+.2f} points" in analysis
    assert f"At or above 99.40 % in none of {len(rows)} epoch" in analysis
    # The checkpoint is evaluated again: what it reads wrong is what the run counted, and nothing differs.
    assert f"\n{round(100 - 100 * verdict['accuracy'])} of 100 test images are read wrong" in analysis
    assert "Evaluated again" not in analysis
    assert f"{percent(verdict['accuracy'])} test accuracy by the rule" in "\n".join(section.result)


def test_two_runs_are_compared_on_their_predictions(made: dict[str, Any], study: Path) -> None:
    first, second = sorted(
        (load(study / name) for name in ("net2", "net3")), key=lambda net: net.sizes["params"] != params_of(made)[0]
    )
    test = load_data(first.cfg).splits["test"]
    one, other = (trained.net(test.images).argmax(1) == test.labels for trained in (first, second))
    [row] = made["comparisons"]
    only_one, only_other = int((one & ~other).sum()), int((other & ~one).sum())
    assert only_one + only_other > 0
    assert row["by"] == "McNemar’s exact test"
    assert row["evidence"].startswith(f"only the first right on {only_one}, only the second on {only_other}; p ")
    assert row["difference, points"] == f"{only_one - only_other:+.2f}"  # of 100 images


def params_of(made: dict[str, Any]) -> list[int]:
    return [int(row["parameters"].replace(",", "")) for row in made["experiments"]]


def test_networks_are_told_layer_by_layer(made: dict[str, Any]) -> None:
    [network] = [network for network in made["networks"] if network.name.startswith("Net3")]
    layers = summarize(Net3())
    assert [row["layer"] for row in network.layers] == [layer.name for layer in layers]
    assert network.summary.startswith(f"{sum(layer.params for layer in layers):,} parameters")
    fields = [(row["layer"], row["RF"]) for row in network.receptive_fields]
    assert fields == [(layer.name, str(layer.receptive_field)) for layer in layers if layer.kernel]


@pytest.mark.usefixtures("undrawn")
def test_published_experiments_stand_beside_the_published_figures(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    first = leave(tmp_path / "1", "experiment=exp1", epochs=(0.99, 0.9926, 0.9904), params=10970, model="net1")
    config = (first / "config.yaml").read_text("utf-8")
    assert "label_smoothing: 0.0\n" in config
    (first / "config.yaml").write_text(config.replace("label_smoothing: 0.0\n", ""), "utf-8")  # of an earlier version
    leave(tmp_path / "2", "experiment=exp3", "data.batch_size=64", epochs=(0.98, 0.99))  # another recipe: nothing published
    made = make_report(find_runs([tmp_path]))
    best = {row["experiment"]: row["best test acc %"] for row in made["experiments"]}
    assert [*best][:2] == ["exp1", "exp1, as published"]
    assert [*best][3:] == ["exp2, as published", "exp3, as published"]
    assert [*best.values()] == ["99.26", "99.22", "99.00", "98.99", "99.43"]
    analysis = "\n".join(made["sections"][0].analysis)
    assert "+0.04 points: the published figure lies inside the 95 % interval of ours, 99.07 to 99.41 %." in analysis
    assert "used to select the epoch: the accuracy is optimistic" in "\n".join(made["sections"][0].result)
    assert "there is no best.ckpt" in analysis  # what needs predictions is left out, and said to be
    assert not made["sections"][0].pictures
    assert made["comparisons"][0]["larger than noise"] == "not known"
    assert capfd.readouterr().err == ""


@pytest.mark.usefixtures("undrawn")
def test_seeds_are_compared_by_their_spread(tmp_path: Path) -> None:
    """Of 99.1, 99.2, 99.3 and 99.5, 99.6, 99.7: difference 0.4, variances 0.01, t = 2.776, margin 0.2267."""
    for seed, (low, high) in enumerate([(0.991, 0.995), (0.992, 0.996), (0.993, 0.997)]):
        leave(tmp_path / f"a{seed}", f"seed={seed}", epochs=(low,))
        leave(tmp_path / f"b{seed}", f"seed={seed}", "optimizer.lr=0.1", epochs=(high,))
    leave(tmp_path / "c", "optimizer.lr=0.2", epochs=(0.98,))
    made = make_report(find_runs([tmp_path]))
    assert [(row["experiment"], row["judged acc %"]) for row in made["experiments"]] == [
        ("net3, lr=0.1", "99.60 ± 0.10"),
        ("net3, lr=0.015", "99.20 ± 0.10"),
        ("net3, lr=0.2", "98.00"),
    ]
    first, *others = made["comparisons"]
    assert (first["difference, points"], first["larger than noise"]) == ("+0.40", "yes")
    assert first["evidence"] == "95 % interval +0.17 to +0.63 points, 3 and 3 seeds"
    assert {row["larger than noise"] for row in others} == {"not known"}  # of a single seed there is no spread
    assert [section.label for section in made["sections"]][:2] == ["net3, lr=0.1, seed 0", "net3, lr=0.1, seed 1"]


def test_many_runs_are_summarised_by_configuration(tmp_path: Path) -> None:
    for i in range(MAX_RUNS + 1):
        leave(tmp_path / f"{i}", f"seed={i}", f"optimizer.lr=0.0{i % 2 + 1}", epochs=(0.98,))
    made = make_report(find_runs([tmp_path]))
    assert made["sections"] == []
    assert len(made["experiments"]) == 2
    assert len(made["pictures"]) == 2
    assert "A line per configuration" in made["curves_caption"]


# --- the pages ----------------------------------------------------------------------------------------------------------


def test_the_page_brings_everything_itself(written: Path, made: dict[str, Any]) -> None:
    source = (written / "report.html").read_text("utf-8")
    assert len(made["pictures"]) == 6
    images = [f'<img src="data:image/{picture.name[-3:]};base64,' for picture in made["pictures"]]
    assert re.findall(r"<img src=\"data:[^,]*,", source) == images
    assert not {"script", "link", "iframe", "object", "a"} & set(re.findall(r"<(\w+)", source))
    style = source.partition("<style>")[2].partition("</style>")[0]
    assert not re.search("url\\(|@import", style)
    style_hash = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{style_hash}'"
    assert f'http-equiv="Content-Security-Policy" content="{policy}"' in source


def test_names_are_text_whatever_they_hold(written: Path) -> None:
    page, markdown = ((written / name).read_text("utf-8") for name in ("report.html", "report.md"))
    assert page.count("<img") == 6
    assert "<img src=x onerror=alert(1)>|`x` [a](http://evil.example) \\x1b[31m\\u202e$x$" in html.unescape(page)
    assert r"&lt;img src=x onerror=alert(1)&gt;\|\`x\` \[a\](http&#58;//evil.example) \\x1b\[31m\\u202e\$x\$" in markdown
    assert not {"\x1b", "\u202e"} & set(page + markdown)
    assert "\n# head" not in markdown


def test_markdown_names_the_pictures_beside_it(written: Path, made: dict[str, Any]) -> None:
    named = re.findall(rf"\]\({FOLDER}/(\S+)\)", (written / "report.md").read_text("utf-8"))
    assert named == [picture.name for picture in made["pictures"]]
    assert all((written / FOLDER / picture.name).read_bytes() == picture.content for picture in made["pictures"])


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_is_no_wider_than_the_window(written: Path, width: int) -> None:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": width, "height": 800})
        page.set_default_timeout(60_000)
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("request", lambda request: complaints.append(request.url) if request.url.startswith("http") else None)
        page.goto((written / "report.html").as_uri())
        overflow = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        shown = page.evaluate("[...document.images].filter(image => image.naturalWidth > 0).length")
        styled = page.evaluate("getComputedStyle(document.querySelector('.scroll')).overflowX")
        browser.close()
    assert overflow <= 0
    assert (shown, styled, complaints) == (6, "auto", [])


# --- the command --------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("undrawn")
def test_the_command_writes_beside_the_runs_and_replaces_only_its_own(cli: Callable[..., Finished], tmp_path: Path) -> None:
    leave(tmp_path / "runs" / "a")
    leave(tmp_path / "runs" / "b\x1b[31m", status="interrupted", reasons=["stopped by SIGINT"])
    done = cli("report", "runs")
    assert (done.status, done.out) == (0, "runs/report.html, report.md beside it\n")
    assert done.err == "error: runs/b\\x1b[31m: left out, interrupted: stopped by SIGINT\n"
    assert "stopped by SIGINT" in (tmp_path / "runs" / "report.md").read_text("utf-8")
    assert cli("report", "runs").status == 0  # again, in place of the first
    (tmp_path / "runs" / "report.md").write_text("my own notes", "utf-8")
    done = cli("report", "runs")
    assert done.status == 2
    assert "error: runs/report.md: is there and no report of this project; name another folder with --out DIR\n" in done.err
    assert (tmp_path / "runs" / "report.md").read_text("utf-8") == "my own notes"
    assert cli("report", "runs/a", "runs", "--out", "elsewhere").status == 0
    assert (tmp_path / "elsewhere" / "report.html").exists()


def test_without_a_finished_run_there_is_one_line(cli: Callable[..., Finished], tmp_path: Path) -> None:
    (leave(tmp_path / "a") / "verdict.json").unlink()
    done = cli("report", tmp_path)
    assert (done.status, done.out) == (2, "")
    assert done.err.splitlines()[-1].startswith(
        "error: no run is finished (verdict.json), so that there is nothing to report; "
    )
    assert not (tmp_path / "report.html").exists()
