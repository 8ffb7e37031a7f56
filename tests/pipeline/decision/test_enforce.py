"""`contracts.<contract>.enforce: report`: refused data go on, and whatever is said of them says so first."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from hydrogate.checks import check
from hydrogate.checks.diff.declarations_diff import Declaration, compare_declarations
from hydrogate.checks.diff.loosening import Effect
from hydrogate.checks.errors import BadParams
from hydrogate.checks.findings import Report
from hydrogate.checks.gates.milestones import Decision
from hydrogate.checks.render.ci.junit import junit_xml
from hydrogate.checks.render.ci.pull_request import MARKER, State, pull_request_markdown
from hydrogate.checks.render.decision_text import decision_text
from hydrogate.checks.render.html.page import Content, html_page
from hydrogate.checks.render.markdown import report_markdown
from hydrogate.checks.render.text import report_text
from hydrogate.pipeline.decision import decide
from hydrogate.pipeline.stages import guard
from hydrogate.pipeline.stages.check import write_report

CAVEAT = "contract structures failed (explicit_hydrogens"
LET_THROUGH = "contracts.structures.enforce: report let the data through"


def judged(data, enforce="report"):
    return check(data, "structures", overrides=[("params.yaml", {"structures": {"enforce": enforce}})])


@pytest.fixture(scope="module")
def bare(structures):
    """The structures with their hydrogens missing."""
    heavy = structures.numbers != 1
    sizes = np.add.reduceat(heavy, structures.offset[:-1])
    return replace(
        structures,
        numbers=structures.numbers[heavy],
        positions=structures.positions[heavy],
        offset=np.concatenate([[0], np.cumsum(sizes)]),
    )


def printed(renderable):
    out = io.StringIO()
    Console(file=out, width=300).print(renderable)
    return out.getvalue()


def test_the_guard_lets_through_what_only_reports(bare, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for enforce, status in (("refuse", 1), ("report", 0)):
        (tmp_path / "metrics").mkdir(exist_ok=True)
        (tmp_path / "data").mkdir(exist_ok=True)
        write_report(judged(bare, enforce))
        assert guard.stage_exit_status(lambda: guard.main(["structures"])) == status
        assert (tmp_path / "data/structures.ok").exists() == (status == 0)
    said = capsys.readouterr()
    assert said.out.startswith(CAVEAT)
    assert LET_THROUGH in said.out
    guard.require_token("structures", bare.fingerprint())


def test_what_holds_has_no_caveat(structures):
    holding = replace(judged(structures), findings=judged(structures).findings[:1])
    assert holding.holds(strict=True)
    assert holding.caveat == ""
    assert not judged(structures).enforced


def test_the_verdict_stays(bare):
    report = judged(bare)
    assert not report.holds()
    assert Report.from_dict(json.loads(json.dumps(report.to_dict(strict=True)))) == report
    assert "enforced" not in judged(bare, "refuse").to_dict()


def test_every_report_says_so_first(bare):
    report = judged(bare)
    decision = Decision("m4_cuda_optimization", 6, "all is well", "nox", (), caveats=(report.caveat,))
    first_lines = [
        printed(report_text(report)).splitlines()[0],
        report_markdown(report).splitlines()[0].replace("\\", ""),
        printed(decision_text(decision)).splitlines()[0],
        pull_request_markdown(State(decision, (report,), (), ())).removeprefix(f"{MARKER}\n").splitlines()[0],
        html_page(Content(decision, reports=(report,))).split("<header>")[1].strip().splitlines()[0],
    ]
    for line in first_lines:
        assert CAVEAT in line.replace("\\", ""), line
        assert "let the data through" in line
    content = decide.to_json(decision, {})
    assert next(iter(content)) == "caveats"
    assert CAVEAT in content["caveats"]
    assert CAVEAT in junit_xml([report], content)


def test_the_decision_is_made_and_carries_the_caveat(bare, tmp_path):
    (tmp_path / "metrics").mkdir()
    write_report(judged(bare), tmp_path / "metrics")
    decision = decide.run(tmp_path, lambda root: [])
    assert decision.caveats[0].startswith(CAVEAT)
    assert "contract structures" not in decision.because.replace("params", "")
    write_report(judged(bare, "refuse"), tmp_path / "metrics")
    decision = decide.run(tmp_path, lambda root: [])
    assert not decision.caveats
    assert "contract structures" in decision.because


def test_a_branch_that_enforces_no_longer_is_called_out():
    sides = [Declaration({}, {"contracts": {"labels": section}}, {}) for section in ({}, {"enforce": "report"})]
    (loosened,) = compare_declarations(*sides)
    assert (loosened.effect, loosened.where) == (Effect.LOOSER, "contracts.labels.enforce")
    (mended,) = compare_declarations(*reversed(sides))
    assert mended.effect is Effect.NOT_LOOSER


@pytest.mark.parametrize("value", ["off", False, None, ["report"]])
def test_another_word_is_refused(structures, value):
    with pytest.raises(BadParams, match=r"contracts\.structures\.enforce: expected refuse or report"):
        judged(structures, value)
