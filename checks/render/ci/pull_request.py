"""Pull request report: Markdown for a sticky comment and a step summary, always under its size limit.

The decision and the verdicts come first, then every loosened declaration, in full. The sections that follow are
truncated from their end if the limit requires it, and report the number of omitted rows.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from hydrogate.checks.diff.loosening import Change, Effect
from hydrogate.checks.engine.bounds import CONTRACTS
from hydrogate.checks.findings import Report, Verdict
from hydrogate.checks.gates.milestones import Decision
from hydrogate.checks.metrics.bootstrap import Metric
from hydrogate.checks.render.ci.sections import NAME, WORDS, Section, cut, fitted, frames, row, shown, words
from hydrogate.checks.render.markdown import code_markdown

MARKER = "<!-- hydrogate report -->"
# Source: GitHub rejects a comment of more than 65,536 characters.
LIMIT = 60_000
_ROOM_FOR_COUNTS = 4000
_TITLES = {Effect.LOOSER: "Loosened by this branch", Effect.UNCLEAR: "Possibly loosened by this branch"}
_METRICS = ("validation", "md", "training")

Leaves = Mapping[str, Mapping[str, Any]]
"""DVC's comparison of one file: dotted key to ``{"old": …, "new": …}``; None if a side does not have the key."""


@dataclass(frozen=True)
class Comparison:
    """Comparison of the branch with its base.

    Parameters
    ----------
    base : str
        A description of the revision.
    changes : tuple of Change
        Changes of the declarations.
    metrics : mapping of str to Leaves
        By the file's name without its suffix, including unchanged keys.
    params : Leaves
        Changed parameters.
    unknown : tuple of str
        Declarations that could not be compared, each with the reason, in sentences.
    unmeasured : tuple of str
        Metrics and parameters that could not be compared, in the same form.
    judges : tuple of str
        Changed files with code that stages or the decision run: data making, labelling, training and judging. They can
        change a verdict, which a comparison of declarations cannot show.
    """

    base: str
    changes: tuple[Change, ...]
    metrics: Mapping[str, Leaves]
    params: Leaves
    unknown: tuple[str, ...] = ()
    unmeasured: tuple[str, ...] = ()
    judges: tuple[str, ...] = ()


@dataclass(frozen=True)
class State:
    """Current state of the branch.

    Parameters
    ----------
    reports : tuple of Report
        Those that could be read; the decision is blocked if one is missing.
    stale : tuple of str
        Stages that DVC will run again, each with its changes.
    plots : tuple of str
        Paths.
    link : str
        A page with the files of this run; empty if there is none.
    """

    decision: Decision
    reports: tuple[Report, ...]
    stale: tuple[str, ...]
    plots: tuple[str, ...]
    link: str = ""


def pull_request_markdown(state: State, comparison: Comparison | None = None, limit: int = LIMIT) -> str:
    """Return the report, in at most ``limit`` characters.

    Parameters
    ----------
    state : State
    comparison : Comparison, optional
        None for a report on the state only.
    limit : int
        Characters; at least as many as decision, verdicts and call-outs need.
    """
    fired, passing = _findings(state.reports, comparison)
    sections = [_gates(state.decision, comparison)]
    if comparison is None:
        sections.append(fired)
    else:
        telling, others = _metrics(comparison, state.decision)
        sections += [telling, fired, _params(comparison), _data(comparison), _others(comparison.changes), others]
    sections += [_stale(state.stale), _plots(state, comparison), passing]
    sections = [section for section in sections if section.rows or section.note]
    head = "\n".join([MARKER, *_decision(state.decision, comparison), "", *_verdicts(state)]) + "\n"
    if comparison is not None:
        head += _judges(comparison.judges) + "\n"
        head += _called_out(comparison, limit - len(head) - frames(sections))
    return head + fitted(sections, limit - len(head))


