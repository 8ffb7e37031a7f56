"""The decision on small trees of metrics, good and spoilt, and against DVC's own account of what has changed."""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from ase.build import molecule
from rich.console import Console

from hydrogate.checks.dataset import concatenate
from hydrogate.checks.declared import BadParams
from hydrogate.checks.findings import Finding, Report, Severity, Verdict
from hydrogate.checks.render.decision import decision_text
from hydrogate.pipeline import decide
from hydrogate.pipeline.decide import Stale
from hydrogate.pipeline.hdf5 import write_dataset
from hydrogate.pipeline.params import load_params
from hydrogate.pipeline.records import digest_of
from hydrogate.pipeline.speed import identity

# DVC calls pygtrie in a way that pygtrie deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")

SHIPPED = Path(__file__).parents[2] / "params.yaml"
GOOD = {
    "force_rmse": {"value": 0.2, "unit": "eV/Å", "n": 200, "low": 0.19, "high": 0.21},
    "force_rmse_relative": {"value": 0.08, "unit": "", "n": 200, "low": 0.07, "high": 0.09},
    "hydrogen_force_error": {"value": 0.06, "unit": "", "n": 200, "low": 0.05, "high": 0.07},
    "angular_error_mean_deg": {"value": 5.4, "unit": "degree", "n": 200, "low": 5.1, "high": 5.8},
    "hydrogen_fraction": {"value": 0.46, "unit": "", "n": 200},
    "n_structures": {"value": 200.0, "unit": "molecules", "n": 200},
    "oxygen_over_carbon": {"value": 0.3, "unit": "", "n": 180, "low": 0.2, "high": 0.4},
}
STABLE = {
    "labelled_fingerprint": "L",
    "student_fingerprint": "S",
    "md_stability": {"value": 1.0, "unit": "", "n": 20},
    "md_drift": {"value": 0.02, "unit": "meV/atom/ps", "n": 20, "low": 0.01, "high": 0.03},
}


def clean(root):
    return []


def finding(contract, verdict=Verdict.PASS, check="finite", severity=Severity.ERROR):
    return Finding(
        contract, check, verdict, severity, "structure 1207 (C9O4) has 0 explicit H.", n=1, remedy="Mend it.",
    )  # fmt: skip


def write(root, name, content):
    path = root / "metrics" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def write_report(root, contract, *findings, fingerprint):
    report = Report(contract, "druglike", fingerprint, findings or (finding(contract),))
    write(root, contract, report.to_dict(strict=True))


@pytest.fixture
def project(tmp_path):
    """A project whose last run went well."""
    shutil.copy(SHIPPED, tmp_path / "params.yaml")
    for contract, fingerprint in (("input", "s"), ("structures", "s"), ("labels", "L"), ("predictions", "P")):
        write_report(tmp_path, contract, fingerprint=fingerprint)
    write(
        tmp_path,
        "training",
        {
            "labelled_fingerprint": "L",
            "student_fingerprint": "S",
            "convergence": {"value": 0.01, "unit": "", "n": 12},
            "force_rmse": {"value": 9.0, "unit": "eV/Å", "n": 9},  # of another split: not what is judged
        },
    )
    fingerprints = {"labelled_fingerprint": "L", "student_fingerprint": "S", "predictions_fingerprint": "P"}
    write(tmp_path, "validation", {"split": "test", **fingerprints, **GOOD})
    write(tmp_path, "md", STABLE)
    return tmp_path


def change(root, name, **changes):
    path = root / "metrics" / f"{name}.json"
    content = json.loads(path.read_text()) | changes
    write(root, name, {key: value for key, value in content.items() if value is not None})


def decided(root, stale=clean):
    """The decision, and what was written of it."""
    decision = decide.run(root, stale)
    decide.write_decision(decision, root)
    written = json.loads((root / "metrics/decision.json").read_text(encoding="utf-8"))
    assert written["next_milestone"] == decision.milestone
    return decision, written


