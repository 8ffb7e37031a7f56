"""The decision on small trees of metrics, good and spoilt."""

import io
import json
import re
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from hydrogate.checks.findings import Finding, Severity, Verdict
from hydrogate.checks.render.decision_text import decision_text
from hydrogate.pipeline.decision import decide, plan
from hydrogate.pipeline.decision.benchmark_identity import identity
from hydrogate.pipeline.decision.staleness import Stale
from hydrogate.pipeline.molecules.records import digest_of
from hydrogate.pipeline.params import load_params

# DVC calls pygtrie in a way that pygtrie deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")


def clean(root):
    return []


def finding(contract, verdict=Verdict.PASS, check="finite", severity=Severity.ERROR):
    return Finding(
        contract, check, verdict, severity, "structure 1207 (C9O4) has 0 explicit H.", n=1, remedy="Mend it.",
    )  # fmt: skip


def test_a_good_run_is_accepted(project):
    decision, written = project.decided()
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
    _, written = project.decided()

    def leaves(content):
        for value in content.values():
            yield from leaves(value) if isinstance(value, dict) else (value,)

    assert {type(leaf) for leaf in leaves(written)} == {str, int, float, bool}
    json.dumps(written, allow_nan=False)


def test_gates_that_are_not_required_are_reported_and_do_not_decide(project):
    _, written = project.decided()
    gates = written["gates"]
    assert gates["oxygen_over_carbon"]["verdict"] == "undecided"
    assert gates["oxygen_over_carbon"]["molecules_needed"] == 223  # 200 of which nine in ten hold oxygen
    for name in ("speedup_over_teacher", "kernel_speedup", "regression"):
        assert gates[name]["verdict"] == "not_run"
        assert "was not measured" in gates[name]["message"]


@pytest.mark.parametrize(("student", "verdict"), [("S", "fail"), ("another", "not_run")])
def test_speeds_are_judged_where_they_are_this_student_s_and_block_nothing(project, student, verdict):
    content = identity(load_params(project.root / "params.yaml"), student) | {"device": "cpu", "batch": 32}
    content["speedup_over_teacher"] = {"value": 3.0, "unit": "times", "n": 9, "low": 2.9, "high": 3.1}
    project.write("benchmarks", content)
    decision, written = project.decided()
    assert decision.milestone == "m4_cuda_optimization"
    assert written["gates"]["speedup_over_teacher"]["verdict"] == verdict
    assert written["gates"]["speedup_over_teacher"].get("value") == (3.0 if verdict == "fail" else None)
    assert written["gates"]["kernel_speedup"]["verdict"] == "not_run"


def test_the_held_out_split_is_judged_and_not_what_the_training_measured(project):
    _, written = project.decided()
    assert written["gates"]["force_rmse"]["value"] == 0.2


@pytest.mark.parametrize("contract", ["input", "structures", "labels", "predictions"])
@pytest.mark.parametrize("verdict", [Verdict.FAIL, Verdict.UNDECIDED, Verdict.ERROR, Verdict.NOT_RUN])
def test_a_contract_that_does_not_hold_blocks_and_is_named(project, contract, verdict):
    fingerprint = {"input": "s", "structures": "s", "labels": "L", "predictions": "P"}[contract]
    findings = [finding(contract), finding(contract, verdict, "explicit_hydrogens")]
    project.report(contract, *findings, fingerprint=fingerprint)
    decision, written = project.decided()
    assert (decision.milestone, decision.rule) == ("blocked", 1)
    said = f"contract {contract}, check explicit_hydrogens: structure 1207 (C9O4) has 0 explicit H."
    assert decision.because == (f"{said} Mend it." if verdict == "fail" else said)
    assert written["gates"]["force_rmse"]["verdict"] == "pass"  # the student was good; its data are not
    assert decision.command == "python3 -m nox -s repro"  # a fresh clone: no data to look at
    if contract != "input":
        path = project.root / "data" / decide.DATA_OF[contract]
        path.parent.mkdir()
        path.touch()
        assert f"-- check data/{path.name} --contract {contract}" in project.decided()[0].command