def _decision(decision: Decision, comparison: Comparison | None) -> Iterator[str]:
    for caveat in decision.caveats:
        yield f"**Caveat: {words(caveat)}.**"
        yield ""
    status = f" ({words(decision.status)})" if decision.status else ""
    yield f"## Next milestone: **{words(decision.milestone)}**{status}"
    yield ""
    if comparison is not None:
        leaf = comparison.metrics.get("decision", {}).get("next_milestone", {})
        before = leaf.get("old")
        said = f"its next milestone is {words(before)}" if before else "it has no recorded decision"
        yield f"Compared with {words(comparison.base)}; {said}."
        yield ""
    yield f"Because {words(decision.because, 1500).rstrip('.')}."
    yield ""
    if decision.advice:
        yield f"Advice: {words(decision.advice)}."
        yield ""
    yield f"Next: {code_markdown(cut(decision.command, WORDS))}"
    yield ""
    yield "Errors are against the teacher, not against chemistry."


def _verdicts(state: State) -> Iterator[str]:
    yield "| contract | verdict | failing checks | warnings | switched off |"
    yield "| --- | --- | --- | --- | --- |"
    for report in state.reports:
        holds = report.holds(strict=True)
        refusing = [finding.check for finding in report.refusals(strict=True)]
        warned = [f.check for f in report.findings if f.verdict is not Verdict.PASS and f.check not in refusing]
        verdict = "pass" if holds else "**does not pass**"
        listed = [words(", ".join(names)) for names in (refusing, warned, report.switched_off)]
        yield f"| {words(report.contract)} | {verdict} | {' | '.join(listed)} |"
    for contract in CONTRACTS:
        if contract not in [report.contract for report in state.reports]:
            yield f"| {contract} | **not judged** | | | |"
    required = [item for item in state.decision.gates if item.gate.required]
    passed = [item for item in required if item.verdict is Verdict.PASS]
    rest = [f"{item.name} {item.verdict}" for item in required if item.verdict is not Verdict.PASS]
    yield ""
    yield f"Required gates: {len(passed)} of {len(required)} pass. {words(', '.join(rest))}".rstrip()
    if state.decision.blocked:
        yield ""
        yield "**Blocked**: verdicts and values are from the last run and may belong to other data than this branch's."


def _called_out(comparison: Comparison, room: int) -> str:
    """Return every loosening change. It is never omitted; beyond ``room`` characters the changes are counted."""
    found = [(effect, [c for c in comparison.changes if c.effect is effect]) for effect in _TITLES]
    if not any(changes for _, changes in found) and not comparison.unknown:
        return "**Nothing loosened**: no bound, check, gate, band or stage, and no waiver added.\n"
    lines = ["> [!CAUTION]"]
    for sentence in comparison.unknown:
        lines += [f"> **Not compared**: {words(sentence)}", ">"]
    room -= sum(map(len, lines)) + _ROOM_FOR_COUNTS
    for effect, changes in found:
        if not changes:
            continue
        lines += [f"> **{_TITLES[effect]}: {len(changes)}**", ">"]
        items = [f"> - {_change(change)}" for change in changes]
        ends = list(accumulate(len(item) + 1 for item in items))
        fitting = sum(end <= room for end in ends)
        room -= ends[fitting - 1] if fitting else 0
        lines += items[:fitting]
        if rest := Counter(change.what for change in changes[fitting:]):
            told = ", ".join(f"{what}: {count}" for what, count in rest.most_common())
            lines.append(f"> - **and {rest.total()} more** ({words(told)}): see the declarations")
        lines.append(">")
    return "\n".join(lines[:-1]) + "\n"


def _judges(files: Sequence[str]) -> str:
    if not files:
        return ""
    named = words(", ".join(files), 1000)
    return f"\nCode that can change a verdict changed too, review it ({len(files)}): {named}.\n"


def _change(change: Change) -> str:
    values = [words(value, NAME) if value else "nothing" for value in (change.before, change.after)]
    moved = f": {values[0]} → {values[1]}" if change.before or change.after else ""
    if not change.before and change.what.endswith("added"):
        moved = f": {words(change.after, 200)}"
    reason = f" (reason: {words(change.reason, NAME)})" if change.reason else ""
    return f"**{words(change.what)}** {code_markdown(cut(change.where, NAME))}{moved}{reason}"


