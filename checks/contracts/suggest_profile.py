"""When a contract refuses: the other shipped profiles under which the same data would hold."""

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
    """The shipped profiles made for such data under which nothing refuses; () where ``profile`` itself holds.

    Only checks whose bounds differ are judged again, and those only where the profile changes every bound that refuses.

    Parameters
    ----------
    contract, profile : str
        What was judged, under what.
    declared : mapping of str to Bounds
        The bounds that were used.
    overrides : sequence of (source, mapping)
        The caller's own bounds, which stay strongest; those that name another profile are of that one alone.
    subject : Subject
    findings : mapping of str to Finding
        What was found, by check.
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
    """Whether the data are of the kind that ``profile`` was made for: molecules without hydrogen are no crystals."""
    whole, fit = subject.whole, fit_of(profile)
    periodic, sizes = subject.parts.ask(_kind)
    if not whole.structures or periodic not in (0, whole.structures) or bool(periodic) is not fit.periodic:
        return False
    if fit.max_atoms is not None and sizes.greatest > fit.max_atoms:
        return False
    return fit.min_fragments < 2 or subject.parts.ask(_most_fragments).greatest >= fit.min_fragments


def _kind(part: Part) -> tuple[int, Extremes]:
    """Periodic structures; the smallest and the largest number of atoms."""
    return int(part.data.periodic.sum()), Extremes.of(part.data.sizes)


def _most_fragments(part: Part) -> Extremes:
    return Extremes.of(fragments(part.data, part.bonds))
