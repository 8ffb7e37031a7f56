"""Drawings in any plane, orders that the lengths contradict, coincident atoms; and what must pass."""

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import AllChem
from scipy.spatial.transform import Rotation

from hydrogate.pipeline.molecules.geometry_faults import flat_sp3, order_contradicted, too_close, unlike_a_geometry

FLAT_MOLECULES = ["c1ccccc1", "c1ccc2ncccc2c1", "O=Cc1ccccc1", "C=CC=C", "O=C1C=CC(=O)C=C1", "Nc1ncnc2[nH]cnc12"]
DRAWN = [*FLAT_MOLECULES, "CCNCCC(=O)OCC", "CC(C)Cc1ccc(cc1)C(C)C(=O)O", "OC1CCCCC1", "CCCCCC"]


def embedded(smiles: str) -> Chem.Mol:
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert AllChem.EmbedMolecule(mol, randomSeed=3) == 0
    AllChem.MMFFOptimizeMolecule(mol, maxIters=2000)
    return Chem.RemoveHs(mol)


def drawn(smiles: str, seed: int, bond: float = 1.5, stray: float = 0.0) -> Chem.Mol:
    """A drawing in some plane, its bonds ``bond`` Å long; one atom ``stray`` Å out of the plane."""
    mol = Chem.MolFromSmiles(smiles)
    AllChem.Compute2DCoords(mol)
    positions = mol.GetConformer().GetPositions() * bond / 1.5
    positions[-1, 2] += stray
    mol.GetConformer().SetPositions(Rotation.random(rng=seed).apply(positions) + seed)
    return mol


def is_drawing(mol: Chem.Mol) -> bool:
    return bool(unlike_a_geometry(mol) or flat_sp3(mol))


@pytest.mark.parametrize("smiles", DRAWN)
@pytest.mark.parametrize("bond", [1.5, 0.825, 1.0])
def test_a_drawing_is_one_in_any_plane_and_scale(smiles: str, bond: float) -> None:
    for seed in range(3):
        assert is_drawing(drawn(smiles, seed, bond))


# Three of four atoms always lie in a plane; a ring with one atom outside of it is no drawing's mark.
@pytest.mark.parametrize("smiles", [smiles for smiles in DRAWN if smiles not in ("C=CC=C", "OC1CCCCC1")])
def test_a_stray_atom_makes_no_geometry_of_a_drawing(smiles: str) -> None:
    for seed in range(3):
        assert is_drawing(drawn(smiles, seed, stray=0.7))


@pytest.mark.parametrize("smiles", FLAT_MOLECULES)
def test_a_flat_molecule_is_none(smiles: str) -> None:
    mol = embedded(smiles)
    positions = mol.GetConformer().GetPositions() - mol.GetConformer().GetPositions().mean(axis=0)
    normal = np.linalg.svd(positions)[2][-1]
    mol.GetConformer().SetPositions(positions - np.outer(positions @ normal, normal))
    assert not is_drawing(mol)
    assert not order_contradicted(mol)


SINGLE_FOR_MULTIPLE = [
    ("CC(=O)C", "CC(O)C"), ("CC(=NC)C", "CC(NC)C"), ("CC#N", "CCN"), ("CS(C)(=O)=O", "CS(C)(O)O"),
    ("CP(C)(C)=O", "CP(C)(C)O"), ("CN=O", "CNO"), ("CC=NO", "CCNO"), ("CNC(C)=O", "CNC(C)O"), ("CN=NC", "CNNC"),
    ("CC=CC", "CCCC"), ("COP(=O)(OC)OC", "COP(O)(OC)OC"), ("CS(N)(=O)=O", "CS(N)(O)O"),
]  # fmt: skip


@pytest.mark.parametrize(("right", "wrong"), SINGLE_FOR_MULTIPLE)
def test_a_multiple_bond_written_single_is_named(right: str, wrong: str) -> None:
    mol = embedded(right)
    assert not order_contradicted(mol)
    other = Chem.MolFromSmiles(wrong)
    match = single(mol).GetSubstructMatch(single(other))
    assert len(match) == other.GetNumAtoms() == mol.GetNumAtoms()
    other.AddConformer(Chem.Conformer(other.GetNumAtoms()))
    other.GetConformer().SetPositions(mol.GetConformer().GetPositions()[list(match)])
    assert "is written single and is" in order_contradicted(other)


def single(mol: Chem.Mol) -> Chem.Mol:
    """The skeleton: atoms, joined by single bonds."""
    bare = Chem.RWMol(mol)
    for bond in bare.GetBonds():
        bond.SetBondType(Chem.BondType.SINGLE)
    for atom in bare.GetAtoms():
        atom.SetNoImplicit(True)
        atom.SetNumExplicitHs(0)
        atom.SetFormalCharge(0)
    return bare.GetMol()


def test_coincident_atoms_are_named() -> None:
    mol = embedded("CCO")
    assert not too_close(mol)
    positions = mol.GetConformer().GetPositions()
    positions[2] = positions[0] + 3e-4
    mol.GetConformer().SetPositions(positions)
    assert too_close(mol) == "atom 0 (C) and atom 2 (O) are 0.00052 Å apart"
