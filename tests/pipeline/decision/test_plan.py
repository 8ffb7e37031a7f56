"""`hydrogate plan` on metrics as they lie in git: no data, no DVC, no network."""

import json
import shutil
from functools import partial
from pathlib import Path

import pytest
import yaml

from hydrogate.checks.gates.planning import WORSENING
from hydrogate.pipeline.decision import decide
from hydrogate.pipeline.decision.plan import run

ROOT = Path(__file__).parents[3]
GOOD = {
    "force_rmse": {"value": 0.2, "unit": "eV/Å", "n": 200, "low": 0.18, "high": 0.22},
    "force_rmse_relative": {"value": 0.08, "unit": "", "n": 200, "low": 0.07, "high": 0.09},
    "hydrogen_force_error": {"value": 0.14, "unit": "", "n": 200, "low": 0.12, "high": 0.16},
    "angular_error_mean_deg": {"value": 5.4, "unit": "degree", "n": 200, "low": 5.1, "high": 5.8},
    "hydrogen_fraction": {"value": 0.46, "unit": "", "n": 200},
    "n_structures": {"value": 200.0, "unit": "molecules", "n": 200},
    "oxygen_over_carbon": {"value": 0.3, "unit": "", "n": 100, "low": 0.2, "high": 0.4},
}


