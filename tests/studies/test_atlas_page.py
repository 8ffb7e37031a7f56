"""Tests of costly and missed data corruptions and of the rendered page."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from studies.atlas import page as atlas_page
from studies.atlas import table as atlas_table


def damage(force: float, low: float, **more: Any) -> dict[str, Any]:
    ratio = {"value": force, "unit": "", "n": 9, "low": low, "high": force + 0.1}
    return {"0": {"force_rmse": ratio, "md_lost": 0, "md_lost_clean": 0, **more}}


def strength(complaints: dict[str, int], cost: dict[str, Any], unusable: str = "") -> dict[str, Any]:
    return {"structures": 9, "unusable": unusable, "complaints": complaints, "by": [], "damage": cost}


def table(**strengths: dict[str, Any]) -> atlas_table.Table:
    named = {name.removeprefix("at_") + " %": one for name, one in strengths.items()}
    about = {"says": "It *happened*.", "source": "https://example.org", "labelled_again": True}
    validators = {
        name: {"says": "Looks.", "source": "x.md"} for name in ("hydrogate", "hydrogate_audit", "ase_reading")
    }
    alarms = {"ase_reading": {"sets": 20, "alarmed": 3, "examples": []}}
    return {"validators": validators, "false_alarms": alarms, "accidents": {"flop": {**about, "strengths": named}},
            "another_seed": {}, "structures": {"sample": 9, "test": 4},
            "head": {"budget": {"molecules": 3, "held_out": 2, "epochs": 1}}}  # fmt: skip


SEEN, MISSED = {"hydrogate": 2, "hydrogate_audit": 3, "ase_reading": 0}, {"hydrogate": 0, "hydrogate_audit": 1}


@pytest.mark.parametrize(
    ("found", "cost", "costly"),
    [
        ({}, None, False),
        (damage(1.04, 1.01), 0.04, False),
        (damage(1.2, 1.1), 0.2, True),
        (damage(1.2, 0.9), 0.2, False),
        (damage(1.0, 0.9, md_lost=1), 0.0, True),
        ({**damage(1.0, 0.9, md_lost=1), "1": damage(1.0, 0.9)["0"]}, 0.0, False),
        ({"0": {"no_student": "NaN"}}, math.inf, True),
        ({**damage(1.0, 0.98), "1": damage(1.2, 1.1)["0"]}, 0.1, False),
        ({**damage(1.1, 1.05), "1": damage(1.2, 1.1)["0"]}, 0.15, True),
    ],
)
def test_what_is_costly(found: dict[str, Any], cost: float | None, costly: bool) -> None:
    assert atlas_table.cost(found) == pytest.approx(cost) if cost is not None else atlas_table.cost(found) is None
    assert atlas_table.costly(found) is costly
    assert not atlas_table.costly(found, most=-0.1)
    assert atlas_table.costly(found, most=0.2) is (costly and cost != math.inf)


def test_a_costly_strength_that_nobody_sees_is_named() -> None:
    found = table(at_1=strength(MISSED, damage(1.2, 1.1)), at_20=strength(SEEN, damage(2.0, 1.5)))
    assert list(atlas_table.gaps(found)) == [("flop", "1 %")]
    said = "\n".join(atlas_page.lines(found))
    assert "Students were trained on 2 of 2 corrupted samples; 2 of these cost more than 5 %" in said
    assert "miss 1: `flop` at 1 %." in said
    assert "| **+20 %** | not run | **+100 %** | not run | 20 % | 1 % | none |" in said
    assert "It \\*happened\\*. (relabelled)" in said
    assert "| `ase_reading` | 3 of 20 |" in said


def test_what_one_check_alone_sees_is_said_at_the_weakest_strength_that_costs() -> None:
    seen = {**strength({"hydrogate": 1}, damage(1.2, 1.1)), "by": ["labels: net_force"]}
    found = table(at_1=strength({"hydrogate": 1}, damage(1.0, 0.9)), at_5=seen, at_20=strength(SEEN, damage(2.0, 1.5)))
    assert atlas_table.seen_by_one(found) == {"labels: net_force": [("flop", "5 %")]}
    assert "- `labels: net_force`: `flop` at 5 %" in "\n".join(atlas_page.lines(found))
    assert atlas_table.seen_by_one(table(at_5=strength(SEEN, damage(1.2, 1.1)), at_20=seen)) == {}


@pytest.mark.parametrize(
    ("ratio", "said"), [(1.2, "+20 %"), (10.9, "+990 %"), (16.2, "16 times"), (1e30, "over 1,000 times")]
)
def test_a_cost_is_said_in_per_cent_or_times(ratio: float, said: str) -> None:
    assert f"| **{said}** |" in "\n".join(atlas_page.lines(table(at_5=strength(SEEN, damage(ratio, 1.1)))))


def test_the_weakest_strength_is_that_from_which_on_it_is_seen() -> None:
    about = table(at_1=strength(SEEN, {}), at_5=strength(MISSED, {}), at_20=strength(SEEN, {}))["accidents"]["flop"]
    assert atlas_table.weakest(about, "hydrogate") == "20 %"
    assert atlas_table.weakest(about, "hydrogate_audit") == "1 %"
    assert atlas_table.weakest(about, "ase_reading") == ""
    assert atlas_table.weakest(about, "so3lr_filters") is None


def test_nothing_trained_is_said() -> None:
    found = table(at_100=strength(SEEN, {}), at_5=strength({}, {}, "no data"))
    assert "No student has been trained yet" in "\n".join(atlas_page.lines(found))
    assert "| not run | no data | not run | not run |" in "\n".join(atlas_page.lines(found))


def test_publishing_writes_all_three(tmp_path: Path) -> None:
    (tmp_path / "atlas.md").write_text(f"before\n{atlas_page.BEGIN}\nold\n{atlas_page.END}\nafter\n", encoding="utf-8")
    found = table(at_5=strength(MISSED, damage(1.2, 1.1)), at_100=strength(SEEN, {"0": {"no_student": "NaN"}}))
    atlas_page.publish(found, tmp_path)
    assert json.loads((tmp_path / "atlas.json").read_text(encoding="utf-8")) == found
    page = (tmp_path / "atlas.md").read_text(encoding="utf-8")
    assert page.startswith("before\n")
    assert page.endswith("after\n")
    assert "**no student**" in page
    assert 'id="flop 100 %"' in (tmp_path / "atlas.svg").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", ["", atlas_page.BEGIN, atlas_page.END + atlas_page.BEGIN])
def test_a_page_without_its_markers_is_refused(page: str) -> None:
    with pytest.raises(ValueError, match="each once"):
        atlas_page.with_table(page, table())