def _gates(decision: Decision, comparison: Comparison | None) -> Section:
    rows = []
    leaves = comparison.metrics.get("decision", {}) if comparison else {}
    for item in decision.gates:
        old = leaves.get(f"gates.{item.name}.verdict", {}).get("old")
        verdict = f"{old} → {item.verdict}" if old and old != item.verdict else str(item.verdict)
        figure = "not measured" if item.metric is None else str(item.metric)
        name = item.name if item.gate.required else f"{item.name} (not required)"
        rows.append(row(name, verdict, figure, f"{item.gate.allowed} {item.metric.unit if item.metric else ''}"))
    head = ("| gate | verdict | value (95 % interval) | allowed |", "| --- | --- | --- | --- |")
    return Section("Gates", rows, head, more="hydrogate decide")


def _metrics(comparison: Comparison, decision: Decision) -> tuple[Section, Section]:
    """Return the metrics that a gate uses or whose intervals do not overlap, and all others that changed."""
    gates = {item.gate.metric: item.gate.comparison for item in decision.gates}
    judged = list(gates)
    telling: list[str] = []
    rest: list[str] = []
    for file in _METRICS:
        leaves = comparison.metrics.get(file, {})
        names = sorted(key.removesuffix(".value") for key in leaves if key.endswith(".value"))
        for name in sorted(names, key=lambda name: judged.index(name) if name in judged else len(judged)):
            old, new = (_metric(leaves, name, side) for side in ("old", "new"))
            if old != new:
                cells = _metric_cells(old, new, gates.get(name, ""))
                tells = name in gates or cells[-1] in ("yes", "cannot be told")
                (telling if tells else rest).append(row(f"{file} {name}", *cells))
    head = ("| metric | base | branch | change | beyond the intervals |", "| --- | --- | --- | --- | --- |")
    note = "No metric changed." if comparison.metrics else "There are no metrics to compare."
    if telling or rest:
        note = "Beyond: the two 95 % intervals do not overlap. The gate `regression` compares structure by structure."
    if comparison.unmeasured:
        note += f"\n\nNot compared: {words('; '.join(comparison.unmeasured), 1000)}."
    return (
        Section("Metrics", telling, head, note, True, "dvc metrics diff"),
        Section(f"Metrics: {len(rest)} others changed, none beyond its interval", rest, head, more="dvc metrics diff"),
    )


def _metric(leaves: Leaves, name: str, side: str) -> Metric | None:
    content = {key: leaves.get(f"{name}.{key}", {}).get(side) for key in ("value", "unit", "n", "low", "high")}
    try:
        return None if content["value"] is None else Metric.from_dict({**content, "unit": content["unit"] or ""})
    except (KeyError, TypeError, ValueError):
        return None


def _metric_cells(old: Metric | None, new: Metric | None, comparison: str) -> tuple[str, ...]:
    """Return base, branch, change, and the interval overlap; the gate's ``comparison`` defines the better direction."""
    texts = ["absent" if metric is None else str(metric) for metric in (old, new)]
    if old is None or new is None or old.value is None or new.value is None:
        return (*texts, "", "cannot be told")
    change = new.value - old.value
    relative = f" ({change / abs(old.value):+.1%})" if old.value else ""
    judged = ""
    if comparison[:1] in ("<", ">") and change:
        judged = ", better" if (change < 0) == (comparison[0] == "<") else ", worse"
    if old.low is None or old.high is None or new.low is None or new.high is None:
        return (*texts, f"{change:+.4g}{relative}{judged}", "no interval")
    beyond = "yes" if new.low > old.high or new.high < old.low else "no"
    return (*texts, f"{change:+.4g}{relative}{judged}", beyond)


