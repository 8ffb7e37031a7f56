"""`hydrogate review`: judges local data, uses committed findings otherwise, and exits with 1 on a failure."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from junitparser import JUnitXml
from typer.testing import CliRunner

from hydrogate.checks import Dataset, Report, check
from hydrogate.checks.metrics.comparison import Comparison
from hydrogate.checks.metrics.definitions import measure
from hydrogate.pipeline.cli import app
from hydrogate.pipeline.decision import staleness
from hydrogate.pipeline.reports import report
from hydrogate.pipeline.reports import review as review_module
from hydrogate.pipeline.reports.report_html import write_html
from hydrogate.pipeline.reports.review import run
from hydrogate.pipeline.stages.check import write_report
from hydrogate.pipeline.storage.hdf5 import write_dataset

SHIPPED = Path(__file__).parents[3] / "params.yaml"
REPORTS = ["data-docs", "junit.xml", "report.html", "report.md"]


def predictions(labelled: Dataset) -> tuple[Dataset, Dataset]:
    """Return the held-out structures, and plausible predictions of a student for them."""
    held_out = labelled.subset((labelled.split == "test").nonzero()[0])
    noise = np.random.default_rng(0).normal(0.0, 0.05, held_out.forces.shape).astype(np.float32)
    return held_out, replace(held_out, forces=held_out.forces + noise)


@pytest.fixture
def clone(tmp_path: Path, labelled: Dataset, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Fresh clone: parameters, passing findings and metrics, no data; DVC reports no changes."""
    shutil.copy(SHIPPED, tmp_path / "params.yaml")
    good = check(labelled, "labels", teacher=labelled.teacher)
    held = tuple(finding for finding in good.findings if not finding.refuses(strict=True))
    for contract in ("input", "structures", "labels", "predictions"):
        fingerprint = "P" if contract == "predictions" else "L"
        found = tuple(replace(finding, contract=contract) for finding in held)
        write_report(Report(contract, "druglike", fingerprint, found, summary=good.summary), tmp_path / "metrics")
    names = {"labelled_fingerprint": "L", "student_fingerprint": "S", "predictions_fingerprint": "P"}
    metrics = measure(Comparison.of(*predictions(labelled)), resamples=200)
    blocks = {name: metric.to_dict() for name, metric in metrics.items()}
    blocks["n_structures"] = {"value": 200.0, "unit": "molecules", "n": 200}
    blocks |= {name: {**block, "n": 200} for name, block in blocks.items()}
    training = {**names, "convergence": {"value": 0.01, "unit": "", "n": 12}}
    stable = {**names, "md_stability": {"value": 1.0, "unit": "", "n": 20}}
    validation = {"split": "test", **names, **blocks}
    for name, content in (("validation", validation), ("training", training), ("md", stable)):
        (tmp_path / f"metrics/{name}.json").write_text(json.dumps(content))
    monkeypatch.setattr(staleness, "stale_stages", lambda root: [])
    monkeypatch.setattr(report, "run", lambda *given: ("# Report\n", ["::notice ::hello"]))
    monkeypatch.chdir(tmp_path)
    yield tmp_path


