"""SVG elements without a drawing library: ElementTree escapes text, the page's stylesheet sets the appearance."""

import math
from collections.abc import Iterator
from typing import NamedTuple
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

Number = float | int | str


def drawing(width: float, height: float, label: str, kind: str = "chart") -> Element:
    """Return an empty drawing of ``width`` by ``height`` units, with ``label`` for screen readers."""
    # No XML namespace: ElementTree would write it with a prefix, which HTML does not understand.
    box = f"0 0 {width:g} {height:g}"
    return Element("svg", {"class": kind, "viewBox": box, "role": "img", "aria-label": label})


def add(parent: Element, tag: str, kind: str = "", said: str = "", **attributes: Number) -> Element:
    """Add an element of class ``kind`` with the text ``said``; numbers get two decimals, ``_`` becomes ``-``."""
    named = {name.replace("_", "-"): written(value) for name, value in attributes.items()}
    element = SubElement(parent, tag, {**({"class": kind} if kind else {}), **named})
    element.text = said or None
    return element


def written(value: Number) -> str:
    """Format a number with at most two decimals."""
    return value if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")


def markup(drawn: Element) -> str:
    """Return the drawing as markup for HTML."""
    return ElementTree.tostring(drawn, encoding="unicode")


class Axis(NamedTuple):
    """Linear scale from ``low`` … ``high`` to ``start`` … ``end`` units of the drawing."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (self.end - self.start) * (value - self.low) / (self.high - self.low)

    def ticks(self, count: int = 5) -> Iterator[float]:
        """Return about ``count`` round numbers within the scale."""
        rough = (self.high - self.low) / count
        power: float = 10.0 ** math.floor(math.log10(rough))
        step = power * next(factor for factor in (1, 2, 5, 10) if factor * power >= rough)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return (index * step for index in range(first, last + 1))


def horizontal_axis(parent: Element, axis: Axis, y: float, top: float, title: str = "") -> None:
    """Draw ticks, their grid lines up to ``top``, and a title below."""
    for tick in axis.ticks():
        add(parent, "line", "grid", x1=axis(tick), x2=axis(tick), y1=top, y2=y)
        add(parent, "text", "tick", f"{tick:g}", x=axis(tick), y=y + 15, text_anchor="middle")
    if title:
        add(parent, "text", "title", title, x=(axis.start + axis.end) / 2, y=y + 33, text_anchor="middle")


def vertical_axis(parent: Element, axis: Axis, x: float, right: float, title: str = "") -> None:
    """Draw the same vertically, with grid lines out to ``right``."""
    for tick in axis.ticks():
        add(parent, "line", "grid", x1=x, x2=right, y1=axis(tick), y2=axis(tick))
        add(parent, "text", "tick", f"{tick:g}", x=x - 6, y=axis(tick) + 4, text_anchor="end")
    if title:
        middle = (axis.start + axis.end) / 2
        add(
            parent, "text", "title", title, x=x - 44, y=middle, text_anchor="middle",
            transform=f"rotate(-90 {written(x - 44)} {written(middle)})",
        )  # fmt: skip
