"""Code of the user's own that a configuration names: imported from where the command was typed, and told apart by its text."""

import ast
import functools
import importlib
import sys
import sysconfig
import time
import traceback
from collections.abc import Iterator
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from hydra.utils import to_absolute_path
from omegaconf import DictConfig, OmegaConf

from mnist_lightning.config.errors import named, one_line
from mnist_lightning.files import PACKAGE

INSTALLED = {"site-packages", "dist-packages"}  # folders' names
LIBRARY = Path(sysconfig.get_path("stdlib")).resolve()
STARTED_NS = time.time_ns()

_seen_ns: dict[str, int] = {}  # when the user's own files had been changed, as the last run in this process found them


def find(path: str) -> Any:
    """What an import path leads to; raises whatever a file on the way raises, if that is SystemExit.

    A file in the working directory is found by every command and in every process of a launcher: `python -m` looks there, the
    script `mnist-lightning` and a launcher's worker do not.
    """
    here = to_absolute_path(".")
    if here not in sys.path:
        sys.path.insert(0, here)
    parts = path.split(".")
    if parts[0] == "__main__":
        raise ImportError("a run keeps no code of a cell; write it to a file, by %%writefile NAME.py")
    for number in range(len(parts) - 1, 0, -1):
        try:
            module = importlib.import_module(".".join(parts[:number]))
        except ModuleNotFoundError as error:
            if number == 1 or not f"{path}.".startswith(f"{error.name}."):  # another module is missing, in a file of the path
                raise
        else:
            return functools.reduce(getattr, parts[number:], module)
    raise ImportError("it names no module")


def refresh(cfg: DictConfig) -> None:
    """Lets files of the user's own that have changed be imported anew: a notebook's kernel outlives an edit, a sweep too.

    Otherwise a run would train what was, and record what is, as its code.
    """
    changed_ns = {str(file): file.stat().st_mtime_ns for file in own_files(cfg)}
    if any(when > _seen_ns.get(file, STARTED_NS) for file, when in changed_ns.items()):
        imported = [name for name, module in sys.modules.items() if getattr(module, "__file__", None) in changed_ns]
        for name in imported:
            if name != "__main__":
                del sys.modules[name]
        importlib.invalidate_caches()
    _seen_ns.update(changed_ns)


def line_of(error: BaseException) -> str:
    """Where in a file of the user's own something was raised: `net.py, line 3`; empty where it was not."""
    frames = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError):
        frames.append((error.filename or "", error.lineno))
    return next((f"{Path(name).name}, line {line}" for name, line in reversed(frames) if _is_own(Path(name))), "")


def reason(error: BaseException) -> str:
    """What is wrong and, in a file of the user's own, where: `NameError: name 'x' is not defined (net.py, line 3)`."""
    if isinstance(error, SyntaxError):
        what = f"{type(error).__name__}: {one_line(error.msg)}"
    else:
        what = one_line(error) if isinstance(error, (ImportError, AttributeError, ValueError, TypeError)) else named(error)
    line = line_of(error)
    return f"{what} ({line})" if line else what


def own_files(cfg: DictConfig) -> list[Path]:
    """Files of the user's own that a configuration is built by: those of its targets, and what they import beside them."""
    found: dict[Path, None] = {}
    groups = {str(group): node for group, node in cfg.items() if group != "logger"}  # on which no result depends
    for target in sorted(set(_targets(OmegaConf.to_container(OmegaConf.create(groups))))):
        spec = PathFinder.find_spec(target.partition(".")[0], [to_absolute_path("."), *sys.path])
        # A package's folders, which may be all that it has; a module's file.
        places = list(spec.submodule_search_locations or [spec.origin or "built-in"]) if spec else []
        for place in map(Path, places):
            if _is_own(place):
                _add_imported(target, place.parent, place.parent, found)
    return sorted(found)


def _targets(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if "_target_" in node:
            yield str(node["_target_"])
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from _targets(child)


def _add_imported(module: str, folder: Path, root: Path, found: dict[Path, None]) -> None:
    """Adds the files that a dotted name may stand for, seen from a folder, and all that they import, below the root."""
    path = folder
    for part in module.split("."):
        path = path / part
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if file.is_file() and file not in found:
                found[file] = None
                for name in _imports(file):
                    for above in (above for above in file.parents if above.is_relative_to(root)):
                        _add_imported(name, above, root, found)


def _imports(file: Path) -> Iterator[str]:
    """Every dotted name that a file's import statements may stand for; none of a file that is no Python."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" if node.module else alias.name for alias in node.names)


def _is_own(path: Path) -> bool:
    """Whether a file is neither of this project, nor installed, nor Python's own."""
    path = path.resolve()
    ours = path.is_relative_to(PACKAGE) or path.is_relative_to(LIBRARY)
    return path.exists() and not ours and not INSTALLED & set(path.parts)
