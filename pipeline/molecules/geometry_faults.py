"""Faults of a record that its coordinates show: contradicted bond orders, flat drawings, coincident atoms.

All lengths in Å. Single bonds: below these lengths no neutral single bond lies in the 1,000 molecules of the sample
(geometries at about 300 K), and every double bond does on average.
Source: Allen et al., J. Chem. Soc. Perkin Trans. 2, S1 (1987): C=O 1.22, C=N 1.28, N=O 1.22, N=N 1.24, P=O 1.48,
S=O 1.44; C-O 1.43, C-N 1.47, N-O 1.41, N-N 1.42, P-O 1.60, S-O 1.58.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import pdist, squareform

if TYPE_CHECKING:
    from rdkit import Chem

# Of a single bond between neutral atoms: where nothing shortens it, and where it is conjugated.
SHORTEST_SINGLE = {
    frozenset("C"): (1.37, 1.29),
    frozenset("CN"): (1.33, 1.22),
    frozenset("CO"): (1.30, 1.24),
    frozenset("N"): (1.28, 1.22),
    frozenset("NO"): (1.30, 1.26),
    frozenset("OS"): (1.52, 1.50),
    frozenset("OP"): (1.53, 1.50),
    frozenset("CS"): (1.61, 1.58),
    frozenset("PS"): (2.00, 1.97),
}
CLOSEST = 0.4  # no two atoms are nearer: H-H is 0.74
PLANE = 0.05  # atoms of a drawing lie as near to its plane
# A drawing gives every bond one length and sp3 angles of 120 degrees; a geometry has 109 to 116.
MOST_DEVIATION = 0.06  # relative, RMS over the bonds, of the force field's lengths
MOST_ANGLE = 118.0  # degree, mean over sp3 atoms with two neighbours


def too_close(mol: "Chem.Mol") -> str:
    """Name two atoms that lie at one place; empty where there are none."""
    positions = mol.GetConformer().GetPositions()
    if len(positions) < 2:
        return ""
    distances = squareform(pdist(positions))
    np.fill_diagonal(distances, np.inf)
    one, two = np.unravel_index(distances.argmin(), distances.shape)
    nearest = float(distances[one, two])
    return f"{_name(mol, int(one))} and {_name(mol, int(two))} are {nearest:.2g} Å apart" if nearest < CLOSEST else ""


def order_contradicted(mol: "Chem.Mol") -> str:
    """Name a bond that is written single and is as short as a double or triple one; empty where there is none.

    Parameters
    ----------
    mol : rdkit.Chem.Mol
        Sanitized, with a conformer.
    """
    from rdkit import Chem

    positions = mol.GetConformer().GetPositions()
    for bond in mol.GetBonds():
        ends = bond.GetBeginAtom(), bond.GetEndAtom()
        limits = SHORTEST_SINGLE.get(frozenset(atom.GetSymbol() for atom in ends))
        charged = any(atom.GetFormalCharge() for atom in ends)
        if limits is None or charged or bond.GetBondType() != Chem.BondType.SINGLE:
            continue
        one, two = (atom.GetIdx() for atom in ends)
        length = float(np.linalg.norm(positions[one] - positions[two]))
        shortest = limits[bond.GetIsConjugated()]
        if length < shortest:
            names = f"{_name(mol, one)} and {_name(mol, two)}"
            return f"the bond of {names} is written single and is {length:.3f} Å long; allowed >= {shortest} Å"
    return ""


def unlike_a_geometry(mol: "Chem.Mol") -> str:
    """Explain why a flat record is a drawing, by its bond lengths; empty if it is not flat or may be a geometry.

    A flat molecule (benzene) passes: its bonds have the lengths of a geometry. The plane may lie anywhere, and one
    atom outside of it does not make a drawing a geometry.
    """
    positions = mol.GetConformer().GetPositions()
    if not _is_flat(positions):
        return ""
    deviation = _bond_deviation(mol, positions)
    if deviation <= MOST_DEVIATION:
        return ""
    return f"a 2-D drawing: all atoms lie in a plane, and bond lengths are {100 * deviation:.0f} % off"


def flat_sp3(mol: "Chem.Mol") -> str:
    """Explain why a flat record is a drawing, by its sp3 atoms; empty if it is not flat or may be a geometry."""
    positions = mol.GetConformer().GetPositions()
    if not _is_flat(positions):
        return ""
    in_plane = _in_plane(positions)
    for atom in mol.GetAtoms():
        around = [atom.GetIdx(), *(other.GetIdx() for other in atom.GetNeighbors())]
        enough = 3 if atom.GetAtomicNum() == 6 else 4
        if atom.GetHybridization().name == "SP3" and atom.GetDegree() >= enough and in_plane[around].all():
            return f"a 2-D drawing: {_name(mol, atom.GetIdx())} is tetrahedral and lies in a plane with its neighbours"
    angles = _sp3_angles(mol, positions)
    if angles and float(np.mean(angles)) > MOST_ANGLE:
        return f"a 2-D drawing: all atoms lie in a plane, and angles of sp3 atoms are {np.mean(angles):.0f} degrees"
    return ""


def _is_flat(positions: NDArray[np.float64]) -> bool:
    return len(positions) >= 4 and int(_in_plane(positions).sum()) >= max(4, len(positions) - 1)


def _in_plane(positions: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(n,) atoms within ``PLANE`` of the plane through all of them, or through all but the farthest."""
    kept = np.arange(len(positions))
    distance = _from_plane(positions, kept)
    if distance.max() > PLANE:
        # The plane that leaves one atom out: each of the four farthest is tried.
        trials = [np.delete(kept, worst) for worst in np.argsort(distance)[-4:]]
        distance = min((_from_plane(positions, trial) for trial in trials), key=lambda found: np.sort(found)[-2])
    return distance <= PLANE


def _from_plane(positions: NDArray[np.float64], rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """(n,) distance of each atom from the plane that fits ``rows`` best."""
    middle = positions[rows].mean(axis=0)
    normal = np.linalg.svd(positions[rows] - middle)[2][-1]
    return np.asarray(np.abs((positions - middle) @ normal), dtype=np.float64)


def _sp3_angles(mol: "Chem.Mol", positions: NDArray[np.float64]) -> list[float]:
    """Angles (degree) at sp3 carbons with two neighbours outside of rings."""
    found = []
    for atom in mol.GetAtoms():
        if (
            atom.GetAtomicNum() == 6
            and atom.GetHybridization().name == "SP3"
            and atom.GetDegree() == 2
            and not atom.IsInRing()
        ):
            arms = positions[[other.GetIdx() for other in atom.GetNeighbors()]] - positions[atom.GetIdx()]
            cosine = arms[0] @ arms[1] / np.prod(np.linalg.norm(arms, axis=1))
            found.append(float(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0)))))
    return found


def _bond_deviation(mol: "Chem.Mol", positions: NDArray[np.float64]) -> float:
    """RMS relative deviation of the bonds from UFF's lengths; 0 where UFF knows none."""
    from rdkit.Chem import rdForceFieldHelpers

    found = []
    for bond in mol.GetBonds():
        one, two = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        if known := rdForceFieldHelpers.GetUFFBondStretchParams(mol, one, two):
            found.append(float(np.linalg.norm(positions[one] - positions[two])) / known[1] - 1.0)
    return float(np.sqrt(np.mean(np.square(found)))) if found else 0.0


def _name(mol: "Chem.Mol", atom: int) -> str:
    return f"atom {atom} ({mol.GetAtomWithIdx(atom).GetSymbol()})"
