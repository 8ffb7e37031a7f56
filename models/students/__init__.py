"""The students: one file each, found by its name.

A student's module has ``Size``, a frozen dataclass of its sizes with their defaults, and ``make(size, support)``.
"""

import importlib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

from hydrogate.models.names import module_names, refuse_unknown
from hydrogate.models.potential import Student, Support

# Above what any published student has (features, layers; a cutoff in Å); a file or a slip may ask for all memory.
MOST = {"features": 1024, "layers": 32, "cutoff": 100}
MOST_OF_OTHERS = 1024


def student_names() -> list[str]:
    """The students that exist."""
    return module_names(Path(__file__).parent)


def make_student(name: str, size: Mapping[str, int | float], support: Support) -> Student:
    """The student ``name`` with fresh weights from torch's random generator.

    Parameters
    ----------
    name : str
        One of `student_names`.
    size : mapping
        The student's sizes; what is left out has the student's default.
    support : Support
        Elements, charges and spin multiplicities that it is to be taught.

    Raises
    ------
    UnknownName
        No such student, or it has no such size.
    ValueError
        A size is not a positive number of its kind, or above `MOST`.
    """
    refuse_unknown("student", name, student_names())
    module = importlib.import_module(f"{__name__}.{name}")
    known = {item.name: item.type for item in fields(module.Size)}
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
