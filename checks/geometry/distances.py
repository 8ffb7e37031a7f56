"""Distances within the structures of a data set: nearest atoms, bonds, fragments. All lengths are in Å.

Large data sets use :mod:`hydrogate.checks.geometry.compiled_passes`. Small ones use the NumPy version, which is also
the reference in the tests of the compiled loops. Pairs across periodic boundaries are found with vesin.
"""

import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from ase.data import covalent_radii
from numpy.typing import NDArray

from hydrogate.checks.data.dataset import Dataset

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
_PAIRS_AT_A_TIME = 2_000_000
# Two atoms count as bonded within this multiple of the sum of their covalent radii. Bonds extend to 1.15, or to 1.25
# if each coordinate is rattled by 0.05 Å. Atoms two bonds apart start at 1.4, or at 1.27 across a five-membered ring
# with sulfur.
BONDED = 1.3
# Å; cutoff of the neighbour list in periodic structures: 1.4 times the sum of the covalent radii of H and Fr is 4.1.
PERIODIC_CUTOFF = 5.0
COMPILED_FROM = 200_000  # atoms


class Geometry(NamedTuple):
    """Result of one pass over all pairs of atoms of each structure.

    Parameters
    ----------
    min_distance : (M,) Å
        Least distance between two atoms, or between an atom and a periodic image. Infinity for a single atom and, in a
        periodic structure, beyond ``PERIODIC_CUTOFF``. NaN if a position is not finite or a cell has no volume.
    hydrogen : (B,) int
        Index of each hydrogen in the data set.
    partner : (B,) int
        Nearest atom, by distance divided by the sum of covalent radii; a heavy atom if the structure has one.
    length : (B,) Å
        Distance from the hydrogen to its partner.
    relative_length : (B,)
        ``length`` divided by the sum of the covalent radii (ASE's); infinity for a lone hydrogen.
    shift : (B, 3) Å, optional
        Lattice vector to add to the vector from the partner to the hydrogen; None if no structure is periodic.
    """

    min_distance: Floats
    hydrogen: Ints
    partner: Ints
    length: Floats
    relative_length: Floats
    shift: Floats | None = None


