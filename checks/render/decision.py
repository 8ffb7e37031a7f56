"""A milestone decision on a terminal, through Rich."""

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from hydrogate.checks.findings import Verdict
from hydrogate.checks.gates import Judgement
from hydrogate.checks.milestones import Decision

_STYLES = {
    Verdict.PASS: "green",
    Verdict.FAIL: "bold red",
    Verdict.UNDECIDED: "yellow",
    Verdict.NOT_RUN: "dim",
    Verdict.ERROR: "bold magenta",
}


def decision_text(decision: Decision) -> RenderableType:
    """Each gate's verdict, then the milestone, why, and the command that starts it.

    What blocks comes first: the figures in the table may then be of other data.
    """
    parts: list[RenderableType] = []
    if decision.gates:
        parts.append(_gates(decision))
    parts.append(_conclusion(decision))
    return Group(*parts)


def _gates(decision: Decision) -> Table:
    title = "gates, errors against the teacher on the held-out split"
    if decision.blocked:
        title = f"{title} (of the last run that was measured; blocked, see below)"
    table = Table(title=title, title_justify="left")
    for heading in ("gate", "verdict", "value", "95 % interval", "n", "allowed", ""):
        table.add_column(heading, overflow="fold", justify="right" if heading == "n" else "left")
    for judgement in decision.gates:
        table.add_row(*_row(judgement))
    return table


def _row(judgement: Judgement) -> list[Text]:
    metric, gate = judgement.metric, judgement.gate
    value, interval, n, unit = "not measured", "", "", ""
    if metric is not None:
        unit, n = metric.unit, str(metric.n)
        value = "undefined" if metric.value is None else f"{metric.value:.4g} {unit}".rstrip()
        if metric.low is not None and metric.high is not None:
            interval = f"{metric.low:.4g} to {metric.high:.4g}"
    verdict = Text(str(judgement.verdict), style=_STYLES[judgement.verdict])
    allowed = f"{gate.allowed} {unit}".rstrip()
    need = "" if gate.required else "reported only"
    return [Text(judgement.name), verdict, *(Text(text) for text in (value, interval, n, allowed, need))]


def _conclusion(decision: Decision) -> Panel:
    text = Text()
    status = f" ({decision.status})" if decision.status else ""
    style = "bold red" if decision.blocked else "bold"
    text.append(f"next milestone: {decision.milestone}{status}\n", style=style)
    text.append(f"because {decision.because}\n")
    for judgement in decision.gates:
        if judgement.verdict in (Verdict.UNDECIDED, Verdict.ERROR) and str(judgement) not in decision.because:
            text.append(f"{judgement}\n", style="dim")
    if decision.advice:
        text.append(f"advice: {decision.advice}\n")
    text.append("next: ").append(decision.command, style="bold cyan")
    return Panel(text, expand=False)
