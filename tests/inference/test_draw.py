"""The page: what its server answers and refuses, and strokes drawn in a browser."""

import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mnist_lightning.data.datamodule import synthetic
from mnist_lightning.export.grey_values import GreyValues
from mnist_lightning.inference import draw
from mnist_lightning.inference.draw import CANVAS_SIDE, listen, look, make_app
from mnist_lightning.inference.load import load
from mnist_lightning.models.probe import probe
from tests.conftest import Finished, one_error
from tests.models import networks

pytest.importorskip("flask", reason="the extra draw is not installed")
if TYPE_CHECKING:
    from flask.testing import FlaskClient
    from playwright.sync_api import Page, Playwright

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


def opened(driver: "Playwright", address: str, complaints: list[str], **kind: object) -> "Page":
    """A page in the machine's Chromium, driven over its DevTools protocol."""
    page = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]).new_page(**kind)
    page.set_default_timeout(20_000)
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(address)
    return page


@pytest.fixture
def driver() -> Iterator["Playwright"]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        yield driver


@pytest.fixture(params=[(1200, 900), (360, 740)], ids=["desktop", "phone"])
def page(request: pytest.FixtureRequest, driver: "Playwright", address: str) -> Iterator["Page"]:
    complaints: list[str] = []
    width, height = request.param
    yield opened(driver, address, complaints, viewport={"width": width, "height": height})
    assert complaints == []


def place(page: "Page", x: float, y: float) -> tuple[float, float]:
    """A point of the window, from shares of the canvas."""
    canvas = page.locator("#canvas").bounding_box()
    assert canvas is not None
    return canvas["x"] + x * canvas["width"], canvas["y"] + y * canvas["height"]


def stroke(page: "Page", points: Sequence[tuple[float, float]], button: Literal["left", "right"] = "left") -> None:
    """Draws with the mouse from point to point, shares of the canvas."""
    page.mouse.move(*place(page, *points[0]))
    page.mouse.down(button=button)
    for point in points[1:]:
        page.mouse.move(*place(page, *point))
    page.mouse.up(button=button)


def write(page: "Page", digit: int) -> None:
    for line in synthetic.STROKES[digit]:
        stroke(page, [(0.2 + 0.6 * x, 0.15 + 0.7 * y) for x, y in line])


def drawn(page: "Page") -> int:
    """How many pixels of the canvas are drawn on."""
    script = """() => {
        const copy = new OffscreenCanvas(280, 280).getContext("2d", { willReadFrequently: true });
        copy.drawImage(canvas, 0, 0);
        return copy.getImageData(0, 0, 280, 280).data.filter((value, i) => i % 4 === 3 && value > 0).length;
    }"""
    return int(page.evaluate(script))


@pytest.mark.slow
def test_strokes_are_read_as_they_are_drawn(page: "Page") -> None:
    from playwright.sync_api import expect

    expect(page.locator("#hint")).to_be_visible()
    for digit in (7, 3):
        write(page, digit)
        expect(page.locator("#digit")).to_have_text(str(digit), timeout=20_000)
        expect(page.locator("#hint")).to_be_hidden()
        expect(page.locator("#inside")).to_be_visible()
        assert page.locator(".layer").count() == 8  # six activations, two max poolings
        shares = [float(text.removesuffix(" %")) for text in page.locator("td:last-child").all_inner_texts()]
        assert sum(shares) == pytest.approx(100, abs=1)
        page.locator("#clear").click()
        expect(page.locator("#hint")).to_be_visible()
        assert_nothing_is_read(page)
    assert page.locator("#source").inner_text() == "somewhere"
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def assert_nothing_is_read(page: "Page", said: str = "nothing yet") -> None:
    from playwright.sync_api import expect

    expect(page.locator("#digit")).to_have_text(said, timeout=20_000)
    assert set(page.locator("td:last-child").all_inner_texts()) == {""}
    assert page.locator(".layer").count() == 0
    expect(page.locator("#inside")).to_be_hidden()


