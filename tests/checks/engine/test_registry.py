"""Registry of checks: registration, look-up by name, and evaluation."""

from dataclasses import fields

import pytest
from ase.build import molecule

from hydrogate.checks.data.dataset import concatenate
from hydrogate.checks.engine import registry as rules
from hydrogate.checks.engine.partition import Parts
from hydrogate.checks.engine.registry import RULES, Quantities, Subject, row_rule, rule

SUBJECT = Subject(Parts.of(concatenate([molecule("H2O")])))


@pytest.fixture(autouse=True)
def none_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "RULES", {})


def test_a_row_rule_is_found_in_each_contract_and_asks_parts_with_its_bounds() -> None:
    @row_rule("one", "two", unit="Å", remedy="Fix it.")
    def lengths(part: object, bounds: object) -> tuple[object, object]:
        """Lengths of all bonds.

        Not part of the rule text.
        """
        return part, bounds

    assert set(rules.RULES) == {("one", "lengths"), ("two", "lengths")}
    two = rules.RULES["two", "lengths"]
    assert (two.contract, two.check, two.unit, two.remedy) == ("two", "lengths", "Å", "Fix it.")
    assert two.why == "Lengths of all bonds."
    asking = two.measure(SUBJECT, "bounds")
    assert next(asking)("part") == lengths("part", "bounds") == ("part", "bounds")
    with pytest.raises(StopIteration) as end:
        asking.send("tally")
    assert end.value.value == "tally"


def test_a_rule_concludes_at_once_or_after_it_has_asked() -> None:
    @rule("one", remedy="Fix it.")
    def at_once(subject: Subject, bounds: object) -> Quantities:
        return Quantities({"": float(subject.whole.structures)}, 1)

    @rule("one", remedy="Fix it.", unit="eV")
    def later(subject: Subject, bounds: object) -> object:
        """Ask one question."""
        answer = yield "question"
        return Quantities({"": answer}, 2)

    with pytest.raises(StopIteration) as end:
        next(rules.RULES["one", "at_once"].measure(SUBJECT, None))
    assert end.value.value.values == {"": 1.0}
    assert (rules.RULES["one", "at_once"].why, rules.RULES["one", "at_once"].unit) == ("", "")
    asking = rules.RULES["one", "later"].measure(SUBJECT, None)
    assert (next(asking), rules.RULES["one", "later"].unit) == ("question", "eV")
    with pytest.raises(StopIteration) as end:
        asking.send(3.0)
    assert (end.value.value.values, end.value.value.n, end.value.value.noun) == ({"": 3.0}, 2, "structures")


def test_what_is_not_given_to_judge_with_is_none() -> None:
    assert {getattr(SUBJECT, field.name) for field in fields(SUBJECT) if field.name != "parts"} == {None}


def test_every_shipped_check_stands_under_its_own_name_and_says_what_to_do() -> None:
    assert ("labels", "net_force") in RULES
    for (contract, check), shipped in RULES.items():
        assert (shipped.contract, shipped.check) == (contract, check)
        assert shipped.why and shipped.remedy, check
