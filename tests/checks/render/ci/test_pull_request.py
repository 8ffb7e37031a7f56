"""Pull request report: its order, the parts that are never truncated, and hostile names without effect."""

import html
import re
from collections.abc import Mapping
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import cmarkgfm
import pytest
from cmarkgfm.cmark import Options

from hydrogate.checks.diff.loosening import Change, Effect
from hydrogate.checks.findings import Finding, Report, Severity, Verdict
from hydrogate.checks.gates.gates import Gate, Judgement, judge
from hydrogate.checks.gates.milestones import Decision
from hydrogate.checks.metrics.bootstrap import Metric
from hydrogate.checks.render.ci.annotations import annotations, line_of
from hydrogate.checks.render.ci.pull_request import LIMIT, MARKER, Comparison, State, pull_request_markdown

HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "](javascript:alert(1))",
    "[x](javascript:alert(1)) ![y](https://evil.example/y.png)",
    "@octocat #1 octo/cat#2 someone@example.org",
    "https://evil.example www.evil.example",
    "`code` ``` | cell | ~~x~~ **b** $\\alpha$",
    "</summary></details><script>alert(1)</script><!--",
    "first\n\n# heading\n::error::x\n/close\n\n<b>bold</b>",
    "\u202edesrever\x00\x1b[31m",
    "&lt;b&gt; &#64;octocat",
)
LOOSENED = Change(Effect.LOOSER, "bound loosened", "contracts.structures.size.max", "200", "999", "a polymer")


def finding(check: str, verdict: Verdict = Verdict.PASS, text: str = "all well") -> Finding:
    severity, seen, bound = Severity.ERROR, {"worst": 1.0}, {"worst": "1"}
    return Finding("structures", check, verdict, severity, text, n=1, observed=seen, allowed=bound)


def gate(required: bool = True) -> Gate:
    return Gate(
        metric="force_rmse", comparison="<", threshold=0.25, required=required, confidence=0.95, min_n=20, reason="why"
    )


def judgement(value: float = 0.13) -> Judgement:
    return judge("force_rmse", gate(), Metric(value, "eV/Å", 200, value - 0.01, value + 0.01))


def state(*findings: Finding, **changes: Any) -> State:
    decision = Decision("m4_cuda_optimization", 6, "it lies there", "nox -s benchmarks", (judgement(),), "on track")
    report = Report("structures", "druglike", "f", findings or (finding("finite"),))
    return replace(State(decision, (report,), (), ("plots/validation",)), **changes)


def leaf(old: Any, new: Any) -> Mapping[str, Any]:
    return {"old": old, "new": new}


def metric_leaves(name: str, old: Metric, new: Metric) -> dict[str, Mapping[str, Any]]:
    one, two = old.to_dict(), new.to_dict()
    return {f"{name}.{key}": leaf(one.get(key), two.get(key)) for key in one | two}


def comparison(*changes: Change, **more: Any) -> Comparison:
    return replace(Comparison("main (abc)", changes, {}, {}), **more)


