"""Picture of the atlas: one line per data corruption, with its cost and the validators that find it."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from studies.atlas.table import AUDITED, COSTS, ORDER, OURS, TIMES, Table, cost, weakest

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SEEN = {OURS: "#0072b2", AUDITED: "#e69f00", "": "#d55e00"}  # Source: Wong, Nature Methods 8, 441 (2011)
_SHADES = {None: "white", "": "#f4d9cc", "1 %": "#9ecae1", "5 %": "#c6dbef", "20 %": "#deebf7", "100 %": "#f0f6fc"}
_GREY = "#777777"
_NONE = 1e6  # %; position of the points without a student


def picture(table: Table) -> str:
    """Draw an SVG, one line per corruption: left its cost, right the weakest strength that each validator finds."""
    from io import StringIO

    import matplotlib

    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "atlas", "font.size": 8}):
        figure = _drawn(table)
        out = StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def _drawn(table: Table) -> "Figure":
    from matplotlib.figure import Figure

    names = sorted(table["accidents"], key=lambda name: _most(table["accidents"][name]))
    validators = sorted(table["validators"], key=lambda name: (name not in (OURS, AUDITED), name))
    figure = Figure(figsize=(11.0, 1.1 + 0.21 * len(names)))
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    figure.subplots_adjust(
        left=0.2, right=0.99, top=1 - 0.6 / figure.get_figheight(), bottom=0.5 / figure.get_figheight(), wspace=0.03
    )
    columns = range(len(validators))
    for place, name in enumerate(names):
        about = table["accidents"][name]
        _costs(left, place, name, about)
        found = [weakest(about, validator) for validator in validators]
        shades = [_SHADES[strength] for strength in found]
        right.scatter(columns, [place] * len(found), s=330, marker="s", color=shades, linewidths=0)
        for column, strength in zip(columns, found, strict=True):
            text = "?" if strength is None else strength or "–"
            gid = f"{name} {validators[column]}"
            right.text(column, place, text, ha="center", va="center", fontsize=7, gid=gid)
    left.set_xscale("symlog", linthresh=5.0)
    left.set_xlim(-10.0, 3 * _NONE)
    left.set_xticks(
        [-5, 0, 5, 10, 100, 1000, 1e4, 100 * TIMES, _NONE],
        ["−5", "0", "5", "10", "100", "10 ×", "100 ×", "≥ 1000 ×", "none"],
    )
    left.axvline(100 * COSTS, color=_GREY, linewidth=0.8, linestyle="--")
    left.set_yticks(range(len(names)), names)
    left.set_ylim(-0.6, len(names) - 0.4)
    left.set_xlabel("largest increase of an error over the clean student's, %; none: no student", fontsize=7)
    left.set_title(
        "dot size: share of corrupted structures: 1, 5, 20, 100 %\n"
        "blue: found by the contracts, yellow: found with the audit, red: not found",
        fontsize=8, loc="left",
    )  # fmt: skip
    right.set_xticks(columns, [name.replace("_", "\n") for name in validators], fontsize=6)
    right.xaxis.tick_top()
    right.set_xlim(-0.5, len(validators) - 0.5)
    right.tick_params(length=0)
    right.set_xlabel("weakest strength that each validator finds; – finds none", fontsize=7)
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
    return figure


def _most(about: Mapping[str, Any]) -> float:
    """Return the largest cost over the strengths; -1 if nothing was run."""
    known = [value for one in about["strengths"].values() if (value := cost(one["damage"])) is not None]
    return max(known, default=-1.0)


def _costs(axis: "Axes", place: int, name: str, about: Mapping[str, Any]) -> None:
    points = []
    for size, strength in zip((12, 24, 42, 70), ORDER, strict=True):
        one = about["strengths"].get(strength)
        value = cost(one["damage"]) if one else None
        if one is None or value is None:
            continue
        percent = _NONE if value == math.inf else 100 * min(value, TIMES)
        points.append(percent)
        seen = next((who for who in (OURS, AUDITED) if one["complaints"].get(who)), "")
        axis.scatter([percent], [place], s=size, color=_SEEN[seen], linewidths=0, gid=f"{name} {strength}", zorder=3)
    if points:
        axis.plot([min(points), max(points)], [place, place], color=_GREY, linewidth=0.7, gid=name)
