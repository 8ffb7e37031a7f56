"""Accidents that have really happened to data sets, each one small function that does it to a copy; found by name.

A new accident is one function under :func:`hydrogate.checks.accidents.catalogue.accident` in any module of this
package: every module is imported here.
"""

from importlib import import_module
from pkgutil import iter_modules

from hydrogate.checks.accidents.catalogue import ACCIDENTS, Accident, NotApplicable, changed_structures, hurt, struck

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

__all__ = ["ACCIDENTS", "Accident", "NotApplicable", "changed_structures", "hurt", "struck"]
