"""What a teacher is, and which there are: one file each, found by its name.

A teacher's module has ``METHODS``, the names of its levels of theory with the default first (none where any name will
do), ``SETTINGS``, its settings with their defaults, and ``make(method, weights, settings)``. ``SHORT`` has short names
of its methods, if there are any.
"""

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from hydrogate.models.names import module_names, refuse_unknown


class Labels(NamedTuple):
    """What a teacher says of one structure.

    Parameters
    ----------
    energy : float, eV
    forces : (n, 3) float64, eV/Å
    dipole : (3,) float64, e·Å, optional
        About the origin of the positions; None where the teacher or a periodic structure has none.
    charges : (n,) float64, e, optional
        Partial charges; their sum is the total charge, and their dipole need not be ``dipole``.
    """

    energy: float
    forces: NDArray[np.float64]
    dipole: NDArray[np.float64] | None = None
    charges: NDArray[np.float64] | None = None


class Failure(NamedTuple):
    """A structure that the teacher could not label, in the teacher's own words.

    ``lasting`` is False where the machine is at fault: a larger one, or the same one later, may label it.
    """

    reason: str
    lasting: bool = True


class Teacher(Protocol):
    """Labels structures, each independently of the others and the same way every time.

    ``dipoles`` says whether it gives dipoles and charges too, ``batch`` how many structures to give it at once, at
    least, so that it does not idle: 1 for what takes them one by one.
    """

    dipoles: bool

    @property
    def batch(self) -> int: ...

    def identity(self) -> dict[str, Any]:
        """Name, version and settings, as JSON can hold them: equal identity, equal labels.

        ``conservative`` is False where forces are not the gradient of the energy, ``smooth`` where energies jump.
        """
        ...

    def label(self, structures: Sequence[Atoms]) -> list[Labels | Failure]:
        """One entry a structure, in order. Charge (e) in ``info["charge"]``, 2S + 1 in ``info["spin"]``."""
        ...


def teacher_names() -> list[str]:
    """The teachers that exist."""
    return module_names(Path(__file__).parent)


def methods_of(name: str) -> tuple[str, ...]:
    """The levels of theory of teacher ``name``, the default first; () where any name will do, and one must be given.

    Raises
    ------
    UnknownName
        No such teacher.
    """
    refuse_unknown("teacher", name, teacher_names())
    return tuple(importlib.import_module(f"{__name__}.{name}").METHODS)


def make_teacher(
    name: str,
    method: str | None = None,
    weights: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Teacher:
    """The teacher ``name`` at the level of theory ``method``.

    Parameters
    ----------
    name : str
        One of `teacher_names`.
    method : str, optional
        One of `methods_of`; the first where it is left out. An import path where there are none.
    weights : path, optional
        A local weight file, for the teachers that have weights.
    settings : mapping, optional
        Of the teacher's own, by name; what is left out has the teacher's default.

    Raises
    ------
    UnknownName
        No such teacher, or it has no such method or setting.
    ValueError, FileNotFoundError
        A setting has no sense, or ``weights`` are given to a teacher that has none, or missing where one needs them.
    """
    methods = methods_of(name)
    if method is None and not methods:
        raise ValueError(f"teacher {name!r} has no default method; give its import path in label.method")
    module = importlib.import_module(f"{__name__}.{name}")
    chosen = methods[0] if method is None else getattr(module, "SHORT", {}).get(method, method)
    if methods:
        refuse_unknown(f"method of teacher {name!r}:", chosen, methods)
    for setting in settings or {}:
        refuse_unknown(f"setting of teacher {name!r}:", setting, module.SETTINGS)
    teacher: Teacher = module.make(chosen, weights, {**module.SETTINGS, **(settings or {})})
    return teacher


def charge_and_multiplicity(atoms: Atoms) -> tuple[int, int]:
    """Total charge (e) and 2S + 1 of ``atoms``, as Python ints; 0 and 1 where ``atoms.info`` is silent.

    Raises
    ------
    ValueError
        One of them is no whole number, the multiplicity is below one, or the two do not fit the number of electrons
        (which some programs mend in silence, and then label another state than the one that was asked for).
    """
    charge, multiplicity = atoms.info.get("charge", 0), atoms.info.get("spin", 1)
    if int(charge) != charge or int(multiplicity) != multiplicity or multiplicity < 1:
        raise ValueError(
            f"{atoms.get_chemical_formula()}: charge {charge!r} and spin multiplicity {multiplicity!r} in atoms.info; "
            "expected a whole charge in e and a whole 2S + 1 of at least 1"
        )
    electrons = int(atoms.numbers.sum()) - int(charge)
    if (electrons - int(multiplicity)) % 2 == 0:
        raise ValueError(
            f"{atoms.get_chemical_formula()}: {electrons} electrons at charge {charge} cannot have spin multiplicity "
            f"{multiplicity}; correct the charge, the multiplicity or the hydrogens"
        )
    return int(charge), int(multiplicity)
