"""What is kept of the rows of a check: exact counts and the worst few, whatever there are of them and wherever."""

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
    """(K,) whether each value is outside ``limits``; NaN always is."""
    low = -np.inf if limits.min is None else limits.min
    high = np.inf if limits.max is None else limits.max
    return ~((values >= low) & (values <= high))


@dataclass(frozen=True)
class Rows:
    """One value a row of one part.

    Parameters
    ----------
    values : (K,)
        NaN counts as outside every bound.
    describe : callable
        A row's index to its sentence: which structure, what was observed.
    structure : (K,) int, optional
        The structure of each row, as the part counts them; row k is structure k where it is left out.
    noun : str
        What a row is, in the plural.
    """

    values: NDArray[Any]
    describe: Callable[[int], str]
    structure: NDArray[np.int64] | None = None
    noun: str = "structures"


class Example(NamedTuple):
    """A row: how far it is beyond a bound, its value, and the sentence on it where it is outside."""

    excess: float
    value: float
    text: str


@dataclass(frozen=True)
class Beyond:
    """The rows outside of some limits: how many, and the worst few, worst first; rows within are there as values."""

    n: int
    worst: tuple[Example, ...]

    def merge(self, other: Self) -> Self:
        return type(self)(self.n + other.n, tuple(sorted((*self.worst, *other.worst), key=_from_worst)[:EXAMPLES]))

    @property
    def texts(self) -> tuple[str, ...]:
        """The sentences on the worst rows outside."""
        return tuple(example.text for example in self.worst[: self.n])


def _from_worst(example: Example) -> float:
    return -example.excess


@dataclass(frozen=True)
class Tally:
    """The rows of one check, counted.

    Parameters
    ----------
    n : int
        Rows.
    bad, doubtful : Beyond
        Those outside the bounds; those outside the narrower ones of a warning.
    least, greatest : float
        Of the finite values; infinity beyond each other where there are none.
    holds : bool
        What pandera says.
    waived : mapping of Waiver to int
        The waivers that cover rows outside the bounds, and how many each.
    known : tuple of str
        The sentences on the first rows that are covered.
    rest : Tally, optional
        Of the rows that no waiver covers; None where there is no waiver.
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
        """The same rows, called ``noun``."""
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
    # Where the worst is within, all are.
    n = int(np.count_nonzero(outside(values, limits))) if any(out for out, _ in found) else 0
    return Beyond(n, tuple(example for _, example in found))


def _worst_first(values: NDArray[np.float64], limits: Limits) -> list[tuple[int, float]]:
    """The few rows farthest beyond (or nearest to) a bound, worst first, of equal ones the first; and how far each."""
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
    """Rows among which the ``shown`` largest are: of many rows, those that reach the largest of the blocks' largest."""
    whole = len(excess) // BLOCK * BLOCK
    if whole < shown * BLOCK:
        return np.arange(len(excess))
    largest = excess[:whole].reshape(-1, BLOCK).max(axis=1)
    return np.flatnonzero(excess >= np.partition(largest, len(largest) - shown)[len(largest) - shown])
