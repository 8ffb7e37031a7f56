"""The gate ``regression``: the decision beside another student's predictions."""

import numpy as np
import pytest
import yaml
from ase.build import molecule

from hydrogate.checks.data.dataset import concatenate
from hydrogate.pipeline.storage.hdf5 import write_dataset

# DVC calls pygtrie in a way that pygtrie deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")

RATIO = {"value": 0.98, "unit": "", "n": 200, "low": 0.95, "high": 1.01}
REQUIRED = ("force_rmse", "force_rmse_relative", "hydrogen_force_error", "angular_error_mean_deg")


def with_baseline(project, required=True, **changes):
    """Declare a baseline, and ratios to it as the stage validate writes them."""
    content = yaml.safe_load((project.root / "params.yaml").read_text(encoding="utf-8"))
    content["validate"]["baseline"] = "baseline/predictions.h5"
    content["gates"]["regression"]["required"] = required
    (project.root / "params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    regression = {"baseline_fingerprint": "B"} | dict.fromkeys(REQUIRED, RATIO) | changes
    project.change("validation", regression={name: ratio for name, ratio in regression.items() if ratio is not None})


def test_a_student_that_is_no_worse_than_the_baseline_passes(project):
    with_baseline(project)
    decision, written = project.decided()
    assert decision.milestone == "m4_cuda_optimization"
    assert "10 of 10 required gates pass" in decision.because
    gate = written["gates"]["regression"]
    assert (gate["verdict"], gate["n"]) == ("pass", 200)
    assert gate["value"] < gate["high"] < 1.1
    assert "against baseline/predictions.h5: " in gate["message"] and "force_rmse 0.980" in gate["message"]


def test_one_metric_that_is_worse_than_the_baselines_fails(project):
    worse = {"value": 1.2, "unit": "", "n": 200, "low": 1.15, "high": 1.25}
    with_baseline(project, hydrogen_force_error=worse)
    decision, written = project.decided()
    assert (decision.milestone, decision.rule) == ("fix_regression", 4)
    assert "hydrogen_force_error 1.200" in decision.because
    assert written["gates"]["regression"]["allowed"] == "<= 1 (tolerance 0.1)"
    with_baseline(project, required=False, hydrogen_force_error=worse)
    assert project.decided()[0].milestone == "m4_cuda_optimization"


def test_a_metric_that_no_required_gate_judges_may_be_worse(project):
    with_baseline(project, force_mae={"value": 2.0, "unit": "", "n": 200, "low": 1.9, "high": 2.1})
    assert project.decided()[0].milestone == "m4_cuda_optimization"


def test_a_ratio_that_could_hide_a_tenth_is_undecided_and_says_how_many_molecules_decide(project):
    with_baseline(project, force_rmse={"value": 1.0, "unit": "", "n": 200, "low": 0.88, "high": 1.12})
    decision, written = project.decided()
    assert (decision.milestone, decision.rule) == ("more_validation_data", 5)
    assert written["gates"]["regression"]["molecules_needed"] > 200


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"not_run": "b.h5 holds other structures"}, "b.h5 holds other structures"),
        ({"hydrogen_force_error": None}, "holds no ratio of hydrogen_force_error"),
    ],
)
def test_a_baseline_that_was_not_compared_is_not_run_and_passes_only_where_it_is_not_required(project, changes, says):
    with_baseline(project, **changes)
    decision, written = project.decided()
    assert written["gates"]["regression"]["verdict"] == "not_run"
    assert (decision.milestone, decision.rule) == ("more_validation_data", 5)
    assert says in decision.because
    assert decision.command == "python3 -m nox -s repro -- -S train.epochs=24"  # more molecules would not help
    with_baseline(project, required=False, **changes)
    assert project.decided()[0].milestone == "m4_cuda_optimization"


def test_an_undefined_ratio_is_undecided(project):
    with_baseline(project, force_rmse={"value": "undefined", "unit": "", "n": 200})
    decision, written = project.decided()
    assert written["gates"]["regression"]["verdict"] == "undecided"
    assert decision.milestone == "more_validation_data"


def test_without_a_declared_baseline_old_ratios_do_not_count(project):
    project.change("validation", regression={"baseline_fingerprint": "B", **dict.fromkeys(REQUIRED, RATIO)})
    _, written = project.decided()
    assert written["gates"]["regression"]["verdict"] == "not_run"
    assert "validate.baseline names no predictions" in written["gates"]["regression"]["message"]


@pytest.mark.parametrize("block", [{"force_rmse": {"value": 1.0}}, 7, [], "x"])
def test_ratios_that_cannot_be_read_block(project, block):
    with_baseline(project)
    project.change("validation", regression=block)
    decision, _ = project.decided()
    assert decision.blocked
    assert "validation.json: regression" in decision.because


def test_another_baseline_than_the_one_compared_with_is_stale_and_an_absent_one_is_not(project):
    with_baseline(project)
    path = project.root / "baseline/predictions.h5"
    data = concatenate([molecule("CH4")], energy=[1.0], forces=[np.ones((5, 3))])
    write_dataset(data, path)
    decision, _ = project.decided()
    assert decision.blocked
    assert "baseline/predictions.h5 is not what metrics/validation.json compares with" in decision.because
    with_baseline(project, baseline_fingerprint=data.fingerprint())
    assert not project.decided()[0].blocked
    path.write_bytes(b"no HDF5")
    assert "baseline/predictions.h5" in project.decided()[0].because
    path.unlink()
    assert not project.decided()[0].blocked
