"""Which molecules train, which validate, which test: by molecule or by scaffold, from the seed alone.

All geometries of a molecule, its tautomers, stereoisomers and salts stay on one side: the key is
:func:`hydrogate.checks.geometry.chemistry.molecule_key`, the same that contract check ``split_leakage`` uses.
"""

import hashlib
from collections.abc import Mapping, Sequence

from hydrogate.checks.data.dataset import SPLITS
from hydrogate.checks.geometry.chemistry import molecule_key


def split_key(smiles: str, by: str = "molecule") -> str:
    """What has to stay together with ``smiles``.

    Parameters
    ----------
    smiles : str
    by : str
        ``molecule``, or ``scaffold`` for the Bemis-Murcko scaffold of the molecule's key; a molecule without rings is
        its own scaffold.

    Raises
    ------
    ValueError
        RDKit cannot read ``smiles``, or ``by`` is unknown.
    """
    key = molecule_key(smiles)
    if by == "molecule":
        return key
    if by != "scaffold":
        raise ValueError(f"split by {by!r} is unknown; known: molecule, scaffold")
    from rdkit.Chem.Scaffolds import MurckoScaffold

    return MurckoScaffold.MurckoScaffoldSmiles(smiles=key) or key  # type: ignore[no-untyped-call]


def assign_splits(molecules: Mapping[str, str], shares: Mapping[str, float], seed: int) -> dict[str, str]:
    """Molecule key to train, valid or test.

    Groups come in the order of a hash of seed and key, so that a molecule's place does not depend on where it stands
    in the file. Shares count molecules and come out within one molecule of what is asked, where no group is larger than
    one; a group that is larger than a share goes where most is missing.

    Parameters
    ----------
    molecules : mapping of str to str
        Molecule key to the key of its group (itself, or its scaffold).
    shares : mapping of str to float
        Of ``train``, ``valid`` and ``test``; they sum to 1.
    seed : int

    Raises
    ------
    ValueError
        The shares are not those three or do not sum to 1.
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
    """Groups too large for the smallest share first, largest first; the rest by their hash."""

    def rank(group: str) -> tuple[int, str]:
        size = len(groups[group])
        return (-size if size > max(smallest, 1.0) else 0, hashlib.sha256(f"{seed} {group}".encode()).hexdigest())

    return sorted(groups, key=rank)
