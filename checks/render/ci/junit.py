"""JUnit XML output of findings, for build servers: a suite per contract, a case per check, and a suite of the gates.

A failing check is a failure, a crashed check an error, and a check that did not run is skipped with its reason. A
warning passes; its text is in the output of the case. Bounds, values and their sources are properties of the suite.
Source: elements and attributes are those of junit-10.xsd of the Jenkins project, which has no properties of a case.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from hydrogate.checks.findings import Finding, Report, Verdict

# Source: https://www.w3.org/TR/xml/#charsets, characters that XML 1.0 cannot represent, not even escaped.
_UNWRITABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

_PROPERTIES = ("allowed", "observed", "source")


def junit_xml(reports: Sequence[Report], decision: Mapping[str, Any] | None = None, strict: bool = False) -> str:
    """Return one XML document of all ``reports``.

    Parameters
    ----------
    reports : sequence of Report
    decision : mapping, optional
        The content of ``metrics/decision.json``.
    strict : bool
        Whether a check that could not run counts as a failure.
    """
    suites = Element("testsuites", name="hydrogate")
    for report in reports:
        _add_contract(suites, report, strict)
    if decision is not None:
        _add_gates(suites, decision)
    totals = {name: sum(int(suite.get(name, "0")) for suite in suites) for name in ("tests", "failures", "errors")}
    suites.attrib.update({name: str(total) for name, total in totals.items()})
    ElementTree.indent(suites)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(suites, encoding="unicode") + "\n"


def _add_contract(suites: Element, report: Report, strict: bool) -> None:
    properties = {"profile": report.profile, "fingerprint": report.fingerprint}
    properties |= {name: _text(value) for name, value in report.summary.items()}
    for finding in report.findings:
        details = dict(_details(finding))
        properties |= {f"{finding.check} {name}": details[name] for name in _PROPERTIES if name in details}
    suite = _suite(suites, f"contract {report.contract}", properties)
    classname = f"hydrogate.{report.contract}"
    for finding in report.findings:
        case = _case(suite, classname, finding.check)
        outcome = _outcome(finding, strict)
        if outcome:
            text = "\n".join([str(finding), *finding.examples])
            _add(case, outcome, text, type=str(finding.verdict), message=finding.message)
        warning = [f"warning: {finding}"] if finding.verdict is not Verdict.PASS and not outcome else []
        _add(case, "system-out", "\n".join([*warning, *(f"{name}: {value}" for name, value in _details(finding))]))
    for name in report.switched_off:
        _add(_case(suite, classname, name), "skipped", message="switched off in the parameters")
    if not report.holds(strict) and not report.refusals(strict):
        message = "no check ran, so the contract does not pass"
        _add(_case(suite, classname, "any_check_ran"), "failure", type="undecided", message=message)
    _count(suite)


def _add_gates(suites: Element, decision: Mapping[str, Any]) -> None:
    told = {name: str(decision[name]) for name in ("caveats", "status", "because", "command") if name in decision}
    suite = _suite(suites, "gates", {"next_milestone": str(decision["next_milestone"]), **told})
    for name, gate in decision["gates"].items():
        case = _case(suite, "hydrogate.gates", name)
        if gate["verdict"] == Verdict.PASS:
            continue
        if gate["required"]:
            outcome = "error" if gate["verdict"] == Verdict.ERROR else "failure"
            _add(case, outcome, type=gate["verdict"], message=gate["message"])
        elif gate["verdict"] == Verdict.NOT_RUN:
            _add(case, "skipped", message=gate["message"])
        else:
            _add(case, "system-out", f"not required; {gate['verdict']}: {gate['message']}")
    case = _case(suite, "hydrogate.gates", "decision")
    if decision["next_milestone"] == "blocked":
        _add(case, "failure", type="blocked", message=told.get("because", ""))
    _count(suite)


def _outcome(finding: Finding, strict: bool) -> str:
    """Return the name of the result element; empty if the check passes or only warns."""
    if finding.verdict is Verdict.NOT_RUN and not finding.refuses(strict):
        return "skipped"
    if not finding.refuses(strict):
        return ""
    return "error" if finding.verdict is Verdict.ERROR else "failure"


def _details(finding: Finding) -> Iterator[tuple[str, str]]:
    details = {
        "severity": str(finding.severity),
        "observed": finding.observed_text(),
        "allowed": finding.allowed_text(),
        "judged": str(finding.n),
        "outside": str(finding.n_bad),
        "reason": finding.reason,
        "source": finding.source,
    }
    return ((name, value) for name, value in details.items() if value)


def _suite(suites: Element, name: str, properties: Mapping[str, str]) -> Element:
    suite = SubElement(suites, "testsuite", name=name)
    held = SubElement(suite, "properties")
    for key, value in properties.items():
        SubElement(held, "property", name=_writable(key), value=_writable(value))
    return suite


def _case(suite: Element, classname: str, name: str) -> Element:
    return SubElement(suite, "testcase", classname=classname, name=_writable(name), time="0")


def _add(case: Element, tag: str, text: str = "", **attributes: str) -> None:
    element = SubElement(case, tag, {name: _writable(value) for name, value in attributes.items()})
    element.text = _writable(text)


def _count(suite: Element) -> None:
    outcomes = {"failures": "failure", "errors": "error", "skipped": "skipped"}
    suite.set("tests", str(len(suite.findall("testcase"))))
    for attribute, tag in outcomes.items():
        suite.set(attribute, str(len(suite.findall(f"testcase/{tag}"))))


def _text(value: object) -> str:
    return ", ".join(f"{key} {item}" for key, item in value.items()) if isinstance(value, Mapping) else str(value)


def _writable(text: str) -> str:
    return _UNWRITABLE.sub("�", text)
