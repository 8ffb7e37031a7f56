"""Chemistry with RDKit, used by the checks only here: properties of a SMILES, and bond perception from positions."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

if TYPE_CHECKING:
    from rdkit import Chem
    from rdkit.DataStructs import ExplicitBitVect

# Among 305 known drugs, quercetin takes longest (0.1 s). Beyond this limit a key may miss a tautomer.
MAX_TAUTOMERS = 1000
# Bond orders of a molecule with 60 heavy atoms take a few hundred assignments; broken structures would never finish.
MAX_ASSIGNMENTS = 20_000
# Characters of one SMILES, about 5,000 atoms. Canonical ordering in RDKit scales with the square: here one second.
MOST_LETTERS = 10_000


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress RDKit warnings: they quote untrusted text and add nothing to the result."""
    from rdkit import rdBase

    block = rdBase.BlockLogs()
    try:
        yield
    finally:
        del block


def expected_hydrogens_of_smiles(smiles: str) -> int:
    """Count the hydrogens implied by the valences of ``smiles``, including explicit ones.

    Raises
    ------
    ValueError
        RDKit cannot read the SMILES, it is empty, or a bond has no order.
    """
    with _quiet():
        mol = _molecule(smiles)
    if reason := bond_without_order(mol):
        raise ValueError(f"SMILES {smiles!r}: {reason}")
    explicit = sum(atom.GetAtomicNum() == 1 for atom in mol.GetAtoms())
    return explicit + sum(int(atom.GetTotalNumHs()) for atom in mol.GetAtoms())


def bond_without_order(mol: "Chem.Mol") -> str:
    """Describe the first bond of sanitized ``mol`` that leaves the number of hydrogens undefined; empty if none does.

    Such bonds are query bonds (any bond, single or double), bonds of unspecified order, and aromatic bonds outside a
    ring. RDKit counts them as no bond or as one and a half.
    """
    from rdkit import Chem

    for bond in mol.GetBonds():
        kind = bond.GetBondType()
        if bond.HasQuery() or kind == Chem.BondType.UNSPECIFIED:
            what = "no order"
        elif kind == Chem.BondType.AROMATIC and not bond.IsInRing():
            what = "an aromatic order outside a ring"
        else:
            continue
        return f"the bond of atoms {bond.GetBeginAtomIdx()} and {bond.GetEndAtomIdx()} has {what}"
    return ""


def _molecule(smiles: str) -> "Chem.Mol":
    from rdkit import Chem

    if len(smiles) > MOST_LETTERS:
        raise ValueError(f"SMILES of {len(smiles)} characters; the limit is {MOST_LETTERS}")
    mol = Chem.MolFromSmiles(smiles)
    if mol is None or not mol.GetNumAtoms():
        raise ValueError(f"SMILES {smiles!r} cannot be read by RDKit or is empty")
    return mol


@lru_cache(maxsize=100_000)
def molecule_key(smiles: str) -> str:
    """Return the key of a molecule; structures with equal keys must be in the same split.

    The key lists the sorted components, each without stereochemistry and isotopes, neutralised, as its canonical
    tautomer. Counterions and water (components without carbon) are ignored if another component contains carbon.
    Different keys remain for tautomers beyond ``MAX_TAUTOMERS``, for ring-chain tautomers (open-chain and cyclic
    sugars), and for the salt of an organic counterion and its free form.

    Raises
    ------
    ValueError
        RDKit cannot read the SMILES, or it is empty.
    """
    from rdkit import Chem
    from rdkit.Chem.MolStandardize import rdMolStandardize

    with _quiet():
        mol = _molecule(smiles)
        for atom in mol.GetAtoms():
            atom.SetIsotope(0)
        mol = Chem.RemoveHs(mol)
        Chem.RemoveStereochemistry(mol)
        enumerator = rdMolStandardize.TautomerEnumerator()
        enumerator.SetMaxTautomers(MAX_TAUTOMERS)
        enumerator.SetMaxTransforms(MAX_TAUTOMERS)
        uncharger = rdMolStandardize.Uncharger()
        keys: list[tuple[bool, str]] = []
        for component in Chem.GetMolFrags(mol, asMols=True):
            neutral = uncharger.uncharge(component)
            organic = any(atom.GetAtomicNum() == 6 for atom in component.GetAtoms())
            keys.append((organic, Chem.MolToSmiles(enumerator.Canonicalize(neutral))))
    only_organic = any(organic for organic, _ in keys)
    return ".".join(sorted(key for organic, key in keys if organic or not only_organic))


