"""`hydrogate spoil`: corrupts the requested share of structures in a copy, and the contract detects it."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from hydrogate.checks import check
from hydrogate.checks.errors import BadParams
from hydrogate.pipeline.commands.spoil import spoilt
from hydrogate.pipeline.formats import read
from hydrogate.pipeline.storage.hdf5 import read_dataset, write_dataset


@pytest.fixture
def call(call, labelled, tmp_path):
    """Run ``hydrogate spoil good.h5``."""
    write_dataset(labelled, tmp_path / "good.h5")
    return partial(call, "spoil", "good.h5")


def test_a_share_of_a_split_is_struck_and_the_file_stays(call, labelled, tmp_path):
    before = (tmp_path / "good.h5").read_bytes()
    status, out, _ = call("-o", "bad.h5", "--accident", "gradients_for_forces", "--share", "0.5", "--split", "test")
    test = labelled.subset(np.flatnonzero(labelled.split == "test"))
    assert status == 0
    assert f"applied to {round(len(test) / 2)} structures" in out
    bad = read_dataset(tmp_path / "bad.h5")
    turned = [
        bool((bad.forces[bad.atoms_of(row)] == -test.forces[test.atoms_of(row)]).all()) for row in range(len(bad))
    ]
    assert sum(turned) == round(len(test) / 2)
    assert (tmp_path / "good.h5").read_bytes() == before


def test_the_control_of_the_milestone_has_no_hydrogen_and_the_labels_of_its_heavy_atoms(labelled):
    bare, count = spoilt(labelled, "hydrogens_stripped", 1.0)
    heavy = labelled.numbers != 1
    assert count == len(labelled)
    np.testing.assert_array_equal(bare.numbers, labelled.numbers[heavy])
    np.testing.assert_array_equal(bare.forces, labelled.forces[heavy])
    assert "explicit_hydrogens" in [finding.check for finding in check(bare, "structures").refusals()]


def test_other_formats_and_at_least_one_structure(call, tmp_path, labelled):
    assert call("-o", "bad.extxyz", "--accident", "forces_in_kcal", "--share", "0")[0] == 0
    bad = read(tmp_path / "bad.extxyz")
    ratio = np.abs(bad.forces / labelled.forces)
    struck = [np.median(ratio[labelled.atoms_of(row)]) > 2 for row in range(len(labelled))]
    assert sum(struck) == 1


def test_what_cannot_be_done_is_said(call, labelled):
    status, _, err = call("-o", "bad.h5", "--accident", "forces_in_kal")
    assert status == 2
    assert "did you mean 'forces_in_kcal'" in err
    assert call("-o", "good.h5", "--accident", "forces_in_kcal")[0] == 2
    assert call("-o", "bad.h5", "--accident", "forces_in_kcal", "--split", "nowhere")[0] == 2
    with pytest.raises(BadParams, match="forces_in_kcal does not apply to"):
        spoilt(replace(labelled, energy=None, forces=None), "forces_in_kcal", 1.0)