@pytest.fixture
def project(tmp_path):
    """What a fresh clone has of a project."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    (tmp_path / "metrics").mkdir()
    write(tmp_path, "validation", GOOD)
    write(tmp_path, "training", {"convergence": {"value": 0.01, "unit": "", "n": 12}})
    return tmp_path


def write(root, name, content):
    (root / "metrics" / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")


def needs(plan):
    return {need.name: need.molecules for need in (*plan.gates, plan.milestone)}


def test_by_hand(project):
    found = run(project)
    assert found.held_out == 200
    decided = needs(found)
    assert decided["force_rmse"] == 32  # half width 0.02, the threshold 0.05 away: 200 (2/5)²
    assert decided["milestone"] == 32  # 0.25 is the nearest seam between two milestones
    assert decided["force_rmse_relative"] == 20  # min_n; the interval alone would need fewer
    assert decided["force_rmse_relative_hydrogen"] == pytest.approx(800, abs=1)  # undecided: 0.02 against 0.01
    assert decided["n_structures"] == 100
    # One-sided: 0.1 narrowed by 1.645/1.960 against 0.1, so min_n; and one molecule in two holds oxygen.
    assert decided["oxygen_over_carbon"] == 400
    # As the decision says it.
    judged = {item.name: item.molecules_needed for item in decide.run(project, lambda _: []).gates}
    for name in ("oxygen_over_carbon", "force_rmse_relative_hydrogen"):
        assert judged[name] == decided[name], name
    speeds = ("speedup_over_teacher", "kernel_speedup")
    for name in ("hydrogen_fraction", "convergence", "md_stability", *speeds, "regression"):
        assert decided[name] is None, name


def test_what_the_required_gates_lack_is_drawn_for_all_splits(project):
    found = run(project)
    assert found.more == pytest.approx(600 / 0.2, abs=10)
    assert found.command == (
        f"python3 -m nox -s hydrogate -- sample --count {found.more} --seed 1 && python3 -m nox -s repro"
    )
    write(project, "validation", GOOD | {"hydrogen_force_error": GOOD["force_rmse_relative"]})
    assert (run(project).more, run(project).command) == (0, "")  # oxygen_over_carbon is not required


def test_too_few_molecules_lack_some_whatever_the_intervals(project):
    few = {"value": 60.0, "unit": "molecules", "n": 60}
    write(project, "validation", GOOD | {"n_structures": few, "hydrogen_force_error": GOOD["force_rmse_relative"]})
    assert run(project).more == 200


def test_a_worsening_without_a_baseline_is_an_upper_bound_and_with_one_takes_fewer(project):
    found = run(project)
    assert found.worsening == WORSENING and not found.paired
    unpaired = {need.name: need.molecules for need in found.regression}
    assert list(unpaired) == ["force_rmse", "force_rmse_relative", "hydrogen_force_error", "angular_error_mean_deg"]
    ratio = {"value": 1.0, "unit": "", "n": 200, "low": 0.97, "high": 1.03}
    ratios = dict.fromkeys(unpaired, ratio)
    write(project, "validation", GOOD | {"regression": {"baseline_fingerprint": "B", **ratios}})
    paired = run(project)
    assert paired.paired
    assert all(need.molecules < unpaired[need.name] for need in paired.regression)


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("force_rmse", "value", 1e-200),
        ("force_rmse", "high", 1e308),
        ("oxygen_over_carbon", "low", -1e308),
        ("n_structures", "value", 1e308),
    ],
)
def test_figures_beyond_all_data_sets_are_planned_with(project, name, key, value):
    write(project, "validation", GOOD | {name: GOOD[name] | {key: value}})
    judged = {item.name for item in decide.run(project, lambda _: []).gates}
    assert {need.name for need in run(project).gates} == judged


def test_a_share_of_nothing_is_named(project):
    text = (project / "params.yaml").read_text(encoding="utf-8")
    spoiled = text.replace("valid: 0.10, test: 0.20", "valid: 0.30, test: 1.0e-310")
    (project / "params.yaml").write_text(spoiled, encoding="utf-8")
    with pytest.raises(ValueError, match="held-out fraction 1e-310 is too small: hold out more"):
        run(project)


def test_a_value_on_the_edge_is_decided_by_no_number(project):
    write(project, "validation", GOOD | {"force_rmse": GOOD["force_rmse"] | {"value": 0.25}})
    found = run(project)
    assert needs(found)["force_rmse"] is None and needs(found)["milestone"] is None
    assert "edge" in found.milestone.note


@pytest.mark.parametrize(
    ("half", "molecules", "verdict"), [(0.015625, 50, "pass"), (0.03125, 200, "pass"), (0.0625, 800, "undecided")]
)
def test_a_milestone_is_decided_where_the_interval_just_holds_no_seam(project, half, molecules, verdict):
    value = 0.25 - 0.03125  # of numbers that a computer holds exactly
    rmse = GOOD["force_rmse"] | {"value": value, "low": value - half, "high": value + half}
    write(project, "validation", GOOD | {"force_rmse": rmse})
    found = run(project).milestone
    assert (found.molecules, found.verdict, found.n) == (molecules, verdict, 200)


def test_an_undefined_metric_needs_the_least_number(project):
    write(project, "validation", GOOD | {"angular_error_mean_deg": {"value": "undefined", "unit": "degree", "n": 0}})
    found = {need.name: need for need in run(project).gates}["angular_error_mean_deg"]
    assert (found.verdict, found.molecules, found.note) == ("undecided", 20, "undefined")


@pytest.fixture
def call(call, project):
    """``hydrogate plan`` in the project."""
    return partial(call, "plan")


def test_the_three_forms(call):
    status, text, _ = call()
    assert status == 0
    assert "now 200" in text and "next: python3 -m nox -s hydrogate -- sample --count" in text
    status, out, _ = call("--format", "json")
    content = json.loads(out)
    assert content["gates"]["force_rmse"] == {
        "verdict": "pass", "required": True, "n": 200, "molecules": 32, "note": "",
    }  # fmt: skip
    assert content["milestone"]["molecules"] == 32
    assert set(content["regression"]) >= {"force_rmse", "hydrogen_force_error"}
    assert content["command"].endswith("nox -s repro")
    _, markdown, _ = call("--format", "markdown")
    assert "| force\\_rmse | pass | 200 | 32 |" in markdown


def test_the_committed_metrics_can_be_planned_with(call, project):
    for name in ("validation", "training"):
        shutil.copy(ROOT / "metrics" / f"{name}.json", project / "metrics")
    status, out, _ = call("--format", "json")
    assert status == 0
    assert json.loads(out)["gates"]["force_rmse"]["molecules"] >= 20


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda root: (root / "metrics/validation.json").unlink(), "missing metrics: metrics/validation.json"),
        (lambda root: (root / "metrics/validation.json").write_text("{"), "unreadable metrics"),
        (lambda root: write(root, "validation", {"force_rmse": {"value": 1}}), "validation.json: force_rmse"),
        (lambda root: write(root, "validation", {}), "force_rmse and n_structures not measured"),
        (lambda root: (root / "params.yaml").unlink(), "params.yaml: no such file"),
        (lambda root: no_test_split(root / "params.yaml"), "regenerate.split.test is 0"),
    ],
)
def test_what_cannot_be_planned_with_exits_2(call, project, spoil, says):
    spoil(project)
    status, out, err = call()
    assert (status, out) == (2, "")
    assert says in " ".join(err.split()) and "Traceback" not in err


def no_test_split(path):
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    content["regenerate"]["split"] |= {"train": 0.9, "test": 0.0}
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
