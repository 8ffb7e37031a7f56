"""Bootstrap intervals by molecule: against NumPy, against theory, and in undefined cases."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hydrogate.checks.metrics.bootstrap import Metric, OfSums, Quantile, Ratio, bootstrap, point


def of_columns(*columns):
    return OfSums(np.stack(columns, axis=1).astype(float), np.divide, len(columns[0]))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), atoms=st.integers(1, 1500), q=st.sampled_from([0.01, 0.5, 0.9, 0.99, 1.0]))
def test_a_quantile_is_numpys_inverted_cdf_for_every_resample(seed, atoms, q):
    rng = np.random.default_rng(seed)
    molecules = 7
    values = np.round(rng.gamma(1.0, 10.0, atoms), 1)  # rounded: ties
    molecule = rng.integers(molecules - 1, size=atoms)  # the last one has no values
    weights = rng.multinomial(molecules, [1 / molecules] * molecules, size=5).astype(float)
    weights[0] = 1.0
    found = Quantile(values, molecule, molecules, q).resampled(weights)
    for row, result in zip(weights, found, strict=True):
        each = row[molecule]
        if each.sum() == 0:
            assert math.isnan(result)
        else:
            assert result == np.quantile(values, q, weights=each, method="inverted_cdf")


def test_a_median_by_hand():
    quantile = Quantile(np.array([3.0, 1.0, 2.0, 10.0]), np.array([0, 0, 1, 1]), 2, 0.5)
    weights = np.array([[1.0, 1.0], [2.0, 0.0], [0.0, 2.0]])
    assert quantile.resampled(weights).tolist() == [2.0, 1.0, 2.0]


@pytest.mark.parametrize("values", [[], [1.0, math.nan]])
def test_a_quantile_of_nothing_or_of_nan_is_undefined(values):
    quantile = Quantile(np.array(values), np.zeros(len(values), dtype=np.int64), 3, 0.5)
    assert bootstrap({"m": (quantile, "")}, 3, resamples=10, seed=0)["m"].value is None


def test_the_interval_of_a_mean_agrees_with_theory():
    values = np.random.default_rng(1).normal(5.0, 2.0, 400)
    metric = bootstrap({"m": (of_columns(values, np.ones(400)), "eV")}, 400, resamples=4000, seed=0)["m"]
    standard_error = values.std() / math.sqrt(400)
    assert metric.value == pytest.approx(values.mean())
    assert metric.high - metric.low == pytest.approx(2 * 1.96 * standard_error, rel=0.05)
    assert (metric.low + metric.high) / 2 == pytest.approx(metric.value, abs=0.1 * standard_error)


def test_geometries_of_one_molecule_do_not_narrow_the_interval():
    values = np.random.default_rng(2).normal(size=50)
    once = of_columns(values, np.ones(50))
    tenfold = of_columns(10 * values, 10 * np.ones(50))  # sums over ten equal geometries per molecule
    both = bootstrap({"once": (once, ""), "tenfold": (tenfold, "")}, 50, resamples=500, seed=0)
    assert both["once"] == pytest.approx(both["tenfold"])


def test_the_seed_decides_and_the_block_size_does_not(monkeypatch):
    statistic = {"m": (of_columns(np.arange(1.0, 31.0), np.ones(30)), "")}
    first = bootstrap(statistic, 30, resamples=200, seed=3)
    assert first == bootstrap(statistic, 30, resamples=200, seed=3)
    assert first != bootstrap(statistic, 30, resamples=200, seed=4)
    monkeypatch.setattr("hydrogate.checks.metrics.bootstrap._CELLS", 30 * 7)
    assert bootstrap(statistic, 30, resamples=200, seed=3) == first


def test_what_both_sides_of_a_ratio_share_cancels_and_the_fewer_molecules_count():
    values = np.random.default_rng(4).uniform(1.0, 9.0, 20)
    double, once = of_columns(2 * values, np.ones(20)), OfSums(np.stack([values, np.ones(20)], axis=1), np.divide, 15)
    metric = bootstrap({"m": (Ratio(double, once), "")}, 20, resamples=50, seed=0)["m"]
    assert metric == Metric(2.0, "", 15, 2.0, 2.0)


def test_one_molecule_gives_no_interval():
    metric = bootstrap({"m": (of_columns([4.0], [2.0]), "eV")}, 1, resamples=100, seed=0)["m"]
    assert metric == Metric(2.0, "eV", 1, None, None)


def test_no_molecule_gives_no_value():
    empty = OfSums(np.empty((0, 2)), np.divide, 0)
    assert bootstrap({"m": (empty, "eV")}, 0, resamples=100, seed=0)["m"].value is None


def test_a_statistic_undefined_in_many_resamples_has_no_interval():
    rare, common = np.zeros(50), np.zeros(50)
    rare[:2], common[:30] = 1.0, 1.0  # (1 - 2/50)^50 = 13 % of the resamples contain neither of the two
    both = bootstrap(
        {"rare": (of_columns(rare, rare), ""), "common": (of_columns(common, common), "")}, 50, resamples=500, seed=0
    )
    assert both["rare"] == Metric(1.0, "", 50, None, None)
    assert (both["common"].low, both["common"].high) == (1.0, 1.0)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_undefined_and_never_zero(value):
    assert point(value, "eV", 5) == Metric(None, "eV", 5)
    assert Metric(None, "eV", 5).to_dict() == {"value": "undefined", "unit": "eV", "n": 5}


@pytest.mark.parametrize("metric", [Metric(0.2, "eV/Å", 200, 0.18, 0.23), Metric(None, "", 0), Metric(3.0, "", 3)])
def test_a_metric_survives_json(metric):
    text = json.dumps(metric.to_dict(), allow_nan=False)
    assert "null" not in text
    assert Metric.from_dict(json.loads(text)) == metric


@pytest.mark.parametrize("value", ["NaN", None, True, math.nan, 10**400])
def test_a_stored_value_that_is_no_number_is_undefined(value):
    assert Metric.from_dict({"value": value, "unit": "", "n": 3}).value is None


@pytest.mark.parametrize("content", [{}, {"unit": "", "n": 3}, {"value": 1.0}])
def test_what_is_no_metric_is_refused(content):
    with pytest.raises(KeyError):
        Metric.from_dict(content)


@pytest.mark.parametrize("n", [None, "3", True, 1.5, math.inf, -1, 10**30])
def test_a_count_that_is_none_is_refused(n):
    with pytest.raises(ValueError, match=r"n is .*, expected a count"):
        Metric.from_dict({"value": 1.0, "unit": "", "n": n})


def test_a_metric_in_a_line_of_text():
    assert str(Metric(0.21834, "eV/Å", 200, 0.2, 0.23)) == "0.2183 eV/Å (0.2 to 0.23, n = 200)"
    assert str(Metric(100.0, "", 3)) == str(Metric(100.0, "", 3, 90.0)) == "100 (n = 3)"
    assert str(Metric(None, "eV/Å", 0)) == "undefined (n = 0)"
