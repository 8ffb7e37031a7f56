"""Known data corruptions: each is one small function that applies it to a copy of a data set, registered by name.

All of them have occurred in published data sets. A new one is a function decorated with
:func:`hydrogate.checks.accidents.catalogue.accident` in any module of this package; every module is imported here.
"""

from importlib import import_module
from pkgutil import iter_modules

from hydrogate.checks.accidents.catalogue import ACCIDENTS, Accident, NotApplicable, changed_structures, hurt, struck

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

__all__ = ["ACCIDENTS", "Accident", "NotApplicable", "changed_structures", "hurt", "struck"]
