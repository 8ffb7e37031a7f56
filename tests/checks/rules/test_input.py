"""Tests of contract ``input``: one mutant per check, on plain counts."""

from dataclasses import replace

import pytest

from hydrogate.checks import Severity, Verdict, check
from hydrogate.checks.data.dataset import Quarantined, concatenate
from hydrogate.checks.data.input_counts import SETTING_ASIDE, InputCounts
from hydrogate.checks.engine.registry import RULES

GOOD = InputCounts(
    records_read={"a.sdf": 10},
    molecules=10,
    quarantined=dict.fromkeys(SETTING_ASIDE, ()),
    implicit_hydrogens=0,
    explicit_hydrogens=80,
    fully_implicit=0,
    mixed=0,
    fully_explicit=10,
    without_hydrogen=0,
)


def set_aside(name: str) -> InputCounts:
    record = Quarantined("a.sdf", 3, "no good")
    return replace(GOOD, molecules=9, quarantined={**GOOD.quarantined, name: (record,)})


MUTANTS = {
    "readable": replace(GOOD, molecules=9),
    "has_3d": set_aside("has_3d"),
    "implicit_hydrogens": replace(
        GOOD, implicit_hydrogens=80, explicit_hydrogens=0, fully_implicit=10, fully_explicit=0
    ),
    "known_elements": set_aside("known_elements"),
    "sanitizes": set_aside("sanitizes"),
}


def test_every_check_has_a_mutant() -> None:
    assert set(MUTANTS) == {check for of, check in RULES if of == "input"}


def test_good_counts_hold() -> None:
    report = check(concatenate([]), "input", counts=GOOD)
    assert {finding.verdict for finding in report.findings} == {Verdict.PASS}
    assert report.holds(strict=True)


@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_is_caught(name: str) -> None:
    report = check(concatenate([]), "input", counts=MUTANTS[name])
    failing = {finding.check: finding for finding in report.findings if finding.verdict is Verdict.FAIL}
    assert set(failing) == {name}
    assert failing[name].message == {
        "readable": "1 records over 10 records, allowed at most 0.",
        "implicit_hydrogens": "implicit 80 hydrogens over 10 molecules, allowed at most 0.",
    }.get(name, "1 records quarantined over 10 records, allowed at most 0.")
    # Only a record that is not accounted for fails the contract; the others are quarantined and counted.
    assert (failing[name].severity is Severity.ERROR) is (name == "readable")
    assert report.holds() is (name != "readable")


def test_the_mixed_case_is_told_apart() -> None:
    counts = replace(GOOD, mixed=2, fully_explicit=8, implicit_hydrogens=7)
    finding = next(
        f for f in check(concatenate([]), "input", counts=counts).findings if f.check == "implicit_hydrogens"
    )
    assert finding.observed == {"implicit": 7, "mixed_molecules": 2}


def test_a_count_is_written_out() -> None:
    counts = replace(GOOD, implicit_hydrogens=17341, explicit_hydrogens=0, fully_implicit=10, fully_explicit=0)
    report = check(concatenate([]), "input", counts=counts)
    finding = next(f for f in report.findings if f.check == "implicit_hydrogens")
    assert "implicit 17341 hydrogens over" in finding.message
    assert finding.observed_text().startswith("implicit 17341, ")


def test_no_molecule_at_all_is_refused() -> None:
    nothing = replace(set_aside("has_3d"), molecules=0, records_read={"a.sdf": 7})
    report = check(concatenate([]), "input", counts=nothing)
    assert not report.holds()
    (readable,) = (finding for finding in report.findings if finding.check == "readable")
    assert readable.observed == {"value": 7.0}
    empty = check(concatenate([]), "input", counts=replace(nothing, records_read={}))
    assert not empty.holds()


def test_without_counts_nothing_ran_and_nothing_holds() -> None:
    report = check(concatenate([]), "input")
    assert not report.holds()
    assert {finding.message for finding in report.findings} == {
        "not run: the input records were not counted; pass the input files themselves."
    }


def test_the_fingerprint_is_of_the_counts_and_not_of_the_order_of_the_files() -> None:
    one, other = (replace(GOOD, records_read=read) for read in ({"a": 4, "b": 6}, {"b": 6, "a": 4}))
    assert one.fingerprint() == other.fingerprint() != replace(one, records_read={"a": 6, "b": 4}).fingerprint()