def test_further_refusals_are_counted_and_named(project):
    findings = [finding("labels", Verdict.FAIL, check) for check in ("finite", "complete", "net_force")]
    project.report("labels", *findings, fingerprint="L")
    assert project.decided()[0].because.endswith("(and 2 more: complete, net_force)")


def test_a_warning_does_not_block(project):
    warned = finding("labels", Verdict.FAIL, "constant_labels", Severity.WARN)
    project.report("labels", finding("labels"), warned, fingerprint="L")
    assert project.decided()[0].milestone == "m4_cuda_optimization"


def test_a_contract_of_which_no_check_ran_blocks(project):
    project.change("labels", checks={}, findings=[])
    assert "contract labels: no check ran" in project.decided()[0].because


def test_a_report_that_claims_to_hold_is_judged_by_its_findings(project):
    project.report("labels", finding("labels", Verdict.FAIL), fingerprint="L")
    project.change("labels", holds=True, verdict="pass")
    assert project.decided()[0].blocked


@pytest.mark.parametrize("name", ["input", "structures", "labels", "predictions", "training", "validation"])
@pytest.mark.parametrize("content", [None, "", "{", "[]", "null", "{}", "[" * 100_000], ids=lambda text: str(text)[:5])
def test_metrics_that_are_missing_or_unreadable_block_and_are_named(project, name, content):
    path = project.root / "metrics" / f"{name}.json"
    path.unlink()
    if content is not None:
        path.write_text(content, encoding="utf-8")
    decision, _ = project.decided()
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
    project.change(name, **{key: "another"})
    decision, _ = project.decided()
    assert decision.blocked
    assert "stale metrics" in decision.because and says in decision.because


@pytest.mark.parametrize("value", [None, "", 7])
@pytest.mark.parametrize("key", ["labelled_fingerprint", "student_fingerprint"])
@pytest.mark.parametrize("name", ["training", "validation"])
def test_metrics_that_do_not_say_what_they_are_of_are_stale(project, name, key, value):
    project.change(name, **{key: value})
    decision, _ = project.decided()
    assert decision.blocked
    assert f"metrics/{name}.json does not say its {key}" in decision.because


def test_what_the_pipeline_calls_stale_blocks(project):
    decision, _ = project.decided(stale=lambda root: [Stale("train", "params.yaml train.epochs modified")])
    assert decision.blocked
    assert decision.because == "stale metrics: stage train: params.yaml train.epochs modified"
    assert decision.command == "python3 -m nox -s repro"


def test_a_contract_is_named_before_stale_metrics(project):
    project.report("structures", finding("structures", Verdict.FAIL), fingerprint="s")
    decision, _ = project.decided(stale=lambda root: [Stale("train", "data/structures.ok modified")])
    assert decision.because.startswith("contract structures, check finite")


def test_parameters_that_cannot_be_read_block_and_leave_no_old_decision(project):
    assert not project.decided()[0].blocked
    (project.root / "params.yaml").write_text("gatse: {}\n", encoding="utf-8")
    decision, written = project.decided()
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
    project.change("validation", force_rmse={"unit": "eV/Å", "n": 200, **metric})
    assert project.decided()[0].milestone == milestone


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
    project.change("validation", **{name: metric and {"unit": "", "n": 200, **metric}})
    decision, _ = project.decided()
    assert decision.milestone == milestone
    assert f"gate {name}" in decision.because or milestone.removeprefix("fix_") in decision.because


def test_as_many_molecules_are_asked_for_as_would_decide(project):
    """0.24 ± 0.02 on 200 molecules excludes 0.25 on about 800: 600 more are held out, of 3,000."""
    project.change("validation", force_rmse={"value": 0.24, "low": 0.22, "high": 0.26, "unit": "eV/Å", "n": 200})
    decision, _ = project.decided()
    assert decision.milestone == "more_validation_data"
    (count,) = re.findall(r"sample --count (\d+) --seed 1 && python3 -m nox -s repro$", decision.command)
    assert int(count) == plan.run(project.root).more
    assert int(count) == pytest.approx(3000, rel=0.01)


