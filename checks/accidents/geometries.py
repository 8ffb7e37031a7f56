"""Corruptions of elements and positions: missing or misplaced hydrogens, wrong units, wrong elements."""

from dataclasses import replace

import numpy as np
from ase.units import Bohr

from hydrogate.checks.accidents.catalogue import (
    Rows,
    accident,
    atoms_of,
    changed,
    spin_of_electrons,
    without_atoms,
)
from hydrogate.checks.data.dataset import UNKNOWN_HYDROGENS, Dataset
from hydrogate.checks.geometry.observables import Ints, geometry

_BOTH = ("structures", "labels")
TORN_BY = 3.0  # Å
BOX = 10.0  # Å
DECIMALS = 2


def _hydrogens(data: Dataset, rows: Rows) -> tuple[Ints, Ints]:
    """Return the hydrogens of ``rows`` and the atom bonded to each, as atom indices of the data set."""
    own = atoms_of(data, rows)
    shape = geometry(data.subset(rows))
    return own[shape.hydrogen], own[shape.partner]


@accident(*_BOTH, source="https://github.com/grimme-lab/xtb/issues/26", before_labelling=True)
def hydrogens_stripped(data: Dataset, rows: Rows, rng: np.random.Generator) -> Dataset:
    """Hydrogens and their labels are missing: implicit in the file, and the reader kept only the atoms written out.

    A molecule of hydrogen alone keeps its atoms, because they are written out.
    """
    hydrogen, partner = _hydrogens(data, rows)
    return without_atoms(data, hydrogen[data.numbers[partner] != 1])


@accident(*_BOTH, source="https://github.com/michellab/BioSimSpace/issues/419", before_labelling=True)
def polar_hydrogens_only(data: Dataset, rows: Rows, rng: np.random.Generator) -> Dataset:
    """Hydrogens on carbon are missing, as in files from docking, which keep only those on N and O."""
    hydrogen, partner = _hydrogens(data, rows)
    return without_atoms(data, hydrogen[data.numbers[partner] == 6])


@accident(*_BOTH, source="https://github.com/keiserlab/e3fp/issues/59", before_labelling=True)
def hydrogens_at_origin(data: Dataset, rows: Rows, rng: np.random.Generator) -> Dataset:
    """Every hydrogen lies at the origin, as after RDKit's AddHs without addCoords."""
    return replace(data, positions=changed(data.positions, _hydrogens(data, rows)[0], 0.0))


@accident(*_BOTH, source="https://github.com/openmm/spice-dataset/issues/105")
def hydrogen_torn_off(data: Dataset, rows: Rows, rng: np.random.Generator) -> Dataset:
    """One hydrogen of each structure is 3 Å farther from its bonded atom than when it was labelled."""
    hydrogen, partner = _hydrogens(data, rows)
    _, first = np.unique(data.structure_of_atom[hydrogen], return_index=True)
    hydrogen, partner = hydrogen[first], partner[first]
    away = data.positions[hydrogen] - data.positions[partner]
    length = np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-3)
    return replace(
        data, positions=changed(data.positions, hydrogen, data.positions[hydrogen] + TORN_BY * away / length)
    )


@accident(*_BOTH, source="https://github.com/valence-labs/OpenQDC/pull/18")
def positions_in_bohr(data: Dataset, rows: Rows, rng: np.random.Generator) -> Dataset:
    """Positions are in bohr but read as Å."""
    own = atoms_of(data, rows)
    return replace(data, positions=changed(data.positions, own, data.positions[own] / Bohr))


@accident(*_BOTH, source="https://github.com/MehmetAzizYirik/MAYGEN/issues/82", before_labelling=True)
def flattened(data: Dataset, rows: Rows, rng: np.random.Generator) -> Dataset:
    """The third coordinate is 0: a 2-D drawing is read as a 3-D geometry."""
    return replace(data, positions=changed(data.positions, (atoms_of(data, rows), 2), 0.0))


