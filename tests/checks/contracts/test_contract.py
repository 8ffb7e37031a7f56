"""Report fields other than findings: the data, the profile, disabled checks and labels not checked."""

import pytest
from ase.build import molecule

from hydrogate.checks import Dataset, check
from hydrogate.checks.data.dataset import concatenate
from hydrogate.checks.engine.partition import Parts
from hydrogate.checks.engine.registry import RULES


@pytest.fixture
def data() -> Dataset:
    return concatenate([molecule("H2O"), molecule("CH4")])


def test_a_check_that_is_switched_off_is_told_and_not_judged(data: Dataset) -> None:
    off = {"size": {"enabled": False, "reason": "a test"}, "finite": {"reason": "still on"}}
    report = check(data, overrides=[("test", {"structures": off})])
    assert report.switched_off == ("size",)
    assert {finding.check for finding in report.findings} == {check for of, check in RULES if of == "structures"} - {
        "size"
    }
    assert check(data).switched_off == ()


def test_the_summary_counts_what_was_judged_and_always_names_hydrogen(data: Dataset) -> None:
    species = {"H": 75.0, "C": 12.5, "O": 12.5}
    assert check(data).summary == {"structures": 2, "atoms": 8, "species_percent": species}
    assert check(concatenate([molecule("N2")])).summary["species_percent"] == {"H": 0.0, "N": 100.0}
    assert check(concatenate([])).summary == {"structures": 0, "atoms": 0, "species_percent": {"H": 0.0}}


def test_a_report_is_of_the_data_whole_or_in_parts(data: Dataset) -> None:
    report = check(data, profile="small")
    assert (report.contract, report.profile, report.fingerprint) == ("structures", "small", data.fingerprint())
    assert check(Parts.of(data, atoms=3), profile="small") == report


def test_a_check_without_bounds_or_bounds_without_a_check_are_a_fault_of_the_code(
    data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RULES, ("structures", "unheard_of"), RULES["structures", "size"])
    with pytest.raises(AssertionError, match=r"contract structures: bounds and rules differ in \['unheard_of'\]"):
        check(data)
    monkeypatch.delitem(RULES, ("structures", "unheard_of"))
    monkeypatch.delitem(RULES, ("structures", "size"))
    with pytest.raises(AssertionError, match=r"differ in \['size'\]"):
        check(data)