class _Page(HTMLParser):
    """Tags with their attributes, and the text outside code."""

    def __init__(self, markdown: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self._code = "", 0
        self.feed(cmarkgfm.github_flavored_markdown_to_html(markdown, options=Options.CMARK_OPT_UNSAFE))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._code += tag == "code"

    def handle_endtag(self, tag: str) -> None:
        self._code -= tag == "code"

    def handle_data(self, data: str) -> None:
        self.text += "" if self._code else data


def test_the_decision_and_the_verdicts_come_first_then_what_is_loosened() -> None:
    text = pull_request_markdown(state(), comparison(LOOSENED))
    assert text.startswith(f"{MARKER}\n## Next milestone: **m4\\_cuda\\_optimization** (on track)")
    order = ["Next milestone", "| structures | pass |", "1 of 1 pass", "Loosened by this branch: 1", "<summary>"]
    places = [text.index(part) for part in order]
    assert places == sorted(places)
    assert "> - **bound loosened** `contracts.structures.size.max`: 200 → 999 (reason: a polymer)" in text


def test_the_state_alone_says_nothing_of_a_base() -> None:
    text = pull_request_markdown(state(finding("finite", Verdict.FAIL, text="structure 3 is broken")))
    assert "does not pass" in text and "structure 3 is broken" in text
    assert "ompared" not in text and "oosened" not in text


def test_that_nothing_was_loosened_is_said() -> None:
    tightened = Change(Effect.NOT_LOOSER, "bound tightened", "contracts.structures.size.max", "200", "100")
    text = pull_request_markdown(state(), comparison(tightened))
    assert "**Nothing loosened**" in text and "[!CAUTION]" not in text
    assert text.index("**bound tightened**") > text.index("Nothing loosened")


def test_what_could_not_be_compared_is_an_alarm_and_not_nothing() -> None:
    text = pull_request_markdown(state(), comparison(unknown=("not readable",)))
    assert "[!CAUTION]" in text and "**Not compared**: not readable" in text
    assert "Nothing loosened" not in text


def test_contracts_that_nobody_judged_do_not_pass() -> None:
    rows = [line.split(" | ")[:2] for line in pull_request_markdown(state()).splitlines()]
    assert ["| structures", "pass"] in rows
    assert [row for row in rows if "**not judged**" in row] == [
        [f"| {contract}", "**not judged**"] for contract in ("input", "labels", "predictions")
    ]


def test_gates_of_a_blocked_decision_are_not_taken_for_this_branchs() -> None:
    blocked = Decision("blocked", 1, "contract structures does not hold", "dvc repro", (judgement(),))
    text = pull_request_markdown(state(decision=blocked))
    assert "1 of 1 pass.\n\n**Blocked**: verdicts and values are from the last run" in text
    assert "**Blocked**" not in pull_request_markdown(state())


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (Metric(0.13, "eV/Å", 200, 0.12, 0.14), Metric(0.20, "eV/Å", 200, 0.19, 0.21), ("worse", "| yes |")),
        (Metric(0.20, "eV/Å", 200, 0.19, 0.21), Metric(0.13, "eV/Å", 200, 0.12, 0.14), ("better", "| yes |")),
        (Metric(0.13, "eV/Å", 200, 0.12, 0.14), Metric(0.135, "eV/Å", 200, 0.125, 0.145), ("worse", "| no |")),
        (Metric(0.13, "eV/Å", 200), Metric(0.20, "eV/Å", 200), ("worse", "no interval")),
        (Metric(None, "eV/Å", 0), Metric(0.20, "eV/Å", 200, 0.19, 0.21), ("undefined", "cannot be told")),
        (Metric(0.13, "eV/Å", 200, 0.12, 0.14), Metric(None, "eV/Å", 0), ("undefined", "cannot be told")),
    ],
)
def test_a_metric_that_changed(old: Metric, new: Metric, says: tuple[str, str]) -> None:
    metrics = {"validation": metric_leaves("force_rmse", old, new) | metric_leaves("force_mae", old, old)}
    text = pull_request_markdown(state(), comparison(metrics=metrics))
    (row,) = [line for line in text.splitlines() if line.startswith("| validation force")]
    assert all(part in row for part in says)


def test_a_metric_within_a_range_is_neither_better_nor_worse_and_the_others_are_folded_away() -> None:
    between = Gate(
        metric="hydrogen_fraction", comparison="between", low=0.4, high=0.6, required=True, confidence=0, min_n=1,
        reason="why",
    )  # fmt: skip
    judged = state()
    gates = (*judged.decision.gates, judge("hydrogen_fraction", between, Metric(0.44, "", 100)))
    metrics = {
        "validation": metric_leaves("hydrogen_fraction", Metric(0.45, "", 200), Metric(0.44, "", 100))
        | metric_leaves("force_mae", Metric(0.1, "eV/Å", 9, 0.0, 0.2), Metric(0.11, "eV/Å", 9, 0.0, 0.2))
        | metric_leaves("force_rmse_H", Metric(0.1, "eV/Å", 9, 0.0, 0.2), Metric(0.5, "eV/Å", 9, 0.4, 0.6))
    }
    text = pull_request_markdown(
        replace(judged, decision=replace(judged.decision, gates=gates)), comparison(metrics=metrics)
    )
    rows = [line for line in text.splitlines() if line.startswith("| validation ")]
    assert [re.sub(r"\W", "", row.split("|")[1]) for row in rows] == [
        "validationhydrogen_fraction", "validationforce_rmse_H", "validationforce_mae",
    ]  # fmt: skip
    assert "worse" not in rows[0] and "better" not in rows[0]
    assert text.index("1 others changed, none beyond its interval") < text.index(rows[2])