@pytest.mark.parametrize("convergence", [None, {"value": "undefined", "unit": "", "n": 1}])
def test_a_training_that_says_nothing_of_its_convergence_does_not_pass(project, convergence):
    project.change("training", convergence=convergence)
    decision, _ = project.decided()
    assert (decision.milestone, decision.rule) == ("more_validation_data", 5)
    assert "gate convergence" in decision.because


@pytest.mark.parametrize("block", [{"value": 0.1}, {"unit": "", "n": 3}, {"value": 0.1, "unit": "", "n": "many"}])
def test_a_block_that_is_no_metric_blocks(project, block):
    project.change("validation", force_rmse=block)
    decision, _ = project.decided()
    assert decision.blocked
    assert "validation.json: force_rmse" in decision.because


def shown(decision):
    console = Console(width=160, file=io.StringIO())
    console.print(decision_text(decision))
    return console.file.getvalue()


def test_the_terminal_shows_each_gate_the_milestone_and_the_command(project):
    text = shown(project.decided()[0])
    assert "next milestone: m4_cuda_optimization (accepted)" in text
    assert "next: python3 -m nox -s benchmarks" in text
    assert "0.19 to 0.21" in text and "not measured" in text


def test_the_terminal_says_what_blocks(project):
    text = shown(
        project.decided(stale=lambda root: [Stale("train", "[x] modified"), Stale("validate", "y modified")])[0]
    )
    assert "next milestone: blocked" in text
    assert "stage train: [x] modified (and of stage validate)" in text


@pytest.mark.parametrize(
    ("arguments", "status"),
    [([], 0), (["--require", "m4_cuda_optimization"], 0), (["--require", "pivot_so3lr"], 1)],
)
def test_the_exit_status(project, monkeypatch, arguments, status):
    monkeypatch.chdir(project.root)
    monkeypatch.setattr(decide, "stale_stages", clean)
    assert decide.main(arguments) == status


@pytest.mark.parametrize(
    ("milestone", "said"),
    [("m4_cuda_optimisation", "; did you mean 'm4_cuda_optimization'?"), ("", "; known: architecture_iteration, m4_")],
)
def test_an_unknown_milestone_is_refused_before_anything_is_judged(project, monkeypatch, call, milestone, said):
    monkeypatch.setattr(decide, "stale_stages", lambda root: pytest.fail("judged"))
    ended = call("decide", "--require", milestone)
    assert ended.status == 2
    assert f"BadParams: --require {milestone!r}: no such milestone in params.yaml{said}" in ended.err
    assert not (project.root / "metrics/decision.json").exists()


def test_a_blocked_decision_is_no_success(project, monkeypatch):
    monkeypatch.chdir(project.root)
    monkeypatch.setattr(decide, "stale_stages", lambda root: [Stale("train", "changed command")])
    assert decide.main([]) == 1
    Path("params.yaml").unlink()
    assert decide.main(["--require", "m4_cuda_optimization"]) == 1


def test_an_input_outside_dvcs_sight_that_has_changed_blocks(project):
    path = project.root / "mine.sdf"
    path.write_text("as it was")
    content = yaml.safe_load((project.root / "params.yaml").read_text())
    content["regenerate"]["input"] = "mine.sdf"
    (project.root / "params.yaml").write_text(yaml.safe_dump(content))
    report = json.loads((project.root / "metrics/input.json").read_text())
    report["summary"]["input_digest"] = digest_of([path])
    (project.root / "metrics/input.json").write_text(json.dumps(report))
    assert not project.decided()[0].blocked
    path.write_text("as it is")
    decision, _ = project.decided()
    assert decision.blocked
    assert "are not those that the data were made of" in decision.because
    path.unlink()
    assert not project.decided()[0].blocked
