"""Observables of each structure of a data set: forces, work, energies. Units are Å, eV and eV/Å.

Distances are in :mod:`hydrogate.checks.geometry.distances`. Large data sets use
:mod:`hydrogate.checks.geometry.compiled_passes`; small ones use the NumPy versions, which are also the reference in the
tests of the compiled loops.
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
    """Reduce ``values`` (N, …) over the atoms of each structure with ``how``; 0 for a structure without atoms."""
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
    """Sums over the forces, in eV and Å.

    |F| of each atom (N,); centroid (M, 3), ΣF (M, 3), Σ r × F about the centroid (M, 3) and Σ |F|² (M,) of each
    structure.
    """

    norm: Floats
    centroid: Floats
    total: Floats
    torque: Floats
    square: Floats


def force_sums(data: Dataset) -> ForceSums:
    """Compute the force sums in one pass; the result is cached for all checks that use it."""
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
    """Return Σ |F|² of each structure, (M,), (eV/Å)²; for use where the rest of :func:`force_sums` is not needed."""
    assert data.forces is not None
    if data.has("force_sums") or not is_large(data):
        return force_sums(data).square
    from hydrogate.checks.geometry import compiled_passes as kernels

    square = np.empty(len(data))
    kernels.force_squares(*read_only(data.forces, data.offset), square)
    return square


def force_norms(data: Dataset) -> Floats:
    """Return |F| of each atom, (N,), eV/Å."""
    return force_sums(data).norm


def are_finite(data: Dataset) -> bool:
    """Return True if all positions and forces are finite, from cached sums: a sum of finite float32 terms is finite."""
    if data.forces is None:
        return bool(np.isfinite(data.positions).all())
    sums = force_sums(data)
    return bool(np.isfinite(sums.centroid).all() and np.isfinite(sums.total).all())


def net_force(data: Dataset) -> Floats:
    """Return |ΣF| / √(3N) of each structure, (M,), eV/Å: component RMS of independent noise with this net force."""
    size: Floats = np.linalg.norm(force_sums(data).total, axis=1)
    return size / np.sqrt(3.0 * np.maximum(data.sizes, 1))


def net_torque(data: Dataset) -> Floats:
    """Return |Σ r × F| about the centroid of each structure, (M,), eV; meaningless for periodic structures."""
    size: Floats = np.linalg.norm(force_sums(data).torque, axis=1)
    return size


class BondForces(NamedTuple):
    """X-H bonds: deviation of the length from the mean of that X (Å), force on H along the bond (eV/Å), both (B,)."""

    deviation: Floats
    force: Floats


def bond_forces(data: Dataset, shape: Geometry) -> BondForces:
    """Compute the stretch and the restoring force of every X-H bond; a positive force points away from X."""
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
    """Moments of length (Å) and force (eV/Å) of the X-H bonds of one X: count, means (2,), Σ of deviation products."""

    n: int
    mean: Floats
    products: Floats


def bond_moments(data: Dataset, shape: Geometry) -> dict[int, BondMoments]:
    """Compute the moments of bond length and force (see :func:`bond_forces`) by atomic number of X."""
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

    ``third_order`` is Σ |(F₂ − F₁)·Δx| |Δx| over the atoms, eV Å; the error of the trapezoidal rule scales with it.
    """

    first: Ints
    second: Ints
    energy_difference: Floats
    work: Floats
    rms_displacement: Floats
    third_order: Floats


def sibling_work(data: Dataset) -> SiblingWork:
    """Compare each structure with its parent if both have the same atoms in the same order (trapezoidal rule).

    In a displacement pair, the second structure is compared with the first: they are close, even if the pair is far
    from the parent. Periodic structures are compared only if they have the parent's cell; each displacement is taken to
    the nearest image.
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
    """Return work, Σ |ΔF·Δx| |Δx|, Σ Δx² and a mask of equal elements, for each pair."""
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
    """Atomic numbers that occur, ascending (E,), and the number of atoms of each in each structure (M, E)."""

    elements: Ints
    counts: Ints


def compositions(data: Dataset) -> Compositions:
    """Count the atoms of each element in each structure; the result is cached for all checks that use it."""
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
