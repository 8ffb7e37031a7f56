"""Output of a student's metrics: terminal (Rich), Markdown, plain values for JSON."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from hydrogate.checks.metrics.bootstrap import Metric
from hydrogate.checks.metrics.breakdown import Breakdown
from hydrogate.checks.render.markdown import escape_markdown

_HEADINGS = ("metric", "value", "95 % interval", "unit", "n")
_OF_KINDS = ("atom", "bonded to", "atoms", "molecules", "RMSE, eV/Å", "RMS force, eV/Å", "share")
_OF_STRUCTURES = ("share", "worst atom", "error, eV/Å", "force, eV/Å", "structure")
_AGAINST = "Errors are against the reference, not against chemistry; n counts molecules."


def metrics_text(
    metrics: Mapping[str, Metric], title: str, notes: Sequence[str], where: Breakdown | None = None
) -> RenderableType:
    """Render a table of all metrics, then notes for the reader, then the breakdown of the error."""
    found = Table(title=Text(title), title_justify="left", box=SIMPLE_HEAD)
    for heading in _HEADINGS:
        found.add_column(heading, justify="right" if heading == "n" else "left", overflow="fold")
    for row in _rows(metrics):
        found.add_row(*map(Text, row))
    tables = []
    for heading, columns, rows in _where(where):
        table = Table(title=Text(f"\n{heading}"), title_justify="left", box=SIMPLE_HEAD)
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*map(Text, row))
        tables.append(table)
    return Group(found, *map(Text, (_AGAINST, *notes)), *tables)


def metrics_markdown(
    metrics: Mapping[str, Metric], title: str, notes: Sequence[str], where: Breakdown | None = None
) -> str:
    """Return the same as Markdown tables and a list, with every name escaped."""
    lines = [f"## {escape_markdown(title)}", "", f"| {' | '.join(_HEADINGS)} |", "| --- | --- | --- | --- | ---: |"]
    lines += [_line(row) for row in _rows(metrics)]
    lines += ["", *(f"- {escape_markdown(sentence)}" for sentence in (_AGAINST, *notes))]
    for heading, columns, rows in _where(where):
        lines += ["", heading, "", f"| {' | '.join(columns)} |", "| --- " * len(columns) + "|", *map(_line, rows)]
    return "\n".join(lines) + "\n"


def metrics_dict(metrics: Mapping[str, Metric], where: Breakdown | None = None) -> dict[str, Any]:
    """Return ``{"metrics": {name: {value, unit, n, low, high}}}``; None if undefined or without an interval.

    With ``where``, also ``environments`` and ``structures``, as lists of mappings.
    """
    content: dict[str, Any] = {"metrics": {name: metric._asdict() for name, metric in metrics.items()}}
    if where is not None:
        content |= {part: [one._asdict() for one in found] for part, found in where._asdict().items()}
    return content


def _line(row: Sequence[str]) -> str:
    return f"| {' | '.join(map(escape_markdown, row))} |"


def _where(where: Breakdown | None) -> Iterator[tuple[str, tuple[str, ...], list[tuple[str, ...]]]]:
    if where is None:
        return
    kinds: list[tuple[str, ...]] = [
        (
            kind.atom,
            kind.bonded_to,
            str(kind.atoms),
            str(kind.molecules),
            f"{kind.force_rmse:.3f}",
            f"{kind.force_rms:.2f}",
            f"{100 * kind.share:.1f} %",
        )
        for kind in where.environments
    ]
    yield "Share of the squared error by bonding environment", _OF_KINDS, kinds
    worst: list[tuple[str, ...]] = [
        (f"{100 * one.share:.1f} %", one.worst_atom, f"{one.error:.2f}", f"{one.force:.2f}", one.structure)
        for one in where.structures
    ]
    yield "Share of the squared error by structure", _OF_STRUCTURES, worst


def _rows(metrics: Mapping[str, Metric]) -> Iterator[tuple[str, ...]]:
    for name, metric in metrics.items():
        value = "undefined" if metric.value is None else f"{metric.value:.4g}"
        interval = "" if metric.low is None or metric.high is None else f"{metric.low:.4g} to {metric.high:.4g}"
        yield name, value, interval, metric.unit, str(metric.n)