def blocks(data: Dataset, but: NDArray[np.bool_] | None = None) -> Iterator[tuple[Ints, Ints]]:
    """Yield blocks of structures of equal size: structure indices (m,) and atom indices (m, n).

    Each block has at most a few million pairs. ``but`` (M,) is a mask of structures to skip.
    """
    sizes = data.sizes if but is None else np.where(but, 0, data.sizes)
    for size in np.unique(sizes[sizes > 0]).tolist():
        members = np.flatnonzero(sizes == size)
        step = max(1, _PAIRS_AT_A_TIME // (size * size))
        for start in range(0, len(members), step):
            chosen = members[start : start + step]
            yield chosen, data.offset[chosen][:, None] + np.arange(size)


def geometry(data: Dataset) -> Geometry:
    """Compute the geometry of every structure in one pass over its pairs of atoms, with periodic images."""
    hydrogen = np.flatnonzero(data.numbers == 1)
    hydrogens_before = np.searchsorted(hydrogen, data.offset)
    nowhere = np.full(len(hydrogen), np.inf)
    shape = Geometry(np.full(len(data), np.inf), hydrogen, hydrogen.copy(), nowhere, nowhere.copy())
    periodic = data.periodic
    done = periodic.copy()
    if is_large(data):
        from hydrogate.checks.geometry.compiled_passes import nearest

        atoms = read_only(data.numbers, data.positions, data.offset)
        nearest(
            *atoms,
            covalent_radii,
            hydrogens_before,
            done,
            shape.min_distance,
            shape.partner,
            shape.length,
            shape.relative_length,
        )
        # Structures that the compiled loop skipped, although they are not periodic.
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


def is_large(data: Dataset) -> bool:
    """Return True if compiled loops pay off: they load in a second and compile in seconds on first use."""
    return len(data.numbers) >= COMPILED_FROM and int(data.numbers.max()) < len(covalent_radii)


def read_only(*arrays: NDArray[Any]) -> list[NDArray[Any]]:
    """Return contiguous read-only views: a loop is compiled once for each kind of array that it receives."""
    views = [np.ascontiguousarray(array).view() for array in arrays]
    for view in views:
        view.flags.writeable = False
    return views


def _nearest_by_formula(data: Dataset, but: NDArray[np.bool_], hydrogens_before: Ints, shape: Geometry) -> None:
    """Fill ``shape`` for the structures not in ``but`` (M,), computing all distances of a structure at once."""
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
    """Return the least distance in one periodic structure, and (partner, length, relative length, shift) of its H."""
    own = data.to_atoms(member)
    numbers, first = own.numbers, int(data.offset[member])
    hydrogen = np.flatnonzero(numbers == 1)
    partner, shift = hydrogen.copy(), np.zeros((len(hydrogen), 3))
    lattice = own.cell.array[own.pbc]
    if not np.isfinite(own.positions).all() or np.linalg.matrix_rank(np.nan_to_num(lattice)) != own.pbc.sum():
        nothing = np.full(len(hydrogen), np.nan)
        return np.nan, (partner + first, nothing, nothing, shift)
    # Directions that are not periodic need a cell vector as well.
    cell = own.cell.complete().array
    one, two, distance, cells = _neighbor_list()(
        cutoff=PERIODIC_CUTOFF, full_list=True, sorted=True, n_threads=1
    ).compute(points=_drawn_together(own.positions, cell, own.pbc), box=cell, periodic=own.pbc, quantities="ijdS")
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


def _drawn_together(positions: Floats, cell: Floats, pbc: NDArray[np.bool_]) -> Floats:
    """Return positions with empty layers wider than the cutoff removed along non-periodic directions.

    In vesin 0.6 an atom far outside crashes the process, because it counts the cells in between.
    """
    inverse = np.linalg.inv(cell)
    fractional = positions @ inverse
    for axis in np.flatnonzero(~pbc):
        order = np.argsort(fractional[:, axis])
        reach = 1.01 * PERIODIC_CUTOFF * np.linalg.norm(inverse[:, axis])
        empty = np.maximum(np.diff(fractional[order, axis]) - reach, 0.0)
        removed = np.concatenate([[0.0], np.cumsum(empty)])
        fractional[order, axis] -= removed - removed[len(removed) // 2]
    return fractional @ cell


def _neighbor_list() -> Any:
    """Import NeighborList of vesin without torch, which takes seconds to load and is needed only for tensors."""
    without_torch = "torch" not in sys.modules
    if without_torch:
        sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        from vesin import NeighborList
    finally:
        if without_torch:
            sys.modules.pop("torch", None)
    return NeighborList


class Bonds(NamedTuple):
    """Pairs of atoms close enough to be bonded: atom indices first < second, and length in Å, all (B,)."""

    first: Ints
    second: Ints
    length: Floats


def bonds(data: Dataset) -> Bonds:
    """Find pairs within ``BONDED`` times the sum of covalent radii, sorted; none in periodic structures."""
    if is_large(data):
        from hydrogate.checks.geometry.compiled_passes import bonded

        return Bonds(
            *bonded(*read_only(data.numbers, data.positions, data.offset), covalent_radii, BONDED, data.periodic)
        )
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
    """Return the number of connected components of each structure, (M,)."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    size = len(data.numbers)
    graph = coo_array((np.ones(len(bonded.first)), (bonded.first, bonded.second)), shape=(size, size))
    _, part = connected_components(graph, directed=False)
    # No component spans two structures, so each is counted at its first atom.
    _, first = np.unique(part, return_index=True)
    return np.bincount(data.structure_of_atom[first], minlength=len(data))
