"""Tests of elements, bonds and molecules that the splits share."""

from dataclasses import replace

import numpy as np
import pytest
from ase.build import molecule

from hydrogate.checks import Dataset, Finding, Severity, Verdict, check
from hydrogate.checks.data.dataset import concatenate
from hydrogate.checks.geometry.chemistry import molecule_key, skeleton_key


def found(data: Dataset, name: str, **bounds: object) -> Finding:
    overrides = [("test", {"structures": {name: bounds}})]
    report = check(data, "structures", overrides=overrides)
    return next(finding for finding in report.findings if finding.check == name)


def methanes(smiles: str, split: str, **columns: object) -> Dataset:
    """Return one methane per word; the checks identify the molecules by the SMILES alone."""
    names, splits = smiles.split(), split.split()
    return concatenate([molecule("CH4")] * len(names), smiles=names, split=splits, **columns)


def test_a_molecule_on_two_sides_leaks_and_another_of_its_skeleton_does_not() -> None:
    data = methanes("CC(=O)CC(C)=O CC(O)=CC(C)=O CCO CC=O C", "train test train test valid")
    finding = found(data, "split_leakage")
    assert (finding.verdict, finding.n, finding.n_bad) == (Verdict.FAIL, 5, 2)
    assert "structure 0 (CH4) is in split 'train', its molecule in ['test', 'train']" in finding.message
    assert found(methanes("CCO CC=O", "train test"), "split_leakage").verdict is Verdict.PASS


def test_a_geometry_apart_from_its_parent_leaks_whatever_its_smiles() -> None:
    finding = found(methanes("CCO CCN C", "train valid test", parent=[0, 0, 2]), "split_leakage")
    assert (finding.verdict, finding.n_bad) == (Verdict.FAIL, 1)
    assert "structure 1 (CH4) is in split 'valid'" in finding.message


def test_a_split_of_another_name_is_none() -> None:
    finding = found(methanes("CCO CCN C", "train holdout test"), "split_leakage")
    assert (finding.verdict, finding.n_bad) == (Verdict.FAIL, 1)
    assert "is in split 'holdout', its molecule in ['holdout']" in finding.message


@pytest.mark.parametrize("name", ["split_leakage", "split_similarity"])
def test_a_molecule_that_cannot_be_told_is_not_run(name: str) -> None:
    data = methanes("CCO CCN", "train test")
    data.smiles[1] = ""
    finding = found(data, name)
    assert finding.verdict is Verdict.NOT_RUN
    assert "some structures have no SMILES" in finding.message


def test_the_rarest_element_of_each_split_is_counted_and_named(structures: Dataset) -> None:
    finding = found(structures, "element_coverage", min_structures=100)
    assert finding.verdict is Verdict.FAIL
    assert finding.observed == {"train": 3.0, "valid": 0.0, "test": 0.0}
    assert "structures (rarest: F in train, F in valid, S in test), allowed" in finding.message


def test_a_few_structures_are_no_population(structures: Dataset) -> None:
    finding = found(structures, "element_coverage")
    assert (finding.verdict, finding.severity) == (Verdict.UNDECIDED, Severity.WARN)
    assert "108 structures, at least 400 needed" in finding.message


def test_only_the_splits_that_there_are_count(structures: Dataset) -> None:
    data = structures.subset(np.flatnonzero(structures.split != "valid"))
    assert set(found(data, "element_coverage", min_structures=1).observed) == {"train", "test"}


@pytest.mark.parametrize("name", ["split_leakage", "element_coverage", "element_pair_coverage", "split_similarity"])
def test_train_alone_is_no_split(structures: Dataset, name: str) -> None:
    alone = found(structures.subset(np.flatnonzero(structures.split == "train")), name)
    assert alone.verdict is (Verdict.PASS if name == "split_leakage" else Verdict.NOT_RUN)
    assert found(replace(structures, split=np.full(108, "", dtype=object)), name).verdict is Verdict.NOT_RUN


def test_a_bond_that_train_never_shows_is_named() -> None:
    data = concatenate(
        [molecule("CH3CH2OH"), molecule("CH3SH"), molecule("CH4")],
        split=["train", "test", "valid"],
        smiles=["CCO", "CS", "C"],
    )
    finding = found(data, "element_pair_coverage")
    assert (finding.verdict, finding.severity) == (Verdict.FAIL, Severity.WARN)
    assert finding.observed == {"value": 2.0}
    assert "missing from train: H-S, C-S" in finding.message
    told = found(replace(data, split=np.array(["train", "train", "valid"], dtype=object)), "element_pair_coverage")
    assert (told.verdict, told.observed) == (Verdict.PASS, {"value": 0.0})
    assert "over 1 bonded element pairs, allowed" in told.message


def test_similarity_is_reported_and_refuses_nothing() -> None:
    data = concatenate([molecule("CH3CH2OH")] * 3, split=["train", "test", "test"], smiles=["CCO", "CCO", "C1CC1"])
    finding = found(data, "split_similarity")
    assert (finding.verdict, finding.n) == (Verdict.PASS, 2)
    assert finding.observed == {"mean": 0.5, "largest": 1.0}
    assert found(data, "split_similarity", largest={"max": 0.9}).verdict is Verdict.FAIL


def test_a_smiles_that_cannot_be_read_is_no_similarity() -> None:
    data = concatenate([molecule("CH4")] * 2, split=["train", "test"], smiles=["C", "no smiles"])
    finding = found(data, "split_similarity")
    assert finding.verdict is Verdict.ERROR
    assert "'no smiles' cannot be read" in finding.message


@pytest.mark.parametrize(
    "forms",
    [
        ("CC(=O)CC(C)=O", "CC(O)=CC(C)=O"),
        ("Oc1ccccn1", "O=c1cccc[nH]1"),
        ("[Na+].CC([O-])=O", "CC(O)=O"),
        ("[2H]C/C=C/C", "CC=CC"),
        ("C[N+](=O)[O-]", "CN(=O)=O"),
    ],
)
def test_what_is_one_molecule_has_one_skeleton(forms: tuple[str, ...]) -> None:
    assert len({molecule_key(smiles) for smiles in forms}) == 1
    assert len({skeleton_key(smiles) for smiles in forms}) == 1
    assert skeleton_key("CCO") != skeleton_key("COC")
    with pytest.raises(ValueError, match="SMILES '' cannot be read by RDKit or is empty"):
        skeleton_key("")
