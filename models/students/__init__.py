"""Students: one file each, found by name.

A student's module defines ``Size``, a frozen dataclass of its sizes with their defaults, and ``make(size, support)``.
"""

import importlib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import cast

from hydrogate.models.names import module_names, refuse_unknown
from hydrogate.models.potential import Student, Support

# Larger than any published student (features, layers; a cutoff in Å): a file or a typo could request all memory.
MOST = {"features": 1024, "layers": 32, "cutoff": 100}
MOST_OF_OTHERS = 1024


def student_names() -> list[str]:
    """List the names of the students."""
    return module_names(Path(__file__).parent)


def make_student(name: str, size: Mapping[str, int | float], support: Support) -> Student:
    """Return the student ``name`` with fresh weights from PyTorch's random generator.

    Parameters
    ----------
    name : str
        One of `student_names`.
    size : mapping
        Sizes of the student; those left out have the student's defaults.
    support : Support
        Elements, charges and spin multiplicities that it will be trained on.

    Raises
    ------
    UnknownName
        There is no such student, or it has no such size.
    ValueError
        A size is not a positive number of its type, or is above `MOST`.
    """
    refuse_unknown("student", name, student_names())
    module = importlib.import_module(f"{__name__}.{name}")
    known = {item.name: cast(type, item.type) for item in fields(module.Size)}
    for key, value in size.items():
        refuse_unknown(f"size of student {name!r}:", key, known)
        kind = known[key]
        if kind is bool:
            fits, wanted = isinstance(value, bool), "true or false"
        else:
            most = MOST.get(key, MOST_OF_OTHERS)
            fits = type(value) in (int, float) and 0 < value <= most and kind(value) == value
            wanted = f"a positive {kind.__name__}, at most {most}"
        if not fits:
            raise ValueError(f"size of student {name!r}: {key} must be {wanted}, got {repr(value)[:40]}")
    student: Student = module.make(module.Size(**{key: known[key](value) for key, value in size.items()}), support)
    return student
