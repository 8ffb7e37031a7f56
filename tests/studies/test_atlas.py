"""Tests of the atlas of data corruptions on a few molecules: computation, stored results, resuming."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hydrogate.checks import Dataset
from hydrogate.checks.accidents import ACCIDENTS
from hydrogate.checks.errors import BadParams
from hydrogate.pipeline.params import Params, load_params
from hydrogate.pipeline.stages import label
from hydrogate.pipeline.storage.hdf5 import write_dataset
from studies.atlas import __main__ as command
from studies.atlas import damage, study
from studies.atlas.cases import WORK, Budget, Cases
from studies.atlas.damage import Task
from studies.atlas.study import Atlas
from studies.validators import load_validator

ROOT = Path(__file__).resolve().parents[2]
BUDGET = Budget(molecules=20, held_out=4, epochs=1, md_molecules=2, md_ps=0.005, clean_sets=2)


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    monkeypatch.chdir(tmp_path)
    params = load_params(ROOT / "params.yaml")
    size = {**params.train.size, "features": 16, "layers": 1}
    train = params.train.model_copy(update={"sizes": {params.train.student: size}})
    return params.model_copy(update={"train": train, "label": params.label.model_copy(update={"workers": 1})})


@pytest.fixture
def small(params: Params, labelled: Dataset) -> Atlas:
    return Atlas(params, labelled, BUDGET, Path("atlas.json"))


def task(of: Atlas, data: Dataset, key: str) -> Task:
    train = of.params.train.model_copy(update={"epochs": 1, "processes": 1, "compile": "never"})
    return Task(key, data, of.test, train, of._dynamics(), 0.5, WORK)


def test_the_sample_and_what_it_is_tested_on_share_no_molecule(small: Atlas, labelled: Dataset) -> None:
    molecules = [set(part.source_index.tolist()) for part in (small.sample, small.test, small.cases.rest)]
    assert [len(some) for some in molecules[:2]] == [20, 4]
    assert sum(map(len, molecules)) == len(set.union(*molecules)) == 36
    assert set(small.sample.split) == {"train", "valid"}
    assert set(small.test.split) == {"test"}
    assert len(set(small.sample.source.tolist())) == len(small.sample)


def test_an_accident_before_labelling_is_labelled_again_and_others_are_not(small: Atlas) -> None:
    accidents = small.cases.accidents()
    rounded = small.cases.case(accidents["positions_rounded"], "100 %").data
    assert rounded is not None
    np.testing.assert_array_equal(rounded.forces, small.sample.forces)
    ions = small.cases.case(accidents["charges_lost"], "100 %").data
    assert ions is not None
    struck = np.flatnonzero(ions.spin_multiplicity == 2)
    assert len(struck)
    assert len(ions) == len(small.sample)
    assert np.isfinite(ions.forces).all()
    assert (np.abs(ions.energy[struck] - small.sample.energy[struck]) > 1.0).all()


def test_the_other_method_labels_its_part(small: Atlas) -> None:
    mixed = small.cases.case(small.cases.accidents()["two_methods"], "20 %")
    assert mixed.data is not None
    differs = np.flatnonzero(mixed.data.energy != small.sample.energy)
    assert len(differs) == mixed.structures == round(0.2 * len(small.sample))


def test_an_accident_that_cannot_happen_is_no_case(params: Params, labelled: Dataset) -> None:
    alone = replace(labelled, smiles=np.full(len(labelled), "", dtype=object))
    case = Cases(params, alone, BUDGET).case(ACCIDENTS["smiles_of_another"], "5 %")
    assert case.data is None
    assert "fewer than two different SMILES" in case.unusable


def test_detection_is_kept_and_not_repeated(small: Atlas, labelled: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    names, strengths, validators = ["gradients_for_forces", "nan_in_one_atom"], ["100 %"], ["hydrogate", "ase_reading"]
    small.detection(names, strengths, validators)
    found = json.loads(small.path.read_text())
    seen = {name: entry["100 %"] for name, entry in found["detection"].items()}
    assert {name: one["hydrogate"]["complaints"] > 0 for name, one in seen.items()} == dict.fromkeys(names, True)
    assert seen["gradients_for_forces"]["ase_reading"]["complaints"] == 0
    assert "labels: restoring_forces" in seen["gradients_for_forces"]["hydrogate"]["examples"]
    assert found["false_alarms"]["ase_reading"]["sets"] == 2
    asked: list[str] = []
    monkeypatch.setattr(study, "load_validator", lambda name: counting(name, asked))
    Atlas(small.params, labelled, BUDGET, small.path).detection(names, strengths, validators)
    assert asked == 2 * ["hydrogate", "ase_reading"]  # only for the clean sample, with and without labels


def test_what_strikes_before_the_labels_is_looked_at_before_them_too(small: Atlas) -> None:
    case = small.cases.case(ACCIDENTS["hydrogens_at_origin"], "5 %")
    assert case.before is not None
    assert case.before.forces is None
    assert len(case.data) < len(case.before) == len(small.sample)  # the teacher labels none of the corrupted structures
    small.detection(["hydrogens_at_origin"], ["5 %"], ["hydrogate", "so3lr_filters"])
    said = small.report["detection"]["hydrogens_at_origin"]["5 %"]
    seen_before = load_validator("hydrogate").complaints(case.before)
    assert "structures: min_distance" in seen_before
    assert not any(complaint.startswith("labels") for complaint in seen_before)
    assert said["hydrogate"]["complaints"] > len(seen_before)
    assert said["so3lr_filters"]["complaints"] == case.structures


def counting(name: str, asked: list[str]) -> Any:
    real = load_validator(name)

    def complaints(data: Dataset) -> list[str]:
        asked.append(name)
        return real.complaints(data)

    return real._replace(complaints=complaints)


def test_a_student_of_spoiled_data_is_worse(small: Atlas) -> None:
    wrong = replace(small.sample, forces=-small.sample.forces)
    clean, spoiled = damage.run([task(small, small.sample, "clean"), task(small, wrong, "wrong")])
    assert clean["force_rmse"]["value"] < spoiled["force_rmse"]["value"]
    assert clean["steps"] == spoiled["steps"]
    found = damage.ratios(WORK, "wrong", "clean")
    assert found["force_rmse"].value == pytest.approx(spoiled["force_rmse"]["value"] / clean["force_rmse"]["value"])
    assert found["force_rmse"].low > 1.0
    assert set(found) >= {"force_rmse", "force_rmse_H", "energy_mae_per_atom"}
    assert not list(WORK.glob("*.work"))


def test_data_that_teach_nothing_of_hydrogen_are_a_result(small: Atlas) -> None:
    bare = small.cases.case(small.cases.accidents()["nan_in_one_atom"], "100 %").data
    heavy = small.sample.subset([])
    for key, data in (("nan", bare), ("empty", heavy)):
        (found,) = damage.run([task(small, data, key)])
        assert found["key"] == key
        assert found["no_student"]


def test_the_study_goes_on_where_it_was_and_prints_a_table(
    params: Params, labelled: Dataset, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("data").mkdir()
    write_dataset(labelled, Path("data/labelled.h5"))
    monkeypatch.setattr(command, "load_params", lambda: params)
    accidents = ["forces_in_kcal", "energies_in_single_precision"]
    words = ["--accidents", *accidents, "--strengths", "5 %", "20 %", "--validators", "hydrogate", "--workers"]
    small = ["--molecules", "20", "--held-out", "4", "--epochs", "1", "--md-molecules", "1", "--md-ps", "0.005"]
    words = [*words, "1", *small, "--clean-sets", "2"]
    assert command.main(["damage", "detection", *words]) == 0
    said = capsys.readouterr().out
    assert "| [`forces_in_kcal`](https://github.com/torchmd/torchmd-protein-thermodynamics/issues/22)" in said
    assert "Students were trained on 3 of 4 corrupted samples" in said
    kept = json.loads(command.REPORT.read_text())
    assert len(kept["runs"]) == 6  # three seeds on the clean sample, three corrupted samples
    cases = [(name, at, one["content"]) for name in accidents for at, one in kept["cases"][name].items()]
    assert {(name, at) for name, at, content in cases if f"{content}-0" in kept["runs"]} == {
        ("forces_in_kcal", "20 %"),
        ("forces_in_kcal", "5 %"),
        ("energies_in_single_precision", "20 %"),  # not costly, so that 5 % is not run
    }
    monkeypatch.setattr(study, "over_workers", lambda *_: pytest.fail("trained again"))
    assert command.main(["damage", *words]) == 0
    assert json.loads(command.REPORT.read_text())["runs"] == kept["runs"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["detecton"], "part 'detecton' is unknown; did you mean 'detection'"),
        (["--accidents", "forces_permutd"], "did you mean 'forces_permuted'"),
        (["--strengths", "7 %"], "strength '7 %' is unknown"),
        (["--molecules", "5000"], "28 molecules where 5000 are needed"),
    ],
)
def test_what_there_is_not_is_refused(
    words: list[str], message: str, params: Params, labelled: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("data").mkdir()
    write_dataset(labelled, Path("data/labelled.h5"))
    monkeypatch.setattr(command, "load_params", lambda: params)
    small = [] if "--molecules" in words else ["--molecules", "20"]
    with pytest.raises(BadParams, match=message):
        command.main([*words, *small, "--held-out", "4"])


def test_where_the_teacher_labels_nothing_there_is_a_case_and_no_student(
    small: Atlas, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: object) -> Dataset:
        raise ValueError("the teacher xtb labelled none of 60 structures")

    monkeypatch.setattr(label, "run", refuses)
    data = small.cases.case(small.cases.accidents()["hydrogens_at_origin"], "100 %").data
    assert data is not None
    assert data.forces is None
    (found,) = damage.run([task(small, data, "none")])
    assert "no labels to train on" in found["no_student"]