@pytest.mark.slow
def test_strokes_are_taken_back_one_by_one(page: "Page") -> None:
    stroke(page, [(0.2, 0.3), (0.8, 0.3)])
    one = drawn(page)
    stroke(page, [(0.2, 0.7), (0.8, 0.7)])
    stroke(page, [(0.5, 0.1), (0.5, 0.9)])
    page.locator("#undo").click()
    page.keyboard.press("Control+z")
    assert drawn(page) == one > 0
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")  # of nothing
    assert drawn(page) == 0
    assert page.locator("#undo").is_disabled()
    assert_nothing_is_read(page)


@pytest.mark.slow
def test_one_pointer_draws_and_no_right_button(driver: "Playwright", address: str) -> None:
    complaints: list[str] = []
    page = opened(driver, address, complaints, has_touch=True, viewport={"width": 360, "height": 740})
    stroke(page, [(0.2, 0.2), (0.8, 0.8)], button="right")
    assert drawn(page) == 0
    touch = page.context.new_cdp_session(page)

    def fingers(kind: str, *points: tuple[float, float]) -> None:
        where = [dict(zip("xy", place(page, *point), strict=True), id=number) for number, point in enumerate(points)]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": where})

    def draw_down(*others: tuple[float, float]) -> int:
        """A stroke of the first finger; the number of pixels that it leaves."""
        fingers("touchStart", (0.5, 0.2))
        if others:
            fingers("touchStart", (0.5, 0.2), *others)
        for y in (0.4, 0.6, 0.8):
            fingers("touchMove", (0.5, y), *((x, other + y / 5) for x, other in others))
        fingers("touchEnd")
        pixels = drawn(page)
        page.locator("#clear").click()
        return pixels

    assert draw_down() == draw_down((0.9, 0.3)) > 0
    assert complaints == []


@pytest.mark.slow
def test_an_old_answer_never_stays(driver: "Playwright", trained_run: Path) -> None:
    """Neither when the drawing that it is of was cleared meanwhile, nor when the server has ended."""
    from playwright.sync_api import expect

    net, held = load(trained_run).net, threading.Event()
    held.set()

    class Held(torch.nn.Module):
        """An .onnx file's network is as little a GreyValues: it shows no layers."""

        def forward(self, images: Tensor) -> Tensor:
            held.wait(20)
            return net(images)

    server = listen(make_app(Held(), "somewhere"), 0)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    page = opened(driver, f"http://127.0.0.1:{server.port}/", [])
    write(page, 7)
    expect(page.locator("#digit")).to_have_text("7", timeout=20_000)
    expect(page.locator("#inside")).to_be_hidden()
    held.clear()
    with page.expect_response("**/look"):
        stroke(page, [(0.2, 0.9), (0.3, 0.9)])
        page.wait_for_timeout(100)
        page.locator("#clear").click()
        assert_nothing_is_read(page)
        held.set()
    page.wait_for_timeout(200)
    assert_nothing_is_read(page)
    write(page, 7)
    expect(page.locator("#digit")).to_have_text("7", timeout=20_000)
    server.shutdown()
    server.server_close()
    stroke(page, [(0.2, 0.9), (0.3, 0.9)])
    assert_nothing_is_read(page, "nothing: the server has ended")


@pytest.mark.parametrize("network", networks.GOOD)
def test_networks_of_any_kind_show_the_maps_that_they_make(network: type[nn.Module]) -> None:
    drawing = np.zeros((CANVAS_SIDE, CANVAS_SIDE), np.uint8)
    drawing[30:110, 66:74] = 255
    net = GreyValues(probe(network())).eval().requires_grad_(False)
    seen = look(net, drawing.tobytes())
    assert sum(seen["probabilities"]) == pytest.approx(1, abs=1e-5)
    names = [layer["name"] for layer in seen["layers"]]
    assert bool(names) == (network not in (networks.Rows, networks.Attention))
    if network is networks.Functional:
        assert names == ["relu", "max_pool2d", "relu"]
