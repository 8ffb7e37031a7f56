"""Where the force error of a student is: by what an atom is bonded to, and in which structures.

A squared error is the sum of few large ones. What holds most of it says more about the next step than the mean does.
"""

from typing import NamedTuple

import numpy as np
from ase.data import chemical_symbols

from hydrogate.checks.data.dataset import Dataset
from hydrogate.checks.geometry.distances import Ints, bonds
from hydrogate.checks.metrics.comparison import Comparison


class Environment(NamedTuple):
    """Atoms of one element with the same neighbours.

    Parameters
    ----------
    atom : str
        The element.
    bonded_to : str
        The elements of its neighbours, ``C H H``; ``nothing`` where it has none.
    atoms, molecules : int
    force_rmse, force_rms : float, eV/Å
        Of a component of the error, and of the reference's force.
    share : float
        Of the squared error of all atoms.
    """

    atom: str
    bonded_to: str
    atoms: int
    molecules: int
    force_rmse: float
    force_rms: float
    share: float


class Structure(NamedTuple):
    """One structure: its share of the squared error of all, and its worst atom; lengths of vectors, eV/Å."""

    structure: str
    share: float
    worst_atom: str
    error: float
    force: float


class Breakdown(NamedTuple):
    """The environments and the structures that hold most of the squared error, the largest share first."""

    environments: tuple[Environment, ...]
    structures: tuple[Structure, ...]


def breakdown(reference: Dataset, c: Comparison, count: int = 15) -> Breakdown:
    """Where the squared force error of ``c`` is, a comparison with ``reference``.

    Atoms are bonded within 1.3 sums of covalent radii; those of periodic structures count as bonded to nothing.

    Parameters
    ----------
    reference : Dataset
    c : Comparison
    count : int
        How many environments and structures at most.

    Raises
    ------
    ValueError
        A predicted force is not finite, or there is no error at all.
    """
    squared = (c.error**2).sum(axis=1)
    for atom in np.flatnonzero(~np.isfinite(squared))[:1].tolist():
        raise ValueError(
            f"{reference.name(int(c.structure_of_atom[atom]))}: a predicted force is not finite; where the error is "
            "cannot be said: take the structure out of both files"
        )
    if not squared.sum() > 0:
        raise ValueError("every predicted force equals the reference's: there is no error to be found anywhere")
    of_structure = np.add.reduceat(squared, c.offset[:-1])
    return Breakdown(
        tuple(_environments(reference, c, squared)[:count]),
        tuple(_structure(reference, c, squared, row) for row in np.argsort(-of_structure)[:count].tolist()),
    )


def _environments(reference: Dataset, c: Comparison, squared: np.ndarray) -> list[Environment]:
    counts = _neighbours(reference)
    # Rows of a table of counts that are equal are one environment.
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
    """(N, elements) how many neighbours of each of the data set's elements, in ascending order, each atom has."""
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
