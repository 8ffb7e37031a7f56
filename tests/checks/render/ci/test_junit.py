"""JUnit XML: failing checks fail, checks that did not run are skipped with a reason, and no text breaks the XML."""

from dataclasses import replace
from xml.etree import ElementTree

import pytest
from junitparser import Error, Failure, JUnitXml, Skipped

from hydrogate.checks import Dataset, Finding, Report, Severity, Verdict, check
from hydrogate.checks.render.ci.junit import junit_xml

# From junit-10.xsd of the Jenkins project: allowed child elements, and allowed and required attributes.
CHILDREN = {
    "testsuites": {"testsuite"},
    "testsuite": {"properties", "testcase"},
    "properties": {"property"},
    "testcase": {"skipped", "error", "failure", "system-out"},
}
ATTRIBUTES = {
    "testsuites": ({"name", "tests", "failures", "errors"}, set()),
    "testsuite": ({"name", "tests", "failures", "errors", "skipped"}, {"name", "tests", "failures", "errors"}),
    "property": ({"name", "value"}, {"name", "value"}),
    "testcase": ({"name", "time", "classname"}, {"name"}),
    **dict.fromkeys(("skipped", "error", "failure"), ({"type", "message"}, set())),
}


def finding(verdict: Verdict, severity: Severity = Severity.ERROR, **fields: object) -> Finding:
    known = {"contract": "labels", "check": "force_rms", "message": "what was found", "unit": "eV/Å", "n": 3}
    known |= {"observed": {"value": 7.0}, "allowed": {"value": "0.1 to 5"}, "source": "params.yaml", "reason": "why"}
    return Finding(verdict=verdict, severity=severity, **{**known, **fields})


def report(*findings: Finding, **fields: object) -> Report:
    return Report("labels", "druglike", "abc", findings, **fields)


def only_case(*findings: Finding, strict: bool = False, **fields: object):
    (suite,) = JUnitXml.fromstring(junit_xml([report(*findings, **fields)], strict=strict).encode())
    return list(suite)[-1]


@pytest.mark.parametrize(
    ("verdict", "severity", "strict", "expected"),
    [
        (Verdict.PASS, Severity.ERROR, False, None),
        (Verdict.FAIL, Severity.ERROR, False, Failure),
        (Verdict.FAIL, Severity.WARN, True, None),
        (Verdict.UNDECIDED, Severity.ERROR, False, Failure),
        (Verdict.UNDECIDED, Severity.WARN, False, None),
        (Verdict.ERROR, Severity.ERROR, False, Error),
        (Verdict.NOT_RUN, Severity.ERROR, False, Skipped),
        (Verdict.NOT_RUN, Severity.ERROR, True, Failure),
        (Verdict.NOT_RUN, Severity.WARN, True, Skipped),
    ],
)
def test_the_outcome_follows_what_refuses(verdict: Verdict, severity: Severity, strict: bool, expected: type) -> None:
    passing = finding(Verdict.PASS, check="finite")
    case = only_case(passing, finding(verdict, severity), strict=strict)
    assert [type(result) for result in case.result] == ([expected] if expected else [])
    if expected:
        assert case.result[0].message == "what was found"
    assert ("warning:" in case.system_out) == (severity is Severity.WARN and expected is None)


def test_a_case_a_check_with_bound_value_and_source(labelled: Dataset) -> None:
    judged = check(labelled, "labels")
    (suite,) = JUnitXml.fromstring(junit_xml([judged]).encode())
    names = [case.name for case in suite]
    assert names == [*(f.check for f in judged.findings), *judged.switched_off]
    properties = {item.name: item.value for item in suite.properties()}
    assert properties["force_rms allowed"] == "0.1 to 5"
    assert properties["force_rms observed"].endswith("eV/Å")
    assert properties["force_rms source"] == "profile druglike"
    assert (suite.failures, suite.errors) == (0, 0)
    assert suite.skipped == sum(f.verdict is Verdict.NOT_RUN for f in judged.findings)


def test_what_is_switched_off_is_skipped_and_says_so() -> None:
    case = only_case(finding(Verdict.PASS), switched_off=("element_drift",))
    assert case.name == "element_drift"
    assert case.result[0].message == "switched off in the parameters"


def test_a_contract_of_which_nothing_ran_fails() -> None:
    case = only_case(finding(Verdict.NOT_RUN))
    assert isinstance(case.result[0], Failure)


def test_a_finding_that_is_no_rule_has_its_case() -> None:
    waivers = finding(Verdict.FAIL, check="waivers", observed={}, allowed={})
    assert only_case(finding(Verdict.PASS), waivers).name == "waivers"


def test_names_from_files_break_nothing() -> None:
    hostile = "a\x00\x1b[31m ]]><failure>&\ufffe\ud800 <img src=x onerror=alert(1)> \n\U0001f600"
    failed = finding(Verdict.FAIL, message=hostile, examples=(hostile,))
    text = junit_xml([replace(report(failed), summary={"file": hostile})])
    root = ElementTree.fromstring(text.encode())
    (failure,) = root.iter("failure")
    assert failure.get("message") == hostile.translate({0: "�", 0x1B: "�", 0xFFFE: "�", 0xD800: "�"})
    assert not list(root.iter("img"))


def gate(verdict: str, required: bool) -> dict[str, object]:
    return {"verdict": verdict, "required": required, "message": "0.3, allowed < 0.25"}


def decision(milestone: str = "blocked") -> dict[str, object]:
    gates = {"good": gate("pass", True), "bad": gate("fail", True), "open": gate("undecided", True)}
    gates |= {"broken": gate("error", True), "absent": gate("not_run", False), "advice": gate("fail", False)}
    return {"next_milestone": milestone, "because": "a contract does not hold", "gates": gates}


def test_gates_and_a_blocked_decision() -> None:
    _, suite = JUnitXml.fromstring(junit_xml([report(finding(Verdict.PASS))], decision()).encode())
    outcomes = {case.name: [type(result) for result in case.result] for case in suite}
    assert outcomes == {
        "good": [], "bad": [Failure], "open": [Failure], "broken": [Error], "absent": [Skipped], "advice": [],
        "decision": [Failure],
    }  # fmt: skip
    assert (suite.tests, suite.failures, suite.errors, suite.skipped) == (7, 3, 1, 1)


def test_the_document_is_as_the_schema_has_it() -> None:
    reports = [report(*(finding(verdict) for verdict in Verdict), switched_off=("a", "b"))]
    root = ElementTree.fromstring(junit_xml(reports, decision(), strict=True).encode())
    for element in root.iter():
        assert {child.tag for child in element} <= CHILDREN.get(element.tag, set())
        may, must = ATTRIBUTES.get(element.tag, (set(), set()))
        assert must <= set(element.attrib) <= may, element.tag
    assert int(root.get("tests")) == len(root.findall(".//testcase"))
    assert int(root.get("failures")) == len(root.findall(".//failure"))
