"""Metrics with confidence intervals: statistics of pooled atoms, bootstrapped by molecule.

Atoms of one molecule are correlated, so an interval from resampled atoms is too narrow by a factor of five to ten.
Therefore a molecule and all its geometries are drawn together. A statistic is stored as sums per molecule (or as sorted
values with their molecule), so that a resample costs one matrix product instead of a pass over the atoms.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LEVEL = 0.95
UNDEFINED = "undefined"
_CELLS = 10_000_000  # weights in memory at a time: 80 MB
_BLOCKS = 256
_MOST = 2**53  # molecules: larger counts are not exact as floats


class Metric(NamedTuple):
    """Value of a metric with its unit and confidence interval.

    Parameters
    ----------
    value : float or None
        None if the value is undefined (no atoms, division by zero, NaN); an undefined value is never 0.0 or NaN.
    unit : str
    n : int
        Number of molecules that contribute, the unit of resampling; structures of one molecule count once.
    low, high : float or None
        95 % interval; None for a maximum, a count, or fewer than two molecules.
    """

    value: float | None
    unit: str
    n: int
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        if self.value is None:
            return f"undefined (n = {self.n})"
        interval = "" if self.low is None or self.high is None else f"{self.low:.4g} to {self.high:.4g}, "
        return f"{self.value:.4g} {self.unit}".rstrip() + f" ({interval}n = {self.n})"

    def to_dict(self) -> dict[str, Any]:
        """Convert to a dict of finite numbers and strings, which DVC keeps (it drops null and lists)."""
        content: dict[str, Any] = {"value": UNDEFINED if self.value is None else self.value}
        content |= {"unit": self.unit, "n": self.n}
        return content | {key: v for key, v in (("low", self.low), ("high", self.high)) if v is not None}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Metric":
        """Create a metric from the output of :meth:`to_dict`; a value that is not a finite number is undefined.

        Raises
        ------
        KeyError, TypeError, ValueError
            The content is not a metric.
        """
        value, low, high = (_finite(content.get(key)) for key in ("value", "low", "high"))
        if "value" not in content:
            raise KeyError("value")
        n = content["n"]
        if not isinstance(n, int) or isinstance(n, bool) or not 0 <= n <= _MOST:
            raise ValueError(f"n is {str(n)[:40]}, expected a count")
        return cls(value, str(content["unit"]), n, low, high)


def point(value: float, unit: str, n: int) -> Metric:
    """Create a metric without an interval; undefined if ``value`` is not finite."""
    return Metric(_finite(value), unit, n)


def _finite(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | np.floating | np.integer):
        return None
    try:
        number = float(value)
    except OverflowError:  # integers in JSON are unbounded
        return None
    return number if math.isfinite(number) else None


@dataclass(frozen=True)
class OfSums:
    """Statistic that is a function of sums over molecules, such as the square root of a ratio of two sums.

    Parameters
    ----------
    sums : (G, k) float64
        Sums for each molecule.
    function : callable
        Maps the k totals, each of shape (R,), to the statistic of shape (R,).
    n : int
        Number of molecules that contribute.
    """

    sums: Floats
    function: Callable[..., Floats]
    n: int

    def resampled(self, weights: Floats) -> Floats:
        """Return the statistic (R,) with molecule g drawn ``weights[r, g]`` times, NaN if undefined; weights (R, G)."""
        with np.errstate(all="ignore"):
            totals = weights @ self.sums
            return np.asarray(self.function(*totals.T), dtype=np.float64)


class Quantile:
    """Quantile of pooled values: the smallest value that at least the fraction ``q`` of the atoms does not exceed.

    The result equals ``numpy.quantile(..., method="inverted_cdf", weights=...)`` exactly, for all resamples at once.
    The sorted values are divided into blocks. Counts per molecule and block identify the block; the value is then
    searched inside it.

    Parameters
    ----------
    values : (A,) float64
    molecule : (A,) int64
        Molecule of each value.
    molecules : int
        G, the number of all molecules, including those without values.
    q : float
        Quantile in (0, 1].
    """

    def __init__(self, values: Floats, molecule: NDArray[np.int64], molecules: int, q: float) -> None:
        order = np.argsort(values)
        self.values, self.molecule, self.q = values[order], molecule[order], q
        self.undefined = not len(values) or bool(np.isnan(values).any())
        self.n = len(np.unique(molecule))
        self.size = max(1, -(-len(values) // _BLOCKS))
        block = np.arange(len(values)) // self.size
        blocks = int(block[-1]) + 1 if len(block) else 1
        flat = np.bincount(self.molecule * blocks + block, minlength=molecules * blocks)
        self.counts = flat.reshape(molecules, blocks).astype(np.float64)

    def resampled(self, weights: Floats) -> Floats:
        """Return the resampled statistic; see :meth:`OfSums.resampled`."""
        if self.undefined:
            return np.full(len(weights), np.nan)
        upto = np.cumsum(weights @ self.counts, axis=1)
        # Sums of integers are exact; the subtraction compensates the rounding of q times an integer.
        target = np.maximum(np.ceil(self.q * upto[:, -1] - 1e-9), 1.0)
        block = (upto < target[:, None]).sum(axis=1)
        empty = upto[:, -1] == 0
        block[empty] = 0
        before = np.where(block > 0, np.take_along_axis(upto, np.maximum(block - 1, 0)[:, None], axis=1)[:, 0], 0.0)
        result = np.empty(len(weights))
        for chosen in np.unique(block):
            rows = np.flatnonzero(block == chosen)
            own = slice(chosen * self.size, (chosen + 1) * self.size)
            inside = np.cumsum(weights[np.ix_(rows, self.molecule[own])], axis=1)
            within = (inside < (target - before)[rows, None]).sum(axis=1)
            result[rows] = self.values[own][np.minimum(within, inside.shape[1] - 1)]
        result[empty] = np.nan
        return result


@dataclass(frozen=True)
class Ratio:
    """Ratio of two statistics on the same resamples of the same molecules, so that common variation cancels."""

    numerator: OfSums | Quantile
    denominator: OfSums | Quantile

    @property
    def n(self) -> int:
        """Number of molecules that contribute to both statistics."""
        return min(self.numerator.n, self.denominator.n)

    def resampled(self, weights: Floats) -> Floats:
        """Return the resampled statistic; see :meth:`OfSums.resampled`."""
        with np.errstate(all="ignore"):
            return self.numerator.resampled(weights) / self.denominator.resampled(weights)


Statistic = OfSums | Quantile | Ratio


def bootstrap(
    statistics: Mapping[str, tuple[Statistic, str]], molecules: int, *, resamples: int, seed: int
) -> dict[str, Metric]:
    """Compute each statistic and its percentile interval, all on the same resamples.

    Parameters
    ----------
    statistics : mapping of str to (Statistic, unit)
    molecules : int
        G, the number of molecules.
    resamples : int
    seed : int

    Notes
    -----
    A resample in which a statistic is undefined (for example because no oxygen was drawn) could have any value. If more
    than 2.5 % of the resamples are undefined, there is no interval.
    """
    values = {name: _value(statistic, molecules) for name, (statistic, _) in statistics.items()}
    drawn: dict[str, list[Floats]] = {name: [] for name in statistics}
    for weights in _weights(molecules, resamples, seed):
        for name, (statistic, _) in statistics.items():
            if values[name] is not None and statistic.n > 1:
                drawn[name].append(statistic.resampled(weights))
    return {
        name: Metric(values[name], unit, statistic.n, *_interval(drawn[name]))
        for name, (statistic, unit) in statistics.items()
    }


def _value(statistic: Statistic, molecules: int) -> float | None:
    return _finite(statistic.resampled(np.ones((1, molecules)))[0]) if molecules else None


def _weights(molecules: int, resamples: int, seed: int) -> Iterator[Floats]:
    """Yield blocks (r, G) of counts: the number of times that each molecule is drawn in each resample."""
    if molecules < 2:
        return
    rng = np.random.default_rng(seed)
    rows = max(1, min(resamples, _CELLS // molecules))
    for start in range(0, resamples, rows):
        count = min(rows, resamples - start)
        drawn = rng.integers(molecules, size=(count, molecules)) + molecules * np.arange(count)[:, None]
        yield np.bincount(drawn.ravel(), minlength=count * molecules).reshape(count, molecules).astype(np.float64)


def _interval(blocks: list[Floats]) -> tuple[float | None, float | None]:
    if not blocks:
        return None, None
    values = np.concatenate(blocks)
    tail = (1.0 - LEVEL) / 2.0
    low = np.quantile(np.where(np.isfinite(values), values, -np.inf), tail, method="lower")
    high = np.quantile(np.where(np.isfinite(values), values, np.inf), 1.0 - tail, method="higher")
    if not (np.isfinite(low) and np.isfinite(high)):
        return None, None
    return float(low), float(high)
