"""Corruptions of labels: units, signs, order, precision, two teachers, failed calculations."""

from dataclasses import replace

import numpy as np
from ase.units import Bohr, Hartree, kcal, mol
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from hydrogate.checks.accidents.catalogue import (
    NotApplicable,
    Rows,
    accident,
    atoms_of,
    changed,
    labels,
)
from hydrogate.checks.data.dataset import Dataset

_SPICE_UNITS = "https://github.com/openmm/spice-dataset/issues/83"
_SPICE_DIGITS = "https://github.com/openmm/spice-dataset/issues/55"
_LOAD_ATOMS = "https://github.com/jla-gardner/load-atoms/issues/78"
SHIFT = 1.0  # eV
DIVERGED = 1e7
NOT_CONVERGED = 0.5  # eV and eV/Å


def _scaled(data: Dataset, rows: Rows, factor: float) -> Dataset:
    _, forces = labels(data)
    own = atoms_of(data, rows)
    return replace(data, forces=changed(forces, own, forces[own] * np.float32(factor)))


@accident("labels", source="https://github.com/torchmd/torchmd-protein-thermodynamics/issues/22")
def forces_in_kcal(data: Dataset, rows: Rows, rng: np.random.Generator) -> Dataset:
    """Forces are 23.06 times too large: kcal/mol/Å read as eV/Å."""
    return _scaled(data, rows, mol / kcal)


@accident("labels", source=_LOAD_ATOMS)
def forces_divided_by_kcal(data: Dataset, rows: Rows, rng: np.random.Generator) -> Dataset:
    """Forces are 532 times too large: kcal/mol/Å divided by its value in eV instead of multiplied by it."""
    return _scaled(data, rows, (mol / kcal) ** 2)


@accident("labels", source=_SPICE_UNITS)
def forces_converted_twice(data: Dataset, rows: Rows, rng: np.random.Generator) -> Dataset:
    """Forces are 51.42 times too large: converted from hartree/bohr twice."""
    return _scaled(data, rows, Hartree / Bohr)


@accident("labels", source=_SPICE_UNITS)
def forces_in_hartree_per_bohr(data: Dataset, rows: Rows, rng: np.random.Generator) -> Dataset:
    """Forces are 51.42 times too small: hartree/bohr read as eV/Å."""
    return _scaled(data, rows, Bohr / Hartree)


@accident("labels", source="https://github.com/CSML-IIT-UCL/franken/issues/24")
def forces_a_thousandth(data: Dataset, rows: Rows, rng: np.random.Generator) -> Dataset:
    """Forces are 1,000 times too small."""
    return _scaled(data, rows, 1e-3)


@accident("labels", source="https://github.com/choderalab/modelforge/issues/298")
def forces_a_tenth(data: Dataset, rows: Rows, rng: np.random.Generator) -> Dataset:
    """Forces are 10 times too small: values per Å read as values per nm."""
    return _scaled(data, rows, 0.1)


@accident("labels", source="https://github.com/openmm/spice-dataset/issues/94")
def gradients_for_forces(data: Dataset, rows: Rows, rng: np.random.Generator) -> Dataset:
    """The energy gradient is stored as the force, so the sign is wrong."""
    return _scaled(data, rows, -1.0)


@accident("labels", source="https://github.com/QuantumMaterialsModelling/vasp-phonopy-sscha/issues/6")
def forces_permuted(data: Dataset, rows: Rows, rng: np.random.Generator) -> Dataset:
    """The forces of each structure are in a different atom order than its positions."""
    _, forces = labels(data)
    spoiled = forces.copy()
    for row in rows.tolist():
        spoiled[data.atoms_of(row)] = rng.permutation(forces[data.atoms_of(row)])
    return replace(data, forces=spoiled)


@accident("labels", source=_SPICE_DIGITS)
def forces_in_half_precision(data: Dataset, rows: Rows, rng: np.random.Generator) -> Dataset:
    """Forces were converted through float16 and keep three digits."""
    _, forces = labels(data)
    own = atoms_of(data, rows)
    return replace(data, forces=changed(forces, own, forces[own].astype(np.float16)))


