"""Mergeable statistics: computed on each part of a data set, then merged into those of the complete data set.

Counts, sets and histograms do not depend on the partitioning at all; means, variances and least squares only by
rounding.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from hydrogate.checks.geometry.distances import COMPILED_FROM

Floats = NDArray[np.float64]
# Number of float32 mantissa bits that a bin resolves: the values in a bin differ by less than 2^-11, 0.05 %.
BITS = 11
_SHIFT = 23 - BITS
_INFINITE = 0x7F800000 >> _SHIFT


Statistic = TypeVar("Statistic")


def merged(one: Statistic, other: Statistic) -> Statistic:
    """Return the merged statistic of two parts, where ``one`` precedes ``other``.

    Numbers are added, sets united, lists and arrays concatenated. Tuples are merged item by item, mappings key by key.
    Any other type needs a ``merge`` method.
    """
    joined: Any = _merged(one, other)
    return joined  # type: ignore[no-any-return]


def _merged(one: Any, other: Any) -> Any:
    match one:
        case int() | float() | list():
            return one + other
        case frozenset():
            return one | other
        case np.ndarray():
            return np.concatenate([one, other])
        case dict():
            return {**one, **other, **{key: _merged(one[key], other[key]) for key in one.keys() & other.keys()}}
        case tuple():
            return tuple(_merged(a, b) for a, b in zip(one, other, strict=True))
    return one.merge(other)


@dataclass(frozen=True)
class Extremes:
    """Minimum and maximum of some values, exact for any partitioning.

    Both are NaN if any value is NaN. Without values the minimum is +infinity and the maximum -infinity.
    """

    least: float = np.inf
    greatest: float = -np.inf

    @classmethod
    def of(cls, values: NDArray[Any]) -> Self:
        return cls(float(values.min()), float(values.max())) if len(values) else cls()

    def merge(self, other: Self) -> Self:
        return type(self)(float(np.minimum(self.least, other.least)), float(np.maximum(self.greatest, other.greatest)))


@dataclass(frozen=True, eq=False)
class Histogram:
    """Histogram with bins 0.05 % wide, for quantiles that are independent of the partitioning.

    Quantiles are within 0.05 % of the exact ones.

    Parameters
    ----------
    bins : (B,) int32
        In ascending order: the leading bits of a float32, mapped to an integer with the same order.
    counts : (B,) int64
    undefined : int
        Number of NaN values.
    extremes : Extremes
        Exact extremes of the other values.
    """

    bins: NDArray[np.int32]
    counts: NDArray[np.int64]
    undefined: int
    extremes: Extremes

    @classmethod
    def of(cls, values: NDArray[Any]) -> Self:
        """Return the histogram of ``values`` (K,)."""
        nan = np.isnan(values)
        if undefined := int(np.count_nonzero(nan)):
            values = values[~nan]
        if not len(values):
            return cls(np.empty(0, np.int32), np.empty(0, np.int64), undefined, Extremes())
        with np.errstate(over="ignore", under="ignore"):
            pattern = values.astype(np.float32).view(np.int32)
        # The bit patterns of negative numbers are in descending order.
        place = np.sort(np.where(pattern < 0, pattern ^ np.int32(0x7FFFFFFF), pattern) >> _SHIFT)
        first = runs(place)
        return cls(place[first], np.diff(first, append=len(place)), undefined, Extremes.of(values))

    @classmethod
    def of_kinds(cls, values: NDArray[Any], kind: NDArray[np.bool_]) -> dict[bool, Self]:
        """Return the histograms of ``values`` (K,) with ``kind`` (K,) False and True, by ``kind``."""
        if len(values) < COMPILED_FROM:
            return {of: cls.of(values[kind == of]) for of in (False, True)}
        from hydrogate.checks.geometry.compiled_passes import histograms

        counts, lowest, undefined, least, greatest = histograms(values, kind, _SHIFT)
        found: dict[bool, Self] = {}
        for of in (False, True):
            filled = np.flatnonzero(counts[int(of)])
            extremes = Extremes(float(least[int(of)]), float(greatest[int(of)]))
            bins = (filled + lowest).astype(np.int32)
            found[of] = cls(bins, counts[int(of), filled], int(undefined[int(of)]), extremes)
        return found

    def merge(self, other: Self) -> Self:
        bins, counts = np.concatenate([self.bins, other.bins]), np.concatenate([self.counts, other.counts])
        order = np.argsort(bins, kind="stable")
        first = runs(bins[order])
        counts = np.add.reduceat(counts[order], first) if len(first) else counts
        return type(self)(
            bins[order][first], counts, self.undefined + other.undefined, self.extremes.merge(other.extremes)
        )

    @property
    def n(self) -> int:
        """Number of values, including NaN."""
        return int(self.counts.sum()) + self.undefined

    @property
    def values(self) -> Floats:
        """Centre of each bin (B,), clipped to the range of the values."""
        middle = ((self.bins << _SHIFT) + (1 << (_SHIFT - 1))).astype(np.int32)
        middle[(self.bins == 0) | (self.bins == -1)] = 0  # zero, and subnormal values near it
        pattern = np.where(middle < 0, middle ^ np.int32(0x7FFFFFFF), middle).astype(np.int32)
        # Bins beyond the largest finite number hold infinities, which the extremes contain.
        infinite = (self.bins >= _INFINITE) | (self.bins < -_INFINITE)
        found = np.where(infinite, 0, pattern).astype(np.int32).view(np.float32).astype(np.float64)
        found[infinite] = np.copysign(np.inf, self.bins[infinite])
        return np.clip(found, self.extremes.least, self.extremes.greatest)

    def quantile(self, share: float) -> float:
        """Return the quantile as ``np.quantile``, to the width of a bin; NaN if a value is NaN or there is none."""
        return _quantile(self.values, self.counts, share) if not self.undefined else float("nan")

    @property
    def median(self) -> float:
        return self.quantile(0.5)

    @property
    def deviation(self) -> float:
        """Median absolute deviation from the median; NaN if there are no values, a NaN, or a non-finite median."""
        if not len(self.bins) or not np.isfinite(self.median):
            return float("nan")
        away = np.abs(self.values - self.median)
        order = np.argsort(away, kind="stable")
        return _quantile(away[order], self.counts[order], 0.5)

    def distance(self, other: Self) -> float:
        """Return the Kolmogorov-Smirnov distance: the largest difference of the cumulative distributions.

        NaN if one of them is empty.
        """
        if not (len(self.bins) and len(other.bins)):
            return float("nan")
        bins = np.union1d(self.bins, other.bins)
        shares = []
        for one in (self, other):
            below = np.concatenate([[0], np.cumsum(one.counts)])[np.searchsorted(one.bins, bins, side="right")]
            shares.append(below / one.counts.sum())
        return float(np.abs(shares[0] - shares[1]).max())


def _quantile(values: Floats, counts: NDArray[np.int64], share: float) -> float:
    """Return a quantile of ascending ``values`` with multiplicities ``counts``, linearly interpolated."""
    if not len(values):
        return float("nan")
    upto = np.cumsum(counts)
    position = share * (upto[-1] - 1)
    low = int(np.floor(position))
    below, above = values[np.searchsorted(upto, [low, min(low + 1, int(upto[-1]) - 1)], side="right")]
    return float(below if below == above or position == low else below + (position - low) * (above - below))


@dataclass(frozen=True, eq=False)
class Moments:
    """Means and summed products of deviations for V variables.

    Parameters
    ----------
    mean : (V,)
    products : (V, V)
        Σ (x - mean)(y - mean).

    Source: Chan, Golub, LeVeque, Updating formulae and a pairwise algorithm for computing sample variances (1979).
    """

    n: int
    mean: Floats
    products: Floats

    @classmethod
    def of(cls, *variables: NDArray[Any]) -> Self:
        """Return the moments of ``variables``, each (K,)."""
        table = np.array(variables, dtype=np.float64)
        count = table.shape[1]
        if not count:
            return cls(0, np.zeros(len(table)), np.zeros((len(table), len(table))))
        with np.errstate(invalid="ignore", over="ignore"):
            mean = table.mean(axis=1)
            table -= mean[:, None]
            return cls(count, mean, np.einsum("ik,jk->ij", table, table))

    def merge(self, other: Self) -> Self:
        n = self.n + other.n
        if not (self.n and other.n):
            return self if self.n else other
        with np.errstate(invalid="ignore", over="ignore"):
            apart = other.mean - self.mean
            products = self.products + other.products + np.outer(apart, apart) * (self.n * other.n / n)
            return type(self)(n, self.mean + apart * (other.n / n), products)

    @property
    def deviation(self) -> float:
        """Standard deviation of the first variable; NaN without values."""
        return float(np.sqrt(self.products[0, 0] / self.n)) if self.n else float("nan")


class Solution(NamedTuple):
    """Coefficients by column name, and the rank; the minimum-norm solution if the columns are rank deficient."""

    coefficients: dict[int, float]
    rank: int


@dataclass(frozen=True, eq=False)
class LeastSquares:
    """Linear least-squares problem, stored as the triangular factor of its rows.

    Parameters
    ----------
    names : tuple of int
        Names of the columns, in ascending order.
    triangle : (≤ C + 1, C + 1)
        R of the QR decomposition of the columns with the right-hand side appended.
    """

    n: int
    names: tuple[int, ...]
    triangle: Floats

    @classmethod
    def of(cls, names: tuple[int, ...], columns: Floats, values: Floats) -> Self:
        """Return the problem ``columns`` (K, C) @ x = ``values`` (K,)."""
        if not len(values):
            return cls(0, names, _triangle(np.column_stack([columns, values])))
        # Consecutive equal rows (geometries of one molecule) become one row with the mean value, plus the norm of the
        # deviations from it.
        first = np.flatnonzero(np.concatenate([[True], (columns[1:] != columns[:-1]).any(axis=1)]))
        often = np.diff(first, append=len(values))
        mean = np.add.reduceat(values, first) / often
        rest = np.linalg.norm(values - np.repeat(mean, often))
        rows = np.column_stack([columns[first], mean]) * np.sqrt(often)[:, None]
        return cls(len(values), names, _triangle(np.vstack([rows, [*np.zeros(len(names)), rest]])))

    def merge(self, other: Self) -> Self:
        names = tuple(sorted({*self.names, *other.names}))
        rows = []
        for one in (self, other):
            wide = np.zeros((len(one.triangle), len(names) + 1))
            wide[:, [*(names.index(name) for name in one.names), len(names)]] = one.triangle
            rows.append(wide)
        return type(self)(self.n + other.n, names, _triangle(np.concatenate(rows)))

    def solve(self, but: tuple[int, ...] = ()) -> Solution:
        """Return the solution without the columns ``but``."""
        kept = [index for index, name in enumerate(self.names) if name not in but]
        tolerance = np.finfo(np.float64).eps * max(self.n, len(kept))
        found, _, rank, _ = np.linalg.lstsq(self.triangle[:, kept], self.triangle[:, -1], rcond=tolerance)
        return Solution({self.names[index]: float(x) for index, x in zip(kept, found, strict=True)}, int(rank))


def _triangle(rows: Floats) -> Floats:
    return np.asarray(np.linalg.qr(rows, mode="r"), dtype=np.float64)


def runs(values: NDArray[Any]) -> NDArray[np.int64]:
    """Return the start index (R,) of each run of equal values in ``values`` (K,)."""
    return np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]])[: len(values)])
