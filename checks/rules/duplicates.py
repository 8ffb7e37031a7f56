"""Check ``duplicates`` of contract ``structures``: the same geometry twice, in any orientation and atom order.

Only structures of equal composition, charge, spin and cell are compared. The sorted interatomic distances of a geometry
depend neither on its position and orientation nor on the atom order. The RMS difference between the sorted distances of
two geometries is at most twice their RMSD, and so is the difference between the means over a few quantile blocks. A k-d
tree over these means therefore misses no pair, and only the few nearest neighbours are aligned. The means and a key, 56
bytes per structure, are collected from all parts; the geometries of the neighbours are loaded a few thousand at a time.
"""

from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree
from scipy.spatial.distance import pdist, squareform

from hydrogate.checks.engine.bounds import Bounds
from hydrogate.checks.engine.hashing import Keys, scattered
from hydrogate.checks.engine.partition import Ints, Part, Picked, picked
from hydrogate.checks.engine.registry import Rounds, Subject, ask, rule, tallied
from hydrogate.checks.engine.row_counts import EXAMPLES, Rows, Tally
from hydrogate.checks.geometry.observables import blocks

Floats = NDArray[np.float64]
BLOCKS = 12
NEIGHBOURS = 4
ROUNDING = 1e-4  # Å
PAIRS_AT_A_TIME = 5_000


@rule(
    "structures",
    unit="Å",
    remedy="Keep one copy: a repeated label has double weight in training and can leak between splits.",
)
def duplicates(subject: Subject, bounds: Bounds) -> Rounds:
    """RMSD of each structure, after alignment, to the nearest other geometry of the same molecule."""
    keys, fingerprints = yield from ask(_fingerprints)
    pairs = _suspects(keys, fingerprints, bounds.limits[""].min or 0.0)
    nearest = np.full(len(keys), np.inf)
    twin = np.arange(len(keys))
    for start in range(0, len(pairs), PAIRS_AT_A_TIME):
        near = pairs[start : start + PAIRS_AT_A_TIME]
        structures: list[Picked] = yield from ask(partial(picked, rows=np.unique(near)))
        by_row = {one.row: one for one in structures}
        for one, two in near.tolist():
            rmsd = _rmsd(by_row[one], by_row[two])
            for here, other in ((one, two), (two, one)):
                if rmsd < nearest[here]:
                    nearest[here], twin[here] = rmsd, other
    # Only the worst few are reported with the formula of the duplicate, which may be in another part.
    shown = twin[np.argsort(nearest, kind="stable")[:EXAMPLES]]
    names = (
        {one.row: one.name for one in (yield from ask(partial(picked, rows=np.unique(shown))))} if len(pairs) else {}
    )
    tally: Tally = yield from ask(tallied(partial(_rows, nearest=nearest, twin=twin, names=names)))
    return tally


def _rows(part: Part, nearest: Floats, twin: Ints, names: dict[int, str]) -> Rows:
    own = slice(part.rows.start, part.rows.stop)
    values, others = nearest[own], twin[own].tolist()

    def describe(row: int) -> str:
        other = names.get(others[row], f"structure {others[row]}")
        return f"{part.name(row)} and {other} are the same geometry, RMSD {values[row]:.2g} Å"

    return Rows(values, describe)


def _fingerprints(part: Part) -> tuple[Keys, NDArray[np.float32]]:
    """Return (M,) keys of composition, charge, spin and cell, and (M, BLOCKS) fingerprints of the geometries."""
    data = part.data
    keys = scattered(data.charge.astype(np.int64) * 1000 + data.spin_multiplicity)
    if data.cell is not None:
        for column in data.cell.reshape(len(data), 9).T:
            keys = scattered(keys ^ scattered(np.ascontiguousarray(column).view(np.uint64)))
    np.add.at(keys, data.structure_of_atom, scattered(np.arange(256), seed=1)[data.numbers])
    fingerprints = np.full((len(data), BLOCKS), np.nan, dtype=np.float32)
    for members, atoms in blocks(data):
        fingerprints[members] = _means(data.positions[atoms].astype(np.float64))
    return keys, fingerprints


def _suspects(keys: Keys, fingerprints: NDArray[np.float32], reach: float) -> Ints:
    """Return (P, 2) pairs of structures, first < second, that may be within ``reach`` (Å); a few per structure."""
    # Positions are stored in float32, so a rotated copy differs by rounding.
    radius = 2.0 * reach + ROUNDING
    order = np.argsort(keys, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(keys[order])) + 1)
    found = [np.empty((0, 2), dtype=np.int64)]
    for group in groups:
        rows = group[np.isfinite(fingerprints[group]).all(axis=1)]
        if len(rows) < 2:
            continue
        tree = cKDTree(fingerprints[rows])
        _, near = tree.query(tree.data, k=min(NEIGHBOURS, len(rows)), distance_upper_bound=radius)
        here, column = np.nonzero(near < len(rows))
        ends = np.sort(np.column_stack([rows[here], rows[near[here, column]]]), axis=1)
        found.append(ends[ends[:, 0] != ends[:, 1]])
    return np.unique(np.concatenate(found), axis=0)


def _means(positions: Floats) -> Floats:
    """Return (m, BLOCKS) block means of geometries (m, n, 3).

    The distance between two rows is at most the RMS difference of the sorted interatomic distances.
    """
    one, two = np.triu_indices(positions.shape[1], 1)
    distances = np.sort(np.linalg.norm(positions[:, one] - positions[:, two], axis=-1), axis=1)
    parts = np.array_split(distances, BLOCKS, axis=1)
    weights = np.sqrt([part.shape[1] / max(len(one), 1) for part in parts])
    means = [part.mean(axis=1) if part.shape[1] else np.zeros(len(positions)) for part in parts]
    return np.column_stack(means) * weights


def _rmsd(first: Picked, second: Picked) -> float:
    """Return the RMSD (Å) after the optimal rotation, the smaller of those in the given and the matched atom order."""
    one, two = first.atoms.positions, second.atoms.positions
    numbers, other_numbers = first.atoms.numbers, second.atoms.numbers
    as_given = _aligned(one, two) if np.array_equal(numbers, other_numbers) else np.inf
    if as_given < ROUNDING:
        return as_given
    return min(as_given, _aligned(one, two[_matching(one, two, numbers, other_numbers)]))


def _aligned(one: Floats, two: Floats) -> float:
    one, two = one - one.mean(axis=0), two - two.mean(axis=0)
    left, values, right = np.linalg.svd(one.T @ two)
    # A mirror image has the same distances but is a different geometry.
    values[-1] *= np.sign(np.linalg.det(left) * np.linalg.det(right))
    square = (one**2).sum() + (two**2).sum() - 2.0 * values.sum()
    return float(np.sqrt(max(square, 0.0) / len(one)))


def _matching(one: Floats, two: Floats, numbers: NDArray[np.uint8], others: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the atom of ``two`` that matches each atom of ``one``, by each atom's sorted distances to all others."""
    views = [np.sort(squareform(pdist(positions)), axis=1) for positions in (one, two)]
    cost = np.abs(views[0][:, None] - views[1][None]).sum(axis=2)
    cost[numbers[:, None] != others[None]] = 1e6
    _, match = linear_sum_assignment(cost)
    return np.asarray(match, dtype=np.int64)