@accident("labels", source="https://github.com/openmm/spice-dataset/issues/105")
def forces_clipped(data: Dataset, rows: Rows, rng: np.random.Generator) -> Dataset:
    """Force components beyond the 99th percentile of the data set are clipped to it."""
    _, forces = labels(data)
    own = atoms_of(data, rows)
    limit = np.nanquantile(np.abs(forces), 0.99)
    return replace(data, forces=changed(forces, own, np.clip(forces[own], -limit, limit)))


@accident("labels", source="https://github.com/deepmodeling/dpdata/issues/1000")
def zeros_for_failed_labels(data: Dataset, rows: Rows, rng: np.random.Generator) -> Dataset:
    """Energy and forces are 0 where the calculation failed."""
    energy, forces = labels(data)
    return replace(
        data, energy=changed(energy, rows, 0.0), forces=changed(forces, atoms_of(data, rows), np.float32(0.0))
    )


@accident("labels", source=_LOAD_ATOMS)
def energies_in_kcal(data: Dataset, rows: Rows, rng: np.random.Generator) -> Dataset:
    """Energies are in kcal/mol but read as eV."""
    energy, _ = labels(data)
    return replace(data, energy=changed(energy, rows, energy[rows] * mol / kcal))


@accident("labels", source=_SPICE_UNITS)
def energies_in_hartree(data: Dataset, rows: Rows, rng: np.random.Generator) -> Dataset:
    """Energies are in hartree but read as eV."""
    energy, _ = labels(data)
    return replace(data, energy=changed(energy, rows, energy[rows] / Hartree))


@accident("labels", source=_SPICE_DIGITS)
def energies_in_single_precision(data: Dataset, rows: Rows, rng: np.random.Generator) -> Dataset:
    """Total energies were converted through float32."""
    energy, _ = labels(data)
    return replace(data, energy=changed(energy, rows, energy[rows].astype(np.float32)))


@accident("labels", source="https://github.com/choderalab/torsionfit/pull/13")
def energies_shuffled(data: Dataset, rows: Rows, rng: np.random.Generator) -> Dataset:
    """Energies belong to other structures of the data set."""
    energy, _ = labels(data)
    receivers = rng.permutation(rows)
    donors = np.roll(receivers, 1) if len(rows) > 1 else (rows + rng.integers(1, max(len(data), 2))) % len(data)
    return replace(data, energy=changed(energy, receivers, energy[donors]))


@accident("labels", source="https://github.com/chemsurajit/largeDFTdata/issues/2", largest_share=0.5)
def energies_shifted(data: Dataset, rows: Rows, rng: np.random.Generator) -> Dataset:
    """Energies are 1 eV higher in one part of the data set, which uses another reference energy."""
    energy, _ = labels(data)
    return replace(data, energy=changed(energy, rows, energy[rows] + SHIFT))


@accident("labels", source="https://github.com/choderalab/modelforge/issues/33", largest_share=0.5)
def two_teachers(data: Dataset, rows: Rows, rng: np.random.Generator) -> Dataset:
    """One part of the data set has labels that imitate another teacher: forces and energies differ by element.

    Forces are scaled by 0.8 to 1.2 for each element, then the net force and torque are removed; energies are shifted
    by up to 1 eV per atom of each element.
    """
    energy, forces = labels(data)
    factor, offset = rng.uniform(0.8, 1.2, 256).astype(np.float32), rng.uniform(-1.0, 1.0, 256)
    theirs, shift = forces.copy(), np.zeros(len(rows))
    for k, row in enumerate(rows.tolist()):
        own = data.atoms_of(row)
        numbers = data.numbers[own]
        theirs[own] = _isolated(data.positions[own], forces[own] * factor[numbers][:, None])
        shift[k] = offset[numbers].sum()
    return replace(data, energy=changed(energy, rows, energy[rows] + shift), forces=theirs)


@accident("labels", source="https://github.com/exalearn/ExaMol/issues/107")
def scf_not_converged(data: Dataset, rows: Rows, rng: np.random.Generator) -> Dataset:
    """The SCF did not converge, unnoticed: energies are up to 0.5 eV too high, forces have 0.5 eV/Å of noise.

    The noise has no net force and no net torque, as in an unconverged self-consistent field.
    """
    energy, forces = labels(data)
    theirs = forces.copy()
    for row in rows.tolist():
        own = data.atoms_of(row)
        noise = rng.normal(0.0, NOT_CONVERGED, forces[own].shape).astype(np.float32)
        theirs[own] = _isolated(data.positions[own], forces[own] + noise)
    higher = energy[rows] + rng.uniform(0.0, NOT_CONVERGED, len(rows))
    return replace(data, energy=changed(energy, rows, higher), forces=theirs)


