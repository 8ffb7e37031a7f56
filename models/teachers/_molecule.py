"""Check that a geometry is a molecule: most teachers would return a number for any other geometry."""

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.neighborlist import neighbor_list
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import pdist

# Fraction of the sum of two covalent radii. In 4,000 rattled drug-like geometries, the nearest pair is at 0.66 to 0.99
# of it; if Å are read as bohr, at 0.35 to 0.52. GFN2-xTB gives an energy for both.
COLLAPSED = 0.5
# Å. Gap between one part of an isolated structure and the rest that neither a molecule nor a cluster has.
TORN = 100.0


def refuse_no_molecule(atoms: Atoms) -> None:
    """Raise an error if the geometry is not a molecule.

    Raises
    ------
    ValueError
        A position is not finite, two atoms have collapsed, or parts are too far apart to be one structure.
    """
    if not np.isfinite(atoms.positions).all():
        raise ValueError("a position is not finite; the structure cannot be labelled")
    radii = covalent_radii[atoms.numbers]
    if atoms.pbc.any():
        first, second, distances = neighbor_list(  # type: ignore[no-untyped-call]  # ASE has no types here
            "ijd", atoms, COLLAPSED * radii
        )
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
            f"{COLLAPSED} is required; check the unit of the positions (Å)"
        )
    if not atoms.pbc.any() and (gap := linkage(distances, "single")[-1, 2]) > TORN:
        raise ValueError(
            f"torn: a part of the structure is {gap:.4g} Å from the rest, at most {TORN:g} Å is allowed "
            "in one structure; check the unit of the positions (Å)"
        )
