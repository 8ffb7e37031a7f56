"""Findings and reports: texts, JSON form, and which verdicts fail a contract. Only ``pass`` passes."""

from dataclasses import replace

import pytest

from hydrogate.checks.findings import Finding, Report, Severity, Verdict, number

SHORT = Finding(
    contract="labels",
    check="force_rms",
    verdict=Verdict.FAIL,
    severity=Severity.ERROR,
    message="worst 61.5 eV/Å.",
    remedy="Look at the structure.",
    n=12,
    n_bad=1,
    unit="eV/Å",
    observed={"worst": 61.5, "C": 1234567.0},
    allowed={"value": "at most 50", "C": "at most 2"},
    examples=("structure 3",),
    reason="nothing pulls like this",
    source="profile druglike",
)
PASSED = replace(SHORT, check="net_force", verdict=Verdict.PASS, n_bad=0, examples=())


def report(*findings: Finding, **changes: object) -> Report:
    return replace(Report("labels", "druglike", "f" * 64, findings), **changes)  # type: ignore[arg-type]


def test_a_finding_in_words() -> None:
    assert str(SHORT) == "contract labels, check force_rms: worst 61.5 eV/Å. Look at the structure."
    assert str(PASSED) == "contract labels, check net_force: worst 61.5 eV/Å."
    assert SHORT.observed_text() == "61.5, C 1234567 eV/Å"
    assert SHORT.allowed_text() == "at most 50, C at most 2"
    assert replace(SHORT, observed={}).observed_text() == ""
    assert replace(SHORT, unit="", observed={"worst": 2.0}).observed_text() == "2"
    least = Finding("labels", "force_rms", Verdict.FAIL, Severity.ERROR, "It is short.")
    assert str(least) == "contract labels, check force_rms: It is short."
    assert (least.observed_text(), least.allowed_text(), least.n, least.n_bad, least.examples) == ("", "", 0, 0, ())


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (12345.0, "12345"),
        (12345.6, "1.235e+04"),
        (0.000123456, "0.0001235"),
        (-99999.0, "-99999"),
        (1e15, "1e+15"),
        (1e15 - 1, "999999999999999"),
        (-1e15, "-1e+15"),
        (float("nan"), "nan"),
    ],
)
def test_a_number_has_four_digits_or_counts(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize("verdict", Verdict)
def test_what_refuses(verdict: Verdict) -> None:
    finding = replace(SHORT, verdict=verdict)
    assert finding.refuses() is (verdict not in (Verdict.PASS, Verdict.NOT_RUN))
    assert finding.refuses(strict=True) is (verdict is not Verdict.PASS)
    assert not replace(finding, severity=Severity.WARN).refuses(strict=True)


def test_a_contract_holds_where_something_ran_and_nothing_refuses() -> None:
    not_run, warned = replace(SHORT, verdict=Verdict.NOT_RUN), replace(SHORT, severity=Severity.WARN)
    assert not report().holds()
    assert not report(not_run).holds()
    assert report(warned).holds()
    assert report(PASSED, not_run).holds()
    assert not report(PASSED, not_run).holds(strict=True)
    assert not report(PASSED, SHORT).holds()
    assert report(PASSED, SHORT, not_run).refusals() == (SHORT,)
    assert report(PASSED, SHORT, not_run).refusals(strict=True) == (SHORT, not_run)


def test_what_was_let_through_is_said_first() -> None:
    let = "; contracts.labels.enforce: report let the data through"
    not_run = replace(SHORT, check="audit", verdict=Verdict.NOT_RUN)
    assert report(SHORT, not_run).caveat == ""
    assert report(PASSED, enforced=False).caveat == ""
    assert report(SHORT, not_run, enforced=False).caveat == f"contract labels failed (force_rms, audit){let}"
    assert report(enforced=False).caveat == f"contract labels failed (no check ran){let}"


def test_the_profiles_under_which_it_would_hold() -> None:
    assert report(SHORT).hint() == ""
    said = "this contract passes with --profile clusters or --profile crystals"
    assert report(SHORT, holds_under=("clusters", "crystals")).hint() == said


def test_what_was_not_judged_is_said_too() -> None:
    both = ("energies", "forces")
    assert report(PASSED, not_judged=both).hint() == "energies and forces not checked: use --contract labels"
    said = report(SHORT, holds_under=("small",), not_judged=both[:1]).hint()
    assert said == "this contract passes with --profile small; energies not checked: use --contract labels"


def test_a_report_as_json_holds_it() -> None:
    whole = report(
        SHORT,
        PASSED,
        switched_off=("a", "b"),
        summary={"structures": 12, "atoms": 40, "species_percent": {"H": 50.0}},
        holds_under=("clusters", "small"),
        not_judged=("energies", "forces"),
    )
    content = whole.to_dict()
    assert content == {
        "contract": "labels",
        "profile": "druglike",
        "verdict": "fail",
        "holds": False,
        "fingerprint": "f" * 64,
        "summary": {"structures": 12, "atoms": 40, "species_percent": {"H": 50.0}},
        "switched_off": "a b",
        "holds_under": "clusters small",
        "not_judged": "energies forces",
        "checks": {
            "force_rms": {"verdict": "fail", "n_bad": 1, "observed": {"worst": 61.5, "C": 1234567.0}},
            "net_force": {"verdict": "pass", "n_bad": 0, "observed": {"worst": 61.5, "C": 1234567.0}},
        },
        "findings": [
            {
                "check": "force_rms",
                "verdict": "fail",
                "severity": "error",
                "n": 12,
                "n_bad": 1,
                "unit": "eV/Å",
                "observed": {"worst": 61.5, "C": 1234567.0},
                "allowed": {"value": "at most 50", "C": "at most 2"},
                "message": "worst 61.5 eV/Å.",
                "remedy": "Look at the structure.",
                "reason": "nothing pulls like this",
                "source": "profile druglike",
                "examples": ["structure 3"],
            },
            content["findings"][1],
        ],
    }
    assert "examples" not in content["findings"][1]
    assert Report.from_dict(content) == whole
    let = report(PASSED, enforced=False)
    assert (let.to_dict()["verdict"], let.to_dict()["enforced"]) == ("pass", False)
    assert "holds_under" not in let.to_dict()
    assert Report.from_dict(let.to_dict()) == let


def test_strict_json_holds_only_where_all_ran() -> None:
    not_run = replace(SHORT, verdict=Verdict.NOT_RUN)
    assert report(PASSED, not_run).to_dict()["holds"] is True
    assert report(PASSED, not_run).to_dict(strict=True)["holds"] is False
    assert report(PASSED, not_run).to_dict(strict=True)["verdict"] == "fail"


@pytest.mark.parametrize("key", ["contract", "profile", "fingerprint", "findings", "switched_off", "summary"])
def test_a_report_that_lacks_something_is_refused(key: str) -> None:
    content = report(SHORT).to_dict()
    with pytest.raises(KeyError, match=key):
        Report.from_dict({name: value for name, value in content.items() if name != key})


def test_a_report_of_another_form_is_refused_and_says_where() -> None:
    content = report(SHORT).to_dict()
    content["findings"][0]["n"] = "many"
    with pytest.raises(ValueError, match=r"^findings\.0\.n: Input should be a valid integer"):
        Report.from_dict(content)


@pytest.mark.parametrize(
    "summary",
    [
        {"structures": 12},
        {"structures": 12, "atoms": 40},
        {"structures": 12, "atoms": 40, "species_percent": ""},
        {"structures": 12, "atoms": 40, "species_percent": {"H": "half"}},
        {"structures": 12, "atoms": 40, "species_percent": {"H": None}},
    ],
)
def test_a_summary_that_no_report_can_show_is_refused(summary: object) -> None:
    with pytest.raises(ValueError, match=r"^summary"):
        Report.from_dict(report(SHORT).to_dict() | {"summary": summary})
