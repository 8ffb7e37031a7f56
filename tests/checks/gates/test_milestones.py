"""Milestone table: every rule and every band edge."""

import math
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hydrogate.checks.errors import BadParams
from hydrogate.checks.findings import Verdict
from hydrogate.checks.gates.gates import Judgement, read_gates
from hydrogate.checks.gates.milestones import MORE_DATA_COMMAND, Blocker, Decision, decide, read_milestones
from hydrogate.checks.metrics.bootstrap import Metric

SHIPPED = yaml.safe_load((Path(__file__).parents[3] / "params.yaml").read_text(encoding="utf-8"))
BANDS = read_milestones(SHIPPED["milestones"])
M4, ITERATE, PIVOT, MORE = "m4_cuda_optimization", "architecture_iteration", "pivot_so3lr", "more_validation_data"
PIVOT_COMMAND = "python3 -m nox -s repro -- -S train.student=so3lr"


def gates(**verdicts):
    """Return judgements by name; a gate whose name ends in _optional is not required."""
    declared = read_gates({"g": {**SHIPPED["gates"]["force_rmse"]}})["g"]
    return [
        Judgement(
            name, declared.model_copy(update={"required": not name.endswith("_optional")}), None,
            Verdict(verdict), f"is {verdict}",
        )
        for name, verdict in verdicts.items()
    ]  # fmt: skip


GOOD = gates(force_rmse="pass", convergence="pass")


def interval(low, high):
    return Metric((low + high) / 2, "eV/Å", 200, low, high)


@pytest.mark.parametrize(
    ("low", "high", "milestone", "rule", "status"),
    [
        (0.0, 0.0, M4, 6, "on track"),
        (0.10, 0.149999, M4, 6, "on track"),
        (0.10, 0.15, M4, 6, "accepted"),
        (0.14, 0.16, M4, 6, "accepted"),
        (0.15, 0.15, M4, 6, "accepted"),
        (0.20, 0.249999, M4, 6, "accepted"),
        (0.20, 0.25, MORE, 3, ""),
        (0.24, 0.26, MORE, 3, ""),
        (0.25, 0.25, ITERATE, 2, "not accepted"),
        (0.25, 0.30, ITERATE, 2, "not accepted"),
        (0.30, 0.30, ITERATE, 2, "not accepted"),
        (0.30, 0.300001, MORE, 3, ""),
        (0.28, 0.32, MORE, 3, ""),
        (0.20, 0.40, MORE, 3, ""),
        (0.300001, 0.4, PIVOT, 2, "mandatory"),
        (0.80, 0.95, PIVOT, 2, "mandatory"),
        (5.0, 1e6, PIVOT, 2, "mandatory"),
    ],
)
def test_the_interval_lies_inside_one_milestone_or_spans_two(low, high, milestone, rule, status):
    decision = decide(interval(low, high), GOOD, BANDS)
    assert (decision.milestone, decision.rule, decision.status) == (milestone, rule, status)


def test_the_commands():
    assert decide(interval(0.8, 0.9), GOOD, BANDS).command == PIVOT_COMMAND
    assert decide(interval(0.1, 0.2), GOOD, BANDS).command == "python3 -m nox -s benchmarks"
    for decision in (decide(interval(0.2, 0.3), GOOD, BANDS), decide(interval(0.26, 0.29), GOOD, BANDS)):
        assert decision.command


def test_rule_1_comes_before_everything_and_names_every_blocker():
    blockers = [Blocker("contract structures does not hold", "hydrogate check"), Blocker("stale metrics", "nox")]
    for low, high in ((0.1, 0.12), (0.24, 0.26), (0.5, 0.6)):
        decision = decide(interval(low, high), GOOD, BANDS, blockers)
        assert (decision.milestone, decision.rule) == ("blocked", 1)
        assert decision.because == "contract structures does not hold; stale metrics"
        assert decision.command == "hydrogate check"
        assert decision.blocked


def test_a_missing_force_rmse_blocks():
    decision = decide(None, GOOD, BANDS)
    assert (decision.milestone, decision.because) == ("blocked", "metric force_rmse is missing")


@pytest.mark.parametrize("judged", [[], gates(a_optional="pass")])
def test_where_nothing_is_required_nothing_passes(judged):
    assert decide(interval(0.1, 0.12), judged, BANDS).milestone == "blocked"


@pytest.mark.parametrize("metric", [Metric(None, "eV/Å", 0), Metric(0.1, "eV/Å", 1), Metric(0.9, "eV/Å", 1)])
def test_without_an_interval_no_milestone_is_told(metric):
    decision = decide(metric, GOOD, BANDS)
    assert (decision.milestone, decision.rule) == (MORE, 3)


