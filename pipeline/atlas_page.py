"""The accident atlas as it is published: ``docs/atlas.json``, the picture and the table of ``docs/atlas.md``.

A strength of an accident is costly where one of the errors of its student is more than 5 % larger than that of the
student of the clean sample, with an interval that excludes 0 %, where more of its molecules did not survive their
dynamics, by each seed that was run, or where there is no student.
"""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydrogate.checks.render.markdown import between, escape_markdown
from hydrogate.pipeline.artifacts import write_json, write_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DOCS = Path("docs")
BEGIN, END = "<!-- Rendered, `python -m nox -s atlas -- publish` -->", "<!-- End of what is rendered -->"
ORDER = ("1 %", "5 %", "20 %", "100 %")
COSTS = 0.05
TIMES = 1000.0  # an error that grew by more is said to have grown by so much
MEASURED = ("force_rmse", "force_rmse_H", "energy_mae_per_atom", "md_force_rmse")
OURS, AUDITED = "hydrogate", "hydrogate_audit"
Table = dict[str, Any]


def table_of(report: Mapping[str, Any], place: Path) -> Table:
    """What a report says, in the form in which it is published.

    Parameters
    ----------
    report : mapping
        As ``pipeline/atlas.py`` keeps it.
    place : Path
        Where the predictions of the students are.
    """
    clean = report["cases"].get("clean", {}).get("all", {})
    accidents = {}
    for name, about in sorted(report["accidents"].items()):
        strengths = {}
        for strength in ORDER:
            case = report["cases"].get(name, {}).get(strength)
            if case is None:
                continue
            said = report["detection"].get(name, {}).get(strength, {})
            strengths[strength] = {
                "structures": case["structures"],
                "unusable": case["unusable"],
                "complaints": {validator: one["complaints"] for validator, one in sorted(said.items())},
                "by": said.get(OURS, {}).get("examples", []),
                "damage": _damage(report["runs"], case, clean, place),
            }
        accidents[name] = {**about, "strengths": strengths}
    alarms = {name: {k: v for k, v in one.items() if k != "code"} for name, one in report["false_alarms"].items()}
    other = {"content": clean.get("content", "")}
    return {
        "head": report["head"],
        "structures": report["structures"],
        "clean": _absolute(report["runs"], clean),
        "another_seed": _seed(report["runs"], other, clean.get("other"), clean, place),
        "validators": report["validators"],
        "false_alarms": alarms,
        "accidents": accidents,
    }


def _absolute(runs: Mapping[str, Any], clean: Mapping[str, Any]) -> Any:
    return {str(seed): runs.get(f"{clean['content']}-{seed}") for seed in clean.get("seeds", ())}


def _damage(runs: Mapping[str, Any], case: Mapping[str, Any], clean: Mapping[str, Any], place: Path) -> dict[str, Any]:
    found = {}
    for seed in clean.get("seeds", ()):
        if one := _seed(runs, case, seed, clean, place):
            found[str(seed)] = one
    return found


def _seed(
    runs: Mapping[str, Any], case: Mapping[str, Any], seed: int | None, clean: Mapping[str, Any], place: Path
) -> dict[str, Any]:
    """The errors of one student over those of the clean one of the same seed; {} where it was not run."""
    from hydrogate.pipeline.atlas_damage import ratios

    ours = runs.get(f"{case.get('content')}-{seed}")
    first = seed if seed in clean.get("seeds", ()) else next(iter(clean.get("seeds", ())), None)
    theirs = runs.get(f"{clean.get('content')}-{first}")
    if ours is None or theirs is None:
        return {}
    if "no_student" in ours:
        return {"no_student": ours["no_student"]}
    found = ratios(place, f"{case['content']}-{seed}", f"{clean['content']}-{first}")
    return {
        **{name: metric.to_dict() for name, metric in found.items()},
        "md_lost": ours["md_lost"],
        "md_lost_clean": theirs["md_lost"],
    }


