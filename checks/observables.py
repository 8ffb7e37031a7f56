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
# Two atoms count as bonded within this multiple of the sum of their covalent radii. Bonds reach 1.15, rattled by 0.05 Å
# a coordinate 1.25; atoms two bonds apart begin at 1.4, across a ring of five with sulfur at 1.27.
BONDED = 1.3
# Å; what is farther apart in a periodic structure is not looked at: 1.4 times the covalent radii of H and Fr make 4.1.
PERIODIC_CUTOFF = 5.0
COMPILED_FROM = 200_000  # atoms


class Geometry(NamedTuple):
    """What one pass over all pairs of atoms of a structure gives.

    Parameters
    ----------
    min_distance : (M,) Å
        Least distance of two atoms, or of an atom and a periodic image; infinity for a single atom and, in a periodic
        structure, beyond ``PERIODIC_CUTOFF``; NaN where a position is not finite or a cell has no volume.
    hydrogen : (B,) int
        Each hydrogen, as an atom of the data set.
    partner : (B,) int
        Its nearest atom by distance over the sum of covalent radii, heavy where the structure has a heavy atom.
    length : (B,) Å
    relative_length : (B,)
        ``length`` over the sum of the covalent radii (ASE's); infinity for a hydrogen alone.
    shift : (B, 3) Å, optional
        Lattice vector to be added to the vector from the partner to the hydrogen; None where nothing is periodic.
    """

    min_distance: Floats
    hydrogen: Ints
    partner: Ints
    length: Floats
    relative_length: Floats
    shift: Floats | None = None


