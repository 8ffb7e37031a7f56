"""What no teacher is asked about: most of them would return a number for it."""

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.neighborlist import neighbor_list
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import pdist

# Of the sum of two covalent radii. In 4,000 rattled drug-like geometries the nearest pair has 0.66 to 0.99 of it; where
# Å were taken for bohr, 0.35 to 0.52. GFN2-xTB gives an energy for either.
COLLAPSED = 0.5
# Å between one part of an isolated structure and all else: no molecule, and beyond what is a cluster.
TORN = 100.0


def refuse_no_molecule(atoms: Atoms) -> None:
    """Refuse a geometry that is none.

    Raises
    ------
    ValueError
        A position is not finite, two atoms have collapsed, or parts are too far apart to be one structure.
    """
    if not np.isfinite(atoms.positions).all():
        raise ValueError("a position is not finite; no label for it")
    radii = covalent_radii[atoms.numbers]
    if atoms.pbc.any():
        first, second, distances = neighbor_list("ijd", atoms, COLLAPSED * radii)
    else:
        first, second = np.triu_indices(len(atoms), 1)
        distances = pdist(atoms.positions)
    if not len(distances):
        return
    relative = distances / (radii[first] + radii[second])
    nearest = int(relative.argmin())
    if relative[nearest] < COLLAPSED:
        pair = atoms.symbols[[first[nearest], second[nearest]]]
        raise ValueError(
            f"collapsed: {pair[0]} and {pair[1]} (atoms {first[nearest]} and {second[nearest]}) are "
            f"{distances[nearest]:.3g} Å apart, {relative[nearest]:.2f} of the sum of their covalent radii, at least "
            f"{COLLAPSED} is needed; check the unit of the positions (Å)"
        )
    if not atoms.pbc.any() and (gap := linkage(distances, "single")[-1, 2]) > TORN:
        raise ValueError(
            f"torn: a part of the structure is {gap:.4g} Å from all else, at most {TORN:g} Å is taken "
            "for one structure; check the unit of the positions (Å)"
        )
