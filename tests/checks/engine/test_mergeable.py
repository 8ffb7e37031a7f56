"""Mergeable statistics: equal to NumPy's results on the complete data for any partitioning."""

from functools import reduce

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hydrogate.checks.engine.hashing import Distinct, Sample, Sides, keys_of_text, scattered
from hydrogate.checks.engine.mergeable import Extremes, Histogram, LeastSquares, Moments, merged, runs

QUICK = settings(max_examples=40, deadline=None)
NUMBERS = arrays(np.float64, st.integers(1, 60), elements=st.floats(-1e6, 1e6, allow_subnormal=False))


def pieces(values: np.ndarray, count: int = 4) -> list[np.ndarray]:
    return np.array_split(values, count)


@QUICK
@given(NUMBERS, st.floats(0, 1))
def test_a_quantile_is_that_of_the_whole_to_the_width_of_a_bin(values: np.ndarray, share: float) -> None:
    whole = Histogram.of(values)
    cut = reduce(merged, map(Histogram.of, pieces(values)))
    assert np.array_equal(cut.bins, whole.bins)
    assert np.array_equal(cut.counts, whole.counts)
    assert (cut.n, cut.extremes, cut.quantile(share)) == (len(values), whole.extremes, whole.quantile(share))
    # The bins are those of float32, which has no normal number between 0 and 1e-38.
    largest = np.abs(values).max() + 1e-34
    assert whole.quantile(share) == pytest.approx(np.quantile(values, share), abs=6e-4 * largest)
    deviation = np.median(np.abs(values - np.median(values)))
    assert cut.deviation == pytest.approx(deviation, abs=2e-3 * largest)


@pytest.mark.parametrize("values", [[0.0, 0.0], [3.7], [-2.5, -2.5], [1.0, np.inf, 2.0], [-np.inf, 1.0], [1e-30, 1e30]])
def test_quantiles_of_few_and_of_infinite_values(values: list[float]) -> None:
    found = Histogram.of(np.array(values))
    for share in (0.0, 1.0):
        assert found.quantile(share) == pytest.approx(np.sort(values)[int(share * (len(values) - 1))], rel=3e-4)


def test_one_nan_leaves_no_quantile_and_nothing_has_none() -> None:
    spoiled = Histogram.of(np.array([1.0, 2.0])).merge(Histogram.of(np.array([np.nan])))
    assert (spoiled.n, np.isnan(spoiled.median), np.isnan(spoiled.deviation)) == (3, True, True)
    nothing = Histogram.of(np.empty(0))
    assert (nothing.n, np.isnan(nothing.median), np.isnan(nothing.deviation)) == (0, True, True)
    assert nothing.merge(Histogram.of(np.array([4.0]))).median == 4.0


@QUICK
@given(NUMBERS, NUMBERS)
def test_the_distance_of_distributions_is_that_of_scipy_on_the_bins(one: np.ndarray, other: np.ndarray) -> None:
    from scipy.stats import ks_2samp

    first, second = Histogram.of(one), Histogram.of(other)
    values = [np.repeat(h.bins, h.counts).astype(float) for h in (first, second)]
    method = "asymp" if len(one) + len(other) > 2 else "exact"
    assert first.distance(second) == pytest.approx(ks_2samp(*values, method=method).statistic)
    assert np.isnan(first.distance(Histogram.of(np.empty(0))))


@QUICK
@given(arrays(np.float64, st.tuples(st.just(2), st.integers(2, 50)), elements=st.floats(-100, 100)))
def test_moments_are_those_of_the_whole(table: np.ndarray) -> None:
    cut = reduce(merged, [Moments.of(*part) for part in np.array_split(table, 3, axis=1)])
    assert cut.n == table.shape[1]
    assert cut.mean == pytest.approx(table.mean(axis=1), abs=1e-9)
    assert cut.products / cut.n == pytest.approx(np.cov(table, ddof=0), abs=1e-8)


def test_moments_of_a_narrow_distribution_far_from_zero_keep_their_digits() -> None:
    lengths = 1e6 + np.random.default_rng(0).normal(0.0, 1e-3, 10_000)
    cut = reduce(merged, map(Moments.of, pieces(lengths, 7)))
    assert cut.deviation == pytest.approx(lengths.std(), rel=1e-6)


