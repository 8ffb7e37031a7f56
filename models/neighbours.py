"""Neighbour list: directed pairs of atoms within a cutoff."""

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from scipy.spatial import KDTree

# Å. vesin 0.6 ends the process if an atom is this far from the others along a direction that is not periodic.
FARTHEST = 1000.0


def neighbour_pairs(positions: NDArray[np.floating], cutoff: float) -> NDArray[np.int64]:
    """Return all ordered pairs of different atoms of an isolated structure that are at most ``cutoff`` apart.

    The search uses a k-d tree in double precision. Memory and time grow with the number of pairs, however far away an
    atom is, and rounding never makes an atom its own neighbour.

    Parameters
    ----------
    positions : (n, 3), Å
    cutoff : float, Å

    Returns
    -------
    (2, E) int64
        Receivers and senders, sorted by receiver, then sender.

    Raises
    ------
    ValueError
        A position is not finite.
    """
    where = np.asarray(positions, dtype=np.float64).reshape(-1, 3)
    _refuse_not_finite(where)
    if len(where) < 2:
        return np.empty((2, 0), dtype=np.int64)
    pairs = KDTree(where).query_pairs(cutoff, output_type="ndarray").astype(np.int64)
    both = np.concatenate([pairs, pairs[:, ::-1]])
    return np.ascontiguousarray(both[np.lexsort((both[:, 1], both[:, 0]))].T)


def periodic_pairs(atoms: Atoms, cutoff: float) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return all pairs of an atom with an atom or periodic image, including its own images, within ``cutoff``.

    Parameters
    ----------
    atoms : ase.Atoms
        Periodic along at least one vector of its cell.
    cutoff : float, Å

    Returns
    -------
    pairs : (2, E) int64
        Receivers and senders, sorted by receiver, then sender.
    shifts : (E, 3) int64
        Number of cells from the receiver to the sender's image.
    cell : (3, 3), Å
        Cell vectors, as rows; a direction that is not periodic has one too.

    Raises
    ------
    ValueError
        A position or the cell is not finite, the cell does not span the periodic directions, or an atom is too far
        away along a direction that is not periodic.
    """
    from vesin import NeighborList

    where, cell = np.asarray(atoms.positions, dtype=np.float64), atoms.cell.array
    _refuse_not_finite(where)
    if not np.isfinite(cell).all() or np.linalg.matrix_rank(cell[atoms.pbc]) < np.count_nonzero(atoms.pbc):
        raise ValueError(f"periodic along {atoms.pbc.tolist()}, but the cell {cell.tolist()} spans no volume there")
    cell = atoms.cell.complete().array
    # Wrap the atoms into the cell, because an atom may have moved across many cells.
    home = np.where(atoms.pbc, np.floor(where @ np.linalg.inv(cell)), 0.0)
    where = where - home @ cell
    far = np.abs(where - where[0]).max(axis=1) - np.abs(cell[atoms.pbc]).sum()
    if (far > FARTHEST).any():
        raise ValueError(f"atom {int(far.argmax())} is more than {FARTHEST:g} Å away along a non-periodic direction")
    found = NeighborList(cutoff=cutoff, full_list=True, n_threads=1)
    one, two, cells = found.compute(points=where, box=cell, periodic=atoms.pbc, quantities="ijS")
    pairs, home = np.stack([one, two]).astype(np.int64), home.astype(np.int64)
    shifts = cells + home[pairs[0]] - home[pairs[1]]
    order = np.lexsort((*shifts.T, pairs[1], pairs[0]))
    return np.ascontiguousarray(pairs[:, order]), shifts[order], cell


def _refuse_not_finite(positions: NDArray[np.float64]) -> None:
    strange = ~np.isfinite(positions).all(axis=1)
    if strange.any():
        raise ValueError(f"atom {int(strange.argmax())} has a position that is not finite")