def test_a_good_run_is_accepted(project):
    decision, written = decided(project)
    assert (decision.milestone, decision.rule, decision.status) == ("m4_cuda_optimization", 6, "accepted")
    assert written["command"] == "python3 -m nox -s benchmarks"
    assert "9 of 9 required gates pass" in written["because"]
    assert written["gates"]["force_rmse"] == {
        "verdict": "pass", "required": True, "metric": "force_rmse", "allowed": "< 0.25", "confidence": 0.95,
        "value": 0.2, "unit": "eV/Å", "n": 200, "low": 0.19, "high": 0.21,
        "message": "0.2 eV/Å (0.19 to 0.21, n = 200), allowed < 0.25 eV/Å",
    }  # fmt: skip
    assert written["gates"]["convergence"]["verdict"] == "pass"
    assert (written["labelled_fingerprint"], written["student_fingerprint"]) == ("L", "S")


def test_the_decision_holds_plain_numbers_and_strings(project):
    _, written = decided(project)

    def leaves(content):
        for value in content.values():
            yield from leaves(value) if isinstance(value, dict) else (value,)

    assert {type(leaf) for leaf in leaves(written)} == {str, int, float, bool}
    json.dumps(written, allow_nan=False)


def test_gates_that_are_not_required_are_reported_and_do_not_decide(project):
    _, written = decided(project)
    gates = written["gates"]
    assert gates["oxygen_over_carbon"]["verdict"] == "undecided"
    assert gates["oxygen_over_carbon"]["molecules_needed"] == 223  # 200 of which nine in ten hold oxygen
    for name in ("speedup_over_teacher", "kernel_speedup", "regression"):
        assert gates[name]["verdict"] == "not_run"
        assert "was not measured" in gates[name]["message"]


@pytest.mark.parametrize(("student", "verdict"), [("S", "fail"), ("another", "not_run")])
def test_speeds_are_judged_where_they_are_this_student_s_and_block_nothing(project, student, verdict):
    content = identity(load_params(project / "params.yaml"), student) | {"device": "cpu", "batch": 32}
    content["speedup_over_teacher"] = {"value": 3.0, "unit": "times", "n": 9, "low": 2.9, "high": 3.1}
    write(project, "benchmarks", content)
    decision, written = decided(project)
    assert decision.milestone == "m4_cuda_optimization"
    assert written["gates"]["speedup_over_teacher"]["verdict"] == verdict
    assert written["gates"]["speedup_over_teacher"].get("value") == (3.0 if verdict == "fail" else None)
    assert written["gates"]["kernel_speedup"]["verdict"] == "not_run"


def test_the_held_out_split_is_judged_and_not_what_the_training_measured(project):
    _, written = decided(project)
    assert written["gates"]["force_rmse"]["value"] == 0.2


@pytest.mark.parametrize("contract", ["input", "structures", "labels", "predictions"])
@pytest.mark.parametrize("verdict", [Verdict.FAIL, Verdict.UNDECIDED, Verdict.ERROR, Verdict.NOT_RUN])
def test_a_contract_that_does_not_hold_blocks_and_is_named(project, contract, verdict):
    fingerprint = {"input": "s", "structures": "s", "labels": "L", "predictions": "P"}[contract]
    findings = [finding(contract), finding(contract, verdict, "explicit_hydrogens")]
    write_report(project, contract, *findings, fingerprint=fingerprint)
    decision, written = decided(project)
    assert (decision.milestone, decision.rule) == ("blocked", 1)
    said = f"contract {contract}, check explicit_hydrogens: structure 1207 (C9O4) has 0 explicit H."
    assert decision.because == (f"{said} Mend it." if verdict == "fail" else said)
    assert written["gates"]["force_rmse"]["verdict"] == "pass"  # the student was good; its data are not
    assert decision.command == "python3 -m nox -s repro"  # a fresh clone: no data to look at
    if contract != "input":
        path = project / "data" / decide.DATA_OF[contract]
        path.parent.mkdir()
        path.touch()
        assert f"-- check data/{path.name} --contract {contract}" in decided(project)[0].command