def test_a_metric_that_one_side_does_not_have() -> None:
    new = {f"force_rmse.{key}": leaf(None, value) for key, value in Metric(0.2, "eV/Å", 9).to_dict().items()}
    text = pull_request_markdown(state(), comparison(metrics={"validation": new}))
    assert "| validation force\\_rmse | absent | 0.2 eV/Å \\(n = 9\\) |" in text


def test_verdicts_that_changed_come_before_those_that_did_not() -> None:
    was = {"finite": "pass", "size": "fail", "connected": "pass", "gone": "pass"}
    metrics = {"structures": {f"checks.{check}.verdict": leaf(verdict, None) for check, verdict in was.items()}}
    findings = [finding("finite"), finding("size", Verdict.FAIL), finding("connected", Verdict.FAIL), finding("new")]
    text = pull_request_markdown(state(*findings), comparison(metrics=metrics))
    rows = [line for line in text.splitlines() if re.match(r"\| structures \w+ \|", line)]
    expected = (
        "connected | pass → fail",
        "new | not judged → pass",
        "gone | pass → not judged",
        "size | fail",
        "finite",
    )
    assert len(rows) == len(expected)
    for line, part in zip(rows, expected, strict=True):
        assert line.startswith(f"| structures {part} |")


def test_what_changed_in_the_data_set_and_in_the_parameters() -> None:
    summary = {"summary.structures": leaf(4000, 4100), "summary.atoms": leaf(10, 10)}
    summary |= {"summary.species_percent.H": leaf(45.03, 0.0), "summary.species_percent.Br": leaf(None, 0.2)}
    text = pull_request_markdown(
        state(stale=("train: params.yaml train modified",)),
        comparison(
            metrics={"structures": summary},
            params={"train.epochs": leaf(12, 24), "regenerate.add_hydrogens": leaf(True, False)},
        ),
    )
    for line in (
        "| structures structures | 4000 | 4100 | \\+100 |",
        "| structures H, % of the atoms | 45.03 | 0 | \\-45.03 |",
        "| structures % Br | absent | 0.2 |  |",
        "| train.epochs | 12 | 24 |",
        "| regenerate.add\\_hydrogens | true | false |",
        "- train\\: params.yaml train modified",
        "- plots/validation",
    ):
        assert line in text.splitlines()


def hostile_report(name: str) -> str:
    change = Change(Effect.LOOSER, name, name, name, name, name)
    bad = Finding(name, name, Verdict.FAIL, Severity.ERROR, name, name, 1, 1, name, {name: 1.0}, {name: name}, (name,))
    decision = Decision(name, 1, name, name, (), name, name)
    judged = State(decision, (Report(name, name, name, (bad,), (name,)),), (name,), (name,))
    metrics = {
        "validation": {f"{name}.value": leaf(1.0, 2.0), f"{name}.unit": leaf(name, name), f"{name}.n": leaf(1, 1)},
        "structures": {f"summary.species_percent.{name}": leaf(1.0, name)},
        "decision": {"next_milestone": leaf(name, name)},
        name: {f"checks.{name}.verdict": leaf(name, name)},
    }
    changes = (change, replace(change, effect=Effect.UNCLEAR), replace(change, effect=Effect.NOT_LOOSER))
    return pull_request_markdown(judged, Comparison(name, changes, metrics, {name: leaf(name, name)}, (name,)))


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_does_nothing(name: str) -> None:
    text = hostile_report(name)
    page, plain = _Page(text), _Page(hostile_report("harmless"))
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in plain.tags]
    assert all(set(attributes) <= {"open", "align"} for _, attributes in page.tags)
    assert not re.search(r"[@#]\w|://\w|www\.", page.text)
    assert not any(line.startswith(("::", "/")) for line in text.splitlines())
    assert html.unescape(page.text).count("\u202e") == text.count("\x1b") == text.count("\x00") == 0


