"""The page's server over real sockets: for this machine alone, nothing but its own files, and no client can hold up others."""

import contextlib
import http.client
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
import torch
from torch import nn

from mnist_lightning.inference import draw
from mnist_lightning.inference.draw import CANVAS_SIDE, MAX_CONNECTIONS, PAGE, listen, make_app
from mnist_lightning.inference.load import GreyValues
from mnist_lightning.models import Net1
from tests.faults.conftest import Trials

pytest.importorskip("flask", reason="the extra draw is not installed")
AREA = "draw server"
DRAWING = bytes(CANVAS_SIDE**2 - 100) + bytes([255]) * 100
PREDICTION = b"POST /look HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n" % len(DRAWING)


@contextmanager
def serving(net: nn.Module) -> Iterator[int]:
    """The port of a server in a thread."""
    server = listen(make_app(net, "somewhere"), 0)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield server.port
    server.shutdown()
    thread.join()


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(0)
    return GreyValues(Net1()).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def port(net: nn.Module) -> Iterator[int]:
    with serving(net) as number:
        yield number


def send(port: int, request: bytes, timeout_s: float = 20) -> bytes:
    """What comes back until the server closes."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout_s) as client:
        with contextlib.suppress(OSError):  # closed, or gone already, while we were still sending
            client.sendall(request)
            client.shutdown(socket.SHUT_WR)  # the server reads what is left of a request that it has refused
        with contextlib.suppress(ConnectionError):
            while chunk := client.recv(1 << 16):
                answer += chunk
    return answer


def status(answer: bytes) -> int | None:
    match = re.match(rb"HTTP/1\.\d (\d{3}) ", answer)
    return int(match[1]) if match else None


def predicted(port: int) -> int | None:
    """The status of a good prediction."""
    answer = send(port, PREDICTION + DRAWING)
    if status(answer) == 200:
        assert sum(json.loads(answer.partition(b"\r\n\r\n")[2])["probabilities"]) == pytest.approx(1, abs=1e-4)
    return status(answer)


def test_only_this_machine_is_listened_to(port: int, trials: Trials) -> None:
    for _ in trials(AREA, few=1, all=1):
        assert predicted(port) == 200
        table = Path("/proc/net/tcp")
        if table.exists():  # local address in hexadecimal, state 0A: listening
            lines = [line.split() for line in table.read_text("ascii").splitlines()[1:]]
            listening = [line[1] for line in lines if line[3] == "0A" and line[1].endswith(f":{port:04X}")]
            assert listening == [f"0100007F:{port:04X}"]


@pytest.mark.parametrize(
    "path",
    [
        *("/../draw.py", "/%2e%2e/draw.py", "/..%2fdraw.py", "/%2e%2e%2fdraw.py", "/..%5cdraw.py", "/.%00./draw.py"),
        *("//etc/passwd", "/%2fetc%2fpasswd", "/etc/passwd", "/index.html/../../draw.py", "/page.js%00", "/link"),
        *("http://127.0.0.1/../draw.py", "/static/draw.py", "/page/index.html", "/", "/page.js"),
    ],
)
def test_no_other_file_is_served(
    net: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trials: Trials, path: str
) -> None:
    """Sent as it stands: a client's library would tidy it."""
    for _ in trials(AREA, few=1, all=1):
        folder = tmp_path / "page"
        folder.mkdir()
        (tmp_path / "draw.py").write_text("secret", "utf-8")
        for name in ("index.html", "page.js"):
            (folder / name).write_bytes((PAGE / name).read_bytes())
        (folder / "link").symlink_to(tmp_path / "draw.py")
        monkeypatch.setattr(draw, "PAGE", folder)
        with serving(net) as port:
            answer = send(port, f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode("latin-1"))
        if path in ("/", "/page.js"):
            assert status(answer) == 200
            assert (folder / (path[1:] or "index.html")).read_bytes() in answer
        else:
            assert status(answer) in (400, 403, 404)
        assert b"secret" not in answer
        assert b"root:" not in answer


