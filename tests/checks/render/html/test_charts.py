"""Charts of the HTML report: positions and lengths match the numbers."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from hydrogate.checks.gates.gates import Gate
from hydrogate.checks.gates.milestones import read_milestones
from hydrogate.checks.metrics.bootstrap import Metric
from hydrogate.checks.render.html.charts import Bar, band_line, bars, bullet, curves, density, figure
from hydrogate.checks.render.html.svg import Axis


def gate(**fields: object) -> Gate:
    known = {"metric": "force_rmse", "comparison": "<", "threshold": 0.25, "required": True, "confidence": 0.95}
    return Gate.model_validate({**known, "min_n": 1, "reason": "why", **fields})


def one(drawn: str, kind: str) -> ElementTree.Element:
    (found,) = [item for item in ElementTree.fromstring(drawn).iter() if item.get("class") == kind]
    return found


@pytest.mark.parametrize(
    ("fields", "value", "inside"),
    [
        ({}, 0.13, True),
        ({}, 0.4, False),
        ({"comparison": ">=", "threshold": 100.0}, 200.0, True),
        ({"comparison": ">=", "threshold": 100.0}, 20.0, False),
        ({"comparison": "between", "threshold": None, "low": 0.4, "high": 0.6}, 0.45, True),
        ({"comparison": "between", "threshold": None, "low": 0.4, "high": 0.6}, 0.7, False),
        ({"comparison": "<=", "threshold": 0.2}, -0.1, True),
    ],
)
def test_the_dot_is_on_the_tinted_part_where_the_gate_is_good(fields: dict, value: float, inside: bool) -> None:
    drawn = bullet(gate(**fields), Metric(value, "", 100, value - 0.01, value + 0.01))
    good, dot = one(drawn, "good"), float(one(drawn, "value").get("cx"))
    start = float(good.get("x"))
    assert (start <= dot <= start + float(good.get("width"))) == inside
    assert 0 <= dot <= 280
    assert len([i for i in ElementTree.fromstring(drawn) if i.get("class") == "interval"]) == 3


def test_a_gate_without_a_value_has_no_bullet() -> None:
    assert bullet(gate(), None) == bullet(gate(), Metric(None, "", 0)) == ""


def test_a_value_of_zero_can_be_drawn() -> None:
    assert "nan" not in bullet(gate(threshold=0.0, comparison="<="), Metric(0.0, "", 5))


def test_bands_and_the_marker_over_its_band() -> None:
    band = {"milestone": "m", "status": "s", "gated": False, "command": "c", "reason": "r"}
    bands = read_milestones([band | {"range": "[0, 0.25)"}, band | {"range": "[0.25, inf)"}])
    drawn = band_line(bands, Metric(0.3, "eV/Å", 9, 0.29, 0.31))
    second = one(drawn, "band band-1")
    marker = float(re.findall(r"M([\d.]+) ", one(drawn, "marker").get("d"))[0]) + 6
    assert float(second.get("x")) < marker < float(second.get("x")) + float(second.get("width"))
    assert "marker" not in band_line(bands, None)


def test_bars_are_as_long_as_their_values() -> None:
    rows = [Bar("H", Metric(0.1, "", 9, 0.05, 0.15)), Bar("C", Metric(0.2, "", 9)), Bar("<b>", Metric(None, "", 0))]
    drawn = ElementTree.fromstring(bars(rows, "force RMSE", "eV/Å"))
    widths = [float(i.get("width")) for i in drawn if i.tag == "rect"]
    assert widths[1] == pytest.approx(2 * widths[0], rel=1e-3)
    assert len(widths) == 2
    assert {"undefined", "<b>"} <= {item.text for item in drawn.iter("text")}


def test_a_density_shows_every_pair_and_counts_what_it_cannot() -> None:
    teacher = np.array([0.0, 1.0, 2.0, 3.0, 1.0])
    student = np.array([0.0, 1.0, 2.0, np.nan, 99.0])
    drawn = density(teacher, student, "force", "eV/Å")
    cells = "".join(item.get("d") for item in ElementTree.fromstring(drawn) if item.get("class") == "density")
    assert cells.count("M") == 3
    assert "2 of 5 lie outside the plot" in drawn
    assert "no prediction is finite" in density(teacher, np.full(5, np.nan), "force", "eV/Å")


def test_equal_values_are_a_density_too() -> None:
    assert "nan" not in density(np.ones(4), np.ones(4), "force", "eV/Å")


def test_curves_of_one_epoch_of_none_and_with_a_gap() -> None:
    assert "no epoch was recorded" in curves({}, "loss")
    assert "no epoch was recorded" in curves({"valid": [float("nan")]}, "loss")
    assert "nan" not in curves({"valid": [0.5]}, "loss")
    drawn = ElementTree.fromstring(curves({"valid": [0.5, float("nan"), 0.4], "train": [0.4, 0.4, 0.41]}, "loss"))
    points = [item.get("points").split() for item in drawn if item.tag == "polyline"]
    assert [len(p) for p in points] == [2, 3]
    names = sorted(float(i.get("y")) for i in drawn if "curve-name" in i.get("class", ""))
    assert names[1] - names[0] >= 14


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.0, 1.0, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]), (-25.0, 30.0, [-20.0, 0.0, 20.0]), (1, 12, [5, 10])],
)
def test_ticks_are_round_and_within(low: float, high: float, expected: list[float]) -> None:
    assert list(Axis(low, high, 0, 100).ticks()) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("value", "text"), [(None, "undefined"), (0.13, "0.130"), (200.0, "200"), (15361.0, "15361"), (1.8e-8, "1.80e-08")]
)
def test_figures(value: float | None, text: str) -> None:
    assert figure(value) == text
