"""Summary of a per-row check: exact counts and the worst few rows, for any number of rows and parts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from hydrogate.checks.data.dataset import Dataset
from hydrogate.checks.engine.bounds import Limits
from hydrogate.checks.engine.waiver import Waiver

EXAMPLES = 5
BLOCK = 1024  # rows


def outside(values: NDArray[np.float64], limits: Limits) -> NDArray[np.bool_]:
    """Return a mask (K,) of the values outside ``limits``; NaN is always outside."""
    low = -np.inf if limits.min is None else limits.min
    high = np.inf if limits.max is None else limits.max
    return ~((values >= low) & (values <= high))


@dataclass(frozen=True)
class Rows:
    """One value per row of one part.

    Parameters
    ----------
    values : (K,)
        Value of each row; NaN counts as outside any bound.
    describe : callable
        Maps a row index to a sentence with the structure and the observed value.
    structure : (K,) int, optional
        Local structure index of each row; if omitted, row k is structure k.
    noun : str
        Name of the rows, in the plural.
    """

    values: NDArray[Any]
    describe: Callable[[int], str]
    structure: NDArray[np.int64] | None = None
    noun: str = "structures"


class Example(NamedTuple):
    """One row: distance beyond a bound, value, and its description if it is outside."""

    excess: float
    value: float
    text: str


@dataclass(frozen=True)
class Beyond:
    """Rows outside some limits: their number and the worst few, worst first.

    ``worst`` may also contain rows inside the limits; they have a value but no description.
    """

    n: int
    worst: tuple[Example, ...]

    def merge(self, other: Self) -> Self:
        return type(self)(self.n + other.n, tuple(sorted((*self.worst, *other.worst), key=_from_worst)[:EXAMPLES]))

    @property
    def texts(self) -> tuple[str, ...]:
        """Descriptions of the worst rows outside the limits."""
        return tuple(example.text for example in self.worst[: self.n])


def _from_worst(example: Example) -> float:
    return -example.excess


@dataclass(frozen=True)
class Tally:
    """Counts of the rows of one check.

    Parameters
    ----------
    n : int
        Number of rows.
    bad, doubtful : Beyond
        Rows outside the bounds; rows outside the narrower bounds of a warning.
    least, greatest : float
        Minimum and maximum of the finite values; +infinity and -infinity if there are none.
    holds : bool
        Verdict of pandera.
    waived : mapping of Waiver to int
        Number of rows outside the bounds that each waiver covers.
    known : tuple of str
        Descriptions of the first rows covered by waivers.
    rest : Tally, optional
        Counts of the rows that no waiver covers; None without waivers.
    """

    n: int
    noun: str
    bad: Beyond
    doubtful: Beyond
    least: float
    greatest: float
    holds: bool
    waived: Mapping[Waiver, int]
    known: tuple[str, ...] = ()
    rest: "Tally | None" = None

    @classmethod
    def of(
        cls,
        rows: Rows,
        limits: Limits,
        holds: bool = True,
        data: Dataset | None = None,
        waivers: Sequence[Waiver] = (),
    ) -> Self:
        """Count ``rows`` of ``data``; ``holds`` is pandera's verdict on them."""
        values = np.asarray(rows.values, dtype=np.float64)
        finite = values
        if len(values) and not np.isfinite([values.min(), values.max()]).all():
            finite = values[np.isfinite(values)]
        bad = _beyond(rows, values, limits)
        counted = cls(
            n=len(values),
            noun=rows.noun,
            bad=bad,
            doubtful=_beyond(rows, values, limits.as_warning()) if limits.warns else bad,
            least=float(finite.min(initial=np.inf)),
            greatest=float(finite.max(initial=-np.inf)),
            holds=holds,
            waived={},
        )
        if data is None or not waivers:
            return counted
        owner = np.arange(len(values)) if rows.structure is None else rows.structure
        out = np.flatnonzero(outside(values, limits))
        covering = {waiver: waiver.covers(data, owner[out]) for waiver in waivers}
        known = out[np.logical_or.reduce(list(covering.values()))]
        left = np.setdiff1d(np.arange(len(values)), known)
        others = Rows(values[left], lambda row: rows.describe(int(left[row])), owner[left], rows.noun)
        return replace(
            counted,
            waived={waiver: int(covered.sum()) for waiver, covered in covering.items() if covered.any()},
            known=tuple(rows.describe(row) for row in known[:EXAMPLES].tolist()),
            rest=cls.of(others, limits),
        )

    def of_noun(self, noun: str) -> Self:
        """Return a copy with the rows named ``noun``."""
        return replace(self, noun=noun, rest=self.rest and self.rest.of_noun(noun))

    def merge(self, other: Self) -> Self:
        counts = {waiver: self.waived.get(waiver, 0) + n for waiver, n in other.waived.items()}
        return replace(
            self,
            n=self.n + other.n,
            bad=self.bad.merge(other.bad),
            doubtful=self.doubtful.merge(other.doubtful),
            least=min(self.least, other.least),
            greatest=max(self.greatest, other.greatest),
            holds=self.holds and other.holds,
            waived={**self.waived, **counts},
            known=(*self.known, *other.known)[:EXAMPLES],
            rest=self.rest.merge(other.rest) if self.rest and other.rest else self.rest or other.rest,
        )


def _beyond(rows: Rows, values: NDArray[np.float64], limits: Limits) -> Beyond:
    found = []
    for row, excess in _worst_first(values, limits):
        out = bool(outside(values[row : row + 1], limits)[0])
        found.append((out, Example(excess, float(values[row]), rows.describe(row) if out else "")))
    # If the worst row is inside, all rows are.
    n = int(np.count_nonzero(outside(values, limits))) if any(out for out, _ in found) else 0
    return Beyond(n, tuple(example for _, example in found))


def _worst_first(values: NDArray[np.float64], limits: Limits) -> list[tuple[int, float]]:
    """Return the few rows farthest beyond (or nearest to) a bound and their distances, worst first.

    Among equal rows the first ones are taken.
    """
    if not len(values):
        return []
    ends = [] if limits.min is None else [limits.min - values]
    ends += [] if limits.max is None else [values - limits.max]
    excess: NDArray[np.float64] = reduce(np.maximum, ends) if ends else np.where(np.isnan(values), np.nan, -np.inf)
    if np.isnan(excess.max()):
        excess[np.isnan(excess)] = np.inf
    shown = min(EXAMPLES, len(values))
    rows = _candidates(excess, shown)
    least = np.partition(excess[rows], len(rows) - shown)[len(rows) - shown]
    worse, equal = rows[excess[rows] > least], rows[excess[rows] == least]
    top = np.concatenate([worse[np.argsort(-excess[worse], kind="stable")], equal[: shown - len(worse)]])
    return [(int(row), float(excess[row])) for row in top.tolist()]


def _candidates(excess: NDArray[np.float64], shown: int) -> NDArray[np.int64]:
    """Return rows that include the ``shown`` largest.

    For many rows these are the rows not below the ``shown``-th largest of the block maxima.
    """
    whole = len(excess) // BLOCK * BLOCK
    if whole < shown * BLOCK:
        return np.arange(len(excess))
    largest = excess[:whole].reshape(-1, BLOCK).max(axis=1)
    return np.flatnonzero(excess >= np.partition(largest, len(largest) - shown)[len(largest) - shown])
