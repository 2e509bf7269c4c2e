"""The report: its figures against the runs' files, nothing from outside in it, hostile names, bad input, its width."""

import base64
import csv
import hashlib
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from mnist_lightning.config.compose import compose_config
from mnist_lightning.evaluation.run_directories import find_runs
from mnist_lightning.evaluation.verdict import percent
from mnist_lightning.inference.load import load, load_data
from mnist_lightning.models import Net3
from mnist_lightning.models.summary import summarize
from mnist_lightning.study import curves, report
from mnist_lightning.study.report import MAX_RUNS, Report, make_report
from mnist_lightning.study.report_pages import FOLDER, write_pages
from mnist_lightning.training.fit import run
from tests.conftest import TINY, Finished, read_verdict
from tests.study.conftest import leave

HOSTILE = "<img src=x onerror=alert(1)>|`x` [a](http://evil.example) \x1b[31m\u202e$x$"
CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)


@pytest.fixture(scope="module")
def study(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two networks trained on drawn digits, and a run that failed, with a name and a reason that want to be more than text."""
    root = tmp_path_factory.mktemp("study")
    shutil.copytree(trained_run, root / "Net")
    run(compose_config(*TINY, "data.test_images=200", "optimizer.lr=0.05"), root / "Net3")
    leave(root / HOSTILE, status="error", reasons=[f"ValueError: {HOSTILE}\n# head"], accuracy=None)
    return root


@pytest.fixture(scope="module")
def made(study: Path) -> Report:
    return make_report(find_runs([study]))


@pytest.fixture(scope="module")
def written(made: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the report of the study."""
    folder = tmp_path_factory.mktemp("report")
    write_pages(folder, made, made.pictures)
    return folder


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out the curves, which take seconds."""
    monkeypatch.setattr(report, "_curves", lambda *args: ("", []))


def metrics(directory: Path) -> list[dict[str, str]]:
    with (directory / "metrics.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# --- what it says -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["Net", "Net3"])
def test_figures_are_those_of_the_runs_files(made: Report, study: Path, folder: str) -> None:
    rows, verdict = metrics(study / folder), read_verdict(study / folder)
    [row] = [row for row in made.experiments if row["parameters"] == f"{verdict['params']:,}"]
    train, test = ([100 * float(epoch[f"{split}/acc"]) for epoch in rows] for split in ("train", "test"))
    assert row["verdict"] == "not judged"
    assert row["train acc %"] == f"{train[-1]:.2f}"
    assert (row["best test acc %"], row["last test acc %"]) == (f"{max(test):.2f}", f"{test[-1]:.2f}")
    assert row["judged acc %"] == f"{100 * verdict['accuracy']:.2f}"
    [section] = [section for section in made.sections if section.label == row["experiment"]]
    analysis = "\n".join(section.analysis)
    assert f"a gap of {train[-1] - test[-1]:+.2f} points" in analysis
    assert f"At or above 99.40 % in none of {len(rows)} epoch" in analysis
    # The checkpoint is evaluated again: what it reads wrong is what the run counted, and nothing differs.
    assert f"\n{round(200 - 200 * verdict['accuracy'])} of 200 test images are read wrong" in analysis
    assert "Evaluated again" not in analysis
    assert f"{percent(verdict['accuracy'])} test accuracy by the rule" in "\n".join(section.result)


def test_two_runs_are_compared_on_their_predictions(made: Report, study: Path) -> None:
    first, second = sorted((load(study / name) for name in ("Net", "Net3")), key=lambda net: net.params != params_of(made)[0])
    test = load_data(first.cfg).splits["test"]
    one, other = (trained.net(test.images).argmax(1) == test.labels for trained in (first, second))
    [row] = made.comparisons
    only_one, only_other = int((one & ~other).sum()), int((other & ~one).sum())
    assert only_one + only_other > 0
    assert row["by"] == "McNemar’s exact test"
    assert row["evidence"].startswith(f"only the first right on {only_one}, only the second on {only_other}; p ")
    assert row["difference, points"] == f"{(only_one - only_other) / 2:+.2f}"  # of 200 images


def params_of(made: Report) -> list[int]:
    return [int(row["parameters"].replace(",", "")) for row in made.experiments]


def test_networks_are_told_layer_by_layer(made: Report) -> None:
    [network] = [network for network in made.networks if network.name.startswith("Net3")]
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
    best = {row["experiment"]: row["best test acc %"] for row in made.experiments}
    assert [*best][:2] == ["exp1", "exp1, as published"]
    assert [*best][3:] == ["exp2, as published", "exp3, as published"]
    assert [*best.values()] == ["99.26", "99.22", "99.00", "98.99", "99.43"]
    analysis = "\n".join(made.sections[0].analysis)
    assert "+0.04 points: the published figure lies inside the 95 % interval of ours, 99.07 to 99.41 %." in analysis
    assert "used to select the epoch: the accuracy is optimistic" in "\n".join(made.sections[0].result)
    assert "there is no best.ckpt" in analysis  # what needs predictions is left out, and said to be
    assert not made.sections[0].pictures
    assert made.comparisons[0]["larger than noise"] == "not known"
    assert capfd.readouterr().err == ""


@pytest.mark.usefixtures("undrawn")
def test_seeds_are_compared_by_their_spread(tmp_path: Path) -> None:
    """Of 99.1, 99.2, 99.3 and 99.5, 99.6, 99.7: difference 0.4, variances 0.01, t = 2.776, margin 0.2267."""
    for seed, (low, high) in enumerate([(0.991, 0.995), (0.992, 0.996), (0.993, 0.997)]):
        leave(tmp_path / f"a{seed}", f"seed={seed}", epochs=(low,))
        leave(tmp_path / f"b{seed}", f"seed={seed}", "optimizer.lr=0.1", epochs=(high,))
    leave(tmp_path / "c", "optimizer.lr=0.2", epochs=(0.98,))
    made = make_report(find_runs([tmp_path]))
    assert [(row["experiment"], row["judged acc %"]) for row in made.experiments] == [
        ("net3, lr=0.1", "99.60 ± 0.10"),
        ("net3, lr=0.015", "99.20 ± 0.10"),
        ("net3, lr=0.2", "98.00"),
    ]
    first, *others = made.comparisons
    assert (first["difference, points"], first["larger than noise"]) == ("+0.40", "yes")
    assert first["evidence"] == "95 % interval +0.17 to +0.63 points, 3 and 3 seeds"
    assert {row["larger than noise"] for row in others} == {"not known"}  # of a single seed there is no spread
    assert [section.label for section in made.sections][:2] == ["net3, lr=0.1, seed 0", "net3, lr=0.1, seed 1"]


def test_many_runs_are_summarised_by_configuration(tmp_path: Path) -> None:
    for i in range(MAX_RUNS + 1):
        leave(tmp_path / f"{i}", f"seed={i}", f"optimizer.lr=0.0{i % 2 + 1}", epochs=(0.98, 0.99))
    made = make_report(find_runs([tmp_path]))
    assert made.sections == []
    assert len(made.experiments) == 2
    assert len(made.pictures) == 2
    assert "A line per configuration" in made.curves_caption


# --- figures ------------------------------------------------------------------------------------------------------------


def test_the_four_curves_are_the_columns_of_the_epochs() -> None:
    epochs = [{"train/loss": 3.0, "train/acc": 0.9, "val/loss": 2.0, "val/acc": 0.8}] * 2
    higher = [row | {"val/acc": 0.9} for row in epochs]
    figure = curves.draw([curves.Group("$\\frac", [epochs, higher])], 0.994, summarised=False)
    assert [axes.get_title() for axes in figure.axes] == list(curves.PANELS)
    lines = [[list(line.get_ydata()) for line in axes.lines] for axes in figure.axes]
    assert [drawn[-2] for drawn in lines] == [[3.0, 3.0], [90.0, 90.0], [2.0, 2.0], [80.0, 80.0]]
    assert lines[3][0] == pytest.approx([99.4, 99.4])
    figure.savefig(BytesIO())  # whatever the label holds
    summary = curves.draw([curves.Group("a", [epochs, higher])], None, summarised=True)
    assert [list(line.get_ydata()) for line in summary.axes[3].lines] == [pytest.approx([85.0, 85.0])]


def test_the_animation_has_a_frame_per_epoch_and_is_small(written: Path) -> None:
    path = written / FOLDER / "training.gif"
    assert path.stat().st_size < 500_000
    with Image.open(path) as animation:
        assert animation.n_frames == 4
        frames = []
        for i in range(4):
            animation.seek(i)
            frames.append((animation.info["duration"], animation.convert("RGB").tobytes()))
    assert [duration for duration, _ in frames] == [400, 400, 400, 3000]
    assert frames[0][1] != frames[1][1]


# --- the pages ----------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """Tags, addresses and text of an HTML page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.events: list[str] = []
        self.text = ""
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]
        self.events += [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_brings_everything_itself(written: Path, made: Report) -> None:
    page, source = Page(written / "report.html"), (written / "report.html").read_text("utf-8")
    assert len(page.addresses) == len(made.pictures) == 6
    assert all(address.startswith(("data:image/png;base64,", "data:image/gif;base64,")) for address in page.addresses)
    assert not {"script", "link", "iframe", "object", "a"} & set(page.tags)
    style = source.partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style
    style_hash = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{style_hash}'"
    assert f'http-equiv="Content-Security-Policy" content="{policy}"' in source


def test_names_are_text_whatever_they_hold(written: Path) -> None:
    page, markdown = Page(written / "report.html"), (written / "report.md").read_text("utf-8")
    assert page.tags.count("img") == 6
    assert page.events == []
    assert "<img src=x onerror=alert(1)>|`x` [a](http://evil.example) \\x1b[31m\\u202e$x$" in page.text
    assert r"&lt;img src=x onerror=alert(1)&gt;\|\`x\` \[a\](http&#58;//evil.example) \\x1b\[31m\\u202e\$x\$" in markdown
    for text in (page.text, markdown):
        assert not {"\x1b", "\u202e"} & set(text)
    assert "\n# head" not in markdown


def test_markdown_names_the_pictures_beside_it(written: Path, made: Report) -> None:
    markdown = (written / "report.md").read_text("utf-8")
    for picture in made.pictures:
        assert f"]({FOLDER}/{picture.name})" in markdown
        assert (written / FOLDER / picture.name).read_bytes() == picture.content


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
def test_the_command_writes_beside_the_runs_and_replaces_only_its_own(
    cli: Callable[..., Finished], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    leave(tmp_path / "runs" / "a")
    leave(tmp_path / "runs" / "b\x1b[31m", status="interrupted", reasons=["stopped by SIGINT"])
    done = cli("report", "runs")
    assert (done.status, done.out) == (0, "runs/report.html, report.md beside it\n")
    assert done.err == "error: runs/b\\x1b[31m: left out, interrupted: stopped by SIGINT\n"
    assert "stopped by SIGINT" in (tmp_path / "runs" / "report.md").read_text("utf-8")
    assert cli("report", "runs").status == 0  # again, in place of the first
    (tmp_path / "runs" / "report.md").write_text("my own notes", "utf-8")
    done = cli("report", "runs")
    assert (done.status, done.err.splitlines()[-1]) == (
        2,
        "error: runs/report.md: is there and no report of this project; name another folder with --out DIR",
    )
    assert (tmp_path / "runs" / "report.md").read_text("utf-8") == "my own notes"
    assert cli("report", "runs/a", "runs", "--out", "elsewhere").status == 0
    assert (tmp_path / "elsewhere" / "report.html").exists()


@pytest.mark.usefixtures("undrawn")
def test_damaged_runs_are_named_and_what_is_whole_is_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    leave(tmp_path / "whole", epochs=(0.98, 0.99))
    cut = leave(tmp_path / "cut", "optimizer.lr=0.1", epochs=(0.98,))
    (cut / "metrics.csv").write_text("epoch,train/loss\n1,0.1\n2", "utf-8")
    leave(tmp_path / "wrong", accuracy="much")
    made = make_report(find_runs([tmp_path]))
    assert [row["experiment"] for row in made.experiments] == ["net3"]
    damaged, wrong = made.failures
    assert damaged["status"] == wrong["status"] == "unreadable"
    assert "metrics.csv: a row is cut off" in damaged["why"]
    assert "verdict.json: accuracy: " in wrong["why"]
    assert len(capfd.readouterr().err.splitlines()) == 2


@pytest.mark.parametrize("what", ["nothing", "unfinished"])
def test_without_a_finished_run_there_is_one_line(cli: Callable[..., Finished], tmp_path: Path, what: str) -> None:
    if what == "unfinished":
        (leave(tmp_path / "a") / "verdict.json").unlink()
    done = cli("report", tmp_path)
    assert (done.status, done.out) == (2, "")
    expected = {
        "nothing": f"error: {tmp_path}: no run below (no config.yaml); name the folder of a run or of a sweep",
        "unfinished": "error: no run is finished (verdict.json), so that there is nothing to report; train one to its end",
    }
    assert done.err.splitlines()[-1].startswith(expected[what])
    assert not (tmp_path / "report.html").exists()
