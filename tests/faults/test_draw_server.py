"""The page's server over real sockets: for this machine alone, its own sites alone, and nothing but its own files."""

import contextlib
import re
import signal
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from mnist_lightning.export.grey_values import GreyValues
from mnist_lightning.inference.draw import CANVAS_SIDE, PAGE, listen, make_app
from mnist_lightning.models import Net1
from tests.conftest import Finished
from tests.faults.conftest import Trials

pytest.importorskip("flask", reason="the extra draw is not installed")
DRAWING = bytes(CANVAS_SIDE**2 - 100) + bytes([255]) * 100
PREDICTION = b"POST /look HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n" % len(DRAWING)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Of a server in a thread."""
    torch.manual_seed(0)
    net: nn.Module = GreyValues(Net1()).eval().requires_grad_(False)
    server = listen(make_app(net, "somewhere"), 0)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield server.port
    server.shutdown()
    thread.join()
    server.server_close()


def send(port: int, request: bytes) -> tuple[int | None, bytes]:
    """The status and all that comes back; sent as it stands, since a client's library would tidy it."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), 20) as client:
        with contextlib.suppress(OSError):  # closed, or gone already, while we were still sending
            client.sendall(request)
            client.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            while chunk := client.recv(1 << 16):
                answer += chunk
    match = re.match(rb"HTTP/1\.\d (\d{3}) ", answer)
    return int(match[1]) if match else None, answer


def test_only_this_machine_is_listened_to(port: int) -> None:
    assert send(port, PREDICTION + DRAWING)[0] == 200
    table = Path("/proc/net/tcp")
    if not table.exists():
        pytest.skip("what is listened to is read on Linux")
    lines = [line.split() for line in table.read_text("ascii").splitlines()[1:]]
    # Local address in hexadecimal; state 0A: listening.
    assert [line[1] for line in lines if line[3] == "0A" and line[1].endswith(f":{port:04X}")] == [f"0100007F:{port:04X}"]


@pytest.mark.parametrize(
    "path",
    [
        *("/../draw.py", "/%2e%2e/draw.py", "/..%2fdraw.py", "/%2e%2e%2fdraw.py", "/..%5cdraw.py", "/.%00./draw.py"),
        *("//etc/passwd", "/%2fetc%2fpasswd", "/index.html/../../draw.py", "/page.js%00", "/page/index.html", "/look"),
    ],
)
def test_no_other_file_is_served(port: int, path: str) -> None:
    status, answer = send(port, f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode("latin-1"))
    assert status in (308, 400, 403, 404, 405)
    assert b"import " not in answer
    assert b"root:" not in answer
    assert (PAGE / "page.js").read_bytes() in send(port, b"GET /page.js HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")[1]


@pytest.mark.parametrize(
    ("request_bytes", "statuses"),
    [
        (PREDICTION.replace(b"127.0.0.1", b"evil.example") + DRAWING, {400}),
        (PREDICTION.replace(b"19600", b"99999999999") + DRAWING, {413}),
        (b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n", {414}),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200) + b"\r\n", {400, None}),
    ],
)
def test_a_foreign_or_broken_request_is_refused(
    port: int, capfd: pytest.CaptureFixture[str], request_bytes: bytes, statuses: set[int | None]
) -> None:
    assert send(port, request_bytes)[0] in statuses
    assert send(port, PREDICTION + DRAWING)[0] == 200
    assert capfd.readouterr().err == ""


@pytest.mark.slow
def test_random_bytes_break_nothing(port: int, trials: Trials, capfd: pytest.CaptureFixture[str]) -> None:
    for trial in trials("draw server", few=10, all=300):
        request = bytearray(PREDICTION + DRAWING)
        for _ in range(trial.rng.randint(1, 10)):
            request[trial.rng.randrange(len(PREDICTION))] = trial.rng.randrange(256)
        assert send(port, bytes(request) + b"\r\n\r\n")[0] != 500
        assert capfd.readouterr().err == ""
    assert send(port, PREDICTION + DRAWING)[0] == 200


def test_ctrl_c_ends_it_with_130(trained_run: Path, cli: Callable[..., Finished], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socketserver.BaseServer, "serve_forever", lambda *args, **kwargs: signal.raise_signal(signal.SIGINT))
    done = cli("draw", trained_run, "--port", 0)
    assert (done.status, done.err) == (130, "")
    assert done.out.endswith("(Ctrl-C ends)\n")
