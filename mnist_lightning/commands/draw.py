"""Serves a page on this machine where one draws a digit and watches the network at work.

The page shows the ten probabilities, the image as the network sees it, and what its layers make of it. It is served to this
machine alone, and answers no other site that a browser has open.
"""

from mnist_lightning.commands.arguments import model_parser
from mnist_lightning.status import OK
from mnist_lightning.terminal import show


def main(arguments: list[str]) -> int:
    parser = model_parser("draw", __doc__)
    parser.add_argument("--port", type=int, default=8000, help="port on 127.0.0.1 (default: 8000; 0 takes a free one)")
    given = parser.parse_args(arguments)
    from mnist_lightning.inference.draw import HOST, listen, make_app
    from mnist_lightning.inference.load import load

    trained = load(given.model, given.trust)
    server = listen(make_app(trained.net, trained.source), given.port)
    show(f"{trained.source}\ndraw at http://{HOST}:{server.port}/ (Ctrl-C ends)")
    server.serve_forever()
    return OK