def test_further_refusals_are_counted_and_named(project):
    findings = [finding("labels", Verdict.FAIL, check) for check in ("finite", "complete", "net_force")]
    write_report(project, "labels", *findings, fingerprint="L")
    assert decided(project)[0].because.endswith("(and 2 more: complete, net_force)")


def test_a_warning_does_not_block(project):
    warned = finding("labels", Verdict.FAIL, "constant_labels", Severity.WARN)
    write_report(project, "labels", finding("labels"), warned, fingerprint="L")
    assert decided(project)[0].milestone == "m4_cuda_optimization"


def test_a_contract_of_which_no_check_ran_blocks(project):
    change(project, "labels", checks={}, findings=[])
    assert "contract labels: no check ran" in decided(project)[0].because


def test_a_report_that_claims_to_hold_is_judged_by_its_findings(project):
    write_report(project, "labels", finding("labels", Verdict.FAIL), fingerprint="L")
    change(project, "labels", holds=True, verdict="pass")
    assert decided(project)[0].blocked


@pytest.mark.parametrize("name", ["input", "structures", "labels", "predictions", "training", "validation"])
@pytest.mark.parametrize("content", [None, "", "{", "[]", "null", "{}", "[" * 100_000], ids=lambda text: str(text)[:5])
def test_metrics_that_are_missing_or_unreadable_block_and_are_named(project, name, content):
    path = project / "metrics" / f"{name}.json"
    path.unlink()
    if content is not None:
        path.write_text(content, encoding="utf-8")
    decision, _ = decided(project)
    assert (decision.milestone, decision.rule) == ("blocked", 1)
    assert f"{name}.json" in decision.because or f"no metrics/<contract>.json: contract {name}" in decision.because


@pytest.mark.parametrize(
    ("name", "key", "says"),
    [
        ("labels", "fingerprint", "labels.json and metrics/training.json are of different files"),
        ("training", "labelled_fingerprint", "labels.json and metrics/training.json are of different files"),
        ("validation", "labelled_fingerprint", "labels.json and metrics/validation.json are of different files"),
        ("training", "student_fingerprint", "training.json and metrics/validation.json are of different files"),
        ("validation", "student_fingerprint", "training.json and metrics/validation.json are of different files"),
        (
            "validation",
            "predictions_fingerprint",
            "validation.json and metrics/predictions.json are of different files",
        ),
        ("predictions", "fingerprint", "validation.json and metrics/predictions.json are of different files"),
    ],
)
def test_metrics_of_different_files_are_stale(project, name, key, says):
    change(project, name, **{key: "another"})
    decision, _ = decided(project)
    assert decision.blocked
    assert "stale metrics" in decision.because and says in decision.because


@pytest.mark.parametrize("value", [None, "", 7])
@pytest.mark.parametrize("key", ["labelled_fingerprint", "student_fingerprint"])
@pytest.mark.parametrize("name", ["training", "validation"])
def test_metrics_that_do_not_say_what_they_are_of_are_stale(project, name, key, value):
    change(project, name, **{key: value})
    decision, _ = decided(project)
    assert decision.blocked
    assert f"metrics/{name}.json does not say its {key}" in decision.because


def test_what_the_pipeline_calls_stale_blocks(project):
    decision, _ = decided(project, stale=lambda root: [Stale("train", "params.yaml train.epochs modified")])
    assert decision.blocked
    assert decision.because == "stale metrics: stage train: params.yaml train.epochs modified"
    assert decision.command == "python3 -m nox -s repro"


def test_a_contract_is_named_before_stale_metrics(project):
    write_report(project, "structures", finding("structures", Verdict.FAIL), fingerprint="s")
    decision, _ = decided(project, stale=lambda root: [Stale("train", "data/structures.ok modified")])
    assert decision.because.startswith("contract structures, check finite")


def test_parameters_that_cannot_be_read_block_and_leave_no_old_decision(project):
    assert not decided(project)[0].blocked
    (project / "params.yaml").write_text("gatse: {}\n", encoding="utf-8")
    decision, written = decided(project)
    assert decision.blocked
    assert "params.yaml" in written["because"]