@lru_cache(maxsize=100_000)
def skeleton_key(smiles: str) -> str:
    """Return the key of a molecular skeleton: its connectivity, without bond orders, hydrogens and charges.

    Molecules with equal :func:`molecule_key` have equal skeleton keys. This key takes a tenth of the time.

    Raises
    ------
    ValueError
        RDKit cannot read the SMILES, or it is empty.
    """
    from rdkit import Chem

    with _quiet():
        mol = _molecule(smiles)
        bare = Chem.RWMol()
        index_of = {
            atom.GetIdx(): bare.AddAtom(_atom_with_hydrogens(atom.GetAtomicNum(), -1))
            for atom in mol.GetAtoms()
            if atom.GetAtomicNum() != 1
        }
        for bond in mol.GetBonds():
            begin, end = (index_of.get(index) for index in (bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()))
            if begin is not None and end is not None:
                bare.AddBond(begin, end, Chem.BondType.SINGLE)
        keys = [
            (any(atom.GetAtomicNum() == 6 for atom in component.GetAtoms()), Chem.MolToSmiles(component))
            for component in Chem.GetMolFrags(bare, asMols=True, sanitizeFrags=False)
        ]
    only_organic = any(organic for organic, _ in keys)
    return ".".join(sorted(key for organic, key in keys if organic or not only_organic))


def perceives(atoms: Atoms) -> bool:
    """Return True if RDKit finds bonds for these atoms (Å) that agree with ``atoms.info["charge"]`` (default 0)."""
    from rdkit import Chem
    from rdkit.Chem import rdDetermineBonds

    mol = Chem.RWMol()
    for number in atoms.numbers.tolist():
        atom = Chem.Atom(number)
        atom.SetNoImplicit(True)
        mol.AddAtom(atom)
    conformer = Chem.Conformer(len(atoms))
    conformer.SetPositions(atoms.positions.astype(float))
    mol.AddConformer(conformer)
    charge = int(atoms.info.get("charge", 0))
    with _quiet():
        try:
            rdDetermineBonds.DetermineBonds(mol, charge=charge, maxIterations=MAX_ASSIGNMENTS)
        except (ValueError, RuntimeError):
            return False
        return bool(Chem.SanitizeMol(mol, catchErrors=True) == Chem.SanitizeFlags.SANITIZE_NONE)


