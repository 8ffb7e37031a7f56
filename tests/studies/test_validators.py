"""Tests of each validator: no complaints about clean data, complaints about violations of its published rules."""

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from hydrogate.checks import Dataset
from hydrogate.checks.accidents import ACCIDENTS, hurt
from hydrogate.checks.errors import BadParams
from studies.validators import load_validator, validator_names

ROWS = np.arange(0, 108, 7)


def spoiled(data: Dataset, accident: str) -> Dataset:
    return hurt(ACCIDENTS[accident], data, ROWS)


@pytest.mark.parametrize("name", validator_names())
def test_it_says_what_it_is_and_is_content_with_sound_data(name: str, labelled: Dataset) -> None:
    validator = load_validator(name)
    assert validator.says.endswith(".")
    assert re.fullmatch(r"https://\S+|\w+\.md", validator.source)
    known = 2 if name == "openff_submission" else 0  # atoms across a five-membered ring with sulfur count as bonded
    found = validator.complaints(labelled)
    assert all("ConnectivityFilter" in complaint for complaint in found)
    assert len(found) == known


# For each validator, a corruption that it finds and one that it does not.
SEES: dict[str, tuple[str, str]] = {
    "ase_reading": ("", "nan_in_one_atom"),
    "great_expectations_ranges": ("nan_in_one_atom", "gradients_for_forces"),
    "hydrogate": ("hydrogens_stripped", "energies_in_single_precision"),
    "hydrogate_audit": ("forces_in_kcal", "energies_in_single_precision"),
    "openff_submission": ("polar_hydrogens_only", "gradients_for_forces"),
    "pandera_ranges": ("forces_divided_by_kcal", "gradients_for_forces"),
    "rdkit_reading": ("", "hydrogens_stripped"),
    "so3lr_filters": ("hydrogens_at_origin", "gradients_for_forces"),
}


@pytest.mark.parametrize("name", SEES)
def test_it_sees_what_it_is_made_for_and_not_more(name: str, labelled: Dataset) -> None:
    validator, (seen, unseen) = load_validator(name), SEES[name]
    assert not seen or validator.complaints(spoiled(labelled, seen))
    assert validator.complaints(spoiled(labelled, unseen)) == validator.complaints(labelled)


def test_every_validator_is_asked() -> None:
    assert set(SEES) == set(validator_names())


def with_smiles(smiles: str) -> Callable[[Dataset], Dataset]:
    return lambda data: replace(data, smiles=np.array([smiles, *data.smiles[1:]], dtype=object))


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (with_smiles(""), "no valid CMILES"),
        (with_smiles("CC"), "no valid CMILES: different atoms"),
        (with_smiles("COC"), "the connectivity differs from that of the CMILES (ConnectivityFilter)"),
        (with_smiles("C.CO"), "no valid CMILES: different atoms"),
        (lambda data: replace(data, charge=data.charge + np.int16(1)), "the total charge differs"),
        (lambda data: replace(data, positions=data.positions * np.float32(0.5)), "a distance below"),
        (lambda data: replace(data, energy=data.energy * np.nan), "the record is not complete"),
    ],
)
def test_the_rules_of_openff(change: Callable[[Dataset], Dataset], rule: str, labelled: Dataset) -> None:
    found = load_validator("openff_submission").complaints(change(labelled))
    assert any(complaint.startswith("good.sdf record 0: ") and rule in complaint for complaint in found)


def test_rdkit_cannot_read_a_smiles(labelled: Dataset) -> None:
    found = load_validator("rdkit_reading").complaints(with_smiles("C1CC")(labelled))
    assert found == ["good.sdf record 0: SMILES not readable"]


def test_ase_complains_where_a_file_cannot_be_written(labelled: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("ase.io.write", full)
    assert load_validator("ase_reading").complaints(labelled) == ["OSError: no space left"]


def test_an_unknown_validator_is_refused() -> None:
    with pytest.raises(BadParams, match="no validator 'so3lr_filter'; did you mean 'so3lr_filters'"):
        load_validator("so3lr_filter")
