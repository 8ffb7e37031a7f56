"""The one home of RDKit in the checks: what a SMILES says, and whether bonds can be perceived in bare atoms."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

from ase import Atoms

# Of 305 known drugs quercetin needs the longest, 0.1 s; beyond the bound a key may miss a tautomer.
MAX_TAUTOMERS = 1000
# Bond orders of a molecule of 60 heavy atoms take a few hundred assignments; broken ones would take for ever.
MAX_ASSIGNMENTS = 20_000


@contextmanager
def _quiet() -> Iterator[None]:
    """RDKit's warnings stay off the terminal: they quote untrusted text and say nothing that a result does not."""
    from rdkit import rdBase

    block = rdBase.BlockLogs()
    try:
        yield
    finally:
        del block


def expected_hydrogens_of_smiles(smiles: str) -> int:
    """Hydrogens that the valences of ``smiles`` imply, the written ones included.

    Raises
    ------
    ValueError
        RDKit cannot read it.
    """
    from rdkit import Chem

    with _quiet():
        mol = Chem.MolFromSmiles(smiles)
    if mol is None:
        raise ValueError(f"SMILES {smiles!r} cannot be read by RDKit")
    explicit = sum(atom.GetAtomicNum() == 1 for atom in mol.GetAtoms())
    return explicit + sum(int(atom.GetTotalNumHs()) for atom in mol.GetAtoms())


@lru_cache(maxsize=100_000)
def molecule_key(smiles: str) -> str:
    """One text for all that is one molecule: what a split must keep on one side.

    Each component without stereochemistry and isotopes, neutralised, as its canonical tautomer; sorted. Counterions and
    water (components without carbon) do not count beside a component with carbon. Not unified: tautomers past
    ``MAX_TAUTOMERS``, ring-chain tautomers (open-chain and cyclic sugars), and an organic counterion's salt with its
    free form.

    Raises
    ------
    ValueError
        RDKit cannot read it, or it is empty.
    """
    from rdkit import Chem
    from rdkit.Chem.MolStandardize import rdMolStandardize

    with _quiet():
        mol = Chem.MolFromSmiles(smiles)
        if mol is None or not mol.GetNumAtoms():
            raise ValueError(f"SMILES {smiles!r} names no molecule that RDKit can read")
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


def perceives(atoms: Atoms) -> bool:
    """Whether valences that agree with ``atoms.info["charge"]`` (default 0) can be given to these atoms (Å)."""
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
