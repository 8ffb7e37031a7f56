"""Teachers: their common interface, and one file for each, found by name.

A teacher's module defines ``METHODS``, the names of its levels of theory with the default first (empty if any name is
accepted), ``SETTINGS``, its settings with their defaults, and ``make(method, weights, settings)``. ``SHORT`` maps short
names to methods, if there are any.
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
    """Labels of one structure.

    Parameters
    ----------
    energy : float, eV
    forces : (n, 3) float64, eV/Å
    dipole : (3,) float64, e·Å, optional
        About the origin of the positions; None if the teacher gives none or the structure is periodic.
    charges : (n,) float64, e, optional
        Partial charges; their sum is the total charge, and their dipole may differ from ``dipole``.
    """

    energy: float
    forces: NDArray[np.float64]
    dipole: NDArray[np.float64] | None = None
    charges: NDArray[np.float64] | None = None


class Failure(NamedTuple):
    """Structure that the teacher could not label, with the teacher's error message.

    ``lasting`` is False if the machine is the cause: a larger one, or the same one later, may label the structure.
    """

    reason: str
    lasting: bool = True


class Teacher(Protocol):
    """Source of labels: it labels each structure independently of the others and reproducibly.

    ``dipoles`` is True if it also gives dipoles and charges. ``batch`` is the smallest number of structures per call
    that keeps it busy: 1 for a teacher that labels them one by one.
    """

    dipoles: bool

    @property
    def batch(self) -> int: ...

    def identity(self) -> dict[str, Any]:
        """Return name, version and settings as valid JSON; equal identities give equal labels.

        ``conservative`` is False if forces are not the gradient of the energy, ``smooth`` is False if energies jump.
        """
        ...

    def label(self, structures: Sequence[Atoms]) -> list[Labels | Failure]:
        """Label each structure, in order. Charge (e) in ``info["charge"]``, 2S + 1 in ``info["spin"]``."""
        ...


def teacher_names() -> list[str]:
    """List the names of the teachers."""
    return module_names(Path(__file__).parent)


def methods_of(name: str) -> tuple[str, ...]:
    """Return the levels of theory of teacher ``name``, the default first.

    The result is empty if any name is accepted; the method must then be given.

    Raises
    ------
    UnknownName
        There is no such teacher.
    """
    refuse_unknown("teacher", name, teacher_names())
    return tuple(importlib.import_module(f"{__name__}.{name}").METHODS)


def make_teacher(
    name: str,
    method: str | None = None,
    weights: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Teacher:
    """Return the teacher ``name`` at the level of theory ``method``.

    Parameters
    ----------
    name : str
        One of `teacher_names`.
    method : str, optional
        One of `methods_of`, by default the first; an import path if there are none.
    weights : path, optional
        Local weight file, for teachers that have weights.
    settings : mapping, optional
        Settings of the teacher by name; those left out have the teacher's defaults.

    Raises
    ------
    UnknownName
        There is no such teacher, or it has no such method or setting.
    ValueError, FileNotFoundError
        A setting is invalid, ``weights`` are given to a teacher that has none, or weights are required but missing.
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
    """Return total charge (e) and 2S + 1 of ``atoms`` as Python ints; 0 and 1 if ``atoms.info`` has none.

    Raises
    ------
    ValueError
        One of them is not an integer, the multiplicity is below one, or they do not match the number of electrons
        (which some programs silently correct, and then label another state than the requested one).
    """
    charge, multiplicity = atoms.info.get("charge", 0), atoms.info.get("spin", 1)
    if int(charge) != charge or int(multiplicity) != multiplicity or multiplicity < 1:
        raise ValueError(
            f"{atoms.symbols.get_chemical_formula()}: charge {charge!r} and spin multiplicity {multiplicity!r} "
            "in atoms.info; expected an integer charge in e and an integer 2S + 1 of at least 1"
        )
    electrons = int(atoms.numbers.sum()) - int(charge)
    if (electrons - int(multiplicity)) % 2 == 0:
        raise ValueError(
            f"{atoms.symbols.get_chemical_formula()}: {electrons} electrons at charge {charge} cannot have "
            f"spin multiplicity {multiplicity}; correct the charge, the multiplicity or the hydrogens"
        )
    return int(charge), int(multiplicity)
