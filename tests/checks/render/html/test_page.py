"""HTML report: it is complete, loads nothing, and names from files have no effect in it."""

import base64
import hashlib
import json
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from hydrogate.checks import Dataset, Finding, Report, Severity, Verdict, check
from hydrogate.checks.engine.registry import RULES
from hydrogate.checks.gates.gates import judge, read_gates
from hydrogate.checks.gates.milestones import Band, Blocker, Decision, decide, read_milestones
from hydrogate.checks.metrics.bootstrap import Metric
from hydrogate.checks.metrics.comparison import Comparison
from hydrogate.checks.metrics.definitions import measure
from hydrogate.checks.render.html.page import WORST, Content, html_page

HOSTILE = "<img src=x onerror=alert(1)>\"'](javascript:alert(1))</script><script>alert(1)</script>{{ 7 * 7 }}"
BAND = {"milestone": "m4", "status": "on track", "gated": True, "command": "nox -s benchmarks", "reason": "well inside"}
GATE = {"metric": "force_rmse", "comparison": "<", "threshold": 0.25, "required": True, "confidence": 0.95, "min_n": 2}


class Page(HTMLParser):
    """Elements and attributes of a page, and its visible text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data

    def values(self, wanted: str) -> list[str]:
        return [value for _, name, value in self.attributes if name == wanted]


def bands() -> tuple[Band, ...]:
    return read_milestones([BAND | {"range": "[0, 0.25)"}, BAND | {"range": "[0.25, inf)", "gated": True}])


def decision_of(metrics: dict[str, Metric], **more: object) -> Decision:
    gates = read_gates({name: {**GATE, "reason": HOSTILE, **more} for name in ("force_rmse", "again")})
    judged = [judge(name, gate, metrics.get("force_rmse")) for name, gate in gates.items()]
    return decide(metrics.get("force_rmse"), judged, bands())


@pytest.fixture(scope="module")
def content(labelled: Dataset) -> Content:
    """Return a data set with hostile names, its findings, and predictions with some error."""
    names = np.full(len(labelled), HOSTILE, dtype=object)
    data = replace(labelled, source=names, smiles=names)
    noise = np.random.default_rng(0).normal(0.0, 0.1, labelled.forces.shape).astype(np.float32)
    held_out = data.subset((data.split == "test").nonzero()[0])
    predicted = replace(held_out, forces=held_out.forces + noise[: len(held_out.forces)])
    metrics = measure(Comparison.of(held_out, predicted), resamples=50)
    broken = replace(data, positions=data.positions * np.float32(0.2))
    reports = (check(labelled, "labels"), check(broken, "structures"))
    curves = {"train_loss": [0.5, 0.3], "valid_loss": [0.6, 0.4], "force_rmse": [0.3, 0.2], HOSTILE: [1.0]}
    return Content(decision_of(metrics), bands(), reports, metrics, curves, data, held_out, predicted, (HOSTILE,))


@pytest.fixture(scope="module")
def page(content: Content) -> str:
    return html_page(content)


def test_no_name_from_a_file_does_anything(page: str) -> None:
    read = Page(page)
    assert read.tags["img"] == read.tags["iframe"] == read.tags["object"] == read.tags["link"] == 0
    assert read.tags["script"] == read.tags["style"] == 1
    assert not [name for _, name, _ in read.attributes if name.startswith("on") or name == "style"]
    assert HOSTILE in read.text


def test_nothing_is_loaded(page: str) -> None:
    read = Page(page)
    assert not read.values("src") and not read.values("srcset")
    assert all(link.startswith("#") for link in read.values("href"))
    assert not re.search(r"https?://|url\(|@import|fetch\(|XMLHttpRequest|WebSocket", page)


def test_the_policy_allows_this_style_and_script_alone(page: str) -> None:
    (policy,) = [value for value in Page(page).values("content") if "default-src" in value]
    assert policy.startswith("default-src 'none'; ")
    for tag in ("style", "script"):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_every_link_has_its_place_and_every_place_is_there_once(page: str) -> None:
    read = Page(page)
    places = Counter(read.values("id"))
    assert places and max(places.values()) == 1
    assert {link[1:] for link in read.values("href")} <= set(places)
    for section in ("milestones", "gates", "contracts", "errors", "training", "structures", "worst"):
        assert f"#{section}" in read.values("href")


def test_each_finding_is_explained_and_what_fires_is_linked(page: str, content: Content) -> None:
    read = Page(page)
    for report in content.reports:
        for finding in report.findings:
            anchor = f"{report.contract}-{finding.check}"
            assert anchor in read.values("id")
            assert finding.reason in read.text and finding.remedy in read.text
            assert (f"#{anchor}" in read.values("href")) == (finding.verdict is not Verdict.PASS)
    assert RULES["structures", "min_distance"].why.split("\n")[0] in read.text


def test_hydrogens_are_drawn(page: str, content: Content) -> None:
    assert content.data is not None
    drawings = re.findall(r'<svg class="molecule".*?</svg>', page, re.DOTALL)
    assert len(drawings) == 24
    for drawing in drawings:
        (said,) = re.findall(r"(\d+) hydrogens", drawing)
        assert drawing.count('fill="#dbe0e8"') == int(said) > 0


def test_views_hold_what_the_script_draws(page: str, content: Content) -> None:
    views = [json.loads(value) for value in Page(page).values("data-view")]
    assert len(views) == WORST
    for view in views:
        atoms = len(view["symbols"])
        assert {len(view[key]) for key in ("positions", "teacher", "student", "colours", "radii")} == {atoms}
        assert 0 <= view["worst"] < atoms
        error = [np.linalg.norm(np.subtract(a, b)) for a, b in zip(view["teacher"], view["student"], strict=True)]
        assert np.argmax(error) == pytest.approx(view["worst"])


def test_the_worst_come_first(page: str) -> None:
    errors = [float(text) for text in re.findall(r"force RMSE ([\d.]+) eV/Å; worst atom", page)]
    assert len(errors) == WORST
    assert errors == sorted(errors, reverse=True)


def test_a_fresh_clone_has_metrics_and_no_data(content: Content) -> None:
    page = html_page(replace(content, data=None, held_out=None, predicted=None, curves={}))
    read = Page(page)
    assert "errors" in read.values("id") and "gates" in read.values("id")
    assert not {"structures", "worst", "training"} & set(read.values("id"))
    assert read.tags["canvas"] == 0


def test_a_blocked_decision_without_anything_else() -> None:
    blocked = decide(None, [], bands(), [Blocker(HOSTILE, "dvc repro")])
    read = Page(html_page(Content(blocked)))
    assert "blocked" in read.text and HOSTILE in read.text
    assert read.tags["img"] == 0


def test_undefined_is_said_and_not_drawn(content: Content) -> None:
    metrics = {"force_rmse": Metric(None, "eV/Å", 0)}
    page = html_page(Content(decision_of(metrics), bands(), metrics=metrics))
    assert "undefined" in page
    assert 'class="bullet"' not in page


def test_predictions_that_are_not_finite_are_the_worst(content: Content) -> None:
    assert content.predicted is not None
    forces = content.predicted.forces.copy()
    forces[0] = np.nan
    broken = replace(content, predicted=replace(content.predicted, forces=forces))
    page = html_page(broken)
    assert "NaN" not in "".join(Page(page).values("data-view"))
    assert "lie outside the plot" in page
    assert re.findall(r"force RMSE (\S+) eV/Å; worst atom", page)[0] == "inf"


def test_warnings_are_told_from_failures() -> None:
    warned = Finding("labels", "waivers", Verdict.FAIL, Severity.WARN, "an idle waiver")
    page = html_page(Content(decision_of({}), reports=(Report("labels", "druglike", "abc", (warned,)),)))
    assert '<span class="chip warning">warning</span>' in page
