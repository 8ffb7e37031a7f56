"""Per-structure observables of a data set, vectorised over structures of one size. Å, eV, eV/Å throughout."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from ase.data import covalent_radii
from numpy.typing import NDArray

from hydrogate.checks.dataset import Dataset

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
_PAIRS_AT_A_TIME = 2_000_000


class Geometry(NamedTuple):
    """What one pass over all pairs of atoms of a structure gives.

    Parameters
    ----------
    min_distance : (M,) Å
        Least distance of two atoms; infinity for a single atom, NaN where a position is not finite.
    hydrogen : (B,) int
        Each hydrogen, as an atom of the data set.
    partner : (B,) int
        Its nearest atom by distance over the sum of covalent radii, heavy where the structure has a heavy atom.
    length : (B,) Å
    relative_length : (B,)
        ``length`` over the sum of the covalent radii (ASE's); infinity for a hydrogen alone.
    """

    min_distance: Floats
    hydrogen: Ints
    partner: Ints
    length: Floats
    relative_length: Floats


def _blocks(data: Dataset) -> Iterator[tuple[Ints, Ints]]:
    """Structures of one size together: their indices (m,), their atoms (m, n); at most a few million pairs each."""
    sizes = data.sizes
    for size in np.unique(sizes[sizes > 0]).tolist():
        members = np.flatnonzero(sizes == size)
        step = max(1, _PAIRS_AT_A_TIME // (size * size))
        for start in range(0, len(members), step):
            chosen = members[start : start + step]
            yield chosen, data.offset[chosen][:, None] + np.arange(size)


def geometry(data: Dataset) -> Geometry:
    """One pass over the pairs of atoms of every structure."""
    min_distance = np.full(len(data), np.inf)
    found: list[tuple[Ints, Ints, Floats, Floats]] = []
    for members, atoms in _blocks(data):
        positions = data.positions[atoms].astype(np.float64)
        numbers = data.numbers[atoms]
        distance = np.linalg.norm(positions[:, :, None] - positions[:, None, :], axis=-1)
        diagonal = np.arange(atoms.shape[1])
        distance[:, diagonal, diagonal] = np.inf
        min_distance[members] = distance.min(axis=(1, 2))
        row, hydrogen = np.nonzero(numbers == 1)
        if not len(row):
            continue
        radii = covalent_radii[numbers]
        relative = distance[row, hydrogen] / (radii[row, hydrogen][:, None] + radii[row])
        has_heavy = np.any(numbers > 1, axis=1)[row]
        relative[has_heavy[:, None] & (numbers[row] == 1)] = np.inf
        partner = relative.argmin(axis=1)
        here = np.arange(len(row))
        found.append(
            (
                atoms[row, hydrogen],
                atoms[row, partner],
                distance[row, hydrogen][here, partner],
                relative[here, partner],
            )
        )
    if not found:
        none = np.empty(0)
        return Geometry(min_distance, none.astype(np.int64), none.astype(np.int64), none, none)
    columns = [np.concatenate(column) for column in zip(*found, strict=True)]
    order = np.argsort(columns[0], kind="stable")
    return Geometry(min_distance, *(column[order] for column in columns))


def per_structure(values: NDArray[np.generic], data: Dataset, how: np.ufunc = np.add) -> Floats:
    """``values`` (N, …) reduced over the atoms of each structure by ``how``; 0 for a structure without atoms."""
    result = np.zeros((len(data), *values.shape[1:]))
    occupied = data.sizes > 0
    if occupied.any():
        result[occupied] = how.reduceat(values.astype(np.float64), data.offset[:-1][occupied], axis=0)
    return result


def force_norms(data: Dataset) -> Floats:
    """(N,) |F| of each atom, eV/Å."""
    assert data.forces is not None
    norms: Floats = np.linalg.norm(data.forces.astype(np.float64), axis=1)
    return norms


def net_force(data: Dataset) -> Floats:
    """(M,) |ΣF| / √(3N) of each structure, eV/Å: the component RMS of independent noise that would sum to it."""
    assert data.forces is not None
    total: Floats = np.linalg.norm(per_structure(data.forces, data), axis=1)
    return total / np.sqrt(3.0 * np.maximum(data.sizes, 1))


def net_torque(data: Dataset) -> Floats:
    """(M,) |Σ r × F| about the centroid of each structure, eV; of no meaning where a structure is periodic."""
    assert data.forces is not None
    centroid = per_structure(data.positions, data) / np.maximum(data.sizes, 1)[:, None]
    arm = data.positions - centroid[data.structure_of_atom]
    torque: Floats = np.linalg.norm(per_structure(np.cross(arm, data.forces), data), axis=1)
    return torque


class BondForces(NamedTuple):
    """X-H bonds: length deviation from the mean of that X (Å), and the force on H along the bond (eV/Å), both (B,)."""

    deviation: Floats
    force: Floats


def bond_forces(data: Dataset, shape: Geometry) -> BondForces:
    """Stretch and restoring force of every X-H bond; the force counts positive away from X."""
    assert data.forces is not None
    bond = np.isfinite(shape.length) & (shape.length > 0)
    hydrogen, partner, length = shape.hydrogen[bond], shape.partner[bond], shape.length[bond]
    away = (data.positions[hydrogen] - data.positions[partner]).astype(np.float64) / length[:, None]
    element = data.numbers[partner]
    mean = np.bincount(element, weights=length, minlength=1) / np.maximum(np.bincount(element, minlength=1), 1)
    return BondForces(length - mean[element], np.einsum("ij,ij->i", data.forces[hydrogen].astype(np.float64), away))


class SiblingWork(NamedTuple):
    """Pairs of geometries of one molecule, all (P,): ΔE and −½(F₁ + F₂)·Δx in eV, RMS displacement in Å."""

    first: Ints
    second: Ints
    energy_difference: Floats
    work: Floats
    rms_displacement: Floats


def sibling_work(data: Dataset) -> SiblingWork:
    """Each structure against its parent, where both have the same atoms in the same order (trapezoidal rule)."""
    assert data.forces is not None
    assert data.energy is not None
    child = np.flatnonzero((data.parent != np.arange(len(data))) & (data.sizes == data.sizes[data.parent]))
    parent = data.parent[child]
    sizes = data.sizes[child]
    start = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    within = np.arange(start[-1]) - np.repeat(start[:-1], sizes)
    one, two = np.repeat(data.offset[parent], sizes) + within, np.repeat(data.offset[child], sizes) + within
    displacement = (data.positions[two] - data.positions[one]).astype(np.float64)
    mean_force = 0.5 * (data.forces[one] + data.forces[two]).astype(np.float64)
    if not len(child):
        none = np.empty(0)
        return SiblingWork(parent, child, none, none, none)
    work = -np.add.reduceat((mean_force * displacement).sum(axis=1), start[:-1])
    square = np.add.reduceat((displacement**2).sum(axis=1), start[:-1])
    differ = np.add.reduceat((data.numbers[one] != data.numbers[two]).astype(np.int64), start[:-1])
    same = differ == 0
    rms = np.sqrt(square / sizes)
    return SiblingWork(
        parent[same], child[same], (data.energy[child] - data.energy[parent])[same], work[same], rms[same]
    )


class CompositionFit(NamedTuple):
    """Energy per atom left over by a least-squares fit of element and charge energies: residual (M,) eV/atom, rank.

    ``element_energies`` (eV) by atomic number; of least norm where the compositions do not determine them.
    """

    residual: Floats
    rank: int
    element_energies: dict[int, float]


def composition_fit(data: Dataset, energy: Floats | None = None) -> CompositionFit:
    """Fit E = Σ_Z n_Z e_Z + q e_q over the structures; the charge column only where charges differ.

    Parameters
    ----------
    data : Dataset
    energy : (M,), eV, optional
        Fitted in place of the data set's own.
    """
    energy = data.energy if energy is None else energy
    assert energy is not None
    elements = np.unique(data.numbers)
    columns = np.searchsorted(elements, data.numbers)
    counts = np.zeros((len(data), len(elements)))
    np.add.at(counts, (data.structure_of_atom, columns), 1.0)
    if len(np.unique(data.charge)) > 1:
        counts = np.column_stack([counts, data.charge.astype(np.float64)])
    weight = 1.0 / np.maximum(data.sizes, 1)
    usable = np.isfinite(energy)
    solution, _, rank, _ = np.linalg.lstsq(
        counts[usable] * weight[usable, None], energy[usable] * weight[usable], rcond=None
    )
    fitted = dict(zip(elements.tolist(), solution.tolist(), strict=False))
    return CompositionFit(energy * weight - counts @ solution * weight, int(rank), fitted)