@accident(*_BOTH, source="https://github.com/deepmodeling/dpdata/issues/778")
def elements_exchanged(data: Dataset, rows: Rows, rng: np.random.Generator) -> Dataset:
    """Carbon and nitrogen are swapped: the species of one file are read in the order of another."""
    own = atoms_of(data, rows)
    other = np.arange(256, dtype=np.uint8)
    other[[6, 7]] = 7, 6
    return replace(data, numbers=changed(data.numbers, own, other[data.numbers[own]]))


@accident(*_BOTH, source="https://github.com/rdkit/rdkit/issues/3854")
def nan_in_one_atom(data: Dataset, rows: Rows, rng: np.random.Generator) -> Dataset:
    """One atom of each structure has a NaN force, or a NaN position if the data set has no forces."""
    struck = data.offset[:-1][rows] + rng.integers(0, np.maximum(data.sizes[rows], 1))
    struck = struck[data.sizes[rows] > 0]
    if data.forces is None:
        return replace(data, positions=changed(data.positions, struck, np.nan))
    return replace(data, forces=changed(data.forces, struck, np.nan))


@accident(*_BOTH, source="https://github.com/MobleyLab/benchmarksets/issues/68", before_labelling=True)
def charges_lost(data: Dataset, rows: Rows, rng: np.random.Generator) -> Dataset:
    """Ions are read as neutral, because their file does not store the charge.

    A neutral structure with hydrogen on N, O or S is first made an ion by removing that proton. Only atoms are read, as
    from an XYZ file: no SMILES, no hydrogen count, and the spin multiplicity follows from the electron count.
    """
    hydrogen, partner = _hydrogens(data, rows)
    hydrogen = hydrogen[np.isin(data.numbers[partner], (7, 8, 16))]
    hydrogen = hydrogen[data.charge[data.structure_of_atom[hydrogen]] == 0]
    owner, first = np.unique(data.structure_of_atom[hydrogen], return_index=True)
    struck = np.union1d(owner, rows[data.charge[rows] != 0])
    left = without_atoms(data, hydrogen[first])
    left = replace(
        left,
        charge=changed(left.charge, struck, 0),
        expected_hydrogens=changed(left.expected_hydrogens, struck, UNKNOWN_HYDROGENS),
        smiles=changed(left.smiles, struck, ""),
        inchikey=changed(left.inchikey, struck, ""),
    )
    return replace(left, spin_multiplicity=changed(left.spin_multiplicity, struck, spin_of_electrons(left, struck)))


@accident(*_BOTH, source="https://github.com/Acellera/htmd/issues/240", before_labelling=True)
def wrapped_into_a_box(data: Dataset, rows: Rows, rng: np.random.Generator) -> Dataset:
    """Atoms outside a simulation box of 10 Å are wrapped to its other side, and the cell is lost."""
    own = atoms_of(data, rows)
    return replace(data, positions=changed(data.positions, own, data.positions[own] % np.float32(BOX)))


@accident(*_BOTH, source="https://github.com/deepmodeling/dpdata/pull/325")
def positions_rounded(data: Dataset, rows: Rows, rng: np.random.Generator) -> Dataset:
    """Positions are rounded to two decimals in Å, as by a text format that writes no more."""
    own = atoms_of(data, rows)
    return replace(data, positions=changed(data.positions, own, data.positions[own].round(DECIMALS)))


@accident(*_BOTH, source="https://github.com/openforcefield/openff-toolkit/pull/1400")
def elements_in_another_order(data: Dataset, rows: Rows, rng: np.random.Generator) -> Dataset:
    """The elements of each structure are in a different atom order than its positions."""
    numbers = data.numbers.copy()
    for row in rows.tolist():
        numbers[data.atoms_of(row)] = rng.permutation(numbers[data.atoms_of(row)])
    return replace(data, numbers=numbers)
