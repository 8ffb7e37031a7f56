"""Output of a validation plan, the number of molecules needed: terminal (Rich), Markdown, plain values for JSON."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from hydrogate.checks.gates.planning import Need, Plan
from hydrogate.checks.render.markdown import escape_markdown
from hydrogate.checks.render.text import VERDICT_STYLES

_GATES = ("gate", "verdict", "n", "decided from", "")
_REGRESSION = ("metric", "n", "shown from", "")
_NUMBERS = ("n", "decided from", "shown from")
_STYLES = {str(verdict): style for verdict, style in VERDICT_STYLES.items()}


def plan_text(plan: Plan) -> RenderableType:
    """Render the gates, the milestone, the regression, and the number of missing molecules."""
    return Group(
        _table(_title(plan), _GATES, map(_cells, (*plan.gates, plan.milestone))),
        _table(_regression_title(plan), _REGRESSION, map(_regression_cells, plan.regression)),
        *map(Text, _sentences(plan)),
        *([Text(f"next: {plan.command}", style="bold cyan")] if plan.command else []),
    )


def _table(title: str, headings: Sequence[str], rows: Iterable[tuple[str, ...]]) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for index, heading in enumerate(headings):
        table.add_column(heading, justify="right" if heading in _NUMBERS else "left", no_wrap=index == 0)
    for row in rows:
        table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    return table


def plan_markdown(plan: Plan) -> str:
    """Return the same as two Markdown tables."""
    lines = []
    for title, headings, rows in (
        (_title(plan), _GATES, map(_cells, (*plan.gates, plan.milestone))),
        (_regression_title(plan), _REGRESSION, map(_regression_cells, plan.regression)),
    ):
        rule = " | ".join("---:" if heading in _NUMBERS else "---" for heading in headings)
        lines += [f"## {escape_markdown(title)}", "", f"| {' | '.join(headings)} |", f"| {rule} |"]
        lines += ["| " + " | ".join(map(escape_markdown, row)) + " |" for row in rows]
        lines.append("")
    lines += [f"- {escape_markdown(sentence)}" for sentence in _sentences(plan)]
    lines += [f"- next: `{plan.command}`"] if plan.command else []
    return "\n".join(lines) + "\n"


def plan_dict(plan: Plan) -> dict[str, Any]:
    """Return every field by its name."""
    named = {"gates": plan.gates, "regression": plan.regression}
    content = asdict(plan) | {key: {need.name: _need(need) for need in needs} for key, needs in named.items()}
    return content | {"milestone": _need(plan.milestone), "command": plan.command or None}


def _need(need: Need) -> dict[str, Any]:
    return {key: value for key, value in asdict(need).items() if key != "name"}


def _title(plan: Plan) -> str:
    return f"held-out molecules needed to decide each gate, if its value stays the same; now {plan.held_out}"


def _regression_title(plan: Plan) -> str:
    return f"held-out molecules needed to detect a worsening of {plan.worsening:.0%} in nine of ten cases"


def _cells(need: Need) -> tuple[str, ...]:
    return (
        f"{need.name}{'' if need.required else ' *'}",
        need.verdict,
        _number(need.n),
        _number(need.molecules),
        need.note,
    )


def _regression_cells(need: Need) -> tuple[str, ...]:
    return need.name, _number(need.n), _number(need.molecules), need.note


def _number(value: int | None) -> str:
    return "" if value is None else str(value)


def _sentences(plan: Plan) -> Iterator[str]:
    if any(not need.required for need in plan.gates):
        yield "* reported, not required"
    if not plan.paired:
        yield "Without a baseline the errors are not paired: the second table gives upper bounds."
    if not plan.more:
        yield "No required gate needs more molecules."
    else:
        yield f"The required gates need about {plan.more} more molecules, counted over all splits."
