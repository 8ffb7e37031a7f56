"""Data set validators for comparison: one module each, loaded by its name.

A validator's module has ``SOURCE``, a link to the published rules, and ``complaints(data)``, which returns a list of
texts, one per problem, empty if the data set passes. The first line of its docstring describes the validator. A
complaint about a structure identifies it by :func:`name_of`, so that equal complaints about it are equal texts.
"""

import importlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from hydrogate.checks.data.dataset import Dataset
from hydrogate.checks.errors import BadParams, did_you_mean


class Validator(NamedTuple):
    """A validator: its name, description, source of the rules, and function."""

    name: str
    says: str
    source: str
    complaints: Callable[[Dataset], list[str]]


def validator_names() -> list[str]:
    """Return the names of all validators."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.py") if not path.stem.startswith("_"))


def load_validator(name: str) -> Validator:
    """Load the validator ``name``.

    Raises
    ------
    BadParams
        There is no such validator.
    """
    known = validator_names()
    if name not in known:
        raise BadParams(f"no validator {name!r}{did_you_mean(name, known)}")
    module = importlib.import_module(f"{__name__}.{name}")
    return Validator(name, (module.__doc__ or "").partition("\n")[0], module.SOURCE, module.complaints)


def name_of(data: Dataset, row: int) -> str:
    """Return the label of structure ``row`` in complaints: its source record, which no data corruption changes."""
    return f"{data.source[row]} record {data.source_index[row]}"


def of_rows(data: Dataset, rows: Iterable[int], complaint: str) -> list[str]:
    """Return ``complaint`` once for each of ``rows``."""
    return [f"{name_of(data, row)}: {complaint}" for row in rows]