@pytest.mark.parametrize(
    ("metric", "milestone"),
    [
        ({"value": 0.87, "low": 0.8, "high": 0.95}, "pivot_so3lr"),
        ({"value": 0.27, "low": 0.26, "high": 0.29}, "architecture_iteration"),
        ({"value": 0.24, "low": 0.22, "high": 0.26}, "more_validation_data"),
        ({"value": "undefined"}, "more_validation_data"),
        ({"value": 0.1, "low": 0.09, "high": 0.11}, "m4_cuda_optimization"),
    ],
)
def test_the_force_rmse_leads_to_its_milestone(project, metric, milestone):
    change(project, "validation", force_rmse={"unit": "eV/Å", "n": 200, **metric})
    assert decided(project)[0].milestone == milestone


@pytest.mark.parametrize(
    ("name", "metric", "milestone"),
    [
        ("hydrogen_force_error", {"value": 0.3, "low": 0.28, "high": 0.32}, "fix_force_rmse_relative_hydrogen"),
        ("hydrogen_fraction", {"value": 0.0}, "fix_hydrogen_fraction"),
        ("n_structures", {"value": 50.0}, "fix_n_structures"),
        ("angular_error_mean_deg", {"value": 16.67, "low": 16.0, "high": 17.0}, "fix_angular_error_mean_deg"),
        ("angular_error_mean_deg", {"value": 9.9, "low": 9.5, "high": 10.3}, "more_validation_data"),
        ("angular_error_mean_deg", None, "more_validation_data"),
    ],
)
def test_a_required_gate_that_does_not_pass(project, name, metric, milestone):
    change(project, "validation", **{name: metric and {"unit": "", "n": 200, **metric}})
    decision, _ = decided(project)
    assert decision.milestone == milestone
    assert f"gate {name}" in decision.because or milestone.removeprefix("fix_") in decision.because


@pytest.mark.parametrize("convergence", [None, {"value": "undefined", "unit": "", "n": 1}])
def test_a_training_that_says_nothing_of_its_convergence_does_not_pass(project, convergence):
    change(project, "training", convergence=convergence)
    decision, _ = decided(project)
    assert (decision.milestone, decision.rule) == ("more_validation_data", 5)
    assert "gate convergence" in decision.because


@pytest.mark.parametrize("block", [{"value": 0.1}, {"unit": "", "n": 3}, {"value": 0.1, "unit": "", "n": "many"}])
def test_a_block_that_is_no_metric_blocks(project, block):
    change(project, "validation", force_rmse=block)
    decision, _ = decided(project)
    assert decision.blocked
    assert "validation.json: force_rmse" in decision.because


RATIO = {"value": 0.98, "unit": "", "n": 200, "low": 0.95, "high": 1.01}
REQUIRED = ("force_rmse", "force_rmse_relative", "hydrogen_force_error", "angular_error_mean_deg")


