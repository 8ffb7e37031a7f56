"""Tests of bonds from distances against declared bond orders, and of what a student can represent."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from rdkit import Chem
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

from hydrogate.checks import Dataset, Finding, Severity, Verdict, check
from hydrogate.checks.data.dataset import concatenate

STUDENT: dict[str, Any] = {
    "elements": [1, 6, 7, 8],
    "charges": [0],
    "spin_multiplicities": [1],
    "cutoff": 5.0,
    "reads_charge": False,
}
DRUGS = (
    "CC(=O)Oc1ccccc1C(=O)O",
    "CC(=O)Nc1ccc(O)cc1",
    "CC(C)Cc1ccc(C(C)C(=O)O)cc1",
    "Cn1cnc2c1c(=O)n(C)c(=O)n2C",
    "CN1CCC[C@H]1c1cccnc1",
    "COc1ccc2cc([C@H](C)C(=O)O)ccc2c1",
)


def found(data: Dataset, name: str, **inputs: Any) -> Finding:
    return next(finding for finding in check(data, "structures", **inputs).findings if finding.check == name)


def embedded(smiles: str, *, all_single: bool = False) -> Atoms:
    """Return a relaxed molecule; ``all_single`` makes every heavy-atom bond single and fills the valences with H."""
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert rdDistGeom.EmbedMolecule(mol, randomSeed=0) == 0
    rdForceFieldHelpers.MMFFOptimizeMolecule(mol)
    if all_single:
        bare = Chem.RWMol(Chem.RemoveHs(mol))
        Chem.Kekulize(bare, clearAromaticFlags=True)
        for bond in bare.GetBonds():
            bond.SetBondType(Chem.BondType.SINGLE)
        for atom in bare.GetAtoms():
            atom.SetNoImplicit(False)
            atom.SetNumExplicitHs(0)
        bare.UpdatePropertyCache()
        Chem.SanitizeMol(bare)
        mol = Chem.AddHs(bare, addCoords=True)
    numbers = [atom.GetAtomicNum() for atom in mol.GetAtoms()]
    info = {"smiles": Chem.MolToSmiles(Chem.RemoveHs(mol))}
    return Atoms(numbers, mol.GetConformer().GetPositions(), info=info)


def of_molecules(molecules: list[Atoms]) -> Dataset:
    return concatenate(molecules, smiles=[atoms.info["smiles"] for atoms in molecules])


def test_bond_lengths_agree_with_the_orders_of_clean_molecules() -> None:
    finding = found(of_molecules([embedded(smiles) for smiles in DRUGS]), "bond_lengths_match_orders")
    assert finding.verdict is Verdict.PASS
    assert 1.50 < finding.observed["mean"] < 1.55
    assert finding.observed["unmatched"] == finding.observed["short"] == 0


def test_all_bonds_written_single_are_caught() -> None:
    finding = found(of_molecules([embedded(smiles, all_single=True) for smiles in DRUGS]), "bond_lengths_match_orders")
    assert (finding.verdict, finding.severity) == (Verdict.FAIL, Severity.ERROR)
    assert finding.observed["unmatched"] == 0
    assert finding.observed["mean"] < 1.47


def test_one_molecule_written_single_among_many_warns() -> None:
    one = [embedded(DRUGS[0], all_single=True)]
    finding = found(of_molecules(one + [embedded(smiles) for smiles in DRUGS[1:]] * 10), "bond_lengths_match_orders")
    assert (finding.verdict, finding.severity) == (Verdict.FAIL, Severity.WARN)
    assert finding.observed["mean"] > 1.47
    assert finding.observed["short"] == pytest.approx(1 / 31)  # three of the five have sp3-sp3 bonds


@pytest.mark.parametrize("smiles", ["CCN", "CCCO", "COC", "C=CO", "not a smiles"])
def test_a_smiles_of_another_molecule_is_no_match(smiles: str) -> None:
    data = concatenate([molecule("CH3CH2OH")], smiles=[smiles])
    finding = found(replace(data, expected_hydrogens=np.array([6], dtype=np.int32)), "bond_lengths_match_orders")
    assert finding.verdict is Verdict.FAIL
    assert finding.observed["unmatched"] == 1.0
    assert "structure 0 (C2H6O)" in finding.message


def test_without_smiles_no_bond_orders_are_judged() -> None:
    assert found(concatenate([molecule("CH3CH2OH")]), "bond_lengths_match_orders").verdict is Verdict.NOT_RUN


def two_waters(distance: float) -> Atoms:
    one, two = molecule("H2O"), molecule("H2O")
    two.positions += [distance, 0.0, 0.0]
    return one + two


@pytest.mark.parametrize(
    ("smiles", "profile", "verdict"),
    [
        ("", "small", Verdict.FAIL),
        ("O", "small", Verdict.FAIL),
        ("O.O", "small", Verdict.PASS),
        ("", "clusters", "pass"),
    ],
)
def test_fragments_are_those_that_are_declared(smiles: str, profile: str, verdict: Verdict) -> None:
    finding = found(concatenate([two_waters(3.0)], smiles=[smiles]), "connected", profile=profile)
    assert finding.verdict == verdict
    if finding.verdict is Verdict.FAIL:
        assert "structure 0 (H4O2) has 2 fragments" in finding.message
        assert "profile clusters" in finding.remedy


def test_bonds_across_a_cell_are_not_looked_for() -> None:
    box = Atoms("HF", [[0.1, 0, 0], [9.2, 0, 0]], cell=[10, 10, 10], pbc=True)
    assert found(concatenate([box]), "connected").verdict is Verdict.NOT_RUN
    mixed = found(concatenate([box, molecule("H2O")]), "connected")
    assert (mixed.verdict, mixed.n) == (Verdict.PASS, 1)


@pytest.mark.parametrize(
    ("atoms", "words"),
    [
        (molecule("CH3SH"), "an element that the student does not support"),
        (Atoms("OH", [[0, 0, 0], [0, 0, 0.97]], info={"charge": -1}), "a charge that the student does not support"),
        (molecule("CH3"), "a spin multiplicity that the student does not support"),
        (two_waters(9.0), "fragments farther apart than the student's cutoff of 5 Å"),
    ],
)
def test_what_the_student_cannot_represent_is_named(atoms: Atoms, words: str) -> None:
    finding = found(concatenate([molecule("H2O"), atoms]), "student_fit", student=STUDENT)
    assert finding.verdict is Verdict.FAIL
    assert finding.n_bad == 1
    assert words in finding.message


@pytest.mark.parametrize("reads_charge", [True, False])
def test_one_geometry_at_two_charges_needs_a_student_that_reads_charge(reads_charge: bool) -> None:
    cation = molecule("H2O")
    cation.info.update(charge=1, spin=2)
    knows = {**STUDENT, "charges": [0, 1], "spin_multiplicities": [1, 2], "reads_charge": reads_charge}
    finding = found(concatenate([molecule("H2O"), cation, molecule("CH4")]), "student_fit", student=knows)
    assert finding.verdict is (Verdict.PASS if reads_charge else Verdict.FAIL)
    assert finding.n_bad == (0 if reads_charge else 1)


def test_without_a_student_its_fit_is_not_judged() -> None:
    assert found(concatenate([molecule("H2O")]), "student_fit").verdict is Verdict.NOT_RUN


@pytest.mark.parametrize(
    ("charge", "multiplicity", "verdict"),
    [(0, 1, "pass"), (1, 2, "pass"), (0, 3, "pass"), (0, 2, "fail"), (1, 1, "fail"), (0, 0, "fail"), (9, 4, "fail")],
)
def test_electrons_charge_and_multiplicity_agree(charge: int, multiplicity: int, verdict: str) -> None:
    water = molecule("H2O")
    water.info.update(charge=charge, spin=multiplicity)
    assert found(concatenate([water]), "charge_parity").verdict == verdict