def ratio(damage: Mapping[str, Any], name: str) -> tuple[float, float, float] | None:
    """The error ``name`` over the clean one's: its mean over the seeds, the lowest and highest end of an interval."""
    known = [one[name] for one in damage.values() if isinstance(one.get(name, {}).get("value"), float)]
    if not known:
        return None
    values = [float(one["value"]) for one in known]
    low = min(float(one.get("low", one["value"])) for one in known)
    return sum(values) / len(values), low, max(float(one.get("high", one["value"])) for one in known)


def cost(damage: Mapping[str, Any]) -> float | None:
    """How much larger the error is that grew most, 0.05 for 5 %; infinite without a student, None where not run."""
    if not damage:
        return None
    if any("no_student" in one for one in damage.values()):
        return math.inf
    found = [of[0] - 1.0 for name in MEASURED if (of := ratio(damage, name))]
    return max(found) if found else None


def costly(damage: Mapping[str, Any], most: float = math.inf) -> bool:
    """Whether it costs more than ``COSTS`` and at most ``most``, beyond the chance of the held-out molecules."""
    value = cost(damage)
    if value is None or value > most:
        return False
    if value == math.inf or all(one.get("md_lost", 0) > one.get("md_lost_clean", 0) for one in damage.values()):
        return True
    return any(of[0] > 1.0 + COSTS and of[1] > 1.0 for name in MEASURED if (of := ratio(damage, name)))


def weakest(about: Mapping[str, Any], validator: str) -> str | None:
    """The weakest strength from which on ``validator`` complains of every stronger one; "" for none, None unknown."""
    found: str | None = None
    for strength in reversed(ORDER):
        one = about["strengths"].get(strength)
        if one is None or one["unusable"] or validator not in one["complaints"]:
            continue
        if not one["complaints"][validator]:
            return found or ""
        found = strength
    return found


def gaps(table: Table) -> Iterator[tuple[str, str]]:
    """Each accident and strength that is costly, and that the contracts without the teacher do not see."""
    for name, about in table["accidents"].items():
        for strength, one in about["strengths"].items():
            if costly(one["damage"]) and one["complaints"].get(OURS) == 0:
                yield name, strength


def lines(table: Table) -> Iterator[str]:
    """Markdown: the picture, what was run, what follows, false alarms, and a row for each accident."""
    yield "![What each accident costs, and who sees it from which strength on](atlas.svg)"
    yield ""
    sizes, budget = table["structures"], table["head"]["budget"]
    yield (
        f"The sample has {sizes['sample']} structures of {budget['molecules']} molecules; students learn it in "
        f"{budget['epochs']} epochs and are asked about {sizes['test']} structures of {budget['held_out']} others."
    )
    yield f"Looked at by the validators: {_looked_at(table)}. A strength that was not run is not seen here."
    yield from _follows(table)
    yield ""
    yield "| validator | clean sets it complains of | what it is |"
    yield "| --- | --- | --- |"
    for name, about in table["validators"].items():
        alarms = table["false_alarms"].get(name)
        share = f"{alarms['alarmed']} of {alarms['sets']}" if alarms else "not run"
        yield f"| `{name}` | {share} | [{escape_markdown(about['says'])}]({about['source']}) |"
    yield ""
    others = [name for name in table["validators"] if name not in (OURS, AUDITED)]
    yield (
        "| accident | "
        + " | ".join(f"cost at {strength}" for strength in ORDER)
        + " | without teacher | with audit | others |"
    )
    yield "| --- " * (len(ORDER) + 4) + "|"
    for name, about in table["accidents"].items():
        cells = [_cell(about["strengths"].get(strength)) for strength in ORDER]
        found = [_weakest(about, validator) for validator in (OURS, AUDITED)]
        seen = [f"`{other}` {strength}" for other in others if (strength := weakest(about, other))]
        again = " (labelled again)" if about["labelled_again"] else ""
        said = f"[`{name}`]({about['source']}): {escape_markdown(about['says'])}{again}"
        yield f"| {said} | {' | '.join(cells)} | {' | '.join(found)} | {', '.join(seen) or 'nobody'} |"


