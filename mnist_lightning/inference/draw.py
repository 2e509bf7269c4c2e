"""A page where one draws a digit and watches the network at work, for this machine alone and no other site in its browser."""

import base64
import logging
import mimetypes
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor, nn, uint8

from mnist_lightning.config.errors import ConfigError, one_line
from mnist_lightning.export.grey_values import GreyValues
from mnist_lightning.inference.photos import fit
from mnist_lightning.models.trace import calls
from mnist_lightning.terminal import printable

if TYPE_CHECKING:
    from flask import Flask
    from werkzeug import Response
    from werkzeug.serving import BaseWSGIServer

HOST = "127.0.0.1"
PAGE = Path(__file__).parent / "page"
CANVAS_SIDE = 140  # pixels; the page sends its drawing in this size, a byte each
UNSHOWN = ("Conv2d", "BatchNorm2d", "Dropout", "conv2d", "batch_norm", "dropout")  # shown by what follows
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


def look(net: nn.Module, drawing: bytes) -> dict[str, Any]:
    """What a network makes of a drawing, CANVAS_SIDE² bytes, light on black; empty for a drawing without ink.

    "probabilities" are ten, "image" is the network's input, "layers" have a "name" and "maps"; images are as of `_encode`.
    """
    ink = np.frombuffer(drawing, np.uint8).reshape(CANVAS_SIDE, CANVAS_SIDE) / np.float32(255)
    if ink.max() < 0.5:
        return {}
    image = fit(ink)[None]
    ran = calls(net.net, net.normalized(image)) if isinstance(net, GreyValues) else []
    maps = [(call.name, call.outputs[0]) for call in ran if call.outputs and call.name not in UNSHOWN]
    layers = [{"name": name, "maps": _encode(output[0])} for name, output in maps if output.dim() == 4]
    return {"probabilities": net(image)[0].softmax(0).tolist(), "image": _encode(image.float()), "layers": layers}


def _encode(maps: Tensor) -> dict[str, Any]:
    """Maps `(C, H, W)` as base64 of bytes in "pixels", the smallest value black and the largest white."""
    low, high = maps.min(), maps.max()
    grey = (255 * (maps - low) / (high - low).clamp_min(1e-9)).round().to(uint8)
    count, height, width = grey.shape
    return {"count": count, "height": height, "width": width, "pixels": base64.b64encode(grey.numpy().tobytes()).decode()}


def make_app(net: nn.Module, source: str) -> "Flask":
    """The page's server: its files, where the network comes from, and POST /look with a drawing."""
    try:
        from flask import Flask, abort, request
    except ImportError:
        raise ConfigError("draw: needs the extra draw; pip install 'mnist-lightning[draw]'") from None
    app = Flask(__name__, static_folder=PAGE, static_url_path="")
    mimetypes.add_type("text/javascript", ".js")  # on Windows the registry may say otherwise, and browsers then refuse it
    # Another site's name may be made to point here (DNS rebinding).
    app.config.update(TRUSTED_HOSTS=[HOST, "localhost"], MAX_CONTENT_LENGTH=CANVAS_SIDE**2)
    one_at_a_time = threading.Lock()

    @app.before_request
    def refuse_other_sites() -> None:
        if request.headers.get("Origin", own := request.host_url.rstrip("/")) != own:
            abort(403)

    @app.after_request
    def keep_to_itself(response: "Response") -> "Response":
        response.headers.update(HEADERS)
        return response

    @app.get("/")
    def page() -> "Response":
        return app.send_static_file("index.html")

    @app.get("/source")
    def where_from() -> dict[str, str]:
        return {"source": printable(source)}

    @app.post("/look")
    def answer() -> dict[str, Any]:
        drawing = request.get_data()
        if len(drawing) != CANVAS_SIDE**2:
            abort(400)
        with one_at_a_time:  # the network's hooks are of one drawing
            return look(net, drawing)

    return app


def listen(app: "Flask", port: int) -> "BaseWSGIServer":
    """A server for this machine alone, not yet serving; a ConfigError where the port cannot be had."""
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)  # neither a line per request nor one per broken connection
    try:
        listener = socket.create_server((HOST, port))  # make_server would print what is wrong, and end the process
    except (OSError, OverflowError) as error:
        raise ConfigError(f"--port {port}: cannot be listened on ({one_line(error)}); --port 0 takes a free one") from None
    with listener:
        return make_server(HOST, port, app, threaded=True, fd=listener.fileno())
