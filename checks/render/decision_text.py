"""Terminal output of a milestone decision, with Rich."""

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from hydrogate.checks.findings import Verdict
from hydrogate.checks.gates.gates import Judgement
from hydrogate.checks.gates.milestones import Decision
from hydrogate.checks.render.text import VERDICT_STYLES


def decision_text(decision: Decision) -> RenderableType:
    """Render each gate's verdict, then the milestone, the reason, and the command that starts it.

    Caveats come first. If the decision is blocked, the values in the table may belong to other data.
    """
    parts: list[RenderableType] = [Text(f"CAVEAT: {caveat}", style="bold red") for caveat in decision.caveats]
    if decision.gates:
        parts.append(_gates(decision))
    parts.append(_conclusion(decision))
    return Group(*parts)


def _gates(decision: Decision) -> Table:
    title = "gates: errors against the teacher on the held-out split"
    if decision.blocked:
        title = f"{title}, from the last run; blocked, see below"
    table = Table(
        title=title, title_justify="left", box=SIMPLE_HEAD, caption="* reported, not required", caption_justify="left"
    )
    table.add_column("gate", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for heading in ("value (95 % interval)", "allowed"):
        table.add_column(heading, overflow="fold")
    table.add_column("n", justify="right", no_wrap=True)
    for judgement in decision.gates:
        table.add_row(*_row(judgement))
    return table


def _row(judgement: Judgement) -> list[Text]:
    metric, gate = judgement.metric, judgement.gate
    value, n, unit = "not measured", "", ""
    if metric is not None:
        unit, n = metric.unit, str(metric.n)
        value = "undefined" if metric.value is None else f"{metric.value:.4g}"
        if metric.low is not None and metric.high is not None:
            value = f"{value} ({metric.low:.4g} to {metric.high:.4g})"
    name = judgement.name if gate.required else f"{judgement.name} *"
    verdict = Text(str(judgement.verdict), style=VERDICT_STYLES[judgement.verdict])
    return [Text(name), verdict, Text(value), Text(f"{gate.allowed} {unit}".rstrip()), Text(n)]


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
