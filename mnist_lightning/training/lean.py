"""Imports Lightning without what a run does not use, which takes a good part of its start.

To be imported before anything else that imports Lightning. In this process torchmetrics' plots, and its metrics of pictures and
sounds, then say that they miss a package; all else works.
"""

import gc

from lightning_utilities.core import imports

UNUSED = ("matplotlib", "scipy", "torchvision")  # a run that draws pictures imports matplotlib when it does

_is_there, _check = imports.package_available, imports.RequirementCache._check_available


def _check_unless_unused(self: imports.RequirementCache) -> None:
    if str(self.requirement).startswith(UNUSED):
        self.available, self.message = False, "not imported by a run"
    _check(self)


imports.package_available = lambda name: name not in UNUSED and _is_there(name)  # type: ignore[assignment]
imports.RequirementCache._check_available = _check_unless_unused  # type: ignore[method-assign]
gc.disable()  # nothing of what is imported can go: searching it over and over takes half a second
try:
    import lightning.pytorch  # noqa: F401
finally:
    gc.freeze()
    gc.enable()
    imports.package_available, imports.RequirementCache._check_available = _is_there, _check  # type: ignore[method-assign]