def _looked_at(table: Table) -> str:
    """How many accidents at each strength, and by whom where not by all."""
    parts = []
    for strength in ORDER:
        said = [about["strengths"].get(strength, {}).get("complaints", {}) for about in table["accidents"].values()]
        asked = {name for one in said for name in one}
        alone = "" if len(asked) in (0, len(table["validators"])) else f" (by `{'`, `'.join(sorted(asked))}` alone)"
        parts.append(f"{sum(map(bool, said))} accidents at {strength}{alone}")
    return ", ".join(parts) + " of the structures"


def _follows(table: Table) -> Iterator[str]:
    run = [one["damage"] for about in table["accidents"].values() for one in about["strengths"].values()]
    known = [damage for damage in run if damage]
    if not known:
        yield "No student has been trained yet: the table says who sees an accident, and not what it costs."
        return
    expensive, missed = sum(map(costly, known)), list(gaps(table))
    yield (
        f"{len(known)} of {len(run)} spoiled samples have been learned from; {expensive} of them cost more than "
        f"{100 * COSTS:.0f} %, and of these the contracts without the teacher miss {len(missed)}"
        + (": " + ", ".join(f"`{name}` at {strength}" for name, strength in missed) if missed else "")
        + "."
    )
    noise = table["another_seed"]
    if noise and "no_student" not in noise:
        found = {"0": noise}
        each = (f"{name} {100 * (of[0] - 1):+.1f} %" for name in MEASURED if (of := ratio(found, name)))
        yield f"Another seed on the clean sample: {', '.join(each)}."


def _weakest(about: Mapping[str, Any], validator: str) -> str:
    strength = weakest(about, validator)
    return "not run" if strength is None else strength or "never"


def _cell(one: Mapping[str, Any] | None) -> str:
    if one is None:
        return "not run"
    if one["unusable"]:
        return "no data"
    value = cost(one["damage"])
    if value is None:
        return "not run"
    mark = "**" if costly(one["damage"]) else ""
    return f"{mark}{_said(value)}{mark}"


def _said(value: float) -> str:
    if value == math.inf:
        return "no student"
    if value > TIMES - 1:
        return f"over {TIMES:,.0f} times"
    return f"{100 * value:+.0f} %" if value < 10 else f"{1 + value:,.0f} times"


def publish(table: Table, docs: Path = DOCS) -> None:
    """Write ``atlas.json``, ``atlas.svg`` and what is rendered of ``atlas.md`` into ``docs``."""
    write_json(docs / "atlas.json", table, indent=1)
    table = json.loads((docs / "atlas.json").read_text(encoding="utf-8"))
    write_text(docs / "atlas.svg", picture(table))
    page = docs / "atlas.md"
    write_text(page, with_table(page.read_text(encoding="utf-8"), table))


def with_table(page: str, table: Table) -> str:
    """``page`` with ``lines`` of ``table`` between its markers; ValueError where it has not each once, in order."""
    return between(page, BEGIN, END, "\n".join((*lines(table), "")))


_SEEN = {OURS: "#0072b2", AUDITED: "#e69f00", "": "#d55e00"}  # Source: Wong, Nature Methods 8, 441 (2011)
_SHADES = {None: "white", "": "#f4d9cc", "1 %": "#9ecae1", "5 %": "#c6dbef", "20 %": "#deebf7", "100 %": "#f0f6fc"}
_GREY = "#777777"
_NONE = 1e6  # %; where no student is drawn


def picture(table: Table) -> str:
    """SVG: an accident a line; on the left what it costs, on the right who sees it and from which strength on."""
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
    left.set_xlabel("the error that grew most, % above the clean student's; none: no student", fontsize=7)
    left.set_title(
        "the larger the dot, the more structures were struck: 1, 5, 20, 100 %\n"
        "blue: the contracts see it, yellow: they do with the audit, red: neither",
        fontsize=8, loc="left",
    )  # fmt: skip
    right.set_xticks(columns, [name.replace("_", "\n") for name in validators], fontsize=6)
    right.xaxis.tick_top()
    right.set_xlim(-0.5, len(validators) - 0.5)
    right.tick_params(length=0)
    right.set_xlabel("the weakest strength that each sees; – not even the strongest", fontsize=7)
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
    return figure


def _most(about: Mapping[str, Any]) -> float:
    """The largest cost over the strengths; -1 where nothing was run."""
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
