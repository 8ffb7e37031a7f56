"""Charts of the HTML report, as inline SVG. Errors are against the teacher; intervals are those of the metrics."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from hydrogate.checks.gates.gates import Gate
from hydrogate.checks.gates.milestones import Band
from hydrogate.checks.metrics.bootstrap import Metric
from hydrogate.checks.render.html.svg import Axis, add, drawing, horizontal_axis, markup, vertical_axis, written

_LEVELS = 6  # shades of the density plot


def figure(value: float | None) -> str:
    """Format a value with three digits; values from 1000 on are written as integers."""
    if value is None:
        return "undefined"
    return f"{value:#.3g}".rstrip(".") if abs(value) < 1000 else f"{value:.0f}"


class Bar(NamedTuple):
    """One bar of a bar chart; ``note`` follows the value, ``kind`` is a class of the stylesheet."""

    label: str
    metric: Metric
    note: str = ""
    kind: str = ""


def bullet(gate: Gate, metric: Metric | None) -> str:
    """Draw a gate's value and interval on a line whose passing part is tinted; empty if there is no value."""
    if metric is None or metric.value is None:
        return ""
    shown = [metric.value, *gate.edges, *(end for end in (metric.low, metric.high) if end is not None)]
    reach = max(map(abs, shown)) or 1.0
    axis = Axis(min(0.0, min(shown) * 1.15), max(max(shown) * 1.15, 0.15 * reach), 4, 276)
    drawn = drawing(280, 26, f"{metric.value:.4g} {metric.unit}, allowed {gate.allowed}", "bullet")
    add(drawn, "rect", "track", x=axis.start, y=7, width=axis.end - axis.start, height=12, rx=3)
    low, high = _good_range(gate, axis)
    add(drawn, "rect", "good", x=axis(low), y=7, width=axis(high) - axis(low), height=12, rx=3)
    for edge in gate.edges:
        add(drawn, "line", "threshold", x1=axis(edge), x2=axis(edge), y1=2, y2=24)
    _interval(drawn, axis, metric, 13.0)
    add(drawn, "circle", "value", cx=axis(metric.value), cy=13, r=4.5)
    return markup(drawn)


def _good_range(gate: Gate, axis: Axis) -> tuple[float, float]:
    if gate.comparison == "between":
        low, high = gate.edges
        return low, high
    (edge,) = gate.edges
    return (axis.low, edge) if gate.comparison.startswith("<") else (edge, axis.high)


def _interval(drawn: Element, axis: Axis, metric: Metric, y: float) -> None:
    if metric.low is None or metric.high is None:
        return
    low, high = (axis(min(max(end, axis.low), axis.high)) for end in (metric.low, metric.high))
    add(drawn, "line", "interval", x1=low, x2=high, y1=y, y2=y)
    for end in (low, high):
        add(drawn, "line", "interval", x1=end, x2=end, y1=y - 4, y2=y + 4)


def band_line(bands: Sequence[Band], metric: Metric | None) -> str:
    """Draw the milestones' bands of the force RMSE and the student's value."""
    edges = [band.range.high for band in bands if math.isfinite(band.range.high)]
    stands = [end for end in (metric.value, metric.high) if end is not None] if metric else []
    axis = Axis(0.0, max([*edges, *stands, 0.1]) * 1.25, 8, 632)
    drawn = drawing(640, 78, "bands of the force RMSE", "chart bands")
    for index, band in enumerate(bands):
        start, end = axis(band.range.low), axis(min(band.range.high, axis.high))
        add(drawn, "rect", f"band band-{min(index, 3)}", x=start, y=20, width=end - start, height=26)
        add(drawn, "text", "band-name", str(index + 1), x=(start + end) / 2, y=38, text_anchor="middle")
    for edge in [0.0, *edges]:
        add(drawn, "text", "tick", f"{edge:g}", x=axis(edge), y=62, text_anchor="middle")
    add(drawn, "text", "tick", "eV/Å", x=632, y=62, text_anchor="end")
    if metric is not None and metric.value is not None:
        _interval(drawn, axis, metric, 12.0)
        x = axis(metric.value)
        add(drawn, "path", "marker", d=f"M{written(x - 6)} 6h12l-6 12z")
    return markup(drawn)


