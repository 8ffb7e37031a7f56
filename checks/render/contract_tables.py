"""Markdown tables of every check of every contract, for docs/contracts.md: rule, bounds by profile, reason, remedy."""

from hydrogate.checks.engine.bounds import CONTRACTS, Bounds, Limits, profile_names, resolve_bounds
from hydrogate.checks.engine.registry import RULES, Rule
from hydrogate.checks.findings import Severity
from hydrogate.checks.render.markdown import between

BEGIN = "<!-- Rendered from the code, `python -m studies.render_pages` -->"
END = "<!-- End of what is rendered -->"
HEADER = (
    "| check | rule; remedy | allowed | reason; source of the number |",
    "| --- | --- | --- | --- |",
)


def with_tables(page: str) -> str:
    """Return ``page`` with the text between the two markers rendered again.

    Raises
    ------
    ValueError
        The page does not have both markers, each once and in order.
    """
    return between(page, BEGIN, END, contract_tables())


def contract_tables() -> str:
    """Return a heading and a table per contract, with one row per check."""
    return "\n".join(_table(contract) for contract in CONTRACTS)


def _table(contract: str) -> str:
    declared = {name: resolve_bounds(contract, profile=name)[1] for name in profile_names()}
    first, *others = declared
    rows = []
    for check, bounds in declared[first].items():
        rule = RULES[contract, check]
        allowed = [_allowed(bounds)]
        for other in others:
            if change := _change(bounds, declared[other][check]):
                allowed.append(f"**{other}**: {change}")
        cells = (
            _name(rule, bounds),
            f"{_plain(rule.why)}<br>*{_plain(rule.remedy)}*",
            "<br>".join(allowed),
            f"{_plain(bounds.reason)}<br>*{_plain(bounds.origin)}*",
        )
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join([f"### Contract `{contract}`", "", *HEADER, *rows, ""])


def _name(rule: Rule, bounds: Bounds) -> str:
    unit = f"<br>{_plain(rule.unit)}" if rule.unit else ""
    return f"`{rule.check}`{'<br>warns' if bounds.severity is Severity.WARN else ''}{unit}"


def _plain(text: str) -> str:
    """Return ``text`` escaped for one table cell: it cannot end the cell, begin a tag or switch to italics."""
    line = " ".join(text.split()).replace("`" * 2, "`")
    for char, written in (("|", r"\|"), ("<", "&lt;"), ("*", r"\*")):
        line = line.replace(char, written)
    return line


def _allowed(bounds: Bounds) -> str:
    parts = [_limits(name, limits) for name, limits in bounds.limits.items()]
    settings = ", ".join(f"{name} {_value(value)}" for name, value in bounds.settings.items())
    return "; ".join(parts) + (f" ({settings})" if settings else "")


def _limits(name: str, limits: Limits) -> str:
    if not limits.warns:
        return f"{name} {limits}".strip()
    outside = {"fails": _outside(limits.min, limits.max), "warns": _outside(limits.warn_min, limits.warn_max)}
    return f"{name} {', '.join(f'{verb} {ends}' for verb, ends in outside.items() if ends)}".strip()


def _outside(low: float | None, high: float | None) -> str:
    ends = {"below": low, "above": high}
    return " or ".join(f"{side} {end:g}" for side, end in ends.items() if end is not None)


def _value(value: object) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value)) or "none"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _change(base: Bounds, other: Bounds) -> str:
    """Return the differences of another profile; empty if there are none."""
    if not other.enabled:
        return "off" if base.enabled else ""
    parts = ["warns"] if other.severity is not base.severity else []
    parts += [_limits(name, limits) for name, limits in other.limits.items() if limits != base.limits.get(name)]
    parts += [f"{name} {_value(v)}" for name, v in other.settings.items() if v != base.settings.get(name)]
    return "; ".join(parts)