def test_rule_2_decides_from_the_ungated_bands_up_whatever_the_gates_say():
    for verdict in ("pass", "fail", "undecided", "not_run", "error"):
        assert decide(interval(0.26, 0.29), gates(a=verdict), BANDS).milestone == ITERATE
        assert decide(interval(0.4, 0.5), gates(a=verdict), BANDS).milestone == PIVOT


def test_rule_3_says_how_many_molecules_would_decide():
    decision = decide(Metric(0.24, "eV/Å", 100, 0.22, 0.255), GOOD, BANDS)
    assert decision.because == (
        "force_rmse 0.24 eV/Å (0.22 to 0.255, n = 100) spans m4_cuda_optimization and architecture_iteration; "
        "about 225 held-out molecules would decide"
    )


def test_rule_3_comes_before_a_failing_gate():
    assert decide(interval(0.24, 0.26), gates(a="fail"), BANDS).rule == 3


def test_rule_4_names_the_first_failing_gate_and_tells_of_all():
    decision = decide(interval(0.1, 0.12), gates(a="pass", b="fail", c="undecided", d="fail"), BANDS)
    assert (decision.milestone, decision.rule) == ("fix_b", 4)
    assert decision.because == "gate b: is fail; gate d: is fail"
    assert decision.command == SHIPPED["gates"]["force_rmse"]["command"]


@pytest.mark.parametrize("verdict", ["undecided", "not_run"])
def test_rule_5_names_what_is_open(verdict):
    decision = decide(interval(0.1, 0.12), gates(a="pass", b=verdict), BANDS)
    assert (decision.milestone, decision.rule) == (MORE, 5)
    assert decision.because == f"gate b: is {verdict}"


def test_rule_5_draws_molecules_where_they_would_decide_and_else_runs_what_was_not_run():
    declared = gates(a="undecided", b="not_run")
    assert decide(interval(0.1, 0.12), declared, BANDS).command == declared[0].gate.command
    waiting = [replace(declared[0], molecules_needed=300), declared[1]]
    assert decide(interval(0.1, 0.12), waiting, BANDS).command == MORE_DATA_COMMAND


@pytest.mark.parametrize("verdicts", list(product(["pass", "fail", "undecided", "not_run", "error"], repeat=2)))
def test_the_gates_open_m4_only_where_every_required_one_passes(verdicts):
    decision = decide(interval(0.1, 0.12), gates(a=verdicts[0], b=verdicts[1], c_optional="fail"), BANDS)
    bad = [name for name, verdict in zip("ab", verdicts, strict=True) if verdict in ("fail", "error")]
    if bad:
        assert (decision.milestone, decision.rule) == (f"fix_{bad[0]}", 4)
    elif verdicts == ("pass", "pass"):
        assert (decision.milestone, decision.rule) == (M4, 6)
    else:
        assert (decision.milestone, decision.rule) == (MORE, 5)


@given(value=st.floats(0, 1e12))
def test_every_value_has_exactly_one_band(value):
    assert sum(band.range.holds(value) for band in BANDS) == 1


@given(low=st.floats(0, 1), width=st.floats(0, 1))
def test_every_interval_has_a_decision(low, width):
    decision = decide(interval(low, low + width), GOOD, BANDS)
    inside = {band.milestone for band in BANDS if band.range.holds(low) or band.range.holds(low + width)}
    assert decision.milestone == (next(iter(inside)) if len(inside) == 1 else MORE)


