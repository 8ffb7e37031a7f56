"""What a check is: one function found by its name, that measures; bounds judge what it measured.

A check returns :class:`Rows` (one value a structure, atom or bond), :class:`Quantities` (values of the whole data
set), or raises :class:`NotRun` where an input that it needs is absent. It never compares with a number of its own.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hydrogate.checks.bounds import Bounds
from hydrogate.checks.dataset import Dataset
from hydrogate.checks.observables import (
    Bonds,
    CompositionFit,
    Geometry,
    SiblingWork,
    bonds,
    composition_fit,
    geometry,
    sibling_work,
)
from hydrogate.checks.symmetry import Potential

if TYPE_CHECKING:
    from hydrogate.checks.input import InputCounts


class NotRun(Exception):
    """An input that the check needs is absent; the message names it."""


@dataclass(frozen=True)
class Rows:
    """One value a row.

    Parameters
    ----------
    values : (K,)
        NaN counts as outside every bound.
    describe : callable
        A row's index to its sentence: which structure, what was observed.
    structure : (K,) int, optional
        The structure of each row; row k is structure k where it is left out.
    noun : str
        What a row is, in the plural.
    """

    values: NDArray[Any]
    describe: Callable[[int], str]
    structure: NDArray[np.int64] | None = None
    noun: str = "structures"


@dataclass(frozen=True)
class Quantities:
    """Values of the whole data set, by the name of their bound; ``n`` rows stand behind them.

    ``undecided`` says why there is too little to judge; the values are reported all the same. ``only_warns`` where a
    small data set is no fault: a statement about a population says nothing of three molecules. ``units`` of the
    quantities that are not in the rule's; ``holds`` says in one sentence what it means that all are within bounds.
    """

    values: Mapping[str, float]
    n: int
    noun: str = "structures"
    undecided: str = ""
    only_warns: bool = False
    units: Mapping[str, str] = field(default_factory=dict)
    holds: str = ""


Measurement: TypeAlias = Rows | Quantities


@dataclass(frozen=True)
class Subject:
    """What is judged, and what it is judged with.

    Parameters
    ----------
    data : Dataset
    counts : InputCounts, optional
        What became of the records of the input files; contract ``input`` alone.
    held_out : Dataset, optional
        The reference structures of predictions.
    teacher : mapping, optional
        The identity that the labels should have; in the pipeline, the one in the parameters.
    potential : Potential, optional
        The student behind predictions, evaluated in float64.
    relabel : Potential, optional
        The teacher behind labels, to be asked again; NaN where it fails.
    reference : Dataset, optional
        A data set to compare distributions with.
    student : mapping, optional
        What the student can represent: ``elements`` (atomic numbers), ``charges`` (e), ``spin_multiplicities``,
        ``cutoff`` (Å), ``reads_charge`` (whether total charge and spin are inputs of it).
    """

    data: Dataset
    counts: "InputCounts | None" = None
    held_out: Dataset | None = None
    teacher: Mapping[str, Any] | None = None
    potential: Potential | None = None
    relabel: Potential | None = None
    reference: Dataset | None = None
    student: Mapping[str, Any] | None = None

    @cached_property
    def geometry(self) -> Geometry:
        """The pass over all pairs, made once for the checks that share it."""
        return geometry(self.data)

    @cached_property
    def bonds(self) -> Bonds:
        """The bonds that distances show, made once."""
        return bonds(self.data)

    @cached_property
    def siblings(self) -> SiblingWork:
        """Pairs of geometries of one molecule."""
        return sibling_work(self.data)

    @cached_property
    def composition(self) -> CompositionFit:
        """The least-squares fit of element energies."""
        return composition_fit(self.data)


Measure: TypeAlias = Callable[[Subject, Bounds], Measurement]


@dataclass(frozen=True)
class Rule:
    """A check: its contract and name, the unit of what it measures, what to do when it fires."""

    contract: str
    check: str
    unit: str
    remedy: str
    measure: Measure

    @property
    def why(self) -> str:
        """The rule in one sentence, from the function's docstring."""
        return (self.measure.__doc__ or "").split("\n\n")[0].strip()


RULES: dict[tuple[str, str], Rule] = {}


def rule(*contracts: str, remedy: str, unit: str = "") -> Callable[[Measure], Measure]:
    """Declare the decorated function as the check of its name in ``contracts``."""

    def declare(measure: Measure) -> Measure:
        for contract in contracts:
            RULES[contract, measure.__name__] = Rule(contract, measure.__name__, unit, remedy, measure)
        return measure

    return declare