def sp3_carbon_bonds(
    smiles: str, numbers: NDArray[np.uint8], hydrogens: NDArray[np.int64], pairs: NDArray[np.int64]
) -> NDArray[np.int64] | None:
    """Find the C-C bonds on these atoms that are sp3-sp3 bonds in ``smiles``.

    Parameters
    ----------
    smiles : str
    numbers, hydrogens : (n,)
        Atomic number of each atom, and the number of hydrogens bonded to it.
    pairs : (b, 2)
        Bonded atoms.

    Returns
    -------
    (k, 2) atoms, or None if ``smiles`` cannot be read or does not describe these atoms: different elements, a missing
    bond between heavy atoms, or different numbers of hydrogens on them. Extra bonds are accepted: across a
    five-membered ring with sulfur, two atoms can be as close as bonded ones.
    """
    from rdkit import Chem

    with _quiet():
        written = Chem.MolFromSmiles(smiles)
    if written is None:
        return None
    heavy = np.flatnonzero(numbers > 1)
    place = {atom: index for index, atom in enumerate(heavy.tolist())}
    found = Chem.RWMol()
    for atom in heavy.tolist():
        found.AddAtom(_atom_with_hydrogens(int(numbers[atom]), int(hydrogens[atom])))
    for one, two in pairs.tolist():
        if one in place and two in place:
            found.AddBond(place[one], place[two], Chem.BondType.SINGLE)
    skeleton = Chem.RWMol()
    index_of: dict[int, int] = {}
    for atom in written.GetAtoms():
        if atom.GetAtomicNum() > 1:
            bare = _atom_with_hydrogens(atom.GetAtomicNum(), atom.GetTotalNumHs(includeNeighbors=True))
            index_of[atom.GetIdx()] = skeleton.AddAtom(bare)
    ends = [(bond.GetBeginAtom(), bond.GetEndAtom(), bond.GetBondType()) for bond in written.GetBonds()]
    for begin, end, _ in ends:
        if begin.GetIdx() in index_of and end.GetIdx() in index_of:
            skeleton.AddBond(index_of[begin.GetIdx()], index_of[end.GetIdx()], Chem.BondType.SINGLE)
    if skeleton.GetNumAtoms() != len(heavy):
        return None
    match = found.GetSubstructMatch(skeleton)
    if len(match) != len(heavy):
        return None
    sp3 = Chem.HybridizationType.SP3
    wanted = [
        (begin, end)
        for begin, end, order in ends
        if order == Chem.BondType.SINGLE
        and begin.GetAtomicNum() == end.GetAtomicNum() == 6
        and begin.GetHybridization() == end.GetHybridization() == sp3
    ]
    on_atoms = [[heavy[match[index_of[atom.GetIdx()]]] for atom in bond] for bond in wanted]
    return np.array(on_atoms, dtype=np.int64).reshape(-1, 2)


def _atom_with_hydrogens(number: int, hydrogens: int) -> "Chem.Atom":
    """Return an atom whose isotope encodes its hydrogen count; substructure matching compares element and isotope."""
    from rdkit import Chem

    atom = Chem.Atom(number)
    atom.SetNoImplicit(True)
    atom.SetIsotope(hydrogens + 1)
    return atom


def nearest_similarities(queries: Sequence[str], others: Sequence[str]) -> NDArray[np.float64]:
    """Return the largest Tanimoto similarity of each query to ``others``, (q,); Morgan radius 2, 2,048 bits.

    Raises
    ------
    ValueError
        RDKit cannot read a SMILES.
    """
    from rdkit import DataStructs

    known, asked = _fingerprints(others), _fingerprints(queries)
    return np.array([max(DataStructs.BulkTanimotoSimilarity(one, known)) for one in asked])


def most_diverse(smiles: Sequence[str], count: int, seed: int = 0) -> list[int]:
    """Select ``count`` diverse molecules by MaxMin picking on Tanimoto distance; return their sorted indices.

    Source: Ashton et al., Quant. Struct.-Act. Relat. 21, 598 (2002), as implemented in RDKit.

    Raises
    ------
    ValueError
        RDKit cannot read a SMILES.
    """
    from rdkit.SimDivFilters.rdSimDivPickers import MaxMinPicker

    fingerprints = _fingerprints(smiles)
    if len(fingerprints) <= count:
        return [*range(len(fingerprints))]
    return sorted(MaxMinPicker().LazyBitVectorPick(fingerprints, len(fingerprints), count, seed=seed))


def _fingerprints(smiles: Sequence[str]) -> "list[ExplicitBitVect]":
    from rdkit import Chem
    from rdkit.Chem import rdFingerprintGenerator

    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048)
    found = []
    with _quiet():
        for one in smiles:
            mol = Chem.MolFromSmiles(one)
            if mol is None:
                raise ValueError(f"SMILES {one!r} cannot be read by RDKit")
            found.append(generator.GetFingerprint(mol))
    return found
