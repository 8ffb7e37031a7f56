"""Split into train, valid and test, by molecule or by scaffold; it depends only on the molecules and the seed.

All geometries of a molecule, its tautomers, stereoisomers and salts get the same split: the key is
:func:`hydrogate.checks.geometry.chemistry.molecule_key`, which contract check ``split_leakage`` also uses.
"""

import hashlib
from collections.abc import Mapping, Sequence

from hydrogate.checks.data.dataset import SPLITS
from hydrogate.checks.geometry.chemistry import molecule_key


def split_key(smiles: str, by: str = "molecule") -> str:
    """Return the group key of ``smiles``; molecules with the same key get the same split.

    Parameters
    ----------
    smiles : str
    by : str
        ``molecule``, or ``scaffold`` for the Bemis-Murcko scaffold of the molecule key; a molecule without rings is its
        own scaffold.

    Raises
    ------
    ValueError
        RDKit cannot read ``smiles``, or ``by`` is unknown.
    """
    key = molecule_key(smiles)
    if by == "molecule":
        return key
    if by != "scaffold":
        raise ValueError(f"unknown split by {by!r}; expected molecule or scaffold")
    from rdkit.Chem.Scaffolds import MurckoScaffold

    return MurckoScaffold.MurckoScaffoldSmiles(smiles=key) or key  # type: ignore[no-untyped-call]


def assign_splits(molecules: Mapping[str, str], shares: Mapping[str, float], seed: int) -> dict[str, str]:
    """Assign each molecule key to train, valid or test.

    Groups are ordered by a hash of seed and key, so the assignment does not depend on the order in the file. Shares
    count molecules. They are met to within one molecule if every group is a single molecule. A group larger than the
    smallest share goes to the split that lacks most molecules.

    Parameters
    ----------
    molecules : mapping of str to str
        Molecule key to the key of its group (itself, or its scaffold).
    shares : mapping of str to float
        Shares of ``train``, ``valid`` and ``test``; they sum to 1.
    seed : int

    Raises
    ------
    ValueError
        The shares are not exactly these three, are negative, or do not sum to 1.
    """
    if set(shares) != set(SPLITS) or abs(sum(shares.values()) - 1) > 1e-6 or min(shares.values()) < 0:
        raise ValueError(f"regenerate.split: the shares of {', '.join(SPLITS)} must sum to 1, got {dict(shares)}")
    groups: dict[str, list[str]] = {}
    for molecule, group in molecules.items():
        groups.setdefault(group, []).append(molecule)
    missing = {split: shares[split] * len(molecules) for split in SPLITS if shares[split] > 0}
    smallest = min(missing.values(), default=0.0)
    assigned: dict[str, str] = {}
    for group in _in_hash_order(groups, seed, smallest):
        size = len(groups[group])
        wanting = [split for split in missing if missing[split] > size / 2]
        most = max(missing, key=missing.__getitem__)
        chosen = most if size > max(smallest, 1.0) or not wanting else wanting[0]
        missing[chosen] -= size
        assigned |= dict.fromkeys(groups[group], chosen)
    return assigned


def _in_hash_order(groups: Mapping[str, Sequence[str]], seed: int, smallest: float) -> list[str]:
    """Return groups too large for the smallest share first, largest first, then the rest ordered by hash."""

    def rank(group: str) -> tuple[int, str]:
        size = len(groups[group])
        return (-size if size > max(smallest, 1.0) else 0, hashlib.sha256(f"{seed} {group}".encode()).hexdigest())

    return sorted(groups, key=rank)
