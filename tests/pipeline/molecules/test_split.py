"""Split: one split per molecule, the requested shares, dependent only on the seed."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hydrogate.checks.geometry.chemistry import molecule_key
from hydrogate.pipeline.molecules.sample import known_drugs
from hydrogate.pipeline.molecules.split import assign_splits, split_key

SHARES = {"train": 0.70, "valid": 0.10, "test": 0.20}


def alone(count: int) -> dict[str, str]:
    return {f"molecule {k}": f"molecule {k}" for k in range(count)}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("CC(=O)CC(C)=O", "CC(O)=CC(C)=O"),
        ("Oc1ccccn1", "O=c1cccc[nH]1"),
        ("c1nc[nH]c1C", "c1[nH]cnc1C"),
        ("C[C@H](N)C(=O)O", "C[C@@H]([NH3+])C(=O)[O-]"),
        ("CC(=O)[O-].[Na+]", "CC(=O)O"),
        ("CN1CCC[C@H]1c1cccnc1.Cl", "CN1CCCC1c1cccnc1"),
        ("C/C=C/C", "C/C=C\\C"),
        ("[2H]C([2H])([2H])O", "CO"),
        ("[H]OC", "CO"),
    ],
)
def test_forms_of_one_molecule_have_one_key(one: str, other: str) -> None:
    assert molecule_key(one) == molecule_key(other)
    assert split_key(one, "scaffold") == split_key(other, "scaffold")


@pytest.mark.parametrize(("one", "other"), [("CCO", "COC"), ("CCO", "CCN"), ("CC(=O)C", "CC(=O)CC"), ("Cl", "O")])
def test_different_molecules_have_different_keys(one: str, other: str) -> None:
    assert molecule_key(one) != molecule_key(other)


def test_the_known_drugs_have_as_many_keys_as_they_are() -> None:
    drugs = known_drugs()
    assert len({molecule_key(smiles) for smiles, _ in drugs}) == len(drugs)


@pytest.mark.parametrize("smiles", ["", "not a molecule", "C1CC"])
def test_what_names_no_molecule_is_refused(smiles: str) -> None:
    with pytest.raises(ValueError, match="cannot be read by RDKit or is empty"):
        molecule_key(smiles)


def test_scaffolds_join_what_molecules_do_not() -> None:
    assert split_key("Cc1ccccc1", "scaffold") == split_key("OCc1ccccc1", "scaffold") == "c1ccccc1"
    assert split_key("CCO", "scaffold") != split_key("CCN", "scaffold")
    with pytest.raises(ValueError, match="unknown split by 'colour'; expected molecule or scaffold"):
        split_key("CCO", "colour")


@given(count=st.integers(1, 400), seed=st.integers(0, 2**31))
def test_shares_come_out_within_one_molecule(count: int, seed: int) -> None:
    assigned = Counter(assign_splits(alone(count), SHARES, seed).values())
    assert assigned.total() == count
    for split, share in SHARES.items():
        assert abs(assigned[split] - share * count) <= 1


def test_the_split_depends_on_the_seed_and_not_on_the_order() -> None:
    molecules = alone(200)
    first = assign_splits(molecules, SHARES, 0)
    assert assign_splits(dict(reversed(molecules.items())), SHARES, 0) == first
    assert assign_splits(molecules, SHARES, 1) != first


def test_a_group_stays_together_also_where_it_is_larger_than_a_share() -> None:
    molecules = {f"large {k}": "scaffold" for k in range(40)} | alone(60)
    assigned = assign_splits(molecules, SHARES, 0)
    assert {assigned[f"large {k}"] for k in range(40)} == {"train"}
    assert Counter(assigned.values()) == {"train": 70, "valid": 10, "test": 20}


@pytest.mark.parametrize("sizes", [[30] * 5, [7, 5, 3, 2, 1] * 12, [90, 5, 5]])
def test_groups_of_any_size_are_assigned_whole_and_near_the_shares(sizes: list[int]) -> None:
    molecules = {f"{group}.{k}": f"group {group}" for group, size in enumerate(sizes) for k in range(size)}
    assigned = assign_splits(molecules, SHARES, 3)
    assert set(assigned) == set(molecules)
    for group in range(len(sizes)):
        assert len({split for name, split in assigned.items() if molecules[name] == f"group {group}"}) == 1
    counts = Counter(assigned.values())
    assert counts["train"] == max(counts.values())
    for split, share in SHARES.items():
        assert abs(counts[split] - share * sum(sizes)) <= max(sizes)


def test_a_share_of_nothing_gets_nothing() -> None:
    assigned = assign_splits(alone(50), {"train": 0.8, "valid": 0.0, "test": 0.2}, 0)
    assert Counter(assigned.values()) == {"train": 40, "test": 10}


@pytest.mark.parametrize(
    "shares", [{"train": 0.7, "valid": 0.1, "test": 0.3}, {"train": 1.0}, {"train": 1.2, "valid": -0.2, "test": 0.0}]
)
def test_shares_that_do_not_sum_to_one_are_refused(shares: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"must sum to 1, got"):
        assign_splits(alone(3), shares, 0)