def bars(rows: Sequence[Bar], title: str, unit: str) -> str:
    """Draw horizontal bars with intervals, each with its value; undefined values are labelled."""
    reach = max((max(row.metric.value or 0.0, row.metric.high or 0.0) for row in rows), default=0.0) or 1.0
    bottom = 8 + 26 * len(rows)
    drawn = drawing(490, bottom + 44, title)
    axis = Axis(0.0, reach * 1.05, 106, 330)
    horizontal_axis(drawn, axis, bottom, 4, f"{title} ({unit})")
    for place, row in enumerate(rows):
        y = 10 + 26 * place
        add(drawn, "text", "label", row.label, x=98, y=y + 13, text_anchor="end")
        said = add(drawn, "text", "figure", figure(row.metric.value), x=340, y=y + 13)
        add(said, "tspan", "title", row.note, dx=8)
        if row.metric.value is not None:
            add(drawn, "rect", f"bar {row.kind}", x=axis.start, y=y, height=17,
                width=max(axis(row.metric.value) - axis.start, 1.0), rx=2)  # fmt: skip
            _interval(drawn, axis, row.metric, y + 8.5)
    return markup(drawn)


def density(teacher: NDArray[np.float64], student: NDArray[np.float64], title: str, unit: str) -> str:
    """Draw student against teacher as shades of a two-dimensional histogram, on a logarithmic scale.

    Parameters
    ----------
    teacher, student : (K,) float64
        Values that are not finite, or far outside the teacher's range, are left out and counted in the plot.
    title, unit : str
    """
    drawn = drawing(420, 404, f"{title}: student against teacher", "chart parity")
    known = np.isfinite(teacher) & np.isfinite(student)
    if not known.any():
        add(drawn, "text", "label", "no prediction is finite", x=210, y=210, text_anchor="middle")
        return markup(drawn)
    low, high = (float(f(teacher[known])) for f in (np.min, np.max))
    margin = 0.08 * (high - low) or 1.0
    low, high = low - margin, high + margin
    inside = known & (student >= low) & (student <= high)
    across, up = Axis(low, high, 62, 410), Axis(low, high, 366, 18)
    horizontal_axis(drawn, across, 366, 18, f"teacher ({unit})")
    vertical_axis(drawn, up, 62, 410, f"student ({unit})")
    bins = 87  # of 4 units each, as wide as the axes
    counts, _, _ = np.histogram2d(teacher[inside], student[inside], bins=bins, range=[[low, high], [low, high]])
    shade = np.ceil(_LEVELS * np.log1p(counts) / np.log1p(max(counts.max(), 1.0))).astype(int)
    for level in range(1, _LEVELS + 1):
        cells = "".join(f"M{62 + 4 * x} {362 - 4 * y}h4v4h-4z" for x, y in np.argwhere(shade == level).tolist())
        if cells:
            add(drawn, "path", "density", d=cells, fill_opacity=0.2 + 0.8 * level / _LEVELS)
    add(drawn, "line", "diagonal", x1=across(low), y1=up(low), x2=across(high), y2=up(high))
    if outside := int((~inside).sum()):
        text = f"{outside} of {len(teacher)} lie outside the plot"
        add(drawn, "text", "warning", text, x=72, y=34)
    return markup(drawn)


def curves(series: Mapping[str, Sequence[float]], title: str) -> str:
    """Draw lines over the epochs, from 1, on a common scale from 0; each labelled at its end and dashed differently."""
    drawn = drawing(420, 240, f"{title} by epoch")
    finite = [value for values in series.values() for value in values if math.isfinite(value)]
    length = max((len(values) for values in series.values()), default=0)
    if not finite or not length:
        add(drawn, "text", "label", "no epoch was recorded", x=210, y=120, text_anchor="middle")
        return markup(drawn)
    across, up = Axis(1, max(length, 2), 62, 350), Axis(0.0, max(finite) * 1.05 or 1.0, 200, 10)
    horizontal_axis(drawn, across, 200, 10, "epoch")
    vertical_axis(drawn, up, 62, 350, title)
    ends: list[float] = []
    for place, (name, values) in enumerate(series.items()):
        shown = [(across(epoch + 1), up(value)) for epoch, value in enumerate(values) if math.isfinite(value)]
        points = " ".join(f"{written(x)},{written(y)}" for x, y in shown)
        add(drawn, "polyline", f"curve curve-{place}", points=points)
        if shown:
            y = shown[-1][1]
            while any(abs(y - other) < 14 for other in ends):
                y -= 2
            ends.append(y)
            add(drawn, "text", f"curve-name curve-{place}", name, x=356, y=y + 4)
    return markup(drawn)