def test_the_report_stays_under_its_limit_and_says_what_it_cut() -> None:
    bad = [finding(f"check_{index}", Verdict.FAIL, text="x" * 5000) for index in range(500)]
    text = pull_request_markdown(state(*bad), comparison(LOOSENED))
    assert len(text) <= LIMIT
    assert re.search(r"\*\*\d+ of 500 rows are left out here\*\*; `hydrogate check` shows all\.", text)
    assert "contracts.structures.size.max" in text
    assert "`dvc plots diff BASE` draws them" in text  # every section stays, if only without rows
    assert text.count("<details") == text.count("</details>")


@pytest.mark.parametrize("character", ["x", "&", "`", "#1", "😀"])
def test_however_much_is_loosened_it_is_counted_and_the_limit_holds(character: str) -> None:
    long = character * 5000
    changes = [Change(effect, "bound loosened", long, long, long, long) for effect in Effect for _ in range(400)]
    metrics = {"structures": {"summary.structures": leaf(long, long)}}
    judged = state(*(finding(long, Verdict.FAIL, text=long) for _ in range(50)), stale=(long,) * 100)
    decision = replace(judged.decision, because=long, advice=long, command=long)
    compared = comparison(*changes, unknown=(long,), metrics=metrics, params={long: leaf(long, long)})
    text = pull_request_markdown(replace(judged, decision=decision), compared)
    assert len(text) <= LIMIT
    assert "Loosened by this branch: 400" in text and "Possibly loosened by this branch: 400" in text
    named = text.count("> - **bound loosened**")
    counted = [int(count) for count in re.findall(r"> - \*\*and (\d+) more\*\* \(bound loosened\\: \d+\)", text)]
    assert named + sum(counted) == 800
    assert named >= 10


PARAMS = """\
contracts:
  profile: druglike
  waivers:
    - {contract: labels}
    - {contract: labels}
  structures:
    finite: {max: 0}
    element_fraction:
      C: {min: 0.25}
gates:
  force_rmse:
    threshold: 0.25
"""


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("contracts.structures.finite", 7),
        ("contracts.structures.element_fraction.C.min", 9),
        ("contracts.structures.not_declared", 6),
        ("contracts.waivers[1]", 5),
        ("contracts.waivers[9]", 3),
        ("gates.force_rmse.threshold", 12),
        ("milestones[1].gated", 1),
        ("", 1),
    ],
)
def test_the_line_of_a_key(key: str, line: int) -> None:
    assert line_of(PARAMS, key) == line


def test_the_line_of_params_that_are_no_yaml() -> None:
    assert line_of("a: 1\nb: [\nc: }\n", "b") == 3
    assert line_of("", "b") == 1


def test_annotations_stand_on_the_contract_and_on_the_gate() -> None:
    report = Report("structures", "druglike", "f", (finding("finite", Verdict.FAIL, text="50 % of 3\r\nare: bad, x"),))
    decision = Decision("fix_force_rmse", 4, "it fails", "dvc repro", (judgement(0.3),))
    marks = annotations(decision, [report], [LOOSENED], PARAMS)
    assert marks == [
        "::error file=params.yaml,line=7,title=contract structures::"
        "contract structures, check finite: 50 %25 of 3%0D%0Aare: bad, x",
        f"::error file=params.yaml,line=11,title=gate fail::{judgement(0.3)}",
        "::warning file=params.yaml,line=6,title=bound loosened::contracts.structures.size.max: 200 → 999",
    ]


def test_a_title_cannot_add_properties() -> None:
    (mark,) = annotations(state().decision, [], [replace(LOOSENED, what="a,file=b::c\n%")], PARAMS)
    assert mark.startswith("::warning file=params.yaml,line=6,title=a%2Cfile=b%3A%3Ac%0A%25::")


def test_ten_annotations_at_most_and_the_last_counts_the_rest() -> None:
    report = Report("structures", "druglike", "f", tuple(finding(f"c{n}", Verdict.FAIL) for n in range(30)))
    marks = annotations(state().decision, [report], [LOOSENED], PARAMS)
    assert len(marks) == 10
    assert marks[-1].endswith("::22 further failures or loosened declarations: see the report")


def test_a_blocked_decision_is_annotated_where_no_contract_explains_it() -> None:
    decision = Decision("blocked", 1, "stale metrics", "dvc repro", (judgement(),))
    assert annotations(decision, [], [], PARAMS) == ["::error file=params.yaml,line=1,title=blocked::stale metrics"]
