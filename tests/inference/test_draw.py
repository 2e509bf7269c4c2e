"""The page: what its server answers and refuses, and strokes drawn in a browser."""

import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor

from mnist_lightning.data.datamodule import synthetic
from mnist_lightning.inference import draw
from mnist_lightning.inference.draw import CANVAS_SIDE, listen, make_app
from mnist_lightning.inference.load import load
from tests.conftest import Finished, one_error

pytest.importorskip("flask", reason="the extra draw is not installed")
if TYPE_CHECKING:
    from flask.testing import FlaskClient
    from playwright.sync_api import Page

CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)


def drawing(digit: int) -> Tensor:
    """One of the project's digits in the size of the page's canvas."""
    images, labels = synthetic.draw(20, seed=3)
    image = images[labels == digit][:1, None].float()
    return torch.nn.functional.interpolate(image, (CANVAS_SIDE, CANVAS_SIDE), mode="bilinear")[0, 0].byte()


@pytest.fixture(scope="module")
def client(trained_run: Path) -> "FlaskClient":
    return make_app(load(trained_run).net, "somewhere").test_client()


def ask(client: "FlaskClient", body: bytes, host: str = "127.0.0.1:8000", **headers: str) -> tuple[int, dict[str, object]]:
    response = client.post("/look", data=body, headers={"Host": host} | headers)
    return response.status_code, response.get_json(silent=True) or {}


def test_a_drawing_is_looked_at(client: "FlaskClient") -> None:
    status, seen = ask(client, drawing(4).numpy().tobytes(), Origin="http://127.0.0.1:8000")
    assert status == 200
    probabilities = seen["probabilities"]
    assert probabilities.index(max(probabilities)) == 4
    assert sum(probabilities) == pytest.approx(1, abs=1e-5)
    assert [(layer["name"], layer["maps"]["count"], layer["maps"]["width"]) for layer in seen["layers"]][:3] == [
        ("ReLU", 8, 28),
        ("ReLU", 8, 28),
        ("MaxPool2d", 8, 14),
    ]


@pytest.mark.parametrize(
    ("size", "headers", "status"),
    [
        (CANVAS_SIDE**2 - 1, {}, 400),
        (CANVAS_SIDE**2 + 1, {}, 413),
        (CANVAS_SIDE**2, {"host": "127.0.0.1.evil.example:8000"}, 400),
        (CANVAS_SIDE**2, {"host": "127.0.0.1@evil.example"}, 400),
        (CANVAS_SIDE**2, {"host": "127.0.0.1, evil.example"}, 400),
        (CANVAS_SIDE**2, {"host": "evil.example"}, 400),
        (CANVAS_SIDE**2, {"Origin": "http://evil.example"}, 403),
        (CANVAS_SIDE**2, {"Origin": "http://127.0.0.1:9999"}, 403),
        (CANVAS_SIDE**2, {"Origin": "null"}, 403),
        (CANVAS_SIDE**2, {"host": "localhost:8000", "Origin": "http://localhost:8000"}, 200),
    ],
)
def test_strangers_and_other_sizes_are_refused(client: "FlaskClient", size: int, headers: dict[str, str], status: int) -> None:
    assert ask(client, bytes(size), **headers) == (status, {})  # of an empty canvas nothing is shown


def test_the_page_brings_everything_itself(client: "FlaskClient") -> None:
    for name in ("", "page.js", "page.css", "icon.svg"):
        with client.get(f"/{name}", headers={"Host": "localhost:1"}) as response:
            assert response.status_code == 200
            assert response.headers["Content-Security-Policy"] == "default-src 'self'; frame-ancestors 'none'"
            text = response.get_data(as_text=True).replace("http://www.w3.org/2000/svg", "")
        assert "//" not in text.replace("// ", "")


def test_one_prediction_at_a_time(client: "FlaskClient", monkeypatch: pytest.MonkeyPatch) -> None:
    """The network's hooks would mix two drawings."""
    under_way, most = 0, 0

    def slow_look(*args: object) -> dict[str, object]:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        time.sleep(0.05)
        under_way -= 1
        return {}

    monkeypatch.setattr(draw, "look", slow_look)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: ask(client.application.test_client(), bytes(CANVAS_SIDE**2)), range(4)))
    assert (answers, most) == ([(200, {})] * 4, 1)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Python leaves the socket of port 70000 open
@pytest.mark.parametrize("port", ["taken", 70000])
def test_a_port_that_cannot_be_had_is_one_line(trained_run: Path, cli: Callable[..., Finished], port: int | str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        number = other.getsockname()[1] if port == "taken" else port
        line = one_error(cli("draw", trained_run, "--port", number), 2)
    assert line.startswith(f"--port {number}: cannot be listened on (")
    assert line.endswith("; --port 0 takes a free one")


# --- in a browser -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def address(trained_run: Path) -> Iterator[str]:
    """The page of the trained run, served."""
    server = listen(make_app(load(trained_run).net, "somewhere"), 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.port}/"
    server.shutdown()


@pytest.fixture(params=[(1200, 900), (360, 740)], ids=["desktop", "phone"])
def page(request: pytest.FixtureRequest, address: str) -> Iterator["Page"]:
    """The page in the machine's Chromium, driven over its DevTools protocol."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    width, height = request.param
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": width, "height": height})
        page.set_default_timeout(20_000)
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(address)
        yield page
        browser.close()
        assert complaints == []


@pytest.mark.slow
def test_strokes_are_read_as_they_are_drawn(page: "Page") -> None:
    from playwright.sync_api import expect

    canvas = page.locator("#canvas").bounding_box()
    assert canvas is not None
    for digit in (7, 3):
        for stroke in synthetic.STROKES[digit]:
            places = [
                (canvas["x"] + (0.2 + 0.6 * x) * canvas["width"], canvas["y"] + (0.15 + 0.7 * y) * canvas["height"])
                for x, y in stroke
            ]
            page.mouse.move(*places[0])
            page.mouse.down()
            for place in places[1:]:
                page.mouse.move(*place)
            page.mouse.up()
        expect(page.locator("#digit")).to_have_text(str(digit), timeout=20_000)
        assert page.locator(".layer").count() == 8  # six activations, two max poolings
        shares = [float(text.removesuffix(" %")) for text in page.locator("td:last-child").all_inner_texts()]
        assert sum(shares) == pytest.approx(100, abs=1)
        page.locator("#clear").click()
        expect(page.locator("#digit")).to_have_text("nothing yet", timeout=20_000)
        assert page.locator(".layer").count() == 0
    assert page.locator("#source").inner_text() == "somewhere"
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
