"""Hydrogens, spin and charge of a record by its valences, in V2000 and V3000; what leaves them open is quarantined."""

import re

import pytest
from rdkit import Chem
from rdkit.Chem import AllChem

from hydrogate.pipeline.molecules.sdf import Molecule, SetAside, read_record
from hydrogate.pipeline.molecules.valences import declared_unpaired


def block(smiles: str, *, hydrogens: bool = False, v3000: bool = False) -> str:
    """A record with the geometry of ``smiles``."""
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert AllChem.EmbedMolecule(mol, randomSeed=7) == 0
    AllChem.UFFOptimizeMolecule(mol)
    if not hydrogens:
        mol = Chem.RemoveHs(mol)
    return Chem.MolToV3KMolBlock(mol) if v3000 else Chem.MolToMolBlock(mol)


def read(text: str) -> Molecule:
    record = read_record(text, "x.sdf", 0)
    assert isinstance(record, Molecule), record
    return record


def reason(text: str) -> str:
    record = read_record(text, "x.sdf", 0)
    assert isinstance(record, SetAside), record
    return record.record.reason


DRUG_LIKE = [
    "CC(=O)Oc1ccccc1C(=O)O",
    "c1cc[nH]c1",
    "CS(=O)(=O)N",
    "COP(=O)(OC)OC",
    "C[N+](C)(C)CC([O-])=O",
    "O=[N+]([O-])c1ccccc1",
]


@pytest.mark.parametrize("smiles", DRUG_LIKE)
@pytest.mark.parametrize("v3000", [False, True])
def test_fields_that_say_no_hydrogen_change_nothing(smiles: str, v3000: bool) -> None:
    plain = block(smiles, v3000=v3000)
    mol = Chem.MolFromMolBlock(plain)
    if v3000:
        marked = re.sub(
            r"^(M  V30 \d+ [A-Z]\S* \S+ \S+ \S+ 0)(.*)$",
            lambda m: f"{m[1]}{m[2]} VAL={bonds(mol, m[0])}",
            plain,
            flags=re.MULTILINE,
        )
    else:
        lines = plain.split("\n")
        for atom in range(mol.GetNumAtoms()):
            written = sum(int(bond.GetBondTypeAsDouble()) for bond in kekulized(mol).GetAtomWithIdx(atom).GetBonds())
            lines[4 + atom] = f"{lines[4 + atom][:48]}{written or 15:3d}{lines[4 + atom][51:]}"
        marked = "\n".join(lines)
    assert marked != plain
    expected, found = read(plain), read(marked)
    assert (found.smiles, found.expected_hydrogens, found.spin_multiplicity, found.charge) == (
        expected.smiles,
        expected.expected_hydrogens,
        1,
        expected.charge,
    )
    assert expected.expected_hydrogens > 0


def kekulized(mol: Chem.Mol) -> Chem.Mol:
    copy = Chem.Mol(mol)
    Chem.Kekulize(copy, clearAromaticFlags=True)
    return copy


def bonds(mol: Chem.Mol, line: str) -> int:
    atom = kekulized(mol).GetAtomWithIdx(int(line.split()[2]) - 1)
    return sum(int(bond.GetBondTypeAsDouble()) for bond in atom.GetBonds()) or -1


@pytest.mark.parametrize("v3000", [False, True])
@pytest.mark.parametrize(("smiles", "multiplicity"), [("C[CH2]", 2), ("CN1[C]N(C)C=C1", 3), ("[O][O]", 3)])
def test_declared_radicals_keep_their_spin(smiles: str, multiplicity: int, v3000: bool) -> None:
    text = block(smiles, hydrogens=True, v3000=v3000)
    assert sum(declared_unpaired(text).values()) == multiplicity - 1
    assert read(text).spin_multiplicity == multiplicity


def test_the_older_form_of_a_doublet_is_read() -> None:
    text = block("C[CH2]", hydrogens=True)
    lines = [line for line in text.split("\n") if not line.startswith("M  RAD")]
    lines[5] = f"{lines[5][:36]}  4{lines[5][39:]}"
    record = read("\n".join(lines))
    assert (record.spin_multiplicity, record.expected_hydrogens) == (2, 5)


@pytest.mark.parametrize(
    ("smiles", "lost", "words"),
    [
        ("C[S+](C)C", "M  CHG", r"atom 1 \(S\) has 3 bonds and no charge: is its `M  CHG` missing\?"),
        ("C[P+](C)(C)C", "M  CHG", r"atom 1 \(P\) has 4 bonds and no charge"),
        ("C[I+]C", "M  CHG", r"atom 1 \(I\) has 2 bonds and no charge"),
        ("[CH2]C([CH2])[CH2]", "", "3 unpaired electrons; at most 2 are labelled"),
    ],
)
def test_a_state_that_the_record_leaves_open_is_quarantined(smiles: str, lost: str, words: str) -> None:
    text = block(smiles)
    if lost:
        assert lost in text
        text = "\n".join(line for line in text.split("\n") if not line.startswith(lost))
    assert re.search(words, reason(text)), reason(text)


@pytest.mark.parametrize("smiles", ["C[S+](C)C", "COP(C)(=O)O", "CS(C)=O", "O=S(=O)(O)c1ccccc1", "CP", "CSSC", "CI"])
def test_sound_sulfur_phosphorus_and_halogens_pass(smiles: str) -> None:
    assert read(block(smiles)).spin_multiplicity == 1
