"""Begins a network of your own: NAME.py with its class, and conf/model/NAME.yaml by which model=NAME chooses it.

Both are written into the working directory, where every command finds them. Nothing is overwritten.
"""

import importlib.util
import keyword
import re
from pathlib import Path

from mnist_lightning import files
from mnist_lightning.commands.arguments import make_parser
from mnist_lightning.config.compose import choices
from mnist_lightning.config.errors import ConfigError
from mnist_lightning.status import OK
from mnist_lightning.terminal import show

CODE = '''\
"""A network of one's own, in plain torch: grey images (N, 1, 28, 28) in, a logit for each of ten classes (N, 10) out."""

from torch import Tensor, nn


class {name}(nn.Module):
    def __init__(self, channels: int) -> None:  # channels: of every convolution
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv2d(1, channels, 3, bias=False), nn.BatchNorm2d(channels), nn.ReLU()),  # (N, channels, 26, 26)
            *(nn.Conv2d(channels, channels, 3, bias=False), nn.BatchNorm2d(channels), nn.ReLU()),  # (N, channels, 24, 24)
            nn.MaxPool2d(2),  # (N, channels, 12, 12)
            *(nn.Conv2d(channels, channels, 3, bias=False), nn.BatchNorm2d(channels), nn.ReLU()),  # (N, channels, 10, 10)
            *(nn.Conv2d(channels, channels, 3, bias=False), nn.BatchNorm2d(channels), nn.ReLU()),  # (N, channels, 8, 8)
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten()),  # (N, channels)
            nn.Linear(channels, 10),
        )

    def forward(self, images: Tensor) -> Tensor:  # float32 (N, 1, 28, 28), normalised
        return self.layers(images)
'''
CONFIG = """\
# A network of one's own, in {module}.py: python -m mnist_lightning model={module}
_target_: {module}.{name}
channels: 16 # 7,354 parameters; every argument of the class is a key: model.channels=12
"""


def main(arguments: list[str]) -> int:
    parser = make_parser("init", __doc__)
    parser.add_argument("name", metavar="NAME", help="a module's name, such as my_net, which begins the class MyNet")
    module = parser.parse_args(arguments).name
    contents = {Path(f"{module}.py"): CODE, Path("conf/model") / f"{module}.yaml": CONFIG}
    _check(module, list(contents))
    for path, text in contents.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write(path, text.format(module=module, name="".join(word.capitalize() for word in module.split("_"))))
    show(f"{' and '.join(path.as_posix() for path in contents)} are written. Next:")
    show(f"  python -m mnist_lightning summary model={module}\n  python -m mnist_lightning model={module}")
    return OK


def _check(module: str, paths: list[Path]) -> None:
    """Refuses a name that would hide something else, or that cannot be typed in an import."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", module) or keyword.iskeyword(module):
        raise ConfigError(f"init {module}: is no name of a module; use small letters, digits and _, as in my_net")
    if there := [path.as_posix() for path in paths if path.exists()]:
        raise ConfigError(f"init {module}: {there[0]} exists already and is not overwritten; use another name")
    above = [parent for path in paths for parent in path.parents if parent.exists() and not parent.is_dir()]
    if above:
        raise ConfigError(f"init {module}: {above[0].as_posix()} is a file, where a folder is needed; move or rename it")
    if module in choices("model"):
        raise ConfigError(f"init {module}: model={module} is there already; use another name")
    if importlib.util.find_spec(module):
        raise ConfigError(f"init {module}: there is an installed module of that name, which the file would hide; use another")