@pytest.fixture
def no_data_docs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip the Data Docs: they take seconds, and one test of them is enough."""
    monkeypatch.setattr(review_module, "write_data_docs", lambda *given: None)


def test_a_fresh_clone_is_judged_by_what_is_committed(clone: Path) -> None:
    review = run(clone, clone / "reports")
    assert list(review.refusals()) == []
    assert review.decision.milestone == "m4_cuda_optimization"
    assert "missing data/labelled.h5; used the committed findings, metrics/labels.json" in " ".join(review.told)
    assert sorted(path.name for path in (clone / "reports").iterdir()) == REPORTS
    page = (clone / "reports/report.html").read_text()
    assert "missing: data/labelled.h5; showing the committed findings" in page
    suites = JUnitXml.fromfile(str(clone / "reports/junit.xml"))
    assert [suite.name for suite in suites] == [
        *(f"contract {name}" for name in ("input", "structures", "labels", "predictions")),
        "gates",
    ]
    assert suites.failures == suites.errors == 0
    assert not (clone / "data").exists()


def test_the_command_exits_0_where_nothing_refuses(clone: Path, no_data_docs: None) -> None:
    result = CliRunner().invoke(app, ["review", "--output", "made", "--annotations"])
    assert result.exit_code == 0, result.output
    assert "::notice ::hello" in result.output
    assert sorted(path.name for path in Path("made").iterdir()) == REPORTS[1:]


def test_data_that_are_here_are_judged_anew(clone: Path, structures: Dataset) -> None:
    bare = replace(structures, positions=structures.positions * np.float32(0.5))
    write_dataset(bare, clone / "data/structures.h5")
    committed = (clone / "metrics/structures.json").read_bytes()
    result = CliRunner().invoke(app, ["review"])
    assert result.exit_code == 1
    assert "contract structures: judged on data/structures.h5" in result.output
    assert "contract structures failed: " in result.output and "min_distance" in result.output
    assert 'id="structures-min_distance" open' in Path("reports/report.html").read_text()
    assert "Failed" in Path("reports/data-docs/structures/index.html").read_text()
    assert (clone / "metrics/structures.json").read_bytes() == committed


def test_a_required_gate_that_fails_refuses(clone: Path, no_data_docs: None) -> None:
    path = clone / "metrics/validation.json"
    content = json.loads(path.read_text())
    content["angular_error_mean_deg"] |= {"value": 40.0, "low": 39.0, "high": 41.0}
    path.write_text(json.dumps(content))
    review = run(clone, clone / "reports")
    assert [text.split(":")[0] for text in review.refusals()] == ["gate angular_error_mean_deg"]
    assert JUnitXml.fromfile(str(clone / "reports/junit.xml")).failures == 1


def test_a_blocked_decision_refuses(clone: Path, no_data_docs: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staleness, "stale_stages", lambda root: [staleness.Stale("label", "params.yaml label.teacher")])
    review = run(clone, clone / "reports")
    assert [text.split(":")[0] for text in review.refusals()] == ["blocked"]
    page = (clone / "reports/report.html").read_text()
    assert 'class="chip blocked"' in page
    assert "Verdicts and values are from the last run and may belong to other data." in page


def test_a_contract_that_was_never_judged_refuses(clone: Path, no_data_docs: None) -> None:
    (clone / "metrics/labels.json").unlink()
    review = run(clone, clone / "reports")
    assert "contract labels: missing data/labelled.h5; not judged" in " ".join(review.told)
    assert any(text.startswith("blocked: ") and "labels" in text for text in review.refusals())


@pytest.mark.parametrize("damage", [b"", b"not HDF5 at all"])
def test_the_page_names_data_that_cannot_be_read(clone: Path, labelled: Dataset, damage: bytes) -> None:
    _, predicted = predictions(labelled)
    (clone / "data").mkdir()
    write_dataset(predicted, clone / "data/predictions.h5")
    (clone / "data/labelled.h5").write_bytes(damage)
    write_html(clone, clone / "report.html")
    page = (clone / "report.html").read_text()
    assert "labelled.h5: " in page and 'class="absent"' in page
    assert 'id="worst"' not in page


def test_the_page_of_a_whole_run(clone: Path, labelled: Dataset) -> None:
    _, predicted = predictions(labelled)
    (clone / "data").mkdir()
    write_dataset(labelled, clone / "data/labelled.h5")
    write_dataset(predicted, clone / "data/predictions.h5")
    curves = clone / "plots/training/plots/metrics"
    curves.mkdir(parents=True)
    (curves / "valid_loss.tsv").write_text("step\tvalid_loss\n0\t0.5\n1\t0.3\n")
    write_html(clone, clone / "report.html")
    page = (clone / "report.html").read_text()
    for section in ("errors", "training", "structures", "worst"):
        assert f'id="{section}"' in page
    assert 'class="absent"' not in page


def test_predictions_of_another_split_are_named(clone: Path, labelled: Dataset) -> None:
    _, predicted = predictions(labelled)
    (clone / "data").mkdir()
    write_dataset(labelled, clone / "data/labelled.h5")
    write_dataset(predicted.subset([0, 1]), clone / "data/predictions.h5")
    write_html(clone, clone / "report.html")
    page = (clone / "report.html").read_text()
    assert "data/predictions.h5 does not match the test split of data/labelled.h5" in page
    assert 'id="worst"' not in page


def test_half_a_surrogate_pair_is_written(clone: Path) -> None:
    path = clone / "metrics/structures.json"
    path.write_text(path.read_text().replace('"profile": "druglike"', '"profile": "\\ud800"'))
    write_html(clone, clone / "report.html")
    assert "Profile ?" in (clone / "report.html").read_text()


@pytest.mark.parametrize("content", ["step\tother\n1\t2\n", "step\tloss\n1\n", "step\tloss\n1\tx\n"])
def test_a_curve_that_is_none_is_named(clone: Path, content: str) -> None:
    curve = clone / "plots/training/plots/metrics/loss.tsv"
    curve.parent.mkdir(parents=True)
    curve.write_text(content)
    write_html(clone, clone / "page.html")
    assert "plots/training/plots/metrics/loss.tsv: unreadable curve (" in (clone / "page.html").read_text(
        encoding="utf-8"
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--output", "params.yaml"], "cannot write to"), (["--base", "mian"], "no git repository here")],
)
def test_what_cannot_be_reported_is_said_before_anything_is_judged(
    clone: Path, call: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.setattr(review_module, "load_params", lambda path: pytest.fail("something was judged"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(clone.parent))
    result = call("review", *arguments)
    assert result.status == 2
    assert said in result.err
