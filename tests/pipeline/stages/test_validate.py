"""Stage validate on a small analytic student: output files, metrics and rejected inputs."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from ase.build import molecule

from hydrogate.checks.data.dataset import concatenate
from hydrogate.pipeline.params import Validate
from hydrogate.pipeline.stages import validate
from hydrogate.pipeline.storage.hdf5 import read_dataset, write_dataset

PARAMS = Validate(split="test", batch_size=3, angular_floor=0.5, resamples=200, seed=0, baseline=None)
IDENTITY = {"name": "springs", "kind": "student", "fingerprint": "f" * 64}


def springs(strength):
    """Return a potential with springs of 1.2 Å between all pairs; energies (eV) and forces (eV/Å)."""

    def potential(structures):
        results = []
        for atoms in structures:
            vectors = atoms.positions[:, None] - atoms.positions[None]
            distances = np.linalg.norm(vectors, axis=2) + 1.2 * np.eye(len(atoms))
            energy = 0.25 * strength * float(((distances - 1.2) ** 2).sum()) - 100.0 * float(atoms.numbers.sum())
            forces = -strength * ((distances - 1.2) / distances)[:, :, None] * vectors
            results.append((energy, forces.sum(axis=1)))
        return results

    return potential


def labelled():
    structures = [molecule(name) for name in ("H2O", "CH4", "CH3CH2OH", "NH3", "C6H6", "CH3OH")] * 2
    answers = springs(1.0)(structures)
    data = concatenate(
        structures, energy=[energy for energy, _ in answers], forces=[forces for _, forces in answers],
        split=["train"] * 4 + ["test"] * 8, teacher={"name": "analytic"}, parent=list(range(6)) * 2,
    )  # fmt: skip
    return replace(data, n_read=12)


def run(potential, data=None, exact=None, baseline=None, declared=None, **changes):
    data = labelled() if data is None else data
    params = PARAMS.model_copy(update=changes | {"baseline": declared})
    return validate.run(data, potential, exact or potential, IDENTITY, params, baseline)


def test_the_held_out_split_is_predicted_in_order_and_nothing_else():
    data = labelled()
    predictions = run(springs(1.1)).predictions
    assert len(predictions) == 8
    assert set(predictions.split) == {"test"}
    held_out = data.subset(range(4, 12))
    assert predictions.numbers.tolist() == held_out.numbers.tolist()
    assert predictions.forces == pytest.approx(1.1 * held_out.forces, rel=1e-5, abs=1e-6)
    assert predictions.teacher == IDENTITY
    assert predictions.quarantine == ()


def test_a_student_ten_per_cent_too_stiff_is_ten_per_cent_off():
    metrics = run(springs(1.1)).metrics
    assert metrics["force_rmse_relative"].value == pytest.approx(0.1, rel=1e-4)
    assert metrics["angular_error_mean_deg"].value == pytest.approx(0.0, abs=1e-4)
    assert metrics["n_structures"].value == 6.0
    assert metrics["force_gradient_error"].value < 1e-5
    assert metrics["force_gradient_error"].n == 8


def test_forces_that_are_no_gradient_show_through_the_exact_potential():
    def wrong(structures):
        return [(energy, 1.05 * forces) for energy, forces in springs(1.0)(structures)]

    assert run(springs(1.0), exact=wrong).metrics["force_gradient_error"].value == pytest.approx(0.05, rel=1e-3)


def test_a_prediction_that_is_not_finite_leaves_the_metric_undefined_and_the_file_valid():
    def lost(structures):
        return [(math.nan, forces * math.nan) for _, forces in springs(1.0)(structures)]

    content = validate.to_json(run(lost), "test", {})
    assert content["force_rmse"] == {"value": "undefined", "unit": "eV/Å", "n": 6}
    assert content["force_gradient_error"]["value"] == "undefined"
    json.dumps(content, allow_nan=False)


def test_the_metrics_file_holds_plain_finite_numbers_and_strings():
    content = validate.to_json(run(springs(1.1)), "test", {"labelled_fingerprint": "abc"})
    assert content["labelled_fingerprint"] == "abc"
    assert (content["split"], content["structures"]) == ("test", 8)
    text = json.dumps(content, allow_nan=False)
    assert "null" not in text and "[" not in text
    assert set(content["force_rmse"]) == {"value", "unit", "n", "low", "high"}
    assert content["force_rmse"]["low"] <= content["force_rmse"]["value"] <= content["force_rmse"]["high"]
    assert set(content["n_structures"]) == {"value", "unit", "n"}


def test_without_a_declared_baseline_nothing_is_said_of_one():
    assert "regression" not in validate.to_json(run(springs(1.1)), "test", {})


def test_the_ratio_to_a_baseline_that_is_half_as_far_off():
    baseline = run(springs(1.05)).predictions
    regression = run(springs(1.1), baseline=baseline, declared="b.h5").regression
    assert regression["baseline_fingerprint"] == baseline.fingerprint()
    for name in ("force_rmse", "force_rmse_relative", "hydrogen_force_error"):
        assert regression[name]["value"] == pytest.approx(2.0, rel=1e-3)
        assert regression[name]["n"] == 6 and regression[name]["low"] == pytest.approx(2.0, rel=1e-3)
    content = validate.to_json(run(springs(1.1), baseline=baseline, declared="b.h5"), "test", {})
    assert content["regression"] == regression
    json.dumps(content, allow_nan=False)


def test_a_baseline_that_is_not_here_or_of_other_structures_was_not_compared():
    assert run(springs(1.1), declared="gone.h5").regression == {
        "not_run": "gone.h5, named by validate.baseline, does not exist"
    }
    other = replace(labelled(), split=np.array(["test"] * 8 + ["train"] * 4, dtype=object))
    baseline = run(springs(1.05), data=other).predictions
    regression = run(springs(1.1), baseline=baseline, declared="b.h5").regression
    assert set(regression) == {"baseline_fingerprint", "not_run"}
    assert regression["not_run"].startswith("b.h5 has other structures than split test: structure 0")


def test_an_empty_split_is_refused_with_the_splits_that_there_are():
    with pytest.raises(ValueError, match=r"no structure of split 'valid'.*test, train.*validate\.split"):
        run(springs(1.0), split="valid")


def test_unlabelled_data_are_refused():
    with pytest.raises(ValueError, match="the reference has no forces"):
        run(springs(1.0), data=replace(labelled(), energy=None, forces=None))


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda structures: springs(1.0)(structures)[:-1], "2 predictions for 3 structures"),
        (
            lambda structures: [(e, f[:-1]) for e, f in springs(1.0)(structures)],
            r"structure 0 \(C6H6\): the student returned forces of shape \(11, 3\), expected \(12, 3\)",
        ),
    ],
)
def test_answers_that_do_not_fit_are_refused(answer, says):
    with pytest.raises(ValueError, match=says):
        run(answer)


def test_the_stage_writes_its_files_and_their_fingerprints(tmp_path, monkeypatch, project):
    """Run ``main`` with a small student of the pipeline's own architecture."""
    from hydrogate.models.potential import Support
    from hydrogate.models.student_file import file_fingerprint, save_student
    from hydrogate.models.students import make_student

    monkeypatch.chdir(project)
    data = labelled()
    write_dataset(data, project / "data/labelled.h5")
    structures = [data.to_atoms(row) for row in range(len(data))]
    student = make_student("painn", {"features": 4, "layers": 1, "radial": 4, "cutoff": 3.0}, Support.of(structures))
    save_student(student, project / "data/student.safetensors", {})
    assert validate.main([]) == 0
    content = json.loads((project / "metrics/validation.json").read_text())
    predictions = read_dataset(project / "data/predictions.h5")
    assert content["labelled_fingerprint"] == data.fingerprint()
    assert content["predictions_fingerprint"] == predictions.fingerprint()
    assert content["student_fingerprint"] == predictions.teacher["fingerprint"]
    assert content["student_fingerprint"] == file_fingerprint(project / "data/student.safetensors")
    assert content["force_gradient_error"]["value"] < 1e-4
    assert sorted(path.name for path in (project / "plots/validation").iterdir()) == [
        "angles.png", "error_by_element.png", "parity_energy.png", "parity_forces.png",
    ]  # fmt: skip