def with_baseline(root, required=True, **changes):
    """Declare a baseline, and ratios to it as the stage validate writes them."""
    content = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
    content["validate"]["baseline"] = "baseline/predictions.h5"
    content["gates"]["regression"]["required"] = required
    (root / "params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    regression = {"baseline_fingerprint": "B"} | dict.fromkeys(REQUIRED, RATIO) | changes
    change(root, "validation", regression={name: ratio for name, ratio in regression.items() if ratio is not None})


def test_a_student_that_is_no_worse_than_the_baseline_passes(project):
    with_baseline(project)
    decision, written = decided(project)
    assert decision.milestone == "m4_cuda_optimization"
    assert "10 of 10 required gates pass" in decision.because
    gate = written["gates"]["regression"]
    assert (gate["verdict"], gate["n"]) == ("pass", 200)
    assert gate["value"] < gate["high"] < 1.1
    assert "against baseline/predictions.h5: " in gate["message"] and "force_rmse 0.980" in gate["message"]


def test_one_metric_that_is_worse_than_the_baselines_fails(project):
    worse = {"value": 1.2, "unit": "", "n": 200, "low": 1.15, "high": 1.25}
    with_baseline(project, hydrogen_force_error=worse)
    decision, written = decided(project)
    assert (decision.milestone, decision.rule) == ("fix_regression", 4)
    assert "hydrogen_force_error 1.200" in decision.because
    assert written["gates"]["regression"]["allowed"] == "<= 1 (tolerance 0.1)"
    with_baseline(project, required=False, hydrogen_force_error=worse)
    assert decided(project)[0].milestone == "m4_cuda_optimization"


def test_a_metric_that_no_required_gate_judges_may_be_worse(project):
    with_baseline(project, force_mae={"value": 2.0, "unit": "", "n": 200, "low": 1.9, "high": 2.1})
    assert decided(project)[0].milestone == "m4_cuda_optimization"


def test_a_ratio_that_could_hide_a_tenth_is_undecided_and_says_how_many_molecules_decide(project):
    with_baseline(project, force_rmse={"value": 1.0, "unit": "", "n": 200, "low": 0.88, "high": 1.12})
    decision, written = decided(project)
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
    decision, written = decided(project)
    assert written["gates"]["regression"]["verdict"] == "not_run"
    assert (decision.milestone, decision.rule) == ("more_validation_data", 5)
    assert says in decision.because
    assert decision.command == "python3 -m nox -s repro -- -S train.epochs=24"  # more molecules would not help
    with_baseline(project, required=False, **changes)
    assert decided(project)[0].milestone == "m4_cuda_optimization"


def test_an_undefined_ratio_is_undecided(project):
    with_baseline(project, force_rmse={"value": "undefined", "unit": "", "n": 200})
    decision, written = decided(project)
    assert written["gates"]["regression"]["verdict"] == "undecided"
    assert decision.milestone == "more_validation_data"


def test_without_a_declared_baseline_old_ratios_do_not_count(project):
    change(project, "validation", regression={"baseline_fingerprint": "B", **dict.fromkeys(REQUIRED, RATIO)})
    _, written = decided(project)
    assert written["gates"]["regression"]["verdict"] == "not_run"
    assert "validate.baseline names no predictions" in written["gates"]["regression"]["message"]


@pytest.mark.parametrize("block", [{"force_rmse": {"value": 1.0}}, 7, [], "x"])
def test_ratios_that_cannot_be_read_block(project, block):
    with_baseline(project)
    change(project, "validation", regression=block)
    decision, _ = decided(project)
    assert decision.blocked
    assert "validation.json: regression" in decision.because


def test_another_baseline_than_the_one_compared_with_is_stale_and_an_absent_one_is_not(project):
    with_baseline(project)
    path = project / "baseline/predictions.h5"
    data = concatenate([molecule("CH4")], energy=[1.0], forces=[np.ones((5, 3))])
    write_dataset(data, path)
    decision, _ = decided(project)
    assert decision.blocked
    assert "baseline/predictions.h5 is not what metrics/validation.json compares with" in decision.because
    with_baseline(project, baseline_fingerprint=data.fingerprint())
    assert not decided(project)[0].blocked
    path.write_bytes(b"no HDF5")
    assert "baseline/predictions.h5" in decided(project)[0].because
    path.unlink()
    assert not decided(project)[0].blocked


def shown(decision):
    console = Console(width=160, file=io.StringIO())
    console.print(decision_text(decision))
    return console.file.getvalue()


def test_the_terminal_shows_each_gate_the_milestone_and_the_command(project):
    text = shown(decided(project)[0])
    assert "next milestone: m4_cuda_optimization (accepted)" in text
    assert "next: python3 -m nox -s benchmarks" in text
    assert "0.19 to 0.21" in text and "not measured" in text


def test_the_terminal_says_what_blocks(project):
    text = shown(
        decided(project, stale=lambda root: [Stale("train", "[x] modified"), Stale("validate", "y modified")])[0]
    )
    assert "next milestone: blocked" in text
    assert "stage train: [x] modified (and of stage validate)" in text


@pytest.mark.parametrize(
    ("arguments", "status"),
    [([], 0), (["--require", "m4_cuda_optimization"], 0), (["--require", "pivot_so3lr"], 1)],
)
def test_the_exit_status(project, monkeypatch, arguments, status):
    monkeypatch.chdir(project)
    monkeypatch.setattr(decide, "stale_stages", clean)
    assert decide.main(arguments) == status


def test_a_blocked_decision_and_an_unknown_milestone_are_no_success(project, monkeypatch):
    monkeypatch.chdir(project)
    for stale in (clean, lambda root: [Stale("train", "changed command")]):
        monkeypatch.setattr(decide, "stale_stages", stale)
        with pytest.raises(BadParams, match="did you mean 'm4_cuda_optimization'"):
            decide.main(["--require", "m4_cuda_optimisation"])
    assert decide.main([]) == 1
    Path("params.yaml").unlink()
    assert decide.main(["--require", "m4_cuda_optimization"]) == 1


PIPELINE = {
    "stages": {
        "make": {
            "cmd": "mkdir -p data metrics && cp source.txt data/made.h5 && cp source.txt metrics/structures.json",
            "deps": ["source.txt"],
            "params": ["train.seed"],
            "outs": ["data/made.h5"],
            "metrics": [{"metrics/structures.json": {"cache": False}}],
        },
        "guard": {
            "cmd": "cp data/made.h5 data/structures.ok",
            "deps": ["data/made.h5", "metrics/structures.json"],
            "outs": [{"data/structures.ok": {"cache": False}}],
        },
    }
}


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory):
    """A DVC project of two stages that has just been reproduced."""
    from dvc.repo import Repo

    root = tmp_path_factory.mktemp("dvc") / "project"
    root.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        set_dvc(patch, root.parent)
        patch.chdir(root)
        (root / "source.txt").write_text("{}\n")
        shutil.copy(SHIPPED, root / "params.yaml")
        (root / "dvc.yaml").write_text(yaml.safe_dump(PIPELINE))
        with Repo.init(str(root), no_scm=True) as repo:
            repo.reproduce()
    return root


