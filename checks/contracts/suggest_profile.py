"""Profile suggestions: if a contract fails, the other shipped profiles under which the same data pass."""

from collections.abc import Mapping, Sequence

from hydrogate.checks.engine.bounds import Bounds, Override, fit_of, profile_names, resolve_bounds
from hydrogate.checks.engine.judge import judge
from hydrogate.checks.engine.mergeable import Extremes
from hydrogate.checks.engine.partition import Part
from hydrogate.checks.engine.registry import RULES, Subject
from hydrogate.checks.findings import Finding
from hydrogate.checks.geometry.observables import fragments


def profiles_that_hold(
    contract: str,
    profile: str,
    declared: Mapping[str, Bounds],
    overrides: Sequence[Override],
    subject: Subject,
    findings: Mapping[str, Finding],
) -> tuple[str, ...]:
    """Return the shipped profiles that suit the data and under which they pass; () if they pass under ``profile``.

    Only checks with different bounds are evaluated again, and only for profiles that change the bounds of every failed
    check.

    Parameters
    ----------
    contract, profile : str
        Contract and profile that were used.
    declared : mapping of str to Bounds
        Bounds that were used.
    overrides : sequence of (source, mapping)
        Bounds of the caller, which take precedence; a section that names a profile applies to that profile only.
    subject : Subject
    findings : mapping of str to Finding
        Findings by check.
    """
    refusing = {name for name, finding in findings.items() if finding.refuses()}
    holding: list[str] = []
    for other in profile_names() if refusing else []:
        if other == profile:
            continue
        kept = [(source, section) for source, section in overrides if section.get("profile", other) == other]
        _, bounds = resolve_bounds(contract, profile=other, overrides=kept)
        changed = {name for name in declared if _differ(declared[name], bounds[name])}
        if refusing <= changed and _fits(other, subject):
            rules = [RULES[contract, name] for name in changed if bounds[name].enabled]
            if not any(finding.refuses() for finding, _ in judge(rules, bounds, subject).values()):
                holding.append(other)
    return tuple(holding)


def _differ(one: Bounds, two: Bounds) -> bool:
    return any(getattr(one, name) != getattr(two, name) for name in ("enabled", "severity", "limits", "settings"))


def _fits(profile: str, subject: Subject) -> bool:
    """Return True if ``profile`` is made for such data: molecules without hydrogen are not crystals."""
    whole, fit = subject.whole, fit_of(profile)
    periodic, sizes = subject.parts.ask(_kind)
    if not whole.structures or periodic not in (0, whole.structures) or bool(periodic) is not fit.periodic:
        return False
    if fit.max_atoms is not None and sizes.greatest > fit.max_atoms:
        return False
    return fit.min_fragments < 2 or subject.parts.ask(_most_fragments).greatest >= fit.min_fragments


def _kind(part: Part) -> tuple[int, Extremes]:
    """Return the number of periodic structures, and the smallest and largest number of atoms."""
    return int(part.data.periodic.sum()), Extremes.of(part.data.sizes)


def _most_fragments(part: Part) -> Extremes:
    return Extremes.of(fragments(part.data, part.bonds))