@accident("labels", source="https://github.com/openmm/spice-dataset/issues/32")
def one_force_diverged(data: Dataset, rows: Rows, rng: np.random.Generator) -> Dataset:
    """The force on one atom of each structure is seven orders of magnitude too large."""
    _, forces = labels(data)
    rows = rows[data.sizes[rows] > 0]
    struck = data.offset[:-1][rows] + rng.integers(0, data.sizes[rows])
    return replace(data, forces=changed(forces, struck, forces[struck] * np.float32(DIVERGED)))


@accident("labels", source="https://github.com/robinzyb/cp2kdata/pull/73")
def forces_of_another_geometry(data: Dataset, rows: Rows, rng: np.random.Generator) -> Dataset:
    """Forces belong to the next geometry of the same molecule: two blocks of an output file are off by one."""
    _, forces = labels(data)
    order = np.argsort(data.parent, kind="stable")
    following = np.empty(len(data), dtype=np.int64)
    for family in np.split(order, np.flatnonzero(np.diff(data.parent[order])) + 1):
        following[family] = np.roll(family, -1)
    rows = rows[(following[rows] != rows) & (data.sizes[following[rows]] == data.sizes[rows])]
    if not len(rows):
        raise NotApplicable("no molecule has a second geometry")
    theirs = forces[atoms_of(data, following[rows])]
    return replace(data, forces=changed(forces, atoms_of(data, rows), theirs))


@accident("labels", source="https://github.com/cclib/cclib/issues/924")
def forces_in_another_frame(data: Dataset, rows: Rows, rng: np.random.Generator) -> Dataset:
    """Forces and positions are in different frames: the input orientation and the program's standard orientation."""
    _, forces = labels(data)
    turned = forces.copy()
    for row, turn in zip(rows.tolist(), Rotation.random(len(rows), rng), strict=True):
        turned[data.atoms_of(row)] = turn.apply(forces[data.atoms_of(row)])
    return replace(data, forces=turned)


@accident("labels", source="https://github.com/ACEsuit/mace/pull/1448")
def forces_not_found(data: Dataset, rows: Rows, rng: np.random.Generator) -> Dataset:
    """Forces are stored under a key that the reader does not know and are read as 0; energies are correct."""
    _, forces = labels(data)
    return replace(data, forces=changed(forces, atoms_of(data, rows), np.float32(0.0)))


@accident("labels", source="https://github.com/usnistgov/alignn/issues/170")
def energies_per_atom(data: Dataset, rows: Rows, rng: np.random.Generator) -> Dataset:
    """Energies are divided by the number of atoms but read as energies of the whole structure."""
    energy, _ = labels(data)
    return replace(data, energy=changed(energy, rows, energy[rows] / np.maximum(data.sizes[rows], 1)))


@accident("labels", source="https://github.com/AIRI-Institute/nablaDFT/issues/53", largest_share=0.5)
def atomization_energies(data: Dataset, rows: Rows, rng: np.random.Generator) -> Dataset:
    """Energies of one part of the data set are atomization instead of total energies; atomic energies are fitted."""
    energy, _ = labels(data)
    elements, column = np.unique(data.numbers, return_inverse=True)
    counts = np.zeros((len(data), len(elements)))
    np.add.at(counts, (data.structure_of_atom, column), 1.0)
    finite = np.isfinite(energy)
    atoms = counts @ np.linalg.lstsq(counts[finite], energy[finite], rcond=None)[0]
    return replace(data, energy=changed(energy, rows, energy[rows] - atoms[rows]))


def _isolated(positions: NDArray[np.float32], forces: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the nearest forces (n, 3) without net force and net torque."""
    arm = positions.astype(np.float64) - positions.mean(axis=0)
    axes = np.eye(3)
    rigid = [np.broadcast_to(axis, arm.shape).ravel() for axis in axes] + [np.cross(axis, arm).ravel() for axis in axes]
    basis = np.array(rigid).T
    flat = forces.astype(np.float64).ravel()
    amount = np.linalg.lstsq(basis, flat, rcond=None)[0]
    result: NDArray[np.float64] = (flat - basis @ amount).reshape(-1, 3)
    return result
