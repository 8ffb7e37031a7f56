"""Gates: the entire interval decides, an undefined metric never passes, and invalid declarations are rejected."""

import math
from pathlib import Path

import pytest
import yaml

from hydrogate.checks.errors import BadParams
from hydrogate.checks.findings import Verdict
from hydrogate.checks.gates.gates import judge, molecules_to_exclude, read_gates
from hydrogate.checks.metrics.bootstrap import Metric

SHIPPED = yaml.safe_load((Path(__file__).parents[3] / "params.yaml").read_text(encoding="utf-8"))["gates"]


def gate(comparison="<", threshold=0.25, **changes):
    block = {"metric": "force_rmse", "comparison": comparison, "threshold": threshold, "required": True}
    block |= {"confidence": 0.95, "min_n": 20, "reason": "a test", **changes}
    return read_gates({"g": {key: value for key, value in block.items() if value is not None}})["g"]


def between(low=0.4, high=0.6, **changes):
    return gate("between", None, low=low, high=high, **changes)


def verdict(declared, value, low=None, high=None, n=100):
    return str(judge("g", declared, Metric(value, "eV/Å", n, low, high)).verdict)


@pytest.mark.parametrize(
    ("comparison", "low", "high", "expected"),
    [
        ("<", 0.20, 0.24, "pass"),
        ("<", 0.20, 0.25, "undecided"),
        ("<", 0.20, 0.30, "undecided"),
        ("<", 0.25, 0.30, "fail"),
        ("<", 0.26, 0.30, "fail"),
        ("<=", 0.20, 0.25, "pass"),
        ("<=", 0.25, 0.30, "undecided"),
        ("<=", 0.26, 0.30, "fail"),
        (">=", 0.25, 0.30, "pass"),
        (">=", 0.20, 0.25, "undecided"),
        (">=", 0.20, 0.24, "fail"),
        (">", 0.26, 0.30, "pass"),
        (">", 0.25, 0.30, "undecided"),
        (">", 0.20, 0.25, "fail"),
    ],
)
def test_the_whole_interval_decides(comparison, low, high, expected):
    assert verdict(gate(comparison), (low + high) / 2, low, high) == expected


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.40, 0.60, "pass"),
        (0.45, 0.50, "pass"),
        (0.35, 0.45, "undecided"),
        (0.55, 0.65, "undecided"),
        (0.30, 0.70, "undecided"),
        (0.30, 0.40, "undecided"),
        (0.30, 0.39, "fail"),
        (0.61, 0.70, "fail"),
    ],
)
def test_a_range_holds_the_whole_interval(low, high, expected):
    assert verdict(between(), (low + high) / 2, low, high) == expected


@pytest.mark.parametrize(("value", "expected"), [(0.39, "fail"), (0.4, "pass"), (0.6, "pass"), (0.61, "fail")])
def test_confidence_zero_compares_the_value(value, expected):
    assert verdict(between(confidence=0), value) == expected
    assert verdict(between(confidence=0), value, value - 0.3, value + 0.3) == expected


@pytest.mark.parametrize("declared", [gate(), gate(">="), between(), gate(confidence=0), between(confidence=0)])
@pytest.mark.parametrize("value", [None, math.nan])
def test_an_undefined_metric_never_passes(declared, value):
    metric = Metric.from_dict({"value": value, "unit": "eV/Å", "n": 500})
    assert judge("g", declared, metric).verdict is Verdict.UNDECIDED


def test_too_few_molecules_are_undecided_however_good_and_say_how_many_are_needed():
    judgement = judge("g", gate(min_n=200), Metric(0.01, "eV/Å", 199, 0.009, 0.011))
    assert judgement.verdict is Verdict.UNDECIDED
    assert judgement.molecules_needed == 200
    assert judge("g", gate(min_n=200), Metric(0.01, "eV/Å", 200, 0.009, 0.011)).verdict is Verdict.PASS


def test_a_metric_without_an_interval_is_undecided_where_one_is_asked_for():
    judgement = judge("g", gate(), Metric(0.01, "eV/Å", 50))
    assert judgement.verdict is Verdict.UNDECIDED
    assert "has no interval" in judgement.message


def test_a_metric_that_nothing_measured_is_not_run_and_says_who_would():
    block = SHIPPED["kernel_speedup"]
    judgement = judge("kernel_speedup", read_gates({"kernel_speedup": block})["kernel_speedup"], None)
    assert judgement.verdict is Verdict.NOT_RUN
    assert "kernel_speedup was not measured: `python3 -m nox -s benchmarks -- student`" in judgement.message
    assert judge("g", gate(), None).verdict is Verdict.NOT_RUN


def test_an_interval_that_ends_before_it_starts_is_an_error():
    assert verdict(gate(), 0.2, 0.24, 0.16) == "error"


