"""Every check of the contracts, one decorated function each, in a file of its topic.

Importing this package imports all of its modules, and each declares its checks in
:data:`hydrogate.checks.engine.registry.RULES`. A new module in this folder needs no further entry.
"""

from importlib import import_module
from pkgutil import iter_modules

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