@pytest.mark.parametrize("kept", [True, False])
def test_the_stage_compares_with_the_predictions_that_it_left(project, monkeypatch, kept):
    from hydrogate.models.potential import Support
    from hydrogate.models.student_file import save_student
    from hydrogate.models.students import make_student

    monkeypatch.chdir(project)
    data = labelled()
    write_dataset(data, project / "data/labelled.h5")
    support = Support.of([data.to_atoms(row) for row in range(len(data))])
    student = make_student("painn", {"features": 4, "layers": 1, "radial": 4, "cutoff": 3.0}, support)
    save_student(student, project / "data/student.safetensors", {})
    shipped = (project / "params.yaml").read_text(encoding="utf-8")
    assert "  baseline: null" in shipped
    changed = shipped.replace("  baseline: null", "  baseline: baseline/predictions.h5")
    (project / "params.yaml").write_text(changed, encoding="utf-8")
    if kept:
        write_dataset(run(springs(1.1)).predictions, project / "baseline/predictions.h5")
    assert validate.main([]) == 0
    regression = json.loads((project / "metrics/validation.json").read_text())["regression"]
    assert ("not_run" in regression) != kept
    assert ("force_rmse" in regression) == kept


def test_a_damaged_baseline_is_an_unusable_input(project, monkeypatch):
    from hydrogate.pipeline.storage.hdf5 import UnreadableFile

    monkeypatch.chdir(project)
    (project / "data/b.h5").write_bytes(b"no HDF5")
    with pytest.raises(UnreadableFile, match=r"b\.h5"):
        validate.read_baseline("data/b.h5")


@pytest.fixture
def project(tmp_path):
    """Folder with the shipped parameters and the folder ``data``."""
    from pathlib import Path

    shipped = (Path(__file__).parents[3] / "params.yaml").read_text(encoding="utf-8")
    (tmp_path / "params.yaml").write_text(shipped, encoding="utf-8")
    (tmp_path / "data").mkdir()
    return tmp_path


def test_a_missing_student_is_an_unusable_input(project, monkeypatch):
    monkeypatch.chdir(project)
    with pytest.raises(FileNotFoundError, match=r"student\.safetensors"):
        validate.main([])