def test_an_undecided_gate_says_how_many_molecules_would_decide_it():
    judgement = judge("g", gate(), Metric(0.24, "eV/Å", 100, 0.22, 0.26))
    assert judgement.verdict is Verdict.UNDECIDED
    assert judgement.molecules_needed == 400  # half of the half width: four times the molecules
    assert str(judgement) == (
        "gate g: 0.24 eV/Å (0.22 to 0.26, n = 100), allowed < 0.25 eV/Å: the interval includes the threshold, "
        "about 400 held-out molecules would decide"
    )


def test_molecules_of_a_metric_are_told_as_held_out_molecules():
    half_have_it = Metric(0.24, "eV/Å", 100, 0.22, 0.26)
    judgement = judge("g", gate(), half_have_it, held_out=200)
    assert judgement.molecules_needed == 800
    assert judgement.message.endswith("about 800 held-out molecules would decide")
    few = judge("g", gate(min_n=150), half_have_it._replace(high=0.245), held_out=200)
    assert few.molecules_needed == 300


@pytest.mark.parametrize("metric", ["md_stability", "convergence"])
def test_more_held_out_molecules_decide_nothing_where_others_are_counted(metric):
    judgement = judge("g", gate(metric=metric, min_n=20), Metric(0.1, "", 10), held_out=200)
    assert (judgement.verdict, judgement.molecules_needed) == (Verdict.UNDECIDED, None)
    assert judgement.message == "0.1 (n = 10) is measured on fewer than 20; allowed < 0.25"


@pytest.mark.parametrize(
    ("metric", "edges", "expected"),
    [
        (Metric(0.24, "", 100, 0.22, 0.26), [0.25], 400),
        (Metric(0.26, "", 100, 0.22, 0.30), [0.25], 1600),
        (Metric(0.24, "", 100, 0.10, 0.26), [0.25], 400),  # the half width towards the edge is used
        (Metric(0.50, "", 100, 0.30, 0.70), [0.4, 0.6], 400),
        (Metric(0.20, "", 100, 0.15, 0.25), [0.25], 101),
        (Metric(0.25, "", 100, 0.20, 0.30), [0.25], None),
        (Metric(None, "", 100), [0.25], None),
        (Metric(0.25, "", 1), [0.30], None),
        (Metric(0.0, "", 1000, -1.0, 1.0), [1.001e-3], 998_002_996),
        (Metric(0.0, "", 1000, -1.0, 1.0), [0.999e-3], None),  # no data set holds 10⁹ molecules
        (Metric(0.0, "", 1000, -1.0, 1.0), [0.999e-3, 2.0], None),
        (Metric(1e-320, "", 100, -0.1, 0.1), [0.0], None),  # nor does one hold more molecules than a float can count
        (Metric(1e200, "", 100, -1e300, 1e300), [0.25], None),
    ],
)
def test_molecules_needed_by_hand(metric, edges, expected):
    assert molecules_to_exclude(metric, edges) == (None if expected is None else pytest.approx(expected, abs=1))


def test_a_value_on_the_edge_is_decided_by_no_number():
    judgement = judge("g", gate(), Metric(0.25, "eV/Å", 100, 0.2, 0.3))
    assert (judgement.verdict, judgement.molecules_needed) == (Verdict.UNDECIDED, None)
    assert "no number of molecules" in judgement.message


def test_a_one_sided_gate_needs_a_narrower_interval():
    two_sided, one_sided = gate("<=", 0.20), gate("<=", 0.20, one_sided=True)
    assert verdict(two_sided, 0.10, 0.0, 0.21) == "undecided"
    assert verdict(one_sided, 0.10, 0.0, 0.21) == "pass"
    assert verdict(one_sided, 0.10, 0.0, 0.23) == "undecided"
    assert verdict(one_sided, 0.30, 0.195, 0.40) == "fail"


@pytest.mark.parametrize(
    ("comparison", "value", "low", "high", "expected", "needed"),
    [
        ("<=", 0.25, 0.24, 0.26, "pass", None),
        ("<=", 0.25, 0.20, 0.30, "pass", None),
        ("<", 0.25, 0.20, 0.29, "pass", None),
        (">", 0.25, 0.21, 0.30, "pass", None),
        ("<=", 0.25, 0.15, 0.35, "undecided", 400),
        ("<=", 0.28, 0.26, 0.29, "fail", None),  # worse: the entire interval lies beyond the threshold
        ("<=", 0.28, 0.24, 0.32, "undecided", 178),  # excludes 0.25 with fewer molecules than 0.30
        ("<=", 0.35, 0.20, 0.50, "undecided", 225),
        (">=", 0.25, 0.20, 0.30, "pass", None),
        (">=", 0.25, 0.15, 0.35, "undecided", 400),
        (">=", 0.22, 0.21, 0.24, "fail", None),
    ],
)
def test_a_tolerance_passes_what_is_not_shown_to_be_worse_and_cannot_be_much_worse(
    comparison, value, low, high, expected, needed
):
    judgement = judge("g", gate(comparison, tolerance=0.05), Metric(value, "eV/Å", 100, low, high))
    assert str(judgement.verdict) == expected
    assert judgement.molecules_needed == (needed and pytest.approx(needed, abs=1))


