"""Mirrors that fail in every way a server can, and killed downloaders: the next mirror is tried, no half file stays."""

import gzip
import hashlib
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mnist_lightning.data import download
from tests.faults.conftest import Trials

NAME = "train-images-idx3-ubyte.gz"
CONTENTS = gzip.compress(random.Random(0).randbytes(100_000), mtime=0)
MD5 = hashlib.md5(CONTENTS).hexdigest()
OK = b"HTTP/1.1 200 OK\r\n"
WHOLE = OK + b"Content-Length: %d\r\n\r\n" % len(CONTENTS)

Answer = Callable[[socket.socket, random.Random], None]


class Mirror:
    """Answers every request by a script, on a free port of 127.0.0.1; counts the requests."""

    def __init__(self, answer: Answer, rng: random.Random) -> None:
        self.answer, self.rng = answer, rng
        self.num_requests = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}/"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:  # closed
                return
            threading.Thread(target=self._reply, args=(connection,), daemon=True).start()

    def _reply(self, connection: socket.socket) -> None:
        self.num_requests += 1
        try:
            with connection:
                connection.recv(65536)
                self.answer(connection, self.rng)
        except OSError:  # the client has gone
            pass


@contextmanager
def mirror(answer: Answer, rng: random.Random) -> Iterator[Mirror]:
    served = Mirror(answer, rng)
    try:
        yield served
    finally:
        served.listener.shutdown(socket.SHUT_RDWR)
        served.listener.close()


def forever(connection: socket.socket, contents: bytes) -> None:
    while True:
        connection.sendall(contents)


def good(connection: socket.socket, rng: random.Random) -> None:
    connection.sendall(WHOLE + CONTENTS)


def answer_with(contents: bytes) -> Answer:
    return lambda connection, rng: connection.sendall(contents)


def page(status: str) -> Answer:
    html = b"<html><body>%s</body></html>" % status.encode()
    return answer_with(f"HTTP/1.1 {status}\r\nContent-Type: text/html\r\nContent-Length: {len(html)}\r\n\r\n".encode() + html)


def redirect(location: Callable[[random.Random], str]) -> Answer:
    def answer(connection: socket.socket, rng: random.Random) -> None:
        connection.sendall(f"HTTP/1.1 302 Found\r\nLocation: {location(rng)}\r\nContent-Length: 0\r\n\r\n".encode())

    return answer


def cut(rng: random.Random) -> bytes:
    return CONTENTS[: rng.randrange(len(CONTENTS))]


def flipped(rng: random.Random) -> bytes:
    contents = bytearray(CONTENTS)
    contents[rng.randrange(len(contents))] ^= 1 << rng.randrange(8)
    return bytes(contents)


def reset(connection: socket.socket, rng: random.Random) -> None:
    connection.sendall(WHOLE + cut(rng))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # close by RST


STALLS: dict[str, Answer] = {
    "accepts and sends nothing": lambda connection, rng: time.sleep(30),
    "stops in the middle": lambda connection, rng: (connection.sendall(WHOLE + cut(rng)), time.sleep(30))[1],
}
FAULTS: dict[str, Answer | None] = {
    **STALLS,
    "refuses connections": None,
    "hangs up": lambda connection, rng: None,
    "is cut off": lambda connection, rng: connection.sendall(WHOLE + cut(rng)),
    "is reset": reset,
    "is cut off, without a length": lambda connection, rng: connection.sendall(OK + b"\r\n" + cut(rng)),
    "is cut off in a chunk": answer_with(OK + b"Transfer-Encoding: chunked\r\n\r\nffff\r\n" + CONTENTS[:500]),
    "says too little": answer_with(OK + b"Content-Length: 999\r\n\r\n" + CONTENTS),
    "says too much": lambda c, rng: c.sendall(OK + b"Content-Length: 99999999999999\r\n\r\n" + cut(rng)),
    "sends more": answer_with(OK + b"\r\n" + CONTENTS + b"\0"),
    "never ends": lambda c, rng: (c.sendall(OK + b"\r\n"), forever(c, CONTENTS))[1],
    "flips a bit": lambda connection, rng: connection.sendall(WHOLE + flipped(rng)),
    "another file": answer_with(OK + b"\r\n" + gzip.compress(b"another")),
    "HTML": page("200 OK"),
    "404": page("404 Not Found"),
    "503": page("503 Service Unavailable"),
    "redirects to itself": redirect(lambda rng: f"/{NAME}"),
    "redirects for ever": redirect(lambda rng: f"/{rng.random()}"),
    "redirects nowhere": answer_with(b"HTTP/1.1 302 Found\r\n\r\n"),
    "redirects to no address": redirect(lambda rng: "http://[::1/"),
    "nothing but noise": lambda connection, rng: connection.sendall(rng.randbytes(5000)),
}


