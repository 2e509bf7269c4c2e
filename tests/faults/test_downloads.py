"""Mirrors that fail in every way a server can, and killed downloaders: the next mirror is tried, no half file stays."""

import gzip
import hashlib
import queue
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mnist_lightning.data.datamodule import mnist_files
from mnist_lightning.data.download import download
from mnist_lightning.data.mnist_files import MNISTNotFoundError
from tests.faults.conftest import Trials

NAME = "train-images-idx3-ubyte.gz"
CONTENTS = gzip.compress(random.Random(0).randbytes(100_000), mtime=0)
MD5 = hashlib.md5(CONTENTS).hexdigest()
OK = b"HTTP/1.1 200 OK\r\n"
WHOLE = OK + b"Content-Length: %d\r\n\r\n" % len(CONTENTS)

Answer = Callable[[socket.socket, random.Random], None]
TRICKLE_S = 0.05  # between single bytes


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


def trickle(connection: socket.socket, contents: bytes) -> None:
    for byte in contents:
        connection.sendall(bytes([byte]))
        time.sleep(TRICKLE_S)


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
    "a byte at a time": lambda connection, rng: trickle(connection, WHOLE + CONTENTS),
    "a byte at a time after the header": lambda c, rng: (c.sendall(WHOLE), trickle(c, CONTENTS))[1],
    "a byte at a time of a chunk's header": lambda c, rng: (
        c.sendall(OK + b"Transfer-Encoding: chunked\r\n\r\n"),
        trickle(c, b"1;" + b"x" * 9999),
    )[1],
    "continues for ever, slowly": lambda c, rng: trickle(c, b"HTTP/1.1 100 Continue\r\n\r\n" * 999),
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
    "never ends, in a chunk of -1 bytes": lambda c, rng: (
        c.sendall(OK + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n"),
        forever(c, CONTENTS),
    )[1],
    "never ends its headers": lambda c, rng: (c.sendall(OK), forever(c, b"X: y\r\n"))[1],
    "continues for ever": lambda c, rng: forever(c, b"HTTP/1.1 100 Continue\r\n\r\n"),
    "flips a bit": lambda connection, rng: connection.sendall(WHOLE + flipped(rng)),
    "another file": answer_with(OK + b"\r\n" + gzip.compress(b"another")),
    "HTML": page("200 OK"),
    "404": page("404 Not Found"),
    "403": page("403 Forbidden"),
    "500": page("500 Internal Server Error"),
    "503": page("503 Service Unavailable"),
    "redirects to itself": redirect(lambda rng: f"/{NAME}"),
    "redirects for ever": redirect(lambda rng: f"/{rng.random()}"),
    "redirects to a file": redirect(lambda rng: "file:///etc/hostname"),
    "redirects nowhere": answer_with(b"HTTP/1.1 302 Found\r\n\r\n"),
    "redirects to no address": redirect(lambda rng: "http://[::1/"),
    "no HTTP": answer_with(b"SSH-2.0-OpenSSH_9.6\r\n"),
    "nothing but noise": lambda connection, rng: connection.sendall(rng.randbytes(5000)),
}


def refusing() -> str:
    """An address at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}/"


def test_a_mirror_that_fails_is_left_for_the_next(trials: Trials, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(download, "MAX_BYTES", 1_000_000)
    for trial in trials("downloads", few=len(FAULTS), all=2 * len(FAULTS)):
        fault = list(FAULTS)[trial.number % len(FAULTS)]
        answer = FAULTS[fault]
        monkeypatch.setattr(download, "TIMEOUT_S", 1.0 if fault in STALLS else 20.0)
        folder = tmp_path / str(trial.number)
        with mirror(answer or good, trial.rng) as bad, mirror(good, trial.rng) as fine:
            url = bad.url if answer else refusing()
            start = time.monotonic()
            path, reasons = download.download(NAME, MD5, folder, [url, fine.url])
            assert path == folder / NAME, reasons
            assert path.read_bytes() == CONTENTS, fault
            assert len(reasons) == 1, fault
            assert reasons[0].startswith(f"{url}{NAME}: "), fault
            assert fine.num_requests == 1
            assert time.monotonic() - start < 15, fault
            assert list(folder.iterdir()) == [path]


def test_where_every_mirror_fails_nothing_stays(trials: Trials, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One line that names the file's address and the way out, and an empty folder."""
    quick = [fault for fault in FAULTS if fault not in STALLS and not fault.startswith(("never ends", "continues"))]
    for trial in trials("downloads", few=5, all=len(quick)):
        fault = quick[trial.number % len(quick)]
        answer = FAULTS[fault]
        root = tmp_path / str(trial.number)
        with mirror(answer or good, trial.rng) as bad:
            url = bad.url if answer else refusing()
            with pytest.raises(MNISTNotFoundError) as caught:
                mnist_files.load(str(root), [], [url])
        message = str(caught.value)
        assert message.count(f"{url}train-images-idx3-ubyte.gz: ") == 1, fault
        assert "data=synthetic" in message
        assert len(message.splitlines()) == 1, fault
        assert list((root / "MNIST" / "raw").iterdir()) == [], fault


