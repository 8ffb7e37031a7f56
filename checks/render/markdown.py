"""Markdown output of findings, for a comment or a step summary."""

import re

from hydrogate.checks.findings import Report, Verdict


def escape_markdown(text: str) -> str:
    """Escape every character of ``text`` that Markdown or HTML would interpret; line breaks become spaces.

    Nobody is notified: a zero-width space splits ``@name``, ``#1`` and web addresses, which escaping alone leaves
    active.
    """
    line = "".join(char if char.isprintable() else "\ufffd" for char in " ".join(text.split()))
    dead = re.sub(r"([@#])(?=\w)|(://)|(\bwww)(?=\.)", lambda found: f"{found[0]}\u200b", line, flags=re.IGNORECASE)
    plain = dead.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]()#+!|~:@$-])", r"\\\1", plain)


def code_markdown(text: str) -> str:
    """Return ``text`` as a code span, for use outside tables: a command or a key to copy."""
    line = "".join(char if char.isprintable() else "\ufffd" for char in " ".join(text.split()))
    fence = "`" * (max((len(run) for run in re.findall("`+", line)), default=0) + 1)
    return f"{fence} {line} {fence}" if "`" in line else f"`{line}`"


def between(page: str, begin: str, end: str, text: str) -> str:
    """Return ``page`` with ``text``, surrounded by empty lines, between its lines ``begin`` and ``end``.

    Raises
    ------
    ValueError
        The page does not have both lines, each once and in order.
    """
    before, first, rest = page.partition(begin)
    _, last, after = rest.partition(end)
    if not (first and last) or begin in rest or end in before or end in after:
        raise ValueError(f"the page has no {begin!r} followed by {end!r}, each once")
    return f"{before}{begin}\n\n{text}\n{end}{after}"


def report_markdown(report: Report, strict: bool = False) -> str:
    """Return the verdict first, then the findings that do not pass, then the table of all checks."""
    conclusion = "passed" if report.holds(strict) else "**failed**"
    lines = [f"**Caveat: {escape_markdown(report.caveat)}.**", ""] if report.caveat else []
    lines += [f"## Contract {report.contract} {conclusion}", ""]
    lines += [f"- {escape_markdown(str(f))}" for f in report.findings if f.verdict is not Verdict.PASS]
    lines += ["", report.hint().capitalize() + "."] if report.hint() else []
    lines += ["", "| check | verdict | severity | observed | allowed |", "| --- | --- | --- | --- | --- |"]
    for finding in report.findings:
        cells = (
            finding.check,
            str(finding.verdict),
            str(finding.severity),
            finding.observed_text(),
            finding.allowed_text(),
        )
        lines.append("| " + " | ".join(escape_markdown(cell) for cell in cells) + " |")
    return "\n".join(lines) + "\n"
