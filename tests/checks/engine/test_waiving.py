"""Waivers: known findings warn, new findings and expired waivers fail, unsigned waivers are rejected on reading."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest

from hydrogate.checks import Dataset, Finding, Report, Severity, Verdict, check
from hydrogate.checks.engine.partition import Parts
from hydrogate.checks.engine.waiver import read_waivers
from hydrogate.checks.engine.waiving import finding_of_waivers
from hydrogate.checks.errors import BadParams
from hydrogate.checks.render.text import report_text

FOREVER = "2999-12-31"


def waiver(**changes: Any) -> dict[str, Any]:
    """Return a valid waiver for compressed structures in old files, with ``changes``; None omits a key."""
    sound = {
        "contract": "structures",
        "check": "min_distance",
        "pattern": "old*.sdf",
        "reason": "published that way",
        "author": "A. Curator",
        "expires": FOREVER,
    }
    return {key: value for key, value in {**sound, **changes}.items() if value is not None}


def judged(data: Dataset, *waivers: dict[str, Any], contract: str = "structures") -> Report:
    return check(data, contract, overrides=[("params.yaml", {"waivers": list(waivers)})])


def found(report: Report, name: str = "min_distance") -> Finding:
    return next(finding for finding in report.findings if finding.check == name)


@pytest.fixture
def legacy(structures: Dataset) -> Dataset:
    """Data set with structures 0 to 2 from an old file; in two of them, and nowhere else, two atoms nearly coincide."""
    source = structures.source.copy()
    source[:3] = "old-2019.sdf"
    positions = structures.positions.copy()
    for row in (0, 1):
        hydrogen = int(structures.offset[row + 1]) - 1
        nearest = hydrogen - 1
        positions[hydrogen] = positions[nearest] + np.float32([0.5, 0, 0])
    data = replace(structures, source=source, positions=positions, n_read=len(structures))
    # Use one record per structure, so that no record is counted twice.
    return replace(data, source_index=np.arange(len(data)))


def test_without_a_waiver_the_findings_refuse(legacy: Dataset) -> None:
    report = judged(legacy)
    assert found(report).refuses()
    assert found(report).n_bad == 2


def test_known_findings_warn_and_say_who_waived_them(legacy: Dataset) -> None:
    report = judged(legacy, waiver())
    finding = found(report)
    assert (finding.verdict, finding.severity, finding.n_bad) == (Verdict.FAIL, Severity.WARN, 2)
    assert "waived: A. Curator until 2999-12-31: published that way" in finding.message
    assert "old-2019.sdf" in finding.examples[0]
    assert not finding.refuses(strict=True)
    assert "waivers" not in {f.check for f in report.findings}
    assert Report.from_dict(report.to_dict()) == report


def test_a_new_finding_of_the_same_check_refuses_and_the_known_ones_are_counted_apart(legacy: Dataset) -> None:
    positions = legacy.positions.copy()
    positions[legacy.offset[7]] = positions[legacy.offset[7] + 1] + np.float32([0.3, 0, 0])
    finding = found(judged(replace(legacy, positions=positions), waiver()))
    assert (finding.severity, finding.n_bad, finding.n) == (Severity.ERROR, 1, len(legacy))
    assert "structure 7" in finding.message
    assert "2 more failures are waived: A. Curator" in finding.message
    assert all("old-2019.sdf" not in example for example in finding.examples)


def test_waivers_do_not_depend_on_the_cut(legacy: Dataset) -> None:
    positions = legacy.positions.copy()
    for row in (7, 50, 90):
        positions[legacy.offset[row]] = positions[legacy.offset[row] + 1] + np.float32([0.3, 0, 0])
    data = replace(legacy, positions=positions)
    overrides = [("params.yaml", {"waivers": [waiver()]})]
    whole, cut = (check(Parts.of(data, atoms=atoms), overrides=overrides) for atoms in (10_000, 200))
    assert found(whole) == found(cut)
    assert (found(cut).n_bad, found(cut).severity) == (3, Severity.ERROR)
    assert "2 more failures are waived" in found(cut).message


@pytest.mark.parametrize(
    ("named", "left"),
    [
        (["old-2019.sdf record 0", "old-2019.sdf record 1"], 0),
        (["old-2019.sdf record 0"], 1),
    ],
)
def test_structures_are_named_as_findings_print_them(legacy: Dataset, named: list[str], left: int) -> None:
    finding = found(judged(legacy, waiver(pattern=None, structures=named)))
    assert finding.refuses() is (left > 0)
    assert finding.n_bad == (left or 2)


def test_two_waivers_add_up(legacy: Dataset) -> None:
    one, two = (waiver(pattern=None, structures=[f"old-2019.sdf record {row}"]) for row in (0, 1))
    assert not found(judged(legacy, one, two)).refuses()


def test_rows_of_atoms_are_waived_by_their_structure(legacy: Dataset) -> None:
    hydrogens = np.flatnonzero(legacy.numbers == 1)[:2]
    assert legacy.structure_of_atom[hydrogens].tolist() == [0, 0]
    positions = legacy.positions.copy()
    positions[hydrogens] += np.float32([[40.0, 0, 0], [0, 40.0, 0]])
    far = replace(legacy, positions=positions)
    lengths = waiver(check="hydrogen_bond_lengths")
    before, after = (found(judged(far, *w), "hydrogen_bond_lengths") for w in ([], [lengths]))
    assert before.refuses()
    assert after.n_bad == before.n_bad == 2
    assert not after.refuses()
    assert "waived: " in after.message


def test_a_waiver_of_a_check_that_holds_changes_nothing_and_is_idle(structures: Dataset) -> None:
    whole = waiver(check="hydrogen_fraction", pattern=None, fingerprint=structures.fingerprint())
    report = judged(structures, whole)
    assert found(report, "hydrogen_fraction") == found(judged(structures), "hydrogen_fraction")
    assert found(report, "hydrogen_fraction").verdict is Verdict.PASS
    idle = found(report, "waivers")
    assert (idle.severity, idle.n, idle.n_bad) == (Severity.WARN, 1, 1)
    assert "has no effect" in idle.message


@pytest.mark.parametrize("changes", [{}, {"pattern": "nothing*"}])
def test_an_expired_waiver_waives_nothing_and_refuses_itself(legacy: Dataset, changes: dict[str, str]) -> None:
    report = judged(legacy, waiver(expires="2020-01-31", **changes))
    assert found(report).refuses()
    expired = found(report, "waivers")
    assert expired.refuses()
    assert "has expired" in expired.message
    assert "A. Curator until 2020-01-31" in expired.message


def test_an_expired_waiver_refuses_data_that_would_hold(structures: Dataset) -> None:
    assert judged(structures).holds()
    report = judged(structures, waiver(expires="2020-01-31"))
    assert [finding.check for finding in report.refusals()] == ["waivers"]


def test_a_waiver_of_another_contract_is_not_looked_at(structures: Dataset) -> None:
    assert "waivers" not in {
        f.check for f in judged(structures, waiver(contract="labels", expires="2020-01-31")).findings
    }


def test_a_waiver_without_an_effect_warns(structures: Dataset) -> None:
    report = judged(structures, waiver())
    assert report.holds(strict=False)
    assert found(report, "waivers").severity is Severity.WARN
    assert "has no effect" in found(report, "waivers").message


def test_what_is_said_of_waivers_themselves() -> None:
    declared = [
        waiver(expires="2020-01-31", structures=["a.sdf record 3"]),
        waiver(pattern=None, fingerprint="0123456789abcdef"),
        waiver(pattern="used*"),
    ]
    expired, idle, used = read_waivers([("p", {"waivers": declared})])
    signed = "A. Curator until {}: published that way"
    assert finding_of_waivers("structures", [expired, idle, used], [used], "f" * 64, date(2020, 2, 1)) == Finding(
        "structures",
        "waivers",
        Verdict.FAIL,
        message=f"the waiver of min_distance for a.sdf record 3, old*.sdf ({signed.format('2020-01-31')}) has expired; "
        f"the waiver of min_distance for the data set 0123456789ab ({signed.format(FOREVER)}) has no effect. "
        f"To waive a check on the complete data set, use its fingerprint, here {'f' * 64}.",
        severity=Severity.ERROR,
        remedy="Fix the data, renew the waiver with its reason, or remove it from contracts.waivers.",
        n=3,
        n_bad=2,
        reason="a permanent exception would make the contract meaningless",
        source="contracts.waivers",
    )
    last_day = finding_of_waivers("structures", [expired, used], [used], "", date(2020, 1, 31))
    assert last_day and (last_day.severity, last_day.n_bad) == (Severity.WARN, 1)
    alone = finding_of_waivers("structures", [expired], [], "", date(2020, 2, 1))
    assert alone and alone.message.endswith(") has expired.")
    assert finding_of_waivers("structures", [used], [used], "", date(2020, 1, 31)) is None


@pytest.fixture
def spoiled(labelled: Dataset) -> Dataset:
    return replace(labelled, forces=-labelled.forces)


def test_the_data_set_as_a_whole_is_waived_by_its_fingerprint_alone(spoiled: Dataset) -> None:
    of_whole = {"contract": "labels", "check": "restoring_forces"}
    named = judged(spoiled, waiver(**of_whole, pattern="*"), contract="labels")
    assert found(named, "restoring_forces").refuses()
    assert spoiled.fingerprint() in found(named, "waivers").message
    right = waiver(**of_whole, pattern=None, fingerprint=spoiled.fingerprint())
    report = judged(spoiled, right, contract="labels")
    assert not found(report, "restoring_forces").refuses()
    assert found(report, "sibling_work").refuses()
    other = replace(spoiled, energy=spoiled.energy + 1.0)
    assert found(judged(other, right, contract="labels"), "restoring_forces").refuses()


def test_a_fingerprint_beside_a_pattern_holds_the_waiver_to_one_data_set(legacy: Dataset) -> None:
    assert not found(judged(legacy, waiver(fingerprint=legacy.fingerprint()))).refuses()
    assert found(judged(legacy, waiver(fingerprint="0" * 64))).refuses()


def test_a_check_that_broke_cannot_be_waived(structures: Dataset) -> None:
    broken = replace(structures, n_read=5000)
    report = judged(broken, waiver(check="quarantine_share", pattern=None, fingerprint=broken.fingerprint()))
    assert found(report, "quarantine_share").verdict is Verdict.ERROR
    assert found(report, "quarantine_share").refuses()


def test_great_expectations_and_waivers_agree(spoiled: Dataset) -> None:
    of_whole = waiver(contract="labels", check="restoring_forces", pattern=None, fingerprint=spoiled.fingerprint())
    report = check(spoiled, "labels", overrides=[("p", {"waivers": [of_whole]})], great_expectations=True)
    assert Verdict.ERROR not in {finding.verdict for finding in report.findings}
    assert found(report, "restoring_forces").severity is Severity.WARN


def test_the_report_shows_what_is_waived(legacy: Dataset) -> None:
    from rich.console import Console

    console = Console(width=300)
    with console.capture() as printed:
        console.print(report_text(judged(legacy, waiver())))
    assert "waived: A. Curator" in printed.get()


def bad_waivers() -> Iterator[Any]:
    for key in ("reason", "author", "expires", "check", "contract"):
        yield pytest.param([waiver(**{key: None})], rf"contracts.waivers\[0\]: {key}: Field required", id=f"no {key}")
    for key in ("reason", "author"):
        yield pytest.param([waiver(**{key: "  "})], rf"\[0\]: {key}: ", id=f"blank {key}")
    yield pytest.param(
        [waiver(), waiver(check="min_distence")], r"\[1\]: check .*did you mean 'min_distance'", id="check"
    )
    yield pytest.param([waiver(contract="structure")], "did you mean 'structures'", id="contract")
    yield pytest.param([waiver(contract="input", check="readable")], "input cannot be waived", id="input")
    yield pytest.param([waiver(pattern=None)], "a waiver must name structures", id="nothing named")
    yield pytest.param([waiver(expires="soon")], "expires", id="expires")
    yield pytest.param([waiver(structures=[3])], "structures", id="a number for a structure")
    yield pytest.param([waiver(patern="x")], "unknown key patern; did you mean 'pattern'", id="key")
    yield pytest.param(["min_distance"], "expected a mapping", id="no mapping")
    yield pytest.param({"check": "min_distance"}, "expected a list", id="no list")


@pytest.mark.parametrize(("section", "words"), list(bad_waivers()))
def test_a_waiver_that_nobody_signed_or_that_means_nothing_is_refused(section: object, words: str) -> None:
    with pytest.raises(BadParams, match=words):
        read_waivers([("params.yaml", {"waivers": section})])


def test_a_bad_waiver_is_refused_before_anything_is_judged(structures: Dataset) -> None:
    with pytest.raises(BadParams, match=r"mine\.yaml: contracts\.waivers"):
        check(structures, overrides=[("mine.yaml", {"waivers": [waiver(author=None)]})])


def test_a_date_may_stand_with_and_without_quotes() -> None:
    of_text, of_date = (read_waivers([("p", {"waivers": [waiver(expires=d)]})]) for d in (FOREVER, date(2999, 12, 31)))
    assert of_text == of_date


def test_the_last_day_still_counts(legacy: Dataset) -> None:
    assert not found(judged(legacy, waiver(expires=date.today()))).refuses()
    assert found(judged(legacy, waiver(expires=date.today() - timedelta(days=1)))).refuses()


def test_waivers_of_all_files_count() -> None:
    files = [
        ("params.yaml", {"waivers": [waiver()]}),
        ("b", {}),
        ("c", {"waivers": None}),
        ("d", {"waivers": [waiver()]}),
    ]
    assert len(read_waivers(files)) == 2