# --- several processes --------------------------------------------------------------------------------------------------

DOWNLOADER = """
import sys
from pathlib import Path
from mnist_lightning.data.download import download
path, reasons = download(sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4:])
sys.exit("; ".join(reasons) if path is None else 0)
"""


@contextmanager
def downloader(folder: Path, url: str) -> Iterator["subprocess.Popen[str]"]:
    """A process that downloads the file; gone when the context is."""
    command = [sys.executable, "-c", DOWNLOADER, NAME, MD5, str(folder), url]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


class Paused:
    """An answer that stops after `num_bytes` of the file until it is let go on."""

    def __init__(self, num_bytes: int) -> None:
        self.num_bytes = num_bytes
        self.reached, self.go_on = threading.Event(), threading.Event()

    def __call__(self, connection: socket.socket, rng: random.Random) -> None:
        connection.sendall(WHOLE + CONTENTS[: self.num_bytes])
        self.reached.set()
        self.go_on.wait(60)
        connection.sendall(CONTENTS[self.num_bytes :])


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_one_download_serves_all_processes(trials: Trials, tmp_path: Path) -> None:
    for trial in trials("downloads", few=1, all=5):
        folder = tmp_path / str(trial.number)
        answer = Paused(trial.rng.randrange(len(CONTENTS)))
        with mirror(answer, trial.rng) as slow, downloader(folder, slow.url) as first, downloader(folder, slow.url) as second:
            # Whichever comes second says that it waits.
            lines: queue.Queue[str] = queue.Queue()
            for stream in (first.stderr, second.stderr):
                assert stream is not None
                threading.Thread(target=lambda read, put: put(read()), args=(stream.readline, lines.put), daemon=True).start()
            assert "another process is downloading it" in lines.get(timeout=60)
            assert not (folder / NAME).exists()
            answer.go_on.set()
            assert (first.wait(60), second.wait(60)) == (0, 0)
            assert slow.num_requests == 1
        assert (folder / NAME).read_bytes() == CONTENTS
        assert list(folder.iterdir()) == [folder / NAME]


def test_a_killed_downloader_leaves_no_file_and_no_lock(
    trials: Trials, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One waits for it at the time and takes over; what it left is no file of MNIST's and is gone after the next download."""
    for trial in trials("downloads", few=1, all=5):
        root = tmp_path / str(trial.number)
        folder = root / "MNIST" / "raw"
        paused = Paused(trial.rng.randrange(len(CONTENTS)))
        answers = iter([paused, good])
        with mirror(lambda connection, rng, answers=answers: next(answers)(connection, rng), trial.rng) as served:
            with downloader(folder, served.url) as killed:
                wait_until(lambda paused=paused: paused.reached.is_set() or killed.poll() is not None)
                with downloader(folder, served.url) as heir:
                    assert heir.stderr is not None
                    assert "another process is downloading it" in heir.stderr.readline()
                    killed.send_signal(signal.SIGKILL)
                    assert killed.wait(60) == -signal.SIGKILL
                    assert heir.wait(60) == 0
            paused.go_on.set()
        assert served.num_requests == 2
        assert [path.name for path in folder.iterdir()] == [NAME]
        assert (folder / NAME).read_bytes() == CONTENTS


def test_what_a_killed_downloader_left_is_not_taken_for_a_file(trials: Trials, tmp_path: Path) -> None:
    for trial in trials("downloads", few=1, all=5):
        root = tmp_path / str(trial.number)
        folder = root / "MNIST" / "raw"
        paused = Paused(trial.rng.randrange(70_000, len(CONTENTS)))  # so that a part of it is on disk
        with mirror(paused, trial.rng) as served, downloader(folder, served.url) as killed:
            wait_until(lambda folder=folder: any(path.stat().st_size for path in folder.glob(".*")))
            killed.send_signal(signal.SIGKILL)
            killed.wait(60)
            paused.go_on.set()
        assert all(mnist_files.find(folder, file) is None for file in mnist_files.FILES.values())
        with pytest.raises(MNISTNotFoundError):
            mnist_files.load(str(root), [], [])
        with mirror(good, trial.rng) as fine:
            path, reasons = download.download(NAME, MD5, folder, [fine.url])
        assert (path, reasons) == (folder / NAME, [])
        assert list(folder.iterdir()) == [path]
        assert path.read_bytes() == CONTENTS
