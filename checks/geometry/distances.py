"""Distances within the structures of a data set: nearest atoms, bonds, fragments. Å throughout.

A large data set goes through :mod:`hydrogate.checks.geometry.compiled_passes`, a small one through the formula that the
compiled passes are tested against. vesin finds the pairs across the faces of a cell.
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


def is_large(data: Dataset) -> bool:
    """Whether compiled passes pay: they take a second to be loaded, and seconds to be compiled the first time."""
    return len(data.numbers) >= COMPILED_FROM and int(data.numbers.max()) < len(covalent_radii)


def read_only(*arrays: NDArray[Any]) -> list[NDArray[Any]]:
    """Views of one kind, whatever the arrays are: a pass is compiled for each kind that it meets."""
    views = [np.ascontiguousarray(array).view() for array in arrays]
    for view in views:
        view.flags.writeable = False
    return views


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
    """The atoms without the empty layers, across what does not repeat, that no pair reaches over.

    A lost atom far outside ends the process inside vesin 0.6, which counts the cells between.
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
    """vesin's class, imported without torch, which it would load, in seconds, for tensors that it does not get here."""
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
    """Pairs of atoms near enough to be bonded: first < second, atoms of the data set, all (B,); length in Å."""

    first: Ints
    second: Ints
    length: Floats


def bonds(data: Dataset) -> Bonds:
    """The pairs within ``BONDED`` times the sum of covalent radii, by their first atom; none of periodic structures."""
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
    """(M,) connected parts of each structure."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    size = len(data.numbers)
    graph = coo_array((np.ones(len(bonded.first)), (bonded.first, bonded.second)), shape=(size, size))
    _, part = connected_components(graph, directed=False)
    # No part reaches over two structures, so that each is counted at its first atom.
    _, first = np.unique(part, return_index=True)
    return np.bincount(data.structure_of_atom[first], minlength=len(data))
