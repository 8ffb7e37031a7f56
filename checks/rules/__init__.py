"""All checks of the contracts: one decorated function each, grouped into modules by topic.

Importing this package imports all of its modules, and each module registers its checks in
:data:`hydrogate.checks.engine.registry.RULES`. A new module in this folder needs no further registration.
"""

from importlib import import_module
from pkgutil import iter_modules

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
