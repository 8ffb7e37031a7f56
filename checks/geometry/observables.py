"""Observables of each structure of a data set: forces, work, energies. Å, eV, eV/Å throughout.

Distances are in :mod:`hydrogate.checks.geometry.distances`. The forces of a large data set go through
:mod:`hydrogate.checks.geometry.compiled_passes`, those of a small one through the formulas that the compiled passes are
tested against.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hydrogate.checks.data.dataset import Dataset
from hydrogate.checks.geometry.distances import (
    Bonds,
    Floats,
    Geometry,
    Ints,
    blocks,
    bonds,
    fragments,
    geometry,
    is_large,
    read_only,
)

__all__ = [
    "BondForces",
    "BondMoments",
    "Bonds",
    "Compositions",
    "Floats",
    "ForceSums",
    "Geometry",
    "Ints",
    "SiblingWork",
    "are_finite",
    "blocks",
    "bond_forces",
    "bond_moments",
    "bonds",
    "compositions",
    "force_norms",
    "force_squares",
    "force_sums",
    "fragments",
    "geometry",
    "net_force",
    "net_torque",
    "per_structure",
    "sibling_work",
]


def per_structure(values: NDArray[np.generic], data: Dataset, how: np.ufunc = np.add) -> Floats:
    """``values`` (N, …) reduced over the atoms of each structure by ``how``; 0 for a structure without atoms."""
    result = np.zeros((len(data), *values.shape[1:]))
    if how is np.add and values.dtype == np.float32 and values.ndim == 1 and is_large(data):
        from hydrogate.checks.geometry.compiled_passes import sums

        sums(*read_only(values, data.offset), result)
        return result
    occupied = data.sizes > 0
    if occupied.any():
        result[occupied] = how.reduceat(values.astype(np.float64), data.offset[:-1][occupied], axis=0)
    return result


class ForceSums(NamedTuple):
    """Of each atom |F| (N,); of each structure its centroid (M, 3), ΣF (M, 3), Σ r × F about it (M, 3), Σ |F|² (M,).

    eV and Å.
    """

    norm: Floats
    centroid: Floats
    total: Floats
    torque: Floats
    square: Floats


def force_sums(data: Dataset) -> ForceSums:
    """One pass over the forces, made once for the checks that share it."""
    return data.once("force_sums", lambda: _force_sums(data))


def _force_sums(data: Dataset) -> ForceSums:
    assert data.forces is not None
    forces, count = data.forces, len(data)
    centroid, total, torque = (np.empty((count, 3)) for _ in range(3))
    sums = ForceSums(np.empty(len(data.numbers)), centroid, total, torque, np.empty(count))
    if is_large(data):
        from hydrogate.checks.geometry import compiled_passes as kernels

        kernels.force_sums(*read_only(data.positions, forces, data.offset), *sums)
        return sums
    arm, force = data.positions.astype(np.float64), forces.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        sums.norm[:] = np.linalg.norm(force, axis=1)
        sums.total[:] = per_structure(force, data)
        sums.centroid[:] = per_structure(arm, data) / np.maximum(data.sizes, 1)[:, None]
        sums.torque[:] = per_structure(np.cross(arm, force), data) - np.cross(sums.centroid, sums.total)
        sums.square[:] = per_structure((force**2).sum(axis=1), data)
    return sums


def force_squares(data: Dataset) -> Floats:
    """(M,) Σ |F|² of each structure, (eV/Å)², for where the rest of :func:`force_sums` is not needed."""
    assert data.forces is not None
    if data.has("force_sums") or not is_large(data):
        return force_sums(data).square
    from hydrogate.checks.geometry import compiled_passes as kernels

    square = np.empty(len(data))
    kernels.force_squares(*read_only(data.forces, data.offset), square)
    return square


def force_norms(data: Dataset) -> Floats:
    """(N,) |F| of each atom, eV/Å."""
    return force_sums(data).norm


def are_finite(data: Dataset) -> bool:
    """Whether all positions and forces are, by sums that there are: finite where each term of float32 is."""
    if data.forces is None:
        return bool(np.isfinite(data.positions).all())
    sums = force_sums(data)
    return bool(np.isfinite(sums.centroid).all() and np.isfinite(sums.total).all())


def net_force(data: Dataset) -> Floats:
    """(M,) |ΣF| / √(3N) of each structure, eV/Å: the component RMS of independent noise that would sum to it."""
    size: Floats = np.linalg.norm(force_sums(data).total, axis=1)
    return size / np.sqrt(3.0 * np.maximum(data.sizes, 1))


def net_torque(data: Dataset) -> Floats:
    """(M,) |Σ r × F| about the centroid of each structure, eV; of no meaning where a structure is periodic."""
    size: Floats = np.linalg.norm(force_sums(data).torque, axis=1)
    return size


class BondForces(NamedTuple):
    """X-H bonds: length deviation from the mean of that X (Å), and the force on H along the bond (eV/Å), both (B,)."""

    deviation: Floats
    force: Floats


def bond_forces(data: Dataset, shape: Geometry) -> BondForces:
    """Stretch and restoring force of every X-H bond; the force counts positive away from X."""
    assert data.forces is not None
    bond = np.isfinite(shape.length) & (shape.length > 0)
    hydrogen, partner, length = shape.hydrogen[bond], shape.partner[bond], shape.length[bond]
    element = data.numbers[partner]
    mean = np.bincount(element, weights=length, minlength=1) / np.maximum(np.bincount(element, minlength=1), 1)
    deviation = length - mean[element]
    if is_large(data) and shape.shift is None:
        from hydrogate.checks.geometry.compiled_passes import forces_along

        force = np.empty(len(hydrogen))
        forces_along(*read_only(data.positions, data.forces, hydrogen, partner, length), force)
        return BondForces(deviation, force)
    away = (data.positions[hydrogen] - data.positions[partner]).astype(np.float64)
    away = (away if shape.shift is None else away + shape.shift[bond]) / length[:, None]
    return BondForces(deviation, np.einsum("ij,ij->i", data.forces[hydrogen].astype(np.float64), away))


class BondMoments(NamedTuple):
    """Of length (Å) and force (eV/Å) of the bonds of H to one X: how many, means (2,), Σ of products of deviations."""

    n: int
    mean: Floats
    products: Floats


def bond_moments(data: Dataset, shape: Geometry) -> dict[int, BondMoments]:
    """The moments of what :func:`bond_forces` gives, by the atomic number of X."""
    count, mean, products = np.zeros(256, dtype=np.int64), np.zeros((256, 2)), np.zeros((256, 2, 2))
    if is_large(data) and shape.shift is None:
        from hydrogate.checks.geometry import compiled_passes as kernels

        assert data.forces is not None
        atoms = read_only(data.numbers, data.positions, data.forces)
        kernels.bond_moments(*atoms, *read_only(shape.hydrogen, shape.partner, shape.length), count, mean, products)
    else:
        bonded = np.isfinite(shape.length) & (shape.length > 0)
        element = data.numbers[shape.partner[bonded]]
        values = np.column_stack([shape.length[bonded], bond_forces(data, shape).force])
        count += np.bincount(element, minlength=256)
        with np.errstate(invalid="ignore", over="ignore"):
            for z in np.flatnonzero(count).tolist():
                mean[z] = values[element == z].mean(axis=0)
                apart = values[element == z] - mean[z]
                products[z] = np.einsum("ki,kj->ij", apart, apart)
    return {z: BondMoments(int(count[z]), mean[z], products[z]) for z in np.flatnonzero(count).tolist()}


class SiblingWork(NamedTuple):
    """Pairs of geometries of one molecule, all (P,): ΔE and −½(F₁ + F₂)·Δx in eV, RMS displacement in Å.

    ``third_order`` is Σ |(F₂ − F₁)·Δx| |Δx| over the atoms, eV Å: what the error of the trapezoidal rule goes with.
    """

    first: Ints
    second: Ints
    energy_difference: Floats
    work: Floats
    rms_displacement: Floats
    third_order: Floats


def sibling_work(data: Dataset) -> SiblingWork:
    """Each structure against its parent, where both have the same atoms in the same order (trapezoidal rule).

    Of a displacement pair the second against the first: near, however far the pair is from the parent.
    Of periodic structures those in the parent's own cell, each atom displaced to its nearest image.
    """
    assert data.forces is not None
    assert data.energy is not None
    own, sibling = np.arange(len(data)), data.parent
    if data.partner is not None:
        sibling = np.where(data.partner < own, data.partner, data.parent)
    further = (sibling != own) & (data.sizes == data.sizes[sibling])
    if data.cell is not None and data.pbc is not None:
        further &= np.all(data.cell == data.cell[sibling], axis=(1, 2))
        further &= np.all(data.pbc == data.pbc[sibling], axis=1)
    child = np.flatnonzero(further)
    parent = sibling[child]
    sizes, difference = data.sizes[child], data.energy[child] - data.energy[parent]
    first, second = data.offset[parent], data.offset[child]
    if data.cell is None and is_large(data):
        from hydrogate.checks.geometry.compiled_passes import sibling_sums

        work, third_order, square = (np.empty(len(child)) for _ in range(3))
        same = np.empty(len(child), dtype=bool)
        atoms = read_only(data.numbers, data.positions, data.forces, first, second, sizes)
        sibling_sums(*atoms, work, third_order, square, same)
    else:
        work, third_order, square, same = _sibling_sums_by_formula(data, parent, child)
    rms = np.sqrt(square / np.maximum(sizes, 1))
    return SiblingWork(parent[same], child[same], difference[same], work[same], rms[same], third_order[same])


def _sibling_sums_by_formula(
    data: Dataset, parent: Ints, child: Ints
) -> tuple[Floats, Floats, Floats, NDArray[np.bool_]]:
    """Work, Σ |ΔF·Δx| |Δx|, Σ Δx² and whether the elements are the same, of each pair."""
    assert data.forces is not None
    sizes = data.sizes[child]
    start = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    within = np.arange(start[-1]) - np.repeat(start[:-1], sizes)
    one, two = np.repeat(data.offset[parent], sizes) + within, np.repeat(data.offset[child], sizes) + within
    displacement = (data.positions[two] - data.positions[one]).astype(np.float64)
    if data.cell is not None and data.pbc is not None:
        from ase.geometry import find_mic

        for row in np.flatnonzero(data.periodic[child]).tolist():
            atoms = slice(start[row], start[row + 1])
            if np.isfinite(displacement[atoms]).all():
                own = child[row]
                displacement[atoms], _ = find_mic(  # type: ignore[no-untyped-call]
                    displacement[atoms], data.cell[own], data.pbc[own]
                )
    pair = np.repeat(np.arange(len(child)), sizes)
    mean_force = 0.5 * (data.forces[one] + data.forces[two]).astype(np.float64)
    change = np.abs(((data.forces[two] - data.forces[one]).astype(np.float64) * displacement).sum(axis=1))

    def summed(values: Floats) -> Floats:
        return np.bincount(pair, weights=values, minlength=len(child)).astype(np.float64)

    third_order = summed(change * np.linalg.norm(displacement, axis=1))
    same = summed((data.numbers[one] != data.numbers[two]).astype(np.float64)) == 0
    return -summed((mean_force * displacement).sum(axis=1)), third_order, summed((displacement**2).sum(axis=1)), same


class Compositions(NamedTuple):
    """Atomic numbers that occur (E,), ascending; atoms of each in each structure (M, E)."""

    elements: Ints
    counts: Ints


def compositions(data: Dataset) -> Compositions:
    """What each structure is made of, counted once for the checks that share it."""
    return data.once("compositions", lambda: _compositions(data))


def _compositions(data: Dataset) -> Compositions:
    column = np.arange(256)
    if is_large(data):
        from hydrogate.checks.geometry import compiled_passes as kernels

        numbers, offset = read_only(data.numbers, data.offset)
        elements = np.flatnonzero(kernels.present(numbers))
        column[elements] = np.arange(len(elements))
        counts = np.zeros((len(data), len(elements)), dtype=np.int64)
        kernels.compositions(numbers, offset, column, counts)
        return Compositions(elements, counts)
    elements = np.flatnonzero(np.bincount(data.numbers, minlength=1))
    column[elements] = np.arange(len(elements))
    cell = data.structure_of_atom * len(elements) + column[data.numbers]
    counts = np.bincount(cell, minlength=len(data) * len(elements)).reshape(len(data), len(elements))
    return Compositions(elements, counts)
