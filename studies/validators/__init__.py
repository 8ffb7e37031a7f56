"""Who else looks at a data set: one file each, found by its name.

A validator's module has ``SOURCE``, the link to where its rules are published, and ``complaints(data)``: what it says
of a data set, a text each, none where it is content. Its first docstring line says what it is. A complaint about a
structure names it by :func:`name_of`, so that the same complaint about the same structure is the same text.
"""

import importlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from hydrogate.checks.data.dataset import Dataset
from hydrogate.checks.errors import BadParams, did_you_mean


class Validator(NamedTuple):
    """Something that looks at a data set and complains."""

    name: str
    says: str
    source: str
    complaints: Callable[[Dataset], list[str]]


def validator_names() -> list[str]:
    """The validators that exist."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.py") if not path.stem.startswith("_"))


def load_validator(name: str) -> Validator:
    """The validator ``name``.

    Raises
    ------
    BadParams
        There is none.
    """
    known = validator_names()
    if name not in known:
        raise BadParams(f"no validator {name!r}{did_you_mean(name, known)}")
    module = importlib.import_module(f"{__name__}.{name}")
    return Validator(name, (module.__doc__ or "").partition("\n")[0], module.SOURCE, module.complaints)


def name_of(data: Dataset, row: int) -> str:
    """How a complaint names structure ``row``: by where it came from, which no accident changes."""
    return f"{data.source[row]} record {data.source_index[row]}"


def of_rows(data: Dataset, rows: Iterable[int], complaint: str) -> list[str]:
    """``complaint`` about each of ``rows``."""
    return [f"{name_of(data, row)}: {complaint}" for row in rows]