def test_an_interval_that_ends_on_the_threshold_is_decided_by_one_more_molecule():
    assert judge("g", gate(), Metric(0.1875, "eV/Å", 100, 0.125, 0.25)).molecules_needed == 101


def test_a_range_may_be_one_value():
    one = between(0.5, 0.5, confidence=0)
    assert (verdict(one, 0.5), verdict(one, 0.5000001)) == ("pass", "fail")


def test_where_molecules_and_interval_are_both_short_the_larger_number_is_told():
    judgement = judge("g", gate(min_n=200), Metric(0.24, "eV/Å", 100, 0.21, 0.27))
    assert judgement.molecules_needed == pytest.approx(900, abs=1)


def test_the_shipped_gates():
    gates = read_gates(SHIPPED)
    assert [name for name, declared in gates.items() if declared.required] == [
        "force_rmse", "force_rmse_relative", "force_rmse_relative_hydrogen", "angular_error_mean_deg",
        "hydrogen_force_error", "hydrogen_fraction", "n_structures", "convergence", "md_stability",
    ]  # fmt: skip
    assert {name for name, declared in gates.items() if not declared.required} == {
        "oxygen_over_carbon", "speedup_over_teacher", "kernel_speedup", "regression",
    }  # fmt: skip
    assert {name: declared.allowed for name, declared in gates.items() if declared.required} == {
        "force_rmse": "< 0.25", "force_rmse_relative": "<= 0.15", "force_rmse_relative_hydrogen": "<= 0.15",
        "angular_error_mean_deg": "< 10", "hydrogen_force_error": "<= 0.2", "hydrogen_fraction": "0.4 to 0.6",
        "n_structures": ">= 100", "convergence": "<= 0.05", "md_stability": ">= 1",
    }  # fmt: skip


@pytest.mark.parametrize("value", [0.0, 99.0])
def test_too_few_held_out_molecules_fail_the_count(value):
    declared = read_gates({"n": SHIPPED["n_structures"]})["n"]
    assert judge("n", declared, Metric(value, "molecules", 100)).verdict is Verdict.FAIL
    assert judge("n", declared, Metric(100.0, "molecules", 100)).verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"tresh": 0.3}, r"gates\.g: unknown key tresh; did you mean 'threshold'\?"),
        ({"metric": "force_rsme"}, r"gates\.g: metric: .*did you mean 'force_rmse'\?"),
        ({"comparison": "=="}, r"gates\.g: comparison"),
        ({"threshold": math.nan}, r"gates\.g: threshold"),
        ({"threshold": math.inf}, r"gates\.g: threshold"),
        ({"threshold": None}, r"gates\.g: comparison '<' requires threshold, got none"),
        ({"low": 0.1}, r"comparison '<' requires threshold, got low and threshold"),
        ({"comparison": "between"}, r"comparison 'between' requires high and low, got threshold"),
        ({"comparison": "between", "threshold": None, "low": 0.6, "high": 0.4}, r"low 0\.6 is above high 0\.4"),
        ({"confidence": 0.9}, r"confidence"),
        ({"confidence": None}, r"confidence"),
        ({"required": None}, r"required"),
        ({"min_n": 0}, r"min_n"),
        ({"reason": ""}, r"reason"),
        ({"reason": None}, r"reason"),
        ({"one_sided": True, "confidence": 0}, r"one_sided requires a single threshold"),
        ({"tolerance": 0.1, "confidence": 0}, r"tolerance requires a single threshold"),
        ({"tolerance": -0.1}, r"gates\.g: tolerance"),
        ({"tolerance": math.inf}, r"gates\.g: tolerance"),
    ],
)
def test_a_gate_that_cannot_be_meant_is_refused(changes, says):
    with pytest.raises(BadParams, match=says):
        gate(**changes)


@pytest.mark.parametrize("content", [None, [], "gates", {"Bad Name": {}}, {"a.b": {}}, {"g": None}, {"g": []}])
def test_what_declares_no_gates_is_refused(content):
    with pytest.raises(BadParams, match="gates"):
        read_gates(content)


def test_an_error_names_the_file_it_stands_in():
    with pytest.raises(BadParams, match=r"params\.yaml: gates\.g: "):
        read_gates({"g": {}}, "params.yaml: gates")
