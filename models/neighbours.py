"""Who is near whom: directed pairs of atoms within a cutoff."""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree


def neighbour_pairs(positions: NDArray[np.floating], cutoff: float) -> NDArray[np.int64]:
    """Each ordered pair of different atoms of an isolated structure that are at most ``cutoff`` apart.

    A tree in double precision: memory and time grow with the pairs that exist, and rounding makes no atom its own
    neighbour.

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
    if not np.isfinite(where).all():
        raise ValueError(f"atom {int(np.argwhere(~np.isfinite(where))[0, 0])} has a position that is not finite")
    if len(where) < 2:
        return np.empty((2, 0), dtype=np.int64)
    pairs = KDTree(where).query_pairs(cutoff, output_type="ndarray").astype(np.int64)
    both = np.concatenate([pairs, pairs[:, ::-1]])
    return np.ascontiguousarray(both[np.lexsort((both[:, 1], both[:, 0]))].T)
