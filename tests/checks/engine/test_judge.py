"""Verdicts from measurements: undefined values never pass, counts are exact, the worst rows come first."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from ase.build import molecule
from hypothesis import given, settings
from hypothesis import strategies as st

from hydrogate.checks import check
from hydrogate.checks.data.dataset import Dataset, concatenate
from hydrogate.checks.data.fingerprint import cuts
from hydrogate.checks.engine.bounds import Bounds, Limits
from hydrogate.checks.engine.judge import judge
from hydrogate.checks.engine.partition import Part, Parts, Place
from hydrogate.checks.engine.registry import NotGiven, NotRun, Quantities, Rounds, Rule, Subject
from hydrogate.checks.engine.row_counts import Rows, outside
from hydrogate.checks.errors import UnreadableData
from hydrogate.checks.findings import Finding, Severity, Verdict


def judged(
    measurement: Rows | Quantities | Exception, limits: dict[str, Limits], severity: Severity = Severity.ERROR
) -> Finding:
    def answer(part: Part) -> Rows | Quantities:
        if isinstance(measurement, Exception):
            raise measurement
        return measurement

    def measure(subject: Subject, bounds: Bounds) -> Rounds:
        return (yield answer)

    bounds = {"c": Bounds("c", Severity.ERROR, True, limits, {}, "why", "here")}
    rule = Rule("structures", "c", "Å", "Fix it.", measure)
    return judge([rule], bounds, Subject(Parts.of(concatenate([]))))["c"][0]


def rows(values: list[float]) -> Rows:
    return Rows(np.array(values, dtype=float), lambda row: f"row {row}")


@settings(deadline=None)  # the first call imports pandera
@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=40))
def test_a_row_outside_or_undefined_is_counted_exactly(values: list[float]) -> None:
    finding = judged(rows(values), {"": Limits(-1.0, 1.0)})
    bad = sum(not (-1.0 <= value <= 1.0) for value in values)
    assert finding.n_bad == bad
    assert finding.verdict is (Verdict.FAIL if bad else Verdict.PASS)
    assert len(finding.examples) == min(bad, 5)


def test_the_worst_row_comes_first_and_nan_is_the_worst() -> None:
    assert judged(rows([2.0, 9.0, 0.0, 5.0]), {"": Limits(max=1.0)}).examples == ("row 1", "row 3", "row 0")
    assert judged(rows([2.0, float("nan"), 9.0]), {"": Limits(max=1.0)}).examples[0] == "row 1"


def test_no_rows_are_undecided_and_refuse() -> None:
    finding = judged(rows([]), {"": Limits(max=1.0)})
    assert finding.verdict is Verdict.UNDECIDED
    assert finding.refuses()


def test_between_the_warning_and_the_bound_is_a_warning() -> None:
    finding = judged(rows([0.7, 0.9]), {"": Limits(min=0.6, warn_min=0.8)})
    assert (finding.verdict, finding.severity, finding.n_bad) == (Verdict.FAIL, Severity.WARN, 1)
    assert not finding.refuses()
    worse = judged(rows([0.5, 0.7]), {"": Limits(min=0.6, warn_min=0.8)})
    assert (worse.severity, worse.n_bad) == (Severity.ERROR, 1)


@pytest.mark.parametrize(
    ("measured", "verdict"),
    [
        (Quantities({"": 0.5}, 10), Verdict.PASS),
        (Quantities({"": 2.0}, 10), Verdict.FAIL),
        (Quantities({"": float("nan")}, 10), Verdict.UNDECIDED),
        (Quantities({"": 0.5}, 0), Verdict.UNDECIDED),
        (Quantities({}, 10), Verdict.UNDECIDED),
        (Quantities({"": 0.5}, 10, undecided="too few"), Verdict.UNDECIDED),
        (NotRun("no reference"), Verdict.NOT_RUN),
        (ZeroDivisionError("x / 0"), Verdict.ERROR),
    ],
)
def test_verdict(measured: Quantities | Exception, verdict: Verdict) -> None:
    finding = judged(measured, {"": Limits(0.0, 1.0)})
    assert finding.verdict is verdict
    assert finding.refuses(strict=True) is (verdict is not Verdict.PASS)


def in_full() -> Iterator[tuple[Rows | Quantities | Exception, dict[str, Limits], Finding]]:
    """Yield a measurement, its limits and the complete finding."""
    error = Severity.ERROR
    blank = Finding("structures", "c", Verdict.PASS, error, "", "Fix it.", unit="Å", reason="why", source="here")
    limit = {"": Limits(max=1.0)}
    allowed = {"worst": "at most 1"}
    yield (
        rows([0.5, 0.25]),
        limit,
        replace(
            blank, message="2 structures within bounds (at most 1).", n=2, observed={"worst": 0.5}, allowed=allowed
        ),
    )
    texts = ("row 1", "row 2")
    message = "row 1; allowed at most 1 Å; 2 of 3 structures fail."
    failed = replace(blank, verdict=Verdict.FAIL, message=message, n=3, n_bad=2, examples=texts, allowed=allowed)
    yield rows([0.5, np.nan, 9.0]), limit, failed
    yield rows([0.5, 9.0, 8.0]), limit, replace(failed, observed={"worst": 9.0})
    message = "row 1; allowed at most 0.8 Å; 1 of 2 structures fail."
    warned = replace(failed, severity=Severity.WARN, message=message, n=2, n_bad=1, examples=("row 1",))
    yield (
        rows([0.5, 0.9]),
        {"": Limits(max=1.0, warn_max=0.8)},
        replace(warned, observed={"worst": 0.9}, allowed={"worst": "at most 0.8"}),
    )
    nothing = Rows(np.empty(0), str, noun="bonds")
    yield nothing, limit, replace(blank, verdict=Verdict.UNDECIDED, message="there are no bonds to check.")
    of_two = {"a": Limits(max=1.0), "other": Limits(0.0, 5.0, warn_max=3.0)}
    known = {"a": "at most 1", "b": "0 to 5"}
    a, b = "a {} Å over 7 pairs, allowed at most 1", "b {} eV over 7 pairs, allowed 0 to 5"

    def two(*values: float, **changes: object) -> Quantities:
        return replace(Quantities(dict(zip("ab", values, strict=True)), 7, "pairs", units={"b": "eV"}), **changes)  # type: ignore[arg-type]

    within = replace(blank, n=7, observed={"a": 1.0, "b": 2.0}, allowed=known)
    yield two(1.0, 2.0), of_two, replace(within, message=f"{a.format(1)}; {b.format(2)}.")
    yield two(1.0, 2.0, holds="All is well"), of_two, replace(within, message="All is well.")
    beyond = replace(within, verdict=Verdict.FAIL, n_bad=1, observed={"a": 1.5, "b": 4.0})
    yield two(1.5, 4.0, holds="All is well"), of_two, replace(beyond, message=f"{a.format(1.5)}.")
    beyond = replace(beyond, n_bad=2, observed={"a": 1.5, "b": -1.0})
    yield two(1.5, -1.0), of_two, replace(beyond, message=f"{a.format(1.5)}; {b.format(-1)}.")
    doubtful = replace(beyond, severity=Severity.WARN, n_bad=1, observed={"a": 1.0, "b": 4.0})
    yield two(1.0, 4.0), of_two, replace(doubtful, message=f"{b.format(4)}.")
    undecided = replace(within, verdict=Verdict.UNDECIDED)
    message = f"undecided: too few; {a.format(1)}; {b.format(2)}."
    yield two(1.0, 2.0, undecided="too few"), of_two, replace(undecided, message=message)
    gentle = replace(undecided, severity=Severity.WARN, message=message)
    yield two(1.0, 2.0, undecided="too few", only_warns=True), of_two, gentle
    lost = replace(undecided, observed={"b": 2.0}, message="undecided: no data to measure a.")
    yield two(np.nan, 2.0), of_two, lost
    lost = replace(lost, observed={}, message="undecided: no data to measure a, b.")
    yield two(np.nan, np.nan), of_two, lost
    alone = replace(blank, verdict=Verdict.UNDECIDED, message="undecided: no data to measure c.")
    yield Quantities({"": np.nan}, 3), limit, replace(alone, n=3, allowed={"value": "at most 1"})
    yield Quantities({}, 3), limit, replace(alone, n=3)
    message = "0.5 Å over 3 structures, allowed at most 1."
    yield (
        Quantities({"": 0.5}, 3),
        limit,
        replace(within, n=3, message=message, observed={"value": 0.5}, allowed={"value": "at most 1"}),
    )
    yield NotRun("no reference"), limit, replace(blank, verdict=Verdict.NOT_RUN, message="not run: no reference.")
    gentle = replace(blank, verdict=Verdict.NOT_RUN, severity=Severity.WARN, message="not run: no isolated atoms.")
    yield NotGiven("no isolated atoms"), limit, gentle
    message = "the check itself crashed: KeyError: 'x'."
    yield KeyError("x"), limit, replace(blank, verdict=Verdict.ERROR, message=message)


@pytest.mark.parametrize(("measured", "limits", "finding"), list(in_full()))
def test_a_finding_in_full(
    measured: Rows | Quantities | Exception, limits: dict[str, Limits], finding: Finding
) -> None:
    assert judged(measured, limits) == finding


def test_one_quantity_undefined_is_undecided_although_the_others_pass() -> None:
    both = {"a": Limits(max=1.0), "b": Limits(max=1.0)}
    assert judged(Quantities({"a": 0.0, "b": float("nan")}, 5), both).verdict is Verdict.UNDECIDED


def test_each_check_is_given_its_own_bounds() -> None:
    def measure(subject: Subject, bounds: Bounds) -> Rounds:
        count = yield lambda part: 7
        return Quantities({"": bounds.limits[""].max or 0.0}, count)

    most = {"c": 1.0, "d": 2.0}
    bounds = {name: Bounds(name, Severity.ERROR, True, {"": Limits(max=m)}, {}, "", "") for name, m in most.items()}
    found = judge(
        [Rule("structures", name, "", "", measure) for name in most], bounds, Subject(Parts.of(concatenate([])))
    )
    assert {name: (finding.observed["value"], finding.n) for name, (finding, _) in found.items()} == {
        "c": (1.0, 7),
        "d": (2.0, 7),
    }


def test_a_check_that_broke_says_how() -> None:
    assert "ZeroDivisionError: x / 0" in str(judged(ZeroDivisionError("x / 0"), {"": Limits()}))


@given(st.floats(allow_nan=True), st.floats(-5, 0), st.floats(0, 5))
def test_outside_is_the_complement_of_the_closed_interval(value: float, low: float, high: float) -> None:
    assert outside(np.array([value]), Limits(low, high))[0] == (not low <= value <= high)


@pytest.mark.parametrize(
    ("broken", "verdict"), [(NotRun("nothing here"), Verdict.FAIL), (ZeroDivisionError("x / 0"), Verdict.ERROR)]
)
def test_what_one_part_lacks_hides_nothing_of_the_others(broken: Exception, verdict: Verdict) -> None:
    def answer(part: Part) -> Rows:
        if part.place.first == 2:
            raise broken
        return Rows(np.array([part.place.first]), part.name)

    def measure(subject: Subject, bounds: Bounds) -> Rounds:
        return (yield answer)

    bounds = {"c": Bounds("c", Severity.ERROR, True, {"": Limits(max=1.0)}, {}, "why", "here")}
    parts = Parts.of(concatenate([molecule("H2O") for _ in range(4)]), atoms=3)
    assert len(parts.places) == 4
    finding, _ = judge([Rule("structures", "c", "", "Fix it.", measure)], bounds, Subject(parts))["c"]
    assert finding.verdict is verdict
    if verdict is Verdict.FAIL:
        assert (finding.n, finding.n_bad, finding.examples) == (3, 1, ("structure 3 (H2O)",))


def test_a_part_that_cannot_be_read_is_no_broken_check() -> None:
    def unreadable() -> None:
        raise UnreadableData("shard.h5: gone")

    parts = Parts.of(concatenate([molecule("H2O")]))
    place = replace(parts.places[0], load=unreadable)
    bounds = {"c": Bounds("c", Severity.ERROR, True, {"": Limits()}, {}, "why", "here")}
    with pytest.raises(UnreadableData, match="gone"):
        judge(
            [Rule("structures", "c", "", "", lambda subject, bounds: _sizes())],
            bounds,
            Subject(replace(parts, places=[place])),
        )


def _sizes() -> Rounds:
    return (yield lambda part: Rows(part.data.sizes, str))


def test_contract_labels_reads_a_part_twice_with_the_summary(labelled: Dataset) -> None:
    read: Counter[int] = Counter()

    def counted(place: Place) -> Dataset:
        read[place.first] += 1
        return place.load()

    parts = Parts.of(labelled, atoms=1000)
    counting = [replace(place, load=partial(counted, place)) for place in parts.places]
    report = check(replace(parts, places=counting), "labels")
    assert list(read.values()) == [2] * len(parts.places)
    assert report.summary["species_percent"] == {
        symbol: round(share, 2) for symbol, share in labelled.species_percentages().items()
    }


def test_families_stay_in_one_part() -> None:
    offset = np.arange(0, 33, 3)
    parent = np.array([0, 0, 2, 2, 2, 5, 6, 9, 8, 9])
    assert cuts(offset, parent, 3).tolist() == [2, 5, 6, 7]
    assert cuts(offset, parent, 1000).tolist() == []