def test_least_squares_over_parts_that_know_other_columns() -> None:
    rng = np.random.default_rng(1)
    counts = rng.integers(0, 9, (90, 4)).astype(float)
    counts[:30, 2] = counts[30:60, 3] = 0
    values = counts @ [-13.0, -800.0, -1500.0, 4.0] + rng.normal(0.0, 0.1, 90)
    parts = [
        LeastSquares.of((1, 6, 8), counts[:30, [0, 1, 3]], values[:30]),
        LeastSquares.of((1, 6, 7), counts[30:60, :3], values[30:60]),
        LeastSquares.of((1, 6, 7, 8), counts[60:], values[60:]),
    ]
    solution = reduce(merged, parts).solve()
    expected, _, rank, _ = np.linalg.lstsq(counts, values)
    assert [solution.coefficients[z] for z in (1, 6, 7, 8)] == pytest.approx(expected, rel=1e-10)
    assert solution.rank == rank == 4
    without = reduce(merged, parts).solve(but=(8,))
    assert list(without.coefficients.values()) == pytest.approx(np.linalg.lstsq(counts[:, :3], values)[0], rel=1e-10)


def test_columns_that_say_the_same_have_one_rank() -> None:
    ones = np.ones((20, 1))
    fit = LeastSquares.of((1, 2), np.hstack([ones, 2 * ones]), np.arange(20.0))
    assert fit.merge(fit).solve().rank == 1


@QUICK
@given(st.integers(1, 400), st.integers(1, 50), st.integers(0, 9))
def test_a_sample_does_not_depend_on_the_cut(n: int, size: int, seed: int) -> None:
    rows = np.arange(n)
    whole = Sample.of(rows, size, seed)
    cut = reduce(merged, [Sample.of(part, size, seed) for part in pieces(rows, 5)])
    assert np.array_equal(whole.rows, cut.rows)
    assert len(whole.rows) == min(n, size)


def test_samples_of_two_seeds_differ_and_are_spread() -> None:
    rows = np.arange(100_000)
    one, two = (Sample.of(rows, 1000, seed).rows for seed in (0, 1))
    assert len(np.intersect1d(one, two)) < 50
    assert one.mean() == pytest.approx(50_000, rel=0.1)


def test_sides_of_a_key_unite() -> None:
    keys = keys_of_text(np.array(["a", "b", "a", "c"], dtype=object))
    parts = [Sides.of(keys[:2], np.array([1, 1], np.uint8)), Sides.of(keys[2:], np.array([2, 4], np.uint8))]
    crossing = reduce(merged, parts).crossing()
    assert crossing.of_keys(keys).tolist() == [3, 0, 3, 0]
    assert Sides.of(keys[:0], np.empty(0, np.uint8)).of_keys(keys).tolist() == [0, 0, 0, 0]


def test_distinct_keys_are_counted_up_to_what_is_asked() -> None:
    keys = scattered(np.arange(1000) % 37)
    assert len(reduce(merged, [Distinct.of(part, 50) for part in pieces(keys)]).keys) == 37
    assert len(reduce(merged, [Distinct.of(part, 20) for part in pieces(keys)]).keys) == 20


def test_extremes_of_nothing_and_of_nan() -> None:
    assert Extremes.of(np.empty(0)).merge(Extremes.of(np.array([3, 1]))) == Extremes(1.0, 3.0)
    assert np.isnan(Extremes.of(np.array([1.0])).merge(Extremes.of(np.array([np.nan]))).greatest)


def test_what_merges() -> None:
    one = (1, 2.5, {"a": 1, "b": 2}, frozenset({1}), [1], np.array([1]))
    other = (2, 0.5, {"b": 3, "c": 4}, frozenset({2}), [2], np.array([2]))
    number, real, mapping, united, listed, array = merged(one, other)
    assert (number, real, mapping) == (3, 3.0, {"a": 1, "b": 5, "c": 4})
    assert (united, listed, array.tolist()) == (frozenset({1, 2}), [1, 2], [1, 2])
    with pytest.raises(AttributeError):
        merged("text", "text")


@QUICK
@given(st.integers(0, 2**63 - 1))
def test_a_hash_is_equal_in_every_process(value: int) -> None:
    assert scattered(np.array([value]), 3)[0] == scattered(np.array([value], dtype=np.uint64), 3)[0]
    assert int(scattered(np.array([0]))[0]) == 16294208416658607535  # SplitMix64 from seed 0


@pytest.mark.parametrize(("values", "begin"), [([], []), ([3], [0]), ([3, 3, 1, 3, 3], [0, 2, 3])])
def test_runs_begin_where_the_value_changes(values: list[int], begin: list[int]) -> None:
    assert runs(np.array(values)).tolist() == begin


def test_moments_of_numbers_whose_sum_overflows_are_infinite_and_no_fault() -> None:
    with np.errstate(over="raise"):
        far = Moments.of(np.array([1.7e308, 1.7e308]))
    assert far.mean.tolist() == [np.inf]
