"""Hydrogens, molecule keys, bonds and similarity from a SMILES, and errors for an invalid SMILES."""

from collections.abc import Callable

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from hydrogate.checks.geometry.chemistry import (
    expected_hydrogens_of_smiles,
    molecule_key,
    most_diverse,
    nearest_similarities,
    perceives,
    skeleton_key,
    sp3_carbon_bonds,
)


@pytest.mark.parametrize(
    ("smiles", "hydrogens"),
    [("C", 4), ("[H]C([H])([H])[H]", 4), ("[H]C", 4), ("[CH3]", 3), ("[NH4+]", 4), ("[H][H]", 2), ("c1ccccc1", 6),
     ("O.[Na+].[Cl-]", 2), ("O=C=O", 0)],
)  # fmt: skip
def test_hydrogens_that_the_valences_imply(smiles: str, hydrogens: int) -> None:
    assert expected_hydrogens_of_smiles(smiles) == hydrogens


def test_what_is_no_smiles_is_named() -> None:
    for read in (expected_hydrogens_of_smiles, molecule_key, skeleton_key):
        with pytest.raises(ValueError, match=r"SMILES 'C1CC' .*RDKit"):
            read("C1CC")
    with pytest.raises(ValueError, match="SMILES 'C1CC' cannot be read by RDKit"):
        nearest_similarities(["C"], ["C1CC"])


@pytest.mark.parametrize(
    ("smiles", "said"),
    [("CC~O", "atoms 1 and 2 has no order"), ("CC:O", "atoms 1 and 2 has an aromatic order outside a ring")],
)
def test_hydrogens_are_not_counted_where_a_bond_has_no_order(smiles: str, said: str) -> None:
    with pytest.raises(ValueError, match=f"SMILES '{smiles}': the bond of {said}"):
        expected_hydrogens_of_smiles(smiles)


@pytest.mark.parametrize("read", [expected_hydrogens_of_smiles, molecule_key, skeleton_key])
def test_a_smiles_that_would_take_minutes_is_not_read(read: Callable[[str], object]) -> None:
    read("C" * 200)
    with pytest.raises(ValueError, match="SMILES of 10001 characters; the limit is 10000"):
        read("C" * 10001)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("C[C@H](N)O", "C[C@@H](N)O", True),
        ("[2H]C([2H])([2H])O", "CO", True),
        ("CCO.O", "CCO", True),
        ("CCO.CC", "CC.CCO", True),
        ("CCO.CC", "CCO", False),
        ("[Na+].[Cl-]", "[Cl-].[Na+]", True),
        ("[Na+].[Cl-]", "[Na+]", False),
        ("CCO", "CC=O", False),
        ("C[NH3+]", "CN", True),
    ],
)
def test_what_is_one_molecule(one: str, other: str, same: bool) -> None:
    assert (molecule_key(one) == molecule_key(other)) is same
    if same:  # equal molecules always have equal skeletons; the reverse need not hold
        assert skeleton_key(one) == skeleton_key(other)


def test_a_skeleton_is_which_atoms_are_joined() -> None:
    assert skeleton_key("CCO") == skeleton_key("[H]OC=C") == skeleton_key("CC=O")
    assert len({skeleton_key(smiles) for smiles in ("CCO", "COC", "CCN", "CCCO", "CCO.CC", "[Na+].[Cl-]")}) == 6


def test_bonds_that_agree_with_the_charge_are_perceived() -> None:
    ammonium = Atoms(
        "NH4", [[0, 0, 0], *(0.59 * np.array(v) for v in ([1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]))]
    )
    assert not perceives(ammonium)
    ammonium.info["charge"] = 1
    assert perceives(ammonium)
    assert perceives(molecule("C6H6"))
    assert not perceives(molecule("CH4")[:4])


def sp3(smiles: str, atoms: Atoms, bonds: list[tuple[int, int]]) -> list[list[int]] | None:
    hydrogens = np.array([sum(atoms.numbers[b] == 1 for pair in bonds for a, b in (pair, pair[::-1]) if a == row)
                          for row in range(len(atoms))])  # fmt: skip
    found = sp3_carbon_bonds(smiles, atoms.numbers.astype(np.uint8), hydrogens, np.array(bonds))
    return None if found is None else [sorted(bond) for bond in found.tolist()]


def test_sp3_bonds_are_found_on_the_atoms_and_only_where_the_smiles_describes_them() -> None:
    atoms = Atoms("C3H6O")  # propanal: H3C-CH2-CH=O
    bonds = [(0, 1), (1, 2), (2, 9), (0, 3), (0, 4), (0, 5), (1, 6), (1, 7), (2, 8)]
    assert sp3("CCC=O", atoms, bonds) == [[0, 1]]  # the carbonyl carbon is not sp3
    assert sp3("O=CCC", atoms, bonds[::-1]) == [[0, 1]]
    assert sp3("CCC=O", atoms, [*bonds, (0, 2)]) == [[0, 1]]  # an extra bond is accepted
    assert sp3("CCC=O", atoms, bonds[1:]) is None  # a missing bond is not
    assert sp3("CC(C)=O", atoms, bonds) is None
    assert sp3("CCCO", atoms, bonds) is None  # different hydrogen counts
    assert sp3("CCC=S", atoms, bonds) is None
    assert sp3("CCC=O.O", atoms, bonds) is None
    assert sp3("C1CC", atoms, bonds) is None
    assert sp3("O", Atoms("OH2"), [(0, 1), (0, 2)]) == []


def test_likeness_to_the_nearest() -> None:
    found = nearest_similarities(["CCO", "c1ccccc1"], ["CCO", "CCCO"])
    assert found[0] == 1.0
    assert found[1] == 0.0
    assert 0.0 < nearest_similarities(["CCO"], ["CCCO", "c1ccccc1"])[0] < 1.0


def test_the_most_diverse_are_unlike_each_other_and_in_order() -> None:
    smiles = ["CCO", "CCCO", "c1ccccc1", "CCCCO", "Cc1ccccc1", "N#CC#N"]
    assert most_diverse(smiles, 6) == most_diverse(smiles, 7) == [0, 1, 2, 3, 4, 5]
    for seed in range(3):
        chosen = most_diverse(smiles, 3, seed)
        assert chosen == sorted(chosen) == most_diverse(smiles, 3, seed)
        assert 5 in chosen and len({2, 4} & {*chosen}) == 1 and len({0, 1, 3} & {*chosen}) == 1
