"""Tests that docs/atlas.md and its picture show the content of docs/atlas.json."""

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from studies.atlas.page import with_table
from studies.atlas.picture import picture
from studies.atlas.table import ORDER

DOCS = Path(__file__).resolve().parents[2] / "docs"
TABLE = json.loads((DOCS / "atlas.json").read_text(encoding="utf-8"))
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def test_the_page_shows_the_figures() -> None:
    page = (DOCS / "atlas.md").read_text(encoding="utf-8")
    assert with_table(page, TABLE) == page


def drawn(svg: str) -> dict[str, list[float]]:
    """Return the coordinates of the drawn elements by name."""
    found = {}
    for group in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}g"):
        name = group.get("id", "")
        if name.partition(" ")[0] in TABLE["accidents"]:
            said = " ".join(f"{item.get('x', '')} {item.get('y', '')} {item.get('d', '')}" for item in group.iter())
            found[name] = [float(number) for number in NUMBER.findall(said)]
    return found


def test_the_picture_is_of_the_figures() -> None:
    ours = drawn(picture(TABLE))
    theirs = drawn((DOCS / "atlas.svg").read_text(encoding="utf-8"))
    assert len(ours) >= len(TABLE["accidents"])
    assert theirs.keys() == ours.keys()
    for name, numbers in ours.items():
        assert theirs[name] == pytest.approx(numbers, abs=0.5), name


def test_every_accident_has_its_link_and_strengths() -> None:
    assert len(TABLE["accidents"]) >= 20
    for about in TABLE["accidents"].values():
        assert about["source"].startswith("https://")
        assert set(about["strengths"]) <= set(ORDER)
