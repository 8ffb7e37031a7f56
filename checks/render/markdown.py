"""Findings as Markdown, for a comment or a step summary."""

import re

from hydrogate.checks.findings import Report, Verdict


def escape_markdown(text: str) -> str:
    """``text`` with every character that Markdown or HTML would read made plain; line breaks become spaces.

    Nobody is notified: an empty space splits ``@name``, ``#1`` and web addresses, which escaping alone leaves alive.
    """
    line = "".join(char if char.isprintable() else "\ufffd" for char in " ".join(text.split()))
    dead = re.sub(r"([@#])(?=\w)|(://)|(\bwww)(?=\.)", lambda found: f"{found[0]}\u200b", line, flags=re.IGNORECASE)
    plain = dead.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]()#+!|~:@$-])", r"\\\1", plain)


def code_markdown(text: str) -> str:
    """``text`` as a code span, outside tables: to be copied, a command or a key."""
    line = "".join(char if char.isprintable() else "\ufffd" for char in " ".join(text.split()))
    fence = "`" * (max((len(run) for run in re.findall("`+", line)), default=0) + 1)
    return f"{fence} {line} {fence}" if "`" in line else f"`{line}`"


def between(page: str, begin: str, end: str, text: str) -> str:
    """``page`` with ``text``, between empty lines, where its lines ``begin`` and ``end`` stand.

    Raises
    ------
    ValueError
        The page has not each of the two once, in order.
    """
    before, first, rest = page.partition(begin)
    _, last, after = rest.partition(end)
    if not (first and last) or begin in rest or end in before or end in after:
        raise ValueError(f"the page has no {begin!r} followed by {end!r}, each once")
    return f"{before}{begin}\n\n{text}\n{end}{after}"


def report_markdown(report: Report, strict: bool = False) -> str:
    """The verdict first, then what fires, then the table of all checks."""
    conclusion = "holds" if report.holds(strict) else "does **not** hold"
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
