"""From a measurement to a verdict: undefined never passes, counts are exact, the worst come first."""

from collections import Counter
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from ase.build import molecule
from hypothesis import given, settings
from hypothesis import strategies as st

from hydrogate.checks import check
from hydrogate.checks.bounds import Bounds, Limits
from hydrogate.checks.dataset import Dataset, UnreadableData, concatenate
from hydrogate.checks.findings import Finding, Severity, Verdict
from hydrogate.checks.judge import judge
from hydrogate.checks.parts import Part, Parts, Place, cuts
from hydrogate.checks.rules import Asking, NotRun, Quantities, Rule, Subject
from hydrogate.checks.tally import Rows, outside


def judged(
    measurement: Rows | Quantities | Exception, limits: dict[str, Limits], severity: Severity = Severity.ERROR
) -> Finding:
    def answer(part: Part) -> Rows | Quantities:
        if isinstance(measurement, Exception):
            raise measurement
        return measurement

    def measure(subject: Subject, bounds: Bounds) -> Asking:
        return (yield answer)

    bounds = {"c": Bounds("c", Severity.ERROR, True, limits, {}, "why", "here")}
    rule = Rule("structures", "c", "Å", "Mend it.", measure)
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


def test_one_quantity_undefined_is_undecided_although_the_others_pass() -> None:
    both = {"a": Limits(max=1.0), "b": Limits(max=1.0)}
    assert judged(Quantities({"a": 0.0, "b": float("nan")}, 5), both).verdict is Verdict.UNDECIDED


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

    def measure(subject: Subject, bounds: Bounds) -> Asking:
        return (yield answer)

    bounds = {"c": Bounds("c", Severity.ERROR, True, {"": Limits(max=1.0)}, {}, "why", "here")}
    parts = Parts.of(concatenate([molecule("H2O") for _ in range(4)]), atoms=3)
    assert len(parts.places) == 4
    finding, _ = judge([Rule("structures", "c", "", "Mend it.", measure)], bounds, Subject(parts))["c"]
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


def _sizes() -> Asking:
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