def _findings(reports: Sequence[Report], comparison: Comparison | None) -> tuple[Section, Section]:
    """Return checks that changed or do not pass, changed verdicts first, including removed checks; and all others."""
    changed: list[str] = []
    bad: list[str] = []
    good: list[str] = []
    for report in reports:
        leaves = comparison.metrics.get(report.contract, {}) if comparison else {}
        before = {
            key.removeprefix("checks.").removesuffix(".verdict"): leaf.get("old")
            for key, leaf in leaves.items()
            if key.startswith("checks.") and key.endswith(".verdict")
        }
        for finding in report.findings:
            old, passes = before.pop(finding.check, None), finding.verdict is Verdict.PASS
            moved = comparison is not None and old != finding.verdict
            verdict = f"{old or 'not judged'} → {finding.verdict}" if moved else str(finding.verdict)
            told = finding.observed_text() if passes else finding.message
            line = row(f"{report.contract} {finding.check}", verdict, finding.severity, told, finding.allowed_text())
            (changed if moved else good if passes else bad).append(line)
        gone = [(check, old) for check, old in before.items() if old is not None]
        changed += [row(f"{report.contract} {check}", f"{old} → not judged", "", "", "") for check, old in gone]
    head = ("| check | verdict | severity | observed | allowed |", "| --- | --- | --- | --- | --- |")
    title = f"Contracts: {len(bad)} checks fail or warn"
    if comparison is not None:
        title = f"Contracts: {len(changed)} verdicts changed, {len(bad)} other checks fail or warn"
    rest = f"Contracts: {len(good)} checks pass{' as before' if comparison else ''}"
    return (
        Section(title, [*changed, *bad], head, unfolded=True, more="hydrogate check"),
        Section(rest, good, head, more="hydrogate check"),
    )


def _params(comparison: Comparison) -> Section:
    rows = [row(key, shown(leaf.get("old")), shown(leaf.get("new"))) for key, leaf in comparison.params.items()]
    head = ("| parameter | base | branch |", "| --- | --- | --- |")
    return Section(f"Parameters: {len(rows)} changed", rows, head, more="dvc params diff")


def _data(comparison: Comparison) -> Section:
    rows, same = [], []
    first = ("summary.structures", "summary.atoms", "summary.species_percent.H")
    for contract in ("structures", "labels", "predictions"):
        found = comparison.metrics.get(contract, {})
        species = sorted(key for key in found if key.startswith("summary.species_percent.") and key not in first)
        leaves = {key.removeprefix("summary."): found[key] for key in (*first, *species) if key in found}
        for key, leaf in leaves.items():
            name = key.replace("species_percent.H", "H, % of the atoms").replace("species_percent.", "% ")
            old, new = leaf.get("old"), leaf.get("new")
            if old != new:
                rows.append(row(f"{contract} {name}", shown(old), shown(new), _moved(old, new)))
        if leaves and all(leaf.get("old") == leaf.get("new") for leaf in leaves.values()):
            held = [leaves.get(key, {}).get("new") for key in ("structures", "atoms", "species_percent.H")]
            same.append(f"{contract}: {shown(held[0])} structures, {shown(held[1])} atoms, H {shown(held[2])} %")
    head = ("| data set | base | branch | change |", "| --- | --- | --- | --- |")
    note = f"Unchanged from the base: {words('; '.join(same))}." if same else ""
    return Section("Data sets", rows, head, note, True, "dvc metrics diff")


def _others(changes: Sequence[Change]) -> Section:
    rows = [f"- {_change(change)}" for change in changes if change.effect is Effect.NOT_LOOSER]
    return Section(f"Declarations tightened, added or reworded: {len(rows)}", rows, more="git diff")


def _stale(stale: Sequence[str]) -> Section:
    rows = [f"- {words(stage)}" for stage in stale]
    note = "" if rows else "No stage needs to run again: the metrics are those of this branch."
    return Section(f"Stages that run again: {len(rows)}", rows, (), note, bool(rows), "dvc status")


def _plots(state: State, comparison: Comparison | None) -> Section:
    rows = [f"- {words(plot)}" for plot in state.plots]
    link = f" The files of this run: <{state.link}>." if state.link else ""
    against = " BASE" if comparison else ""
    return Section("Plots", rows, (), f"`dvc plots diff{against}` draws them.{link}", more="dvc plots show")


def _moved(old: Any, new: Any) -> str:
    numbers = [value for value in (old, new) if isinstance(value, int | float) and not isinstance(value, bool)]
    return f"{numbers[1] - numbers[0]:+.6g}" if len(numbers) == 2 else ""