def blocks(data: Dataset, but: NDArray[np.bool_] | None = None) -> Iterator[tuple[Ints, Ints]]:
    """Structures of one size together: their indices (m,), their atoms (m, n); at most a few million pairs each.

    ``but`` (M,) leaves structures out.
    """
    sizes = data.sizes if but is None else np.where(but, 0, data.sizes)
    for size in np.unique(sizes[sizes > 0]).tolist():
        members = np.flatnonzero(sizes == size)
        step = max(1, _PAIRS_AT_A_TIME // (size * size))
        for start in range(0, len(members), step):
            chosen = members[start : start + step]
            yield chosen, data.offset[chosen][:, None] + np.arange(size)


def geometry(data: Dataset) -> Geometry:
    """One pass over the pairs of atoms of every structure; the nearest image where it is periodic."""
    hydrogens_before = np.concatenate([[0], np.cumsum(data.numbers == 1)])[data.offset]
    hydrogen = np.flatnonzero(data.numbers == 1)
    nowhere = np.full(len(hydrogen), np.inf)
    shape = Geometry(np.full(len(data), np.inf), hydrogen, hydrogen.copy(), nowhere, nowhere.copy())
    periodic = data.periodic
    done = periodic.copy()
    if _is_large(data):
        from hydrogate.checks.kernels import nearest

        atoms = (data.numbers, data.positions, data.offset, covalent_radii)
        nearest(*atoms, hydrogens_before, done, shape.min_distance, shape.partner, shape.length, shape.relative_length)
        # What the compiled pass left out, and was not told to.
        done = ~done | periodic
    _nearest_by_formula(data, done, hydrogens_before, shape)
    if not periodic.any():
        return shape
    shift = np.zeros((len(hydrogen), 3))
    for member in np.flatnonzero(periodic).tolist():
        own = slice(hydrogens_before[member], hydrogens_before[member + 1])
        shape.min_distance[member], images = _nearest_images(data, member)
        shape.partner[own], shape.length[own], shape.relative_length[own], shift[own] = images
    return shape._replace(shift=shift)


def _is_large(data: Dataset) -> bool:
    """Whether compiled passes pay: they take a second to be loaded, and seconds to be compiled the first time."""
    return len(data.numbers) >= COMPILED_FROM and int(data.numbers.max()) < len(covalent_radii)


def _nearest_by_formula(data: Dataset, but: NDArray[np.bool_], hydrogens_before: Ints, shape: Geometry) -> None:
    """Fill ``shape`` for the structures that are not in ``but`` (M,), all distances of each at once."""
    for members, atoms in blocks(data, but):
        positions = data.positions[atoms].astype(np.float64)
        numbers = data.numbers[atoms]
        with np.errstate(invalid="ignore"):
            distance = np.linalg.norm(positions[:, :, None] - positions[:, None, :], axis=-1)
        diagonal = np.arange(atoms.shape[1])
        distance[:, diagonal, diagonal] = np.inf
        shape.min_distance[members] = distance.min(axis=(1, 2))
        row, hydrogen = np.nonzero(numbers == 1)
        radii = covalent_radii[numbers]
        relative = distance[row, hydrogen] / (radii[row, hydrogen][:, None] + radii[row])
        has_heavy = np.any(numbers > 1, axis=1)[row]
        relative[has_heavy[:, None] & (numbers[row] == 1)] = np.inf
        partner = relative.argmin(axis=1)
        here = np.arange(len(row))
        place = hydrogens_before[members][row] + (np.cumsum(numbers == 1, axis=1) - 1)[row, hydrogen]
        shape.partner[place] = atoms[row, partner]
        shape.length[place] = distance[row, hydrogen][here, partner]
        shape.relative_length[place] = relative[here, partner]


def _nearest_images(data: Dataset, member: int) -> tuple[float, tuple[Ints, Floats, Floats, Floats]]:
    """The least distance in one periodic structure; of its hydrogens partner, length, relative length and shift."""
    from vesin import NeighborList

    own = data.to_atoms(member)
    numbers, first = own.numbers, int(data.offset[member])
    hydrogen = np.flatnonzero(numbers == 1)
    partner, shift = hydrogen.copy(), np.zeros((len(hydrogen), 3))
    lattice = own.cell.array[own.pbc]
    if not np.isfinite(own.positions).all() or np.linalg.matrix_rank(np.nan_to_num(lattice)) != own.pbc.sum():
        nothing = np.full(len(hydrogen), np.nan)
        return np.nan, (partner + first, nothing, nothing, shift)
    # A direction that does not repeat needs a vector all the same.
    cell = own.cell.complete().array
    one, two, distance, cells = NeighborList(cutoff=PERIODIC_CUTOFF, full_list=True, sorted=True, n_threads=1).compute(
        points=own.positions, box=cell, periodic=own.pbc, quantities="ijdS"
    )
    least = float(distance.min()) if len(distance) else np.inf
    one, two = one.astype(np.int64), two.astype(np.int64)
    relative = distance / (covalent_radii[numbers[one]] + covalent_radii[numbers[two]])
    if np.any(numbers > 1):
        relative[numbers[two] == 1] = np.inf
    length, relative_length = np.full(len(hydrogen), np.inf), np.full(len(hydrogen), np.inf)
    bonded = np.flatnonzero((numbers[one] == 1) & np.isfinite(relative))
    nearest = bonded[np.lexsort((relative[bonded], one[bonded]))]
    with_partner, at = np.unique(one[nearest], return_index=True)
    chosen, place = nearest[at], np.searchsorted(hydrogen, with_partner)
    partner[place], length[place], relative_length[place] = two[chosen], distance[chosen], relative[chosen]
    shift[place] = -cells[chosen] @ cell
    return least, (partner + first, length, relative_length, shift)


class Bonds(NamedTuple):
    """Pairs of atoms near enough to be bonded: first < second, atoms of the data set, all (B,); length in Å."""

    first: Ints
    second: Ints
    length: Floats


def bonds(data: Dataset) -> Bonds:
    """The pairs within ``BONDED`` times the sum of covalent radii, by their first atom; none of periodic structures."""
    found: list[tuple[Ints, Ints, Floats]] = []
    for _, atoms in blocks(data, data.periodic):
        one, two = np.triu_indices(atoms.shape[1], 1)
        first, second = atoms[:, one].ravel(), atoms[:, two].ravel()
        length = np.linalg.norm(data.positions[first].astype(np.float64) - data.positions[second], axis=1)
        near = length < BONDED * (covalent_radii[data.numbers[first]] + covalent_radii[data.numbers[second]])
        found.append((first[near], second[near], length[near]))
    none = np.empty(0)
    columns = [
        np.concatenate(c) for c in zip((none.astype(np.int64), none.astype(np.int64), none), *found, strict=True)
    ]
    order = np.lexsort((columns[1], columns[0]))
    return Bonds(*(column[order] for column in columns))


def fragments(data: Dataset, bonded: Bonds) -> Ints:
    """(M,) connected parts of each structure."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    size = len(data.numbers)
    graph = coo_array((np.ones(len(bonded.first)), (bonded.first, bonded.second)), shape=(size, size))
    _, part = connected_components(graph, directed=False)
    # No part reaches over two structures, so that each is counted at its first atom.
    _, first = np.unique(part, return_index=True)
    return np.bincount(data.structure_of_atom[first], minlength=len(data))


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
    arm, force = data.positions, data.forces
    total = per_structure(force, data)
    centroid = per_structure(arm, data) / np.maximum(data.sizes, 1)[:, None]
    # One component at a time, so that no array of all atoms in double precision is held three times over.
    about_origin = [
        per_structure(
            arm[:, y].astype(np.float64) * force[:, z] - arm[:, z].astype(np.float64) * force[:, y],
            data,
        )
        for y, z in ((1, 2), (2, 0), (0, 1))
    ]
    torque: Floats = np.linalg.norm(np.column_stack(about_origin) - np.cross(centroid, total), axis=1)
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
    away = (data.positions[hydrogen] - data.positions[partner]).astype(np.float64)
    away = (away if shape.shift is None else away + shape.shift[bond]) / length[:, None]
    element = data.numbers[partner]
    mean = np.bincount(element, weights=length, minlength=1) / np.maximum(np.bincount(element, minlength=1), 1)
    return BondForces(length - mean[element], np.einsum("ij,ij->i", data.forces[hydrogen].astype(np.float64), away))


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

    Of periodic structures those in the parent's own cell, each atom displaced to its nearest image.
    """
    assert data.forces is not None
    assert data.energy is not None
    further = (data.parent != np.arange(len(data))) & (data.sizes == data.sizes[data.parent])
    if data.cell is not None and data.pbc is not None:
        further &= np.all(data.cell == data.cell[data.parent], axis=(1, 2))
        further &= np.all(data.pbc == data.pbc[data.parent], axis=1)
    child = np.flatnonzero(further)
    parent = data.parent[child]
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
    if not len(child):
        none = np.empty(0)
        return SiblingWork(parent, child, none, none, none, none)
    mean_force = 0.5 * (data.forces[one] + data.forces[two]).astype(np.float64)
    change = np.abs(((data.forces[two] - data.forces[one]).astype(np.float64) * displacement).sum(axis=1))
    third_order = np.add.reduceat(change * np.linalg.norm(displacement, axis=1), start[:-1])
    work = -np.add.reduceat((mean_force * displacement).sum(axis=1), start[:-1])
    square = np.add.reduceat((displacement**2).sum(axis=1), start[:-1])
    differ = np.add.reduceat((data.numbers[one] != data.numbers[two]).astype(np.int64), start[:-1])
    same = differ == 0
    rms = np.sqrt(square / sizes)
    difference = data.energy[child] - data.energy[parent]
    return SiblingWork(*(column[same] for column in (parent, child, difference, work, rms, third_order)))


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