def decisions():
    """Yield inputs and the complete decision expected from each rule."""
    one, two = tuple(gates(a="pass")), tuple(gates(a="pass", b="pass"))
    open_, failing = tuple(gates(a="undecided", b="not_run")), tuple(gates(a="fail", b="pass", c="error"))
    accepted, iterate = BANDS[1], next(band for band in BANDS if band.milestone == ITERATE)
    low, high, both = interval(0.1, 0.12), interval(0.26, 0.29), interval(0.14, 0.16)
    nothing = "no gate is required, so nothing would be evaluated (params.yaml, gates)"
    gate_command = one[0].gate.command
    within = f"force_rmse {both} lies in {M4}, [0, 0.15) and [0.15, 0.25)"
    yield None, one, Decision("blocked", 1, "metric force_rmse is missing", "python3 -m nox -s repro", one)
    yield low, (), Decision("blocked", 1, nothing, "git diff HEAD -- params.yaml", ())
    because = f"force_rmse {high} lies in {ITERATE}, [0.25, 0.3]"
    yield high, one, Decision(ITERATE, 2, because, iterate.command, one, iterate.status, iterate.advice)
    because = f"force_rmse {Metric(0.1, 'eV/Å', 1)} has no interval, so no milestone can be determined"
    yield Metric(0.1, "eV/Å", 1), one, Decision(MORE, 3, because, MORE_DATA_COMMAND, one)
    because = f"force_rmse {interval(0.125, 0.375)} spans {M4} and {ITERATE} and {PIVOT}; it is on a band edge"
    yield interval(0.125, 0.375), one, Decision(MORE, 3, because, MORE_DATA_COMMAND, one)
    edge = interval(0.125, 0.25)
    because = f"force_rmse {edge} spans {M4} and {ITERATE}; about 201 held-out molecules would decide"
    yield edge, one, Decision(MORE, 3, because, MORE_DATA_COMMAND, one)
    yield low, failing, Decision("fix_a", 4, "gate a: is fail; gate c: is error", gate_command, failing)
    yield low, open_, Decision(MORE, 5, "gate a: is undecided; gate b: is not_run", gate_command, open_)
    because = f"{within}; 2 of 2 required gates pass"
    yield both, two, Decision(M4, 6, because, accepted.command, two, accepted.status, accepted.advice)


@pytest.mark.parametrize(("metric", "judged", "decision"), list(decisions()))
def test_a_decision_in_full(metric, judged, decision):
    assert decide(metric, judged, BANDS) == decision


def bands(*ranges, milestones=None, gated=None):
    names = milestones or [f"m{i}" for i in range(len(ranges))]
    return [
        {
            "range": text,
            "milestone": name,
            "status": "s",
            "gated": bool(gated and gated[i]),
            "command": "c",
            "reason": "r",
        }
        for i, (text, name) in enumerate(zip(ranges, names, strict=True))
    ]


def test_bands_that_tile_are_read_and_written_alike():
    read = read_milestones(bands("[0, 0.15)", "[0.15,0.3]", " (0.30, inf) "))
    assert [str(band.range) for band in read] == ["[0, 0.15)", "[0.15, 0.3]", "(0.3, inf)"]
    assert {band.advice for band in read} == {""}


@pytest.mark.parametrize(
    ("declared", "says"),
    [
        (bands("[0, 0.2)", "[0.3, inf)"), r"gap between \[0, 0\.2\) and \[0\.3, inf\): 0\.2 has no milestone"),
        (bands("[0, 0.2)", "(0.2, inf)"), r"gap .* 0\.2 has no milestone"),
        (bands("[0, 0.2]", "[0.2, inf)"), r"overlap at 0\.2"),
        (bands("[0, 0.3)", "[0.2, inf)"), r"overlap at 0\.2"),
        (bands("[0, 0.3)", "[0.3, inf)", "[0.1, 0.2)"), r"the last band .* must end with 'inf\)'"),
        (bands("[0, inf)", "[0.3, inf)"), r"overlap at 0\.3"),
        (bands("(0, inf)"), r"must start with '\[0,'"),
        (bands("[0.1, inf)"), r"must start with '\[0,'"),
        (bands("[0, 0.3]"), r"must end with 'inf\)'"),
        (bands("[0, inf]"), r"empty or includes infinity"),
        (bands("[0.3, 0.3]"), r"is empty"),
        (
            bands("0 to 0.3"),
            r"0: range: expected a range such as '\[0\.15, 0\.25\)' or '\(0\.30, inf\)', got '0 to 0\.3'",
        ),
        (bands("[-1, inf)"), r"expected a range such as"),
        ([], r"expected a list"),
        (None, r"expected a list"),
        ({}, r"expected a list"),
        ([{**bands("[0, inf)")[0], "gatd": True}], r"milestones\.0: unknown key gatd; did you mean 'gated'\?"),
        ([{**bands("[0, inf)")[0], "milestone": "Bad Name"}], r"milestones\.0: milestone"),
        ([{**bands("[0, inf)")[0], "range": 0.3}], r"milestones\.0: range"),
        (bands("[0, 1)", "[1, inf)", milestones=["m", "m"], gated=[True, False]), r"different values of gated"),
    ],
)
def test_bands_that_do_not_tile_are_refused(declared, says):
    with pytest.raises(BadParams, match=says):
        read_milestones(declared)


def test_infinity_lies_in_no_band_and_leads_to_no_milestone():
    assert not any(band.range.holds(math.inf) for band in BANDS)
    assert decide(Metric.from_dict({"value": math.inf, "unit": "", "n": 9}), GOOD, BANDS).milestone == MORE
