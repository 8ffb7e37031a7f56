"""Data Docs: every evaluated check is shown with its reason, the verdicts agree, and the page loads nothing."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from hydrogate.checks import Dataset, Report, Verdict, check
from hydrogate.checks.contracts.great_expectations import data_docs
from hydrogate.checks.contracts.offline_html import offline
from hydrogate.checks.engine.bounds import resolve_bounds

_, DECLARED = resolve_bounds("labels")


class Page(HTMLParser):
    """Parser for external resources and scripts in a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        outside = [f"{name}={value}" for name, value in attrs if name in ("src", "srcset", "data", "action", "poster")]
        outside += [f"{name}={value}" for name, value in attrs if name.startswith("on")]
        outside += [f"href={value}" for name, value in attrs if name == "href" and re.match(r"\w+:|//", value or "")]
        self.loads += [f"{tag} {item}" for item in outside]
        self.loads += [tag] if tag in ("script", "link", "iframe", "object", "embed", "img", "base") else []


@pytest.fixture(scope="module")
def good(labelled: Dataset) -> Report:
    return check(labelled, "labels")


@pytest.fixture(scope="module")
def pages(good: Report) -> dict[str, str]:
    return data_docs(good, DECLARED)


def test_every_check_that_judged_is_there_with_its_reason(good: Report, pages: dict[str, str]) -> None:
    for finding in good.findings:
        assert finding.check.replace("_", "") in pages["expectations.html"].replace("_", ""), finding.check
        if finding.verdict is Verdict.PASS:
            assert finding.check in pages["index.html"]
    assert "reading kcal/mol or hartree/bohr as eV/Å scales forces by 23 or 51" in pages["expectations.html"]
    assert "is not shown here: not run" in pages["expectations.html"]
    said = {"Why": "reading kcal/mol or", "Declared by": "profile druglike", "Checked": "1395, of which 0 outside"}
    for name, text in said.items():
        assert f"<strong>{name}:</strong> {text}" in pages["expectations.html"]
    # A check with a single quantity is labelled by the check name alone.
    assert "force_magnitude__largest" in pages["index.html"]
    assert "force_rms__" not in pages["index.html"]


def test_what_was_observed_is_there(good: Report, pages: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    data_docs(good, DECLARED)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
    force_rms = next(finding.observed["value"] for finding in good.findings if finding.check == "force_rms")
    section = re.sub(r"<[^>]*>", " ", pages["index.html"]).split("force_rms")[-2]
    assert "--" not in section
    assert f"{force_rms:.4f}" in re.sub(r"<[^>]*>", " ", pages["index.html"])


def test_nothing_is_loaded_and_nothing_runs(pages: dict[str, str]) -> None:
    for page in pages.values():
        assert Page(page).loads == []
        assert not re.search(r"url\(|@import", page)
        assert "Content-Security-Policy" in page
        assert page.count("<head>") == page.count("<body>") == page.count("</body>") == 1


def test_the_pages_link_each_other(pages: dict[str, str]) -> None:
    assert 'href="expectations.html"' in pages["index.html"]
    assert 'href="index.html"' in pages["expectations.html"]


def test_a_spoiled_data_set_fails_there_too(labelled: Dataset) -> None:
    report = check(replace(labelled, forces=labelled.forces * np.float32(1000)), "labels")
    assert not report.holds()
    page = data_docs(report, DECLARED)["index.html"]
    assert "text-danger" in page and "Failed" in page
    section = page[page.index("force_rms_per_structure") :]
    assert section


def test_a_value_that_is_no_number_fails(labelled: Dataset) -> None:
    forces = labelled.forces.copy()
    forces[3] = np.nan
    report = check(replace(labelled, forces=forces), "labels")
    assert "Failed" in data_docs(report, DECLARED)["index.html"]


def test_a_contract_of_which_nothing_could_be_judged(structures: Dataset) -> None:
    report = Report("labels", "druglike", "abc", ())
    assert "contract labels" in data_docs(report, DECLARED)["index.html"]


def test_findings_older_than_the_bounds_are_named_and_not_shown(good: Report) -> None:
    old = tuple(
        replace(f, allowed={"renamed": "at most 1"}) if f.check == "force_magnitude" else f for f in good.findings
    )
    pages = data_docs(replace(good, findings=old), DECLARED)
    assert "force_magnitude</strong> is not shown here" in pages["expectations.html"]


def test_a_reason_cannot_run_anything(good: Report) -> None:
    hostile = "<img src=x onerror=alert(1)> [x](javascript:alert(1)) <script>alert(1)</script>"
    declared = {name: replace(bounds, reason=hostile) for name, bounds in DECLARED.items()}
    report = replace(good, findings=tuple(replace(f, reason=hostile, remedy=hostile) for f in good.findings))
    for page in data_docs(report, declared).values():
        assert Page(page).loads == []
    assert "&lt;img src=x onerror=alert(1)&gt;" in data_docs(report, declared)["expectations.html"]


def test_what_content_networks_serve_is_taken_out() -> None:
    page = (
        '<html><head><link href="https://cdn.example/x.css"></head><body><img\n src="https://x.example/a.png">'
        '<a onclick="f()" href="../../index.html">Home</a><script>f("</div>")</script></body></html>'
    )
    assert Page(offline(page)).loads == []
    assert '<a href="index.html">Home</a>' in offline(page)
