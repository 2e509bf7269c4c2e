"""Writes a trained network as one file: to run without this project, or as weights for it.

ONNX and torch.export files take grey values as they come, `images` uint8 (N, 28, 28), light on black, with any N, and give
`logits` (N, 10); their softmax are the probabilities. They are compared with the network on every test image before they get
their name.
"""

from pathlib import Path

from mnist_lightning.commands.arguments import model_parser
from mnist_lightning.config.errors import ConfigError
from mnist_lightning.inference.shipped import SHIPPED
from mnist_lightning.status import OK
from mnist_lightning.terminal import show

SUFFIX = {"onnx": ".onnx", "torch_export": ".pt2", "safetensors": ".safetensors"}


def main(arguments: list[str]) -> int:
    parser = model_parser("export", __doc__)
    parser.add_argument(
        "--format",
        choices=SUFFIX,
        default="onnx",
        help="onnx (extra onnx; the default), torch_export, or safetensors: weights for this project",
    )
    parser.add_argument("--int8", action="store_true", help="weights and activations in eight bits; onnx only")
    parser.add_argument("--out", type=Path, metavar="FILE", help="file to write (default: beside the checkpoint)")
    given = parser.parse_args(arguments)
    if given.int8 and given.format != "onnx":
        raise ConfigError(f"--int8: is for --format onnx, not for --format {given.format}; leave one of them out")
    from mnist_lightning.export.grey_values import GreyValues
    from mnist_lightning.inference.export import export, save_weights
    from mnist_lightning.inference.load import load, load_data

    trained = load(given.model, given.trust)
    if not isinstance(trained.net, GreyValues):
        raise ConfigError(f"{given.model}: is exported already; name a run directory or a checkpoint")
    folder = Path() if trained.path in SHIPPED.values() else trained.path.parent
    path = given.out or folder / f"{trained.path.stem}{'-int8' if given.int8 else ''}{SUFFIX[given.format]}"
    if given.format == "safetensors":
        show(save_weights(trained, path))
    else:
        show(export(trained, load_data(trained.cfg, given.trust), given.format, given.int8, path))
    return OK