@pytest.mark.parametrize(
    ("request_bytes", "statuses"),
    [
        (b"POST /look HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 19600\r\n\r\n" + DRAWING, {403}),
        (PREDICTION.replace(b"\r\n\r\n", b"\r\nOrigin: http://evil.example\r\n\r\n") + DRAWING, {403}),
        (PREDICTION.replace(b"127.0.0.1", b"127.0.0.1@evil.example") + DRAWING, {400, 403}),
        (PREDICTION.replace(b"127.0.0.1", b"127.0.0.1, evil.example") + DRAWING, {400, 403}),
        (PREDICTION.replace(b"19600", b"-1"), {400, 411}),
        (PREDICTION.replace(b"19600", b"x"), {400, 411}),
        (PREDICTION.replace(b"19600", b"9" * 5000), {400, 413}),
        (PREDICTION.replace(b"19600", b"99999999999") + DRAWING, {413}),
        (PREDICTION.replace(b"Content-Length: 19600", b"Transfer-Encoding: chunked") + b"4ccc\r\n" + DRAWING, {411}),
        (PREDICTION.replace(b"Content-Length: 19600", b"Transfer-Encoding: chunked") + b"0" * 30_000_000, {411, None}),
        (b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n", {414}),
        (b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"".join(b"a%d: b\r\n" % n for n in range(5000)) + b"\r\n", {431, None}),
        (b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\na: " + b"b" * 100_000 + b"\r\n\r\n", {431, None}),
        (b"GET / HTTP/9.9\r\n\r\n", {505, None}),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200) + b"\r\n", {400, None}),
        (b"\r\n\r\n\r\n", {None, 400}),
        (b"GET\r\n\r\n", {400, None}),
        (b"BREW / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", {405, 501}),
        (b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n: nameless\r\nno colon\r\n\r\n", {200, 400}),
        (b"GET / HTTP/1.1\r\nHost: \xff\xfe\r\n\r\n", {400, 403}),
    ],
)
def test_a_broken_request_breaks_nothing(
    port: int, trials: Trials, capfd: pytest.CaptureFixture[str], request_bytes: bytes, statuses: set[int | None]
) -> None:
    for _ in trials(AREA, few=1, all=1):
        assert status(send(port, request_bytes)) in statuses
        assert predicted(port) == 200
        assert capfd.readouterr().err == ""


def test_random_bytes_break_nothing(port: int, trials: Trials, capfd: pytest.CaptureFixture[str]) -> None:
    for trial in trials(AREA, few=10, all=300):
        request = bytearray(PREDICTION + DRAWING)
        for _ in range(trial.rng.randint(1, 10)):
            request[trial.rng.randrange(len(PREDICTION))] = trial.rng.randrange(256)
        answer = send(port, bytes(request) + b"\r\n\r\n")
        assert status(answer) != 500
        assert capfd.readouterr().err == ""
    assert predicted(port) == 200


def test_slow_clients_hold_up_nobody(net: nn.Module, monkeypatch: pytest.MonkeyPatch, trials: Trials) -> None:
    """One sends a byte at a time, others nothing at all: they are cut off, and the page answers meanwhile."""
    monkeypatch.setattr(draw, "REQUEST_S", 1.0)
    for trial in trials(AREA, few=2, all=2):
        begun = (b"GET / HTTP/1.1\r\nX: ", PREDICTION)[trial.number]
        with ExitStack() as stack, serving(net) as port:
            slow = [stack.enter_context(socket.create_connection(("127.0.0.1", port), 20)) for _ in range(10)]
            for client in slow:
                client.sendall(begun)
            assert predicted(port) == 200
            start = time.monotonic()
            cut = False
            while not cut:
                assert time.monotonic() - start < 15, "a byte at a time keeps a connection"
                time.sleep(0.1)
                try:
                    slow[0].sendall(b"a")
                except ConnectionError:
                    cut = True
            for client in slow[1:]:
                with suppress(ConnectionError):
                    assert status(client.recv(1 << 16) or b"") in (None, 400, 408)
            assert predicted(port) == 200


def test_connections_are_counted(net: nn.Module, monkeypatch: pytest.MonkeyPatch, trials: Trials) -> None:
    """More than the server takes are closed at once, and their number does not grow its threads."""
    monkeypatch.setattr(draw, "REQUEST_S", 3.0)
    for _ in trials(AREA, few=1, all=1):
        with serving(net) as port:
            before = threading.active_count()
            with ExitStack() as stack:
                for _ in range(4 * MAX_CONNECTIONS):
                    stack.enter_context(socket.create_connection(("127.0.0.1", port), 20))
                time.sleep(0.5)
                assert threading.active_count() - before <= 2 * MAX_CONNECTIONS  # each with its timer
                assert send(port, PREDICTION + DRAWING) == b""
            deadline = time.monotonic() + 30
            while predicted(port) != 200:
                assert time.monotonic() < deadline, "the places do not become free again"
                time.sleep(0.1)


def test_a_library_that_speaks_http_is_served(port: int, trials: Trials) -> None:
    for _ in trials(AREA, few=1, all=1):
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        for _ in range(3):
            client.request("POST", "/look", body=DRAWING)
            response = client.getresponse()
            assert response.status == 200
            assert len(json.loads(response.read())["probabilities"]) == 10
        client.close()
