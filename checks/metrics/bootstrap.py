"""A figure with its interval: statistics of pooled atoms, resampled by whole molecules.

Atoms of one molecule resemble each other, so that an interval over atoms is too narrow by a factor of five to ten; a
molecule and all its geometries are drawn together. A statistic is held as sums per molecule (or as sorted values with
their molecule), so that a resample costs a product and not a pass over the atoms.
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
_CELLS = 10_000_000  # weights held at a time: 80 MB
_BLOCKS = 256
_MOST = 2**53  # molecules: counts beyond are no floats


class Metric(NamedTuple):
    """A figure, its unit, and how far it can be trusted.

    Parameters
    ----------
    value : float or None
        None where the figure is undefined (no atoms, a ratio over zero, NaN); never 0.0 and never NaN.
    unit : str
    n : int
        Molecules that contribute, the unit of resampling; structures of one molecule count once.
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
        """Plain finite numbers and strings, as DVC keeps them (it drops null and lists)."""
        content: dict[str, Any] = {"value": UNDEFINED if self.value is None else self.value}
        content |= {"unit": self.unit, "n": self.n}
        return content | {key: v for key, v in (("low", self.low), ("high", self.high)) if v is not None}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Metric":
        """What :meth:`to_dict` wrote; a value that is no finite number is undefined.

        Raises
        ------
        KeyError, TypeError, ValueError
            The content is no metric.
        """
        value, low, high = (_finite(content.get(key)) for key in ("value", "low", "high"))
        if "value" not in content:
            raise KeyError("value")
        n = content["n"]
        if not isinstance(n, int) or isinstance(n, bool) or not 0 <= n <= _MOST:
            raise ValueError(f"n is {str(n)[:40]}, expected a count")
        return cls(value, str(content["unit"]), n, low, high)


def point(value: float, unit: str, n: int) -> Metric:
    """A figure without an interval; undefined where ``value`` is not finite."""
    return Metric(_finite(value), unit, n)


def _finite(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | np.floating | np.integer):
        return None
    try:
        number = float(value)
    except OverflowError:  # JSON's integers have no end
        return None
    return number if math.isfinite(number) else None


@dataclass(frozen=True)
class OfSums:
    """A function of sums over molecules, such as the root of one sum over another.

    Parameters
    ----------
    sums : (G, k) float64
        Per molecule.
    function : callable
        Takes the k totals, each of shape (R,), to the statistic, shape (R,).
    n : int
        Molecules that contribute.
    """

    sums: Floats
    function: Callable[..., Floats]
    n: int

    def resampled(self, weights: Floats) -> Floats:
        """(R,) the statistic with molecule g taken ``weights[r, g]`` times, NaN where undefined; weights (R, G)."""
        with np.errstate(all="ignore"):
            totals = weights @ self.sums
            return np.asarray(self.function(*totals.T), dtype=np.float64)


class Quantile:
    """A quantile of pooled values: the smallest value that at least the share ``q`` of the atoms does not exceed.

    ``numpy.quantile(..., method="inverted_cdf", weights=...)``, exactly, for all resamples at once: the sorted values
    are cut into blocks, the block is found from counts per molecule and block, the value inside its block.

    Parameters
    ----------
    values : (A,) float64
    molecule : (A,) int64
        The molecule that owns each value.
    molecules : int
        G, all molecules, those without values included.
    q : float
        In (0, 1].
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
        """See :meth:`OfSums.resampled`."""
        if self.undefined:
            return np.full(len(weights), np.nan)
        upto = np.cumsum(weights @ self.counts, axis=1)
        # Sums of whole numbers are exact; the subtraction undoes the rounding of q times a whole number.
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
    """One statistic over another, both on the same resamples of the same molecules: what they share cancels."""

    numerator: OfSums | Quantile
    denominator: OfSums | Quantile

    @property
    def n(self) -> int:
        """Molecules that contribute to both."""
        return min(self.numerator.n, self.denominator.n)

    def resampled(self, weights: Floats) -> Floats:
        """See :meth:`OfSums.resampled`."""
        with np.errstate(all="ignore"):
            return self.numerator.resampled(weights) / self.denominator.resampled(weights)


Statistic = OfSums | Quantile | Ratio


def bootstrap(
    statistics: Mapping[str, tuple[Statistic, str]], molecules: int, *, resamples: int, seed: int
) -> dict[str, Metric]:
    """Each statistic with its percentile interval, all on the same resamples.

    Parameters
    ----------
    statistics : mapping of str to (Statistic, unit)
    molecules : int
        G.
    resamples : int
    seed : int

    A resample in which a statistic is undefined (no oxygen was drawn) counts as one that could lie anywhere: more than
    2.5 % of them leave no interval.
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
    """Blocks of (r, G): how often each molecule is drawn in each resample."""
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
