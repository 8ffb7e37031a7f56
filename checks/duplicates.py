"""Check ``duplicates`` of contract ``structures``: one geometry of one molecule twice, whatever its order or place.

Structures of one composition, charge, spin and cell are compared. A geometry's interatomic distances, sorted, depend
neither on its place nor on the order of its atoms, and their RMS difference is at most twice the RMSD; their means over
a few quantile blocks differ by no more. So a tree over those means loses no pair, and only its few neighbours are
aligned.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree
from scipy.spatial.distance import pdist, squareform

from hydrogate.checks.bounds import Bounds
from hydrogate.checks.dataset import Dataset
from hydrogate.checks.observables import blocks
from hydrogate.checks.rules import Rows, Subject, rule

Floats = NDArray[np.float64]
BLOCKS = 12
NEIGHBOURS = 4
ROUNDING = 1e-4  # Å


@rule(
    "structures", unit="Å", remedy="Drop all but one: the same label twice weighs double, and across a split it leaks."
)
def duplicates(subject: Subject, bounds: Bounds) -> Rows:
    """RMSD of each structure, aligned, to the nearest other geometry of its molecule."""
    data = subject.data
    nearest = np.full(len(data), np.inf)
    twin = np.arange(len(data))
    for one, two in _suspects(data, bounds.limits[""].min or 0.0):
        rmsd = _rmsd(data, one, two)
        for here, other in ((one, two), (two, one)):
            if rmsd < nearest[here]:
                nearest[here], twin[here] = rmsd, other

    def describe(row: int) -> str:
        return f"{data.name(row)} and {data.name(int(twin[row]))} are one geometry, RMSD {nearest[row]:.2g} Å"

    return Rows(nearest, describe)


def _suspects(data: Dataset, reach: float) -> set[tuple[int, int]]:
    """Pairs of structures, first < second, that may lie within ``reach`` (Å): at most a few a structure."""
    fingerprints = np.full((len(data), BLOCKS), np.nan)
    groups: dict[bytes, list[int]] = {}
    for members, atoms in blocks(data):
        numbers = np.sort(data.numbers[atoms], axis=1)
        states = np.column_stack([data.charge[members], data.spin_multiplicity[members], numbers]).astype(np.int32)
        for row, state in zip(members.tolist(), states, strict=True):
            cell = b"" if data.cell is None else data.cell[row].tobytes()
            groups.setdefault(state.tobytes() + cell, []).append(row)
        fingerprints[members] = _fingerprints(data.positions[atoms].astype(np.float64))
    # Positions are stored in float32: a turned copy differs by the rounding.
    radius = 2.0 * reach + ROUNDING
    pairs: set[tuple[int, int]] = set()
    for group in groups.values():
        rows = np.array([row for row in group if np.isfinite(fingerprints[row]).all()])
        if len(rows) < 2:
            continue
        tree = cKDTree(fingerprints[rows])
        _, near = tree.query(tree.data, k=min(NEIGHBOURS, len(rows)), distance_upper_bound=radius)
        here, column = np.nonzero(near < len(rows))
        ends = np.sort(np.column_stack([rows[here], rows[near[here, column]]]), axis=1)
        pairs |= {(one, two) for one, two in ends.tolist() if one != two}
    return pairs


def _fingerprints(positions: Floats) -> Floats:
    """(m, BLOCKS) of geometries (m, n, 3), at most as far apart as their sorted distances are by RMS."""
    one, two = np.triu_indices(positions.shape[1], 1)
    distances = np.sort(np.linalg.norm(positions[:, one] - positions[:, two], axis=-1), axis=1)
    parts = np.array_split(distances, BLOCKS, axis=1)
    weights = np.sqrt([part.shape[1] / max(len(one), 1) for part in parts])
    means = [part.mean(axis=1) if part.shape[1] else np.zeros(len(positions)) for part in parts]
    return np.column_stack(means) * weights


def _rmsd(data: Dataset, first: int, second: int) -> float:
    """RMSD (Å) after the best turn, the better of the atoms' order as given and as matched."""
    own, others = data.atoms_of(first), data.atoms_of(second)
    one, two = data.positions[own].astype(np.float64), data.positions[others].astype(np.float64)
    numbers, other_numbers = data.numbers[own], data.numbers[others]
    as_given = _aligned(one, two) if np.array_equal(numbers, other_numbers) else np.inf
    if as_given < ROUNDING:
        return as_given
    return min(as_given, _aligned(one, two[_matching(one, two, numbers, other_numbers)]))


def _aligned(one: Floats, two: Floats) -> float:
    one, two = one - one.mean(axis=0), two - two.mean(axis=0)
    left, values, right = np.linalg.svd(one.T @ two)
    # A mirror image has the same distances and is another geometry.
    values[-1] *= np.sign(np.linalg.det(left) * np.linalg.det(right))
    square = (one**2).sum() + (two**2).sum() - 2.0 * values.sum()
    return float(np.sqrt(max(square, 0.0) / len(one)))


def _matching(one: Floats, two: Floats, numbers: NDArray[np.uint8], others: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Which atom of ``two`` is which of ``one``, by each atom's sorted distances to all."""
    views = [np.sort(squareform(pdist(positions)), axis=1) for positions in (one, two)]
    cost = np.abs(views[0][:, None] - views[1][None]).sum(axis=2)
    cost[numbers[:, None] != others[None]] = 1e6
    _, match = linear_sum_assignment(cost)
    return np.asarray(match, dtype=np.int64)
