"""Breakdown of the force error of a student by chemical environment and by structure.

The total squared error is usually dominated by a few large terms. The atoms and structures that contribute most are
more informative about the next step than the mean.
"""

from typing import NamedTuple

import numpy as np
from ase.data import chemical_symbols

from hydrogate.checks.data.dataset import Dataset
from hydrogate.checks.geometry.distances import Ints, bonds
from hydrogate.checks.metrics.comparison import Comparison


class Environment(NamedTuple):
    """Chemical environment: atoms of one element with the same neighbours.

    Parameters
    ----------
    atom : str
        Element symbol.
    bonded_to : str
        Elements of the neighbours, such as ``C H H``; ``nothing`` without neighbours.
    atoms, molecules : int
        Number of atoms, and of molecules that contain them.
    force_rmse, force_rms : float, eV/Å
        RMS component of the force error and of the reference force.
    share : float
        Fraction of the squared error of all atoms.
    """

    atom: str
    bonded_to: str
    atoms: int
    molecules: int
    force_rmse: float
    force_rms: float
    share: float


class Structure(NamedTuple):
    """Structure with its fraction of the total squared error and its worst atom; vector lengths in eV/Å."""

    structure: str
    share: float
    worst_atom: str
    error: float
    force: float


class Breakdown(NamedTuple):
    """Environments and structures with the largest fractions of the squared error, in descending order."""

    environments: tuple[Environment, ...]
    structures: tuple[Structure, ...]


def breakdown(reference: Dataset, c: Comparison, count: int = 15) -> Breakdown:
    """Break down the squared force error of ``c``, a comparison with ``reference``.

    Atoms are bonded within 1.3 times the sum of their covalent radii; atoms of periodic structures have no bonds.

    Parameters
    ----------
    reference : Dataset
    c : Comparison
    count : int
        Maximum number of environments and of structures.

    Raises
    ------
    ValueError
        A predicted force is not finite, or all errors are zero.
    """
    squared = (c.error**2).sum(axis=1)
    for atom in np.flatnonzero(~np.isfinite(squared))[:1].tolist():
        raise ValueError(
            f"{reference.name(int(c.structure_of_atom[atom]))}: a predicted force is not finite, so there is no "
            "breakdown of the error: remove the structure from both files"
        )
    if not squared.sum() > 0:
        raise ValueError("every predicted force equals that of the reference: there is no error to break down")
    of_structure = np.add.reduceat(squared, c.offset[:-1])
    return Breakdown(
        tuple(_environments(reference, c, squared)[:count]),
        tuple(_structure(reference, c, squared, row) for row in np.argsort(-of_structure)[:count].tolist()),
    )


def _environments(reference: Dataset, c: Comparison, squared: np.ndarray) -> list[Environment]:
    counts = _neighbours(reference)
    # Equal rows of neighbour counts are one environment.
    kinds, kind = np.unique(np.column_stack([c.numbers, counts]), axis=0, return_inverse=True)
    forces = (c.forces**2).sum(axis=1)
    found = []
    for index, row in enumerate(kinds.tolist()):
        mine = kind.ravel() == index
        atoms, elements = int(mine.sum()), np.repeat(np.unique(c.numbers), row[1:])
        found.append(
            Environment(
                chemical_symbols[row[0]],
                " ".join(chemical_symbols[number] for number in elements) or "nothing",
                atoms,
                len(np.unique(c.molecule_of_atom[mine])),
                float(np.sqrt(squared[mine].sum() / (3 * atoms))),
                float(np.sqrt(forces[mine].sum() / (3 * atoms))),
                float(squared[mine].sum() / squared.sum()),
            )
        )
    return sorted(found, key=lambda environment: -environment.share)


def _neighbours(data: Dataset) -> Ints:
    """Count the neighbours of each atom by element, (N, elements), in ascending order of the elements present."""
    bonded = bonds(data)
    elements, column = np.unique(data.numbers, return_inverse=True)
    counts = np.zeros((len(data.numbers), len(elements)), dtype=np.int64)
    for atom, other in ((bonded.first, bonded.second), (bonded.second, bonded.first)):
        np.add.at(counts, (atom, column[other]), 1)
    return counts


def _structure(data: Dataset, c: Comparison, squared: np.ndarray, row: int) -> Structure:
    first, last = int(c.offset[row]), int(c.offset[row + 1])
    worst = first + int(squared[first:last].argmax())
    return Structure(
        data.name(row),
        float(squared[first:last].sum() / squared.sum()),
        f"{chemical_symbols[int(c.numbers[worst])]} {worst - first}",
        float(np.sqrt(squared[worst])),
        float(c.force_lengths[worst]),
    )
