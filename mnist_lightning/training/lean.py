"""Imports torchmetrics, which Lightning needs, without what its metrics of pictures and sounds need: a fifth of a run's start.

To be imported before Lightning. In this process such metrics then say that they miss a package; all others work.
"""

from lightning_utilities.core import imports

UNUSED = ("scipy", "torchvision")

_is_there, _check = imports.package_available, imports.RequirementCache._check_available


def _check_unless_unused(self: imports.RequirementCache) -> None:
    if str(self.requirement).startswith(UNUSED):
        self.available, self.message = False, "not imported by a run"
    _check(self)


imports.package_available = lambda name: name not in UNUSED and _is_there(name)  # type: ignore[assignment]
imports.RequirementCache._check_available = _check_unless_unused  # type: ignore[method-assign]
try:
    import torchmetrics  # noqa: F401
finally:
    imports.package_available, imports.RequirementCache._check_available = _is_there, _check  # type: ignore[method-assign]