def set_dvc(patch, folder):
    """No analytics, and nothing of DVC outside ``folder``."""
    patch.setenv("DVC_NO_ANALYTICS", "1")
    patch.setenv("DVC_SITE_CACHE_DIR", str(folder / "site"))
    patch.setenv("DVC_GLOBAL_CONFIG_DIR", str(folder / "global"))


@pytest.fixture
def repository(reproduced, tmp_path, monkeypatch):
    """A copy of it, to be spoilt."""
    set_dvc(monkeypatch, tmp_path)
    root = shutil.copytree(reproduced, tmp_path / "project")
    monkeypatch.chdir(root)
    return root


def test_a_reproduced_project_is_not_stale(repository):
    assert decide.stale_stages(repository) == []


def test_absent_data_are_not_stale(repository):
    shutil.rmtree(repository / "data")
    assert decide.stale_stages(repository) == []
    shutil.rmtree(repository / ".dvc/cache")  # a fresh clone
    assert decide.stale_stages(repository) == []


def _edit(path, old, new):
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda root: (root / "source.txt").write_text('{"a": 1}\n'), "stage make: source.txt modified"),
        (lambda root: (root / "source.txt").unlink(), "stage make: source.txt deleted"),
        (lambda root: (root / "data/made.h5").write_text("other"), "data/made.h5 modified"),
        (lambda root: (root / "metrics/structures.json").write_text("{}"), "metrics/structures.json modified"),
        (lambda root: (root / "metrics/structures.json").unlink(), "metrics/structures.json deleted"),
        (lambda root: (root / "dvc.lock").unlink(), "stage guard: "),
        (lambda root: _edit(root / "dvc.yaml", "mkdir -p", "mkdir  -p"), "stage make: changed command"),
        (lambda root: _edit(root / "params.yaml", "seed: 0\n\nvalidate", "seed: 1\n\nvalidate"), "train.seed modified"),
        (lambda root: (root / "dvc.yaml").write_text("stages: ["), "DVC cannot tell what has changed"),
        (lambda root: shutil.rmtree(root / ".dvc"), "DVC cannot tell what has changed"),
    ],
)
def test_what_has_changed_is_stale(repository, spoil, says):
    spoil(repository)
    assert says in "; ".join(f"stage {stage}: {changes}" for stage, changes in decide.stale_stages(repository))


