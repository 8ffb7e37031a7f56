"""GitHub workflow commands that annotate the lines of ``params.yaml`` with failures and loosened declarations."""

import re
from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

import yaml

from hydrogate.checks.diff.loosening import Change, Effect
from hydrogate.checks.findings import Report, Verdict
from hydrogate.checks.gates.milestones import Decision

# Source: GitHub shows ten annotations of a kind for a step and drops the others silently.
LIMIT = 10
FILE = "params.yaml"


class _Mark(NamedTuple):
    level: str
    key: str
    title: str
    message: str


def annotations(
    decision: Decision, reports: Sequence[Report], changes: Sequence[Change], params: str, limit: int = LIMIT
) -> list[str]:
    """Return ``::error file=params.yaml,line=N,title=…::…`` lines, failures first, at most ``limit``.

    If there are more, the last line gives the number of the others.

    Parameters
    ----------
    decision : Decision
    reports : sequence of Report
    changes : sequence of Change
        Those that loosen, or may loosen, a declaration become warnings.
    params : str
        The text of ``params.yaml``.
    limit : int
    """
    marks = [
        _Mark("error", f"contracts.{report.contract}.{finding.check}", f"contract {report.contract}", str(finding))
        for report in reports
        for finding in report.refusals(strict=True)
    ]
    marks += [
        _Mark("error", f"gates.{item.name}", f"gate {item.verdict}", str(item))
        for item in decision.gates
        if item.gate.required and item.verdict is not Verdict.PASS
    ]
    if decision.blocked and not marks:
        marks.append(_Mark("error", "", "blocked", decision.because))
    marks += [
        _Mark("warning", change.where, change.what, f"{change.where}: {change.before} → {change.after}")
        for change in changes
        if change.effect is not Effect.NOT_LOOSER
    ]
    if len(marks) > limit:
        more = f"{len(marks) - limit + 1} further failures or loosened declarations: see the report"
        marks = [*marks[: limit - 1], _Mark(marks[limit - 1].level, "", "and more", more)]
    return [_command(mark, line_of(params, mark.key)) for mark in marks]


def line_of(text: str, key: str) -> int:
    """Return the line, from 1, of ``key`` (``gates.force_rmse``, ``milestones[1].gated``) or of its nearest parent."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        return mark.line + 1 if mark else 1
    line = 1
    for part in re.findall(r"[^.\[\]]+", key):
        if isinstance(node, yaml.MappingNode):
            found = next(((name, value) for name, value in node.value if name.value == part), None)
            if found is None:
                break
            line, node = found[0].start_mark.line + 1, found[1]
        elif isinstance(node, yaml.SequenceNode) and part.isdigit():
            node = next(islice(node.value, int(part), None), None)
            line = node.start_mark.line + 1 if node is not None else line
        else:
            break
    return line


def _command(mark: _Mark, line: int) -> str:
    return f"::{mark.level} file={FILE},line={line},title={_property(mark.title)}::{_escape(mark.message)}"


def _escape(text: str) -> str:
    text = "".join(char if char.isprintable() or char in "\r\n" else "\ufffd" for char in text)
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _escape(text).replace(":", "%3A").replace(",", "%2C")
