"""Terminal output of findings, with Rich."""

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from hydrogate.checks.findings import Finding, Report, Severity, Verdict

MOST_REASONS = 20
VERDICT_STYLES = {
    Verdict.PASS: "green",
    Verdict.FAIL: "bold red",
    Verdict.UNDECIDED: "yellow",
    Verdict.NOT_RUN: "dim",
    Verdict.ERROR: "bold magenta",
}


def printable(text: str) -> str:
    """Replace characters that a terminal would interpret; names of files and molecules are untrusted."""
    return "".join(char if char.isprintable() or char == "\n" else "\ufffd" for char in text)


def report_text(report: Report, strict: bool = False) -> RenderableType:
    """Render the verdict of each check, then the findings that do not pass, then the verdict of the contract."""
    table = Table(title=f"contract {report.contract}, profile {report.profile}", title_justify="left")
    for heading in ("check", "verdict", "observed", "allowed"):
        table.add_column(heading, overflow="fold")
    for finding in report.findings:
        verdict = Text(_verdict(finding), style=VERDICT_STYLES[finding.verdict])
        table.add_row(finding.check, verdict, finding.observed_text(), finding.allowed_text())
    told = [
        Text.assemble(("●", VERDICT_STYLES[finding.verdict]), f" {printable(str(finding))}")
        for finding in report.findings
        # A check that passed on a sample reports the share that it can have missed.
        if finding.verdict is not Verdict.PASS or "missed_share" in finding.observed
    ]
    told += [*_quarantined(report)] if report.contract == "input" else []
    first = [Text(f"CAVEAT: {report.caveat}", style="bold red")] if report.caveat else []
    return Group(*first, table, *told, _conclusion(report, strict))


def _quarantined(report: Report) -> Iterator[Text]:
    """Yield the reason of each quarantined record, up to ``MOST_REASONS``."""
    reasons = [example for finding in report.findings for example in finding.examples]
    yield from (Text(f"  {printable(reason)}") for reason in reasons[:MOST_REASONS])
    if len(reasons) > MOST_REASONS:
        yield Text(f"  and {len(reasons) - MOST_REASONS} more: --format json lists the first hundred of each check")


def _verdict(finding: Finding) -> str:
    warned = finding.severity is Severity.WARN and finding.verdict is not Verdict.PASS
    return f"{finding.verdict} (warning)" if warned else str(finding.verdict)


def _conclusion(report: Report, strict: bool) -> Text:
    species = ", ".join(f"{symbol} {share:.1f} %" for symbol, share in report.summary["species_percent"].items())
    judged = f"{report.summary['structures']} structures, {report.summary['atoms']} atoms: {species}"
    off = f"\nswitched off: {', '.join(report.switched_off)}" if report.switched_off else ""
    if report.holds(strict):
        conclusion = Text(f"{judged}{off}\ncontract {report.contract} passed", style="green")
    else:
        refusals = ", ".join(finding.check for finding in report.refusals(strict)) or "no check ran"
        conclusion = Text(f"{judged}{off}\ncontract {report.contract} FAILED: {refusals}", style="bold red")
    return conclusion.append(f"\n{report.hint()}", style="yellow") if report.hint() else conclusion