def refusing() -> str:
    """An address at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}/"


def test_a_mirror_that_fails_is_left_for_the_next(trials: Trials, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(download, "MAX_BYTES", {".gz": 1_000_000})
    for trial in trials("downloads", few=len(FAULTS), all=2 * len(FAULTS)):
        fault = list(FAULTS)[trial.number % len(FAULTS)]
        answer = FAULTS[fault]
        monkeypatch.setattr(download, "TIMEOUT_S", 0.5 if fault in STALLS else 20.0)
        folder = tmp_path / str(trial.number)
        with mirror(answer or good, trial.rng) as bad, mirror(good, trial.rng) as fine:
            url = bad.url if answer else refusing()
            path = download.download(NAME, MD5, folder, [url, fine.url])
            assert path == folder / NAME
            assert path.read_bytes() == CONTENTS, fault
            assert fine.num_requests == 1
            assert [path.name for path in folder.iterdir() if path.name != ".lock"] == [NAME]


def test_where_every_mirror_fails_nothing_stays_and_each_is_named(tmp_path: Path) -> None:
    rng, other = random.Random(0), hashlib.md5(b"other").hexdigest()
    with mirror(page("404 Not Found"), rng) as bad, mirror(answer_with(OK + b"\r\nother"), rng) as wrong:
        with pytest.raises(OSError, match="404") as caught:
            download.download(NAME, MD5, tmp_path, [bad.url, wrong.url])
        assert str(caught.value).split("; ") == [
            f"{bad.url}: HTTP Error 404: Not Found",
            f"{wrong.url}: sends other contents (5 bytes, MD5 {other[:8]}…, not {MD5[:8]}…)",
        ]
    assert [path.name for path in tmp_path.iterdir()] in ([".lock"], [])


# --- several processes --------------------------------------------------------------------------------------------------

DOWNLOADER = """
import sys
from pathlib import Path
from mnist_lightning.data.download import download
download(sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4:])
"""


def downloader(folder: Path, url: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", DOWNLOADER, NAME, MD5, str(folder), url]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True)


class Paused:
    """A first answer that stops in the middle until it is let go on; later ones are good."""

    def __init__(self) -> None:
        self.reached, self.go_on = threading.Event(), threading.Event()

    def __call__(self, connection: socket.socket, rng: random.Random) -> None:
        if self.reached.is_set():
            good(connection, rng)
            return
        connection.sendall(WHOLE + CONTENTS[:50_000])
        self.reached.set()
        self.go_on.wait(60)
        connection.sendall(CONTENTS[50_000:])


@pytest.mark.slow
def test_one_download_serves_all_processes(tmp_path: Path) -> None:
    answer = Paused()
    with mirror(answer, random.Random(0)) as served:
        first, second = downloader(tmp_path, served.url), downloader(tmp_path, served.url)
        assert answer.reached.wait(60)
        assert not (tmp_path / NAME).exists()
        answer.go_on.set()
        assert (first.wait(60), second.wait(60)) == (0, 0)
        assert served.num_requests == 1
    assert (tmp_path / NAME).read_bytes() == CONTENTS


@pytest.mark.slow
def test_a_killed_downloader_leaves_no_file_and_no_lock(tmp_path: Path) -> None:
    answer = Paused()
    with mirror(answer, random.Random(0)) as served:
        killed = downloader(tmp_path, served.url)
        assert answer.reached.wait(60)
        heir = downloader(tmp_path, served.url)
        killed.kill()
        killed.wait(60)
        assert heir.wait(60) == 0
        answer.go_on.set()
    assert served.num_requests == 2
    assert (tmp_path / NAME).read_bytes() == CONTENTS
