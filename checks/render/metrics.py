"""A student's metrics: for the terminal through Rich, as Markdown, as plain values for JSON."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from hydrogate.checks.bootstrap import Metric
from hydrogate.checks.render.markdown import escape_markdown

_HEADINGS = ("metric", "value", "95 % interval", "unit", "n")
_AGAINST = "Errors are against the reference, not against chemistry; n counts molecules."


def metrics_text(metrics: Mapping[str, Metric], title: str, notes: Sequence[str]) -> RenderableType:
    """A table of all metrics, then what a reader must know of them."""
    table = Table(title=Text(title), title_justify="left", box=SIMPLE_HEAD)
    for heading in _HEADINGS:
        table.add_column(heading, justify="right" if heading == "n" else "left", overflow="fold")
    for row in _rows(metrics):
        table.add_row(*map(Text, row))
    return Group(table, *map(Text, (_AGAINST, *notes)))


def metrics_markdown(metrics: Mapping[str, Metric], title: str, notes: Sequence[str]) -> str:
    """The same as a Markdown table and list; every name escaped."""
    lines = [f"## {escape_markdown(title)}", "", f"| {' | '.join(_HEADINGS)} |", "| --- | --- | --- | --- | ---: |"]
    lines += ["| " + " | ".join(map(escape_markdown, row)) + " |" for row in _rows(metrics)]
    lines += ["", *(f"- {escape_markdown(sentence)}" for sentence in (_AGAINST, *notes))]
    return "\n".join(lines) + "\n"


def metrics_dict(metrics: Mapping[str, Metric]) -> dict[str, Any]:
    """``{"metrics": {name: {value, unit, n, low, high}}}``; None where undefined or without an interval."""
    return {"metrics": {name: metric._asdict() for name, metric in metrics.items()}}


def _rows(metrics: Mapping[str, Metric]) -> Iterator[tuple[str, ...]]:
    for name, metric in metrics.items():
        value = "undefined" if metric.value is None else f"{metric.value:.4g}"
        interval = "" if metric.low is None or metric.high is None else f"{metric.low:.4g} to {metric.high:.4g}"
        yield name, value, interval, metric.unit, str(metric.n)
