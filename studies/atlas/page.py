"""Publication of the atlas of data corruptions: ``docs/atlas.json``, the picture and the table of ``docs/atlas.md``."""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hydrogate.checks.render.markdown import between, escape_markdown
from hydrogate.pipeline.outputs import write_json, write_text
from studies.atlas.picture import picture
from studies.atlas.table import (
    AUDITED,
    COSTS,
    MEASURED,
    ORDER,
    OURS,
    TIMES,
    Table,
    cost,
    costly,
    gaps,
    ratio,
    seen_by_one,
    weakest,
)

DOCS = Path("docs")
BEGIN, END = "<!-- Rendered, `python -m nox -s atlas -- publish` -->", "<!-- End of what is rendered -->"


def lines(table: Table) -> Iterator[str]:
    """Yield Markdown lines: the picture, the runs, the conclusions, false alarms, and one row per data corruption."""
    yield "![Cost of each data corruption, and the weakest strength at which each validator finds it](atlas.svg)"
    yield ""
    sizes, budget = table["structures"], table["head"]["budget"]
    yield (
        f"The sample has {sizes['sample']} structures of {budget['molecules']} molecules; students are trained on it "
        f"for {budget['epochs']} epochs and evaluated on {sizes['test']} structures of {budget['held_out']} others."
    )
    yield f"Checked by the validators: {_looked_at(table)}. A strength that was not run does not count as found."
    yield from _follows(table)
    yield ""
    yield "| validator | false alarms on clean sets | description |"
    yield "| --- | --- | --- |"
    for name, about in table["validators"].items():
        alarms = table["false_alarms"].get(name)
        share = f"{alarms['alarmed']} of {alarms['sets']}" if alarms else "not run"
        yield f"| `{name}` | {share} | [{escape_markdown(about['says'])}]({about['source']}) |"
    yield ""
    others = [name for name in table["validators"] if name not in (OURS, AUDITED)]
    yield (
        "| data corruption | "
        + " | ".join(f"cost at {strength}" for strength in ORDER)
        + " | without teacher | with audit | others |"
    )
    yield "| --- " * (len(ORDER) + 4) + "|"
    for name, about in table["accidents"].items():
        cells = [_cell(about["strengths"].get(strength)) for strength in ORDER]
        found = [_weakest(about, validator) for validator in (OURS, AUDITED)]
        seen = [f"`{other}` {strength}" for other in others if (strength := weakest(about, other))]
        again = " (relabelled)" if about["labelled_again"] else ""
        said = f"[`{name}`]({about['source']}): {escape_markdown(about['says'])}{again}"
        yield f"| {said} | {' | '.join(cells)} | {' | '.join(found)} | {', '.join(seen) or 'none'} |"


def _looked_at(table: Table) -> str:
    """Return the number of corruptions checked at each strength, and the validators if not all ran."""
    parts = []
    for strength in ORDER:
        said = [about["strengths"].get(strength, {}).get("complaints", {}) for about in table["accidents"].values()]
        asked = {name for one in said for name in one}
        alone = "" if len(asked) in (0, len(table["validators"])) else f" (only by `{'`, `'.join(sorted(asked))}`)"
        parts.append(f"{sum(map(bool, said))} data corruptions at {strength}{alone}")
    return ", ".join(parts) + " of the structures"


def _follows(table: Table) -> Iterator[str]:
    run = [one["damage"] for about in table["accidents"].values() for one in about["strengths"].values()]
    known = [damage for damage in run if damage]
    if not known:
        yield "No student has been trained yet: the table shows which validators find a corruption, but not its cost."
        return
    expensive, missed = sum(map(costly, known)), list(gaps(table))
    yield (
        f"Students were trained on {len(known)} of {len(run)} corrupted samples; {expensive} of these cost more than "
        f"{100 * COSTS:.0f} %, of which the contracts without the teacher miss {len(missed)}"
        + (": " + ", ".join(f"`{name}` at {strength}" for name, strength in missed) if missed else "")
        + "."
    )
    if one_check := seen_by_one(table):
        yield "At their weakest costly strength, these data corruptions are found by a single check:"
        yield ""
        for check, those in sorted(one_check.items()):
            yield f"- `{check}`: " + ", ".join(f"`{name}` at {strength}" for name, strength in those)
        yield ""
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
    """Write ``atlas.json``, ``atlas.svg`` and the rendered part of ``atlas.md`` into ``docs``."""
    write_json(docs / "atlas.json", table, indent=1)
    table = json.loads((docs / "atlas.json").read_text(encoding="utf-8"))
    write_text(docs / "atlas.svg", picture(table))
    page = docs / "atlas.md"
    write_text(page, with_table(page.read_text(encoding="utf-8"), table))


def with_table(page: str, table: Table) -> str:
    """Render ``table`` between the markers of ``page``; ValueError unless it has each marker once, in order."""
    return between(page, BEGIN, END, "\n".join((*lines(table), "")))
