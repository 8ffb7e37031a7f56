"""The gate ``md_stability``: the decision on what the dynamics showed."""

import pytest


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
    project.change("md", **changes)
    decision, written = project.decided()
    assert (written["gates"]["md_stability"]["verdict"], decision.milestone) == (verdict, milestone)
    assert said in written["gates"]["md_stability"]["message"]
    assert "molecules_needed" not in written["gates"]["md_stability"]
    if verdict != "pass":
        assert decision.command == "python3 -m nox -s repro -- -S train.epochs=24"


@pytest.mark.parametrize("key", ["labelled_fingerprint", "student_fingerprint"])
def test_dynamics_of_another_student_or_other_data_are_stale(project, key):
    project.change("md", **{key: "other"})
    decision, _ = project.decided()
    assert decision.blocked
    assert "are of different files" in decision.because


def test_dynamics_that_did_not_run_are_no_blocker_and_the_gate_says_so(project):
    (project.root / "metrics/md.json").unlink()
    decision, _ = project.decided()
    assert (decision.milestone, decision.rule) == ("more_validation_data", 5)
