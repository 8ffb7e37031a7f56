"""Inputs that the check stages add to the data: the student's support and the displacement of heavy atoms."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hydrogate.checks import Dataset, Verdict
from hydrogate.pipeline.formats.join import join
from hydrogate.pipeline.params import Params, load_params
from hydrogate.pipeline.stages import check
from hydrogate.pipeline.storage.hdf5 import read_dataset, write_dataset

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def params(monkeypatch: pytest.MonkeyPatch) -> Params:
    monkeypatch.chdir(ROOT)
    return load_params()


def test_the_student_will_know_what_train_holds(structures: Dataset, params: Params) -> None:
    charge = structures.charge.copy()
    charge[structures.split == "test"] = 1
    known = check.student_support(params, replace(structures, charge=charge))
    assert known["elements"] == (1, 6, 7, 8, 9, 16, 17)
    assert known["charges"] == (0,)
    assert known["spin_multiplicities"] == (1,)
    assert (known["cutoff"], known["reads_charge"]) == (params.train.size["cutoff"], False)


@pytest.mark.parametrize(("charge", "verdict"), [(0, Verdict.PASS), (1, Verdict.FAIL)])
def test_a_charge_that_train_does_not_hold_is_refused(
    structures: Dataset, params: Params, tmp_path: Path, charge: int, verdict: Verdict
) -> None:
    charges = structures.charge.copy()
    charges[0] = charge
    assert structures.split[0] == "test"
    write_dataset(replace(structures, charge=charges), tmp_path / "structures.h5")
    report = check.run("structures", params, tmp_path)
    assert next(f for f in report.findings if f.check == "student_fit").verdict is verdict
    assert not [f for f in report.findings if f.verdict in (Verdict.NOT_RUN, Verdict.ERROR)]


def test_how_far_heavy_atoms_moved_survives_files_subsets_and_joins(structures: Dataset, tmp_path: Path) -> None:
    write_dataset(structures, tmp_path / "d.h5")
    read = read_dataset(tmp_path / "d.h5")
    assert np.array_equal(read.heavy_atoms_moved, structures.heavy_atoms_moved, equal_nan=True)
    assert np.isnan(read.subset([1, 0]).heavy_atoms_moved).tolist() == [True, False]
    unrecorded = replace(read.subset([0]), heavy_atoms_moved=None)
    assert np.isnan(join([read.subset([0]), unrecorded]).heavy_atoms_moved).tolist() == [False, True]
    assert join([unrecorded, unrecorded]).heavy_atoms_moved is None
