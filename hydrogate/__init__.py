"""Data contracts and quality gates for distilling machine-learned force fields.

>>> import hydrogate
>>> from ase.build import molecule
>>> hydrogate.check([molecule("CH3CH2OH")], contract="structures", profile="small").holds()
True

The names below are imported on first use, so that ``import hydrogate`` is fast. The code is in three packages:
``hydrogate.checks`` (contracts, metrics, gates), ``hydrogate.models`` (students, teachers, kernels) and
``hydrogate.pipeline`` (stages, file formats, reports, the command line).
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hydrogate.checks import Dataset, Finding, Report, check, from_atoms
    from hydrogate.pipeline.formats import read

    __version__: str

__all__ = ["Dataset", "Finding", "Report", "__version__", "check", "from_atoms", "read"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'hydrogate' has no attribute {name!r}")
    if name == "__version__":
        return version("hydrogate")
    return getattr(import_module("hydrogate.pipeline.formats" if name == "read" else "hydrogate.checks"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
