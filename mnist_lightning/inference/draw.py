"""`python -m mnist_lightning draw MODEL`: a page on this machine where one draws a digit and watches the network at work.

The page shows the ten probabilities, the image as the network sees it, and what its layers make of it. It is served to this
machine alone, and answers no other site that a browser has open.
"""

import base64
import contextlib
import logging
import mimetypes
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mnist_lightning.config.errors import ConfigError, one_line
from mnist_lightning.inference.load import GreyValues
from mnist_lightning.inference.photos import fit
from mnist_lightning.terminal import printable

if TYPE_CHECKING:
    from flask import Flask
    from werkzeug.serving import BaseWSGIServer

HOST = "127.0.0.1"
PAGE = Path(__file__).parent / "page"
MAX_CONNECTIONS = 32  # at a time; a browser opens six
REQUEST_S = 5.0  # that a connection may last
CANVAS_SIDE = 140  # pixels; the page sends its drawing in this size, a byte each
UNSHOWN = (nn.Conv2d, nn.BatchNorm2d, nn.Dropout, nn.Flatten)  # layers whose output the activation or the next one shows


def look(net: nn.Module, drawing: bytes) -> dict[str, Any]:
    """What a network makes of a drawing.

    Args:
        net: Maps uint8 grey values `(1, 28, 28)` to logits `(1, 10)`.
        drawing: Grey values of CANVAS_SIDE² pixels, row by row, light on black.

    Returns:
        "probabilities", ten; "image", the network's input; "layers", each with "name" and "maps". Images are as of `_encode`.
        Empty for a drawing without ink.
    """
    ink = torch.frombuffer(bytearray(drawing), dtype=torch.uint8).view(CANVAS_SIDE, CANVAS_SIDE) / 255
    if ink.max() < 0.5:
        return {}
    image = fit(ink)[None]
    layers: list[dict[str, Any]] = []

    def record(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        layers.append({"name": type(layer).__name__, "maps": _encode(output[0])})

    shown = [m for m in net.modules() if not list(m.children()) and not isinstance(m, UNSHOWN)]
    hooks = [layer.register_forward_hook(record) for layer in shown if isinstance(net, GreyValues)]
    try:
        probabilities = net(image)[0].softmax(0)
    finally:
        for hook in hooks:
            hook.remove()
    return {"probabilities": probabilities.tolist(), "image": _encode(image.float()), "layers": layers}


def _encode(maps: Tensor) -> dict[str, Any]:
    """Maps `(C, H, W)` as base64 of bytes in "pixels", the smallest value black and the largest white."""
    low, high = maps.min(), maps.max()
    grey = (255 * (maps - low) / (high - low).clamp_min(1e-9)).round().to(torch.uint8)
    count, height, width = grey.shape
    return {"count": count, "height": height, "width": width, "pixels": base64.b64encode(grey.numpy().tobytes()).decode()}


def make_app(net: nn.Module, source: str) -> "Flask":
    """The page's server: its files, and POST /look with a drawing.

    Args:
        net: As `look` takes it.
        source: Where it comes from, for the page.

    Raises:
        ConfigError: Flask is not installed.
    """
    try:
        from flask import Flask, Response, abort, request
    except ImportError:
        raise ConfigError("draw: needs the extra draw; pip install 'mnist-lightning[draw]'") from None
    app = Flask(__name__, static_folder=None)
    # Read once and served by name: no request is ever looked up as a path.
    files = {path.name: path.read_bytes() for path in PAGE.iterdir() if path.is_file() and not path.is_symlink()}
    app.config["MAX_CONTENT_LENGTH"] = CANVAS_SIDE**2
    one_at_a_time = threading.Lock()

    @app.before_request
    def refuse_strangers() -> None:
        # Another site's name may be made to point here (DNS rebinding), and its pages may send requests here.
        if request.host.partition(":")[0] not in (HOST, "localhost"):
            abort(403)
        if request.headers.get("Origin", request.host_url.rstrip("/")) != request.host_url.rstrip("/"):
            abort(403)
        if "Transfer-Encoding" in request.headers:  # of no stated size
            abort(411)

    @app.after_request
    def keep_to_itself(response: Response) -> Response:
        response.headers["Content-Security-Policy"] = "default-src 'self'; frame-ancestors 'none'"
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Cache-Control"] = "no-store"
        return response

    @app.get("/", defaults={"name": "index.html"})
    @app.get("/<name>")
    def page(name: str) -> Response:
        if name not in files:
            abort(404)
        return Response(files[name], mimetype=mimetypes.guess_type(name)[0])

    @app.get("/source")
    def where_from() -> dict[str, str]:
        return {"source": printable(source)}

    @app.post("/look")
    def answer() -> dict[str, Any]:
        drawing = request.get_data()
        if len(drawing) != CANVAS_SIDE**2:
            abort(400)
        if not one_at_a_time.acquire(blocking=False):
            abort(429)
        try:
            return look(net, drawing)
        finally:
            one_at_a_time.release()

    return app


def listen(app: "Flask", port: int) -> "BaseWSGIServer":
    """A server for this machine alone, not yet serving.

    Raises:
        ConfigError: The port is in use, may not be used, or is none.
    """
    from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler

    class Handler(WSGIRequestHandler):
        """Serves one request, for which there is little time."""

        protocol_version = "HTTP/1.0"  # one request a connection

        def handle(self) -> None:
            # Not a time limit of the socket's, which every byte that trickles in would renew.
            ending = threading.Timer(REQUEST_S, self.cut)
            ending.daemon = True
            ending.start()
            try:
                super().handle()
            finally:
                ending.cancel()

        def cut(self) -> None:
            with contextlib.suppress(OSError):  # the client has gone already
                self.connection.shutdown(socket.SHUT_RDWR)

    class Server(ThreadedWSGIServer):
        """A thread a connection, and no more than MAX_CONNECTIONS of them."""

        free = threading.BoundedSemaphore(MAX_CONNECTIONS)

        def process_request(self, request: Any, client_address: Any) -> None:
            if self.free.acquire(blocking=False):
                super().process_request(request, client_address)
            else:
                self.shutdown_request(request)

        def process_request_thread(self, request: Any, client_address: Any) -> None:
            try:
                super().process_request_thread(request, client_address)
            finally:
                self.free.release()

    # Nothing of what strangers send: neither a line per request nor one per broken connection.
    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # of an earlier server's closed connections
        try:
            listener.bind((HOST, port))
            listener.listen()
        except (OSError, OverflowError) as error:
            raise ConfigError(f"--port {port}: cannot be listened on ({one_line(error)}); --port 0 takes a free one") from None
        return Server(HOST, listener.getsockname()[1], app, Handler, fd=listener.fileno())