def test_a_gates_bound_makes_nothing_stale(repository):
    _edit(repository / "params.yaml", "threshold: 0.25 ", "threshold: 0.24 ")
    assert decide.stale_stages(repository) == []


def test_a_stage_that_has_never_run_is_stale(repository):
    content = yaml.safe_load((repository / "dvc.yaml").read_text())
    content["stages"]["later"] = {"cmd": "touch data/later", "outs": ["data/later"], "deps": ["source.txt"]}
    (repository / "dvc.yaml").write_text(yaml.safe_dump(content))
    (stale,) = decide.stale_stages(repository)
    assert stale.stage == "later"
    assert "source.txt modified" in stale.changes


def test_an_input_outside_dvcs_sight_that_has_changed_blocks(project):
    path = project / "mine.sdf"
    path.write_text("as it was")
    content = yaml.safe_load((project / "params.yaml").read_text())
    content["regenerate"]["input"] = "mine.sdf"
    (project / "params.yaml").write_text(yaml.safe_dump(content))
    report = json.loads((project / "metrics/input.json").read_text())
    report["summary"]["input_digest"] = digest_of([path])
    (project / "metrics/input.json").write_text(json.dumps(report))
    assert not decided(project)[0].blocked
    path.write_text("as it is")
    decision, _ = decided(project)
    assert decision.blocked
    assert "are not those that the data were made of" in decision.because
    path.unlink()
    assert not decided(project)[0].blocked


@pytest.mark.parametrize(
    ("changes", "verdict", "milestone", "said"),
    [
        ({}, "pass", "m4_cuda_optimization", "1 (n = 20)"),
        ({"md_stability": {"value": 0.95, "unit": "", "n": 20}}, "fail", "fix_md_stability", "0.95 (n = 20)"),
        (
            {"md_stability": {"value": "undefined", "unit": "", "n": 20}, "note": "0.5 ps show no stability"},
            "undecided",
            "more_validation_data",
            "undefined (n = 20); allowed >= 1; 0.5 ps show no stability",
        ),
        (
            {"md_stability": {"value": 1.0, "unit": "", "n": 4}},
            "undecided",
            "more_validation_data",
            "is measured on fewer than 20; allowed >= 1",
        ),
        ({"md_stability": None}, "not_run", "more_validation_data", "stage dynamics writes it to metrics/md.json"),
    ],
)
def test_what_dynamics_showed_is_a_required_gate(project, changes, verdict, milestone, said):
    change(project, "md", **changes)
    decision, written = decided(project)
    assert (written["gates"]["md_stability"]["verdict"], decision.milestone) == (verdict, milestone)
    assert said in written["gates"]["md_stability"]["message"]
    assert "molecules_needed" not in written["gates"]["md_stability"]
    if verdict != "pass":
        assert decision.command == "python3 -m nox -s repro -- -S train.epochs=24"


@pytest.mark.parametrize("key", ["labelled_fingerprint", "student_fingerprint"])
def test_dynamics_of_another_student_or_other_data_are_stale(project, key):
    change(project, "md", **{key: "other"})
    decision, _ = decided(project)
    assert decision.blocked
    assert "are of different files" in decision.because


def test_dynamics_that_did_not_run_are_no_blocker_and_the_gate_says_so(project):
    (project / "metrics/md.json").unlink()
    decision, _ = decided(project)
    assert (decision.milestone, decision.rule) == ("more_validation_data", 5)
