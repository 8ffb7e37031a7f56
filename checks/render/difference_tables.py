"""Output of a comparison of two data sets: terminal (Rich), Markdown, plain values for JSON."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from hydrogate.checks.diff.datasets_diff import QUANTILES, Difference, Spread
from hydrogate.checks.render.markdown import escape_markdown
from hydrogate.checks.render.text import printable

_HEADINGS = ("", "one", "other", "difference")
_LISTED = 10
_ALIKE = "The two data sets are bit-for-bit identical."
_TOLD_BY = {
    "molecule_key": "molecules identified by SMILES: tautomers, charge states and stereoisomers count as one",
    "formula": "molecules identified by formula only, because not every structure has SMILES: isomers count as one",
}

_Row = tuple[str, str, str, str]


def difference_text(difference: Difference) -> RenderableType:
    """Render the table of both sides, the distances, and the first few molecules that were added and removed."""
    title = printable(f"{difference.one.name} and {difference.other.name}")
    table = Table(title=Text(title), title_justify="left")
    for heading in _HEADINGS:
        table.add_column(heading, overflow="fold")
    for row in _rows(difference):
        table.add_row(*(Text(printable(cell)) for cell in row))
    return Group(table, *(Text(printable(sentence)) for sentence in _sentences(difference)))


def difference_markdown(difference: Difference) -> str:
    """Return the same as a Markdown table and list, with every name escaped."""
    title = f"{difference.one.name} and {difference.other.name}"
    lines = [f"## {escape_markdown(title)}", "", f"| {' | '.join(_HEADINGS)} |", "| --- | --- | --- | --- |"]
    lines += ["| " + " | ".join(map(escape_markdown, row)) + " |" for row in _rows(difference)]
    lines += ["", *(f"- {escape_markdown(sentence)}" for sentence in _sentences(difference))]
    return "\n".join(lines) + "\n"


def difference_dict(difference: Difference) -> dict[str, Any]:
    """Return every field by its name, with ``same`` and the species differences in percentage points."""
    change = {symbol: after - before for symbol, before, after in _species(difference)}
    return {"same": difference.same, **asdict(difference), "species_percent_difference": change}


def _species(difference: Difference) -> Iterator[tuple[str, float, float]]:
    """Yield each element of either side with both percentages; 0 if a side lacks the element."""
    before, after = difference.one.species_percent, difference.other.species_percent
    for symbol in dict.fromkeys([*before, *after]):
        yield symbol, before.get(symbol, 0.0), after.get(symbol, 0.0)


def _rows(difference: Difference) -> Iterator[_Row]:
    one, other = difference.one, difference.other
    for name in ("structures", "molecules", "atoms"):
        before, after = getattr(one, name), getattr(other, name)
        yield name, str(before), str(after), f"{after - before:+d}"
    for symbol, share, share_after in _species(difference):
        yield f"{symbol} %", f"{share:.2f}", f"{share_after:.2f}", f"{share_after - share:+.2f}"
    yield _number("H fraction", one.hydrogen_fraction, other.hydrogen_fraction)
    yield from _quantiles("atoms per structure", one.sizes, other.sizes)
    yield from _quantiles("|F| eV/Å", one.force, other.force)
    yield from _quantiles("energy eV/atom", one.energy_per_atom, other.energy_per_atom)
    for name in ("teacher", "units"):
        text, text_after = getattr(one, name), getattr(other, name)
        yield name, text, text_after, "" if text == text_after else "differs"
    for name, distance in (
        ("elements, Jensen-Shannon", difference.element_distance),
        ("|F|, Kolmogorov-Smirnov", difference.force_distance),
        ("energy per atom, Kolmogorov-Smirnov", difference.energy_distance),
    ):
        yield name, "", "", "undefined" if distance is None else f"{distance:.4g}"


def _number(name: str, before: float | None, after: float | None) -> _Row:
    change = "" if before is None or after is None else f"{after - before:+.4g}"
    one, other = ("none" if value is None else f"{value:.6g}" for value in (before, after))
    return name, one, other, change


def _quantiles(name: str, before: Spread | None, after: Spread | None) -> Iterator[_Row]:
    if before is None and after is None:
        yield name, "no labels", "no labels", ""
        return
    quantiles = [spread.quantiles if spread else {} for spread in (before, after)]
    for quantile in QUANTILES:
        yield _number(f"{name}, {quantile}", *(values.get(quantile) for values in quantiles))
    broken = [spread.not_finite if spread else 0 for spread in (before, after)]
    if any(broken):
        yield f"{name}, not finite", str(broken[0]), str(broken[1]), f"{broken[1] - broken[0]:+d}"


def _sentences(difference: Difference) -> Iterator[str]:
    if difference.same:
        yield _ALIKE
    yield f"{_TOLD_BY[difference.told_by]}."
    if difference.unreadable_smiles:
        yield f"{difference.unreadable_smiles} SMILES cannot be read by RDKit; each counts as its own molecule."
    for what, found in (("only in other", difference.new), ("only in one", difference.lost)):
        yield _listing(what, [f"{key} ({count})" for key, count in found.items()])
    changed = [f"{key} ({before} to {after})" for key, (before, after) in difference.changed.items()]
    yield _listing("in both, with a different number of structures", changed)


def _listing(what: str, items: list[str]) -> str:
    if not items:
        return f"{what}: none"
    more = f", … ({len(items) - _LISTED} more)" if len(items) > _LISTED else ""
    return f"{what}: {len(items)}: {', '.join(items[:_LISTED])}{more}"
