"""Terminal and Markdown output of a detection matrix: corruption by strength, failing check, bound to tighten."""

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from hydrogate.checks.accidents.probe import STRENGTHS, Line, Outcome, Probe, Trial
from hydrogate.checks.render.markdown import escape_markdown

_STYLES = {
    Outcome.CAUGHT: "green",
    Outcome.WARNED: "yellow",
    Outcome.PASSES: "bold red",
    Outcome.ABSENT: "dim",
}
_FIRST = 1


def probe_text(probe: Probe) -> RenderableType:
    """Render the checks that fail on the clean data, the matrix, then each corruption that would pass."""
    title = f"detection matrix: contract {probe.contract}, profile {probe.profile}"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    table.add_column("corruption", no_wrap=True)
    for strength in STRENGTHS:
        table.add_column(strength, no_wrap=True)
    for heading in ("first failing check", "weakest"):
        table.add_column(heading, overflow="fold")
    for line in probe.lines:
        cells = [Text(_cell(trial, name), style=_STYLES[trial.outcome]) for trial, name in _named(line)]
        table.add_row(Text(line.accident), *cells, Text(_first(line)), Text(_weakest(line)))
    parts: list[RenderableType] = [Text(text, style="bold red") for text in _warning(probe)]
    parts += [table, *(Text(text) for text in _missed(probe)), Text(_summary(probe), style="bold")]
    return Group(*parts)


def probe_markdown(probe: Probe) -> str:
    """Return the same as Markdown, for a comment or a step summary."""
    lines = [f"## Detection matrix of contract {probe.contract}", ""]
    lines += [f"**{escape_markdown(text)}**\n" for text in _warning(probe)]
    headings = ["corruption", *STRENGTHS, "first failing check", "weakest caught"]
    lines += ["| " + " | ".join(headings) + " |", "| " + " | ".join("---" for _ in headings) + " |"]
    for line in probe.lines:
        cells = [line.accident, *(_cell(trial, name) for trial, name in _named(line)), _first(line), _weakest(line)]
        lines.append("| " + " | ".join(escape_markdown(cell) for cell in cells) + " |")
    lines += ["", *(f"- {escape_markdown(text)}" for text in _missed(probe)), "", escape_markdown(_summary(probe))]
    return "\n".join(lines) + "\n"


def _warning(probe: Probe) -> list[str]:
    if probe.clean.holds():
        return []
    blind = ", ".join(probe.blind) or "no check ran"
    return [
        f"THE CLEAN DATA ALREADY FAIL: {blind}. The matrix below cannot assess these checks; fix the data or the "
        "bounds first.",
        *(str(finding) for finding in probe.clean.refusals()),
    ]


def _named(line: Line) -> list[tuple[Trial, str]]:
    return list(zip(line.trials, STRENGTHS, strict=True))


def _cell(trial: Trial, strength: str) -> str:
    said = "n/a" if trial.outcome is Outcome.ABSENT else str(trial.outcome)
    return said if trial.strength == strength else f"{said} ({trial.strength})"


def _first(line: Line) -> str:
    """Return the checks that fail at the highest strength, in the order of the contract."""
    names = line.trials[0].refused_by
    more = f" +{len(names) - _FIRST}" if len(names) > _FIRST else ""
    return f"{', '.join(names[:_FIRST])}{more}" if names else "–"


def _weakest(line: Line) -> str:
    weakest = line.weakest_caught
    return "–" if weakest is None else f"{weakest.strength} ({weakest.structures})"


def _missed(probe: Probe) -> list[str]:
    """Return a sentence per corruption that passes at some strength or does not apply to these data."""
    told = []
    for line in probe.lines:
        if line.absent:
            told.append(f"{line.accident} was not tried: {line.absent}.")
        elif (missed := line.strongest_missed) is not None:
            told.append(f"{line.accident}: {missed.outcome} at {_strength(missed)}. {line.says} {_advice(missed)}")
    return told


def _strength(trial: Trial) -> str:
    noun = "structure" if trial.structures == 1 else "structures"
    return f"{trial.structures} {noun}" if trial.strength == "one" else f"{trial.strength} ({trial.structures} {noun})"


def _advice(trial: Trial) -> str:
    warned = f"Only a warning by {', '.join(trial.warned_by)}. " if trial.warned_by else ""
    near = trial.nearest
    if near is not None:
        name = near.check if near.quantity in ("value", "worst") else f"{near.check}.{near.quantity}"
        return (
            f"{warned}Tighten {name}: {near.clean:.4g} clean, {near.spoiled:.4g} corrupted, allowed {near.allowed} "
            f"({100 * near.way:.0f} % of the way to the bound)."
        )
    return (
        warned.rstrip()
        or "No bound is near: only relabelling by the teacher (check label_audit) or a reference can detect it."
    )


def _summary(probe: Probe) -> str:
    tried = [line for line in probe.lines if not line.absent]
    whole = sum(line.strongest_missed is None for line in tried)
    worst = sum(line.trials[0].outcome is Outcome.CAUGHT for line in tried)
    sample = f" (sampled from {probe.of})" if probe.of > probe.structures else ""
    without = ", ".join(finding.check for finding in probe.not_run)
    took_part = f" Checks not run for lack of an input: {without}." if without else ""
    return (
        f"{len(tried)} data corruptions of {probe.structures} structures{sample}: {worst} caught at the highest "
        f"strength, {whole} caught down to one structure; seed {probe.seed}.{took_part}"
    )
