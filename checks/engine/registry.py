"""Registry of checks: a check is one function, registered by its name, that measures; bounds decide the verdict.

A data set is checked part by part (:mod:`hydrogate.checks.engine.partition`), so a check has one of two forms. A
:func:`row_rule` gets one part and returns :class:`Rows`: one value per structure, atom or bond. A :func:`rule` works on
the complete data set: it yields functions of a part, receives their merged answers, and returns :class:`Quantities`, or
the merged answer to a function that returned Rows. Both raise :class:`NotRun` if an input that they need is missing; a
part that raises it is ignored in the merged answer. No check compares with a number of its own.
"""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from functools import partial, wraps
from typing import Any, Protocol, TypeAlias, TypeVar, cast, overload

from hydrogate.checks.data.dataset import Dataset
from hydrogate.checks.data.input_counts import InputCounts
from hydrogate.checks.engine.bounds import Bounds
from hydrogate.checks.engine.partition import Part, Parts, Whole
from hydrogate.checks.engine.row_counts import Rows, Tally
from hydrogate.checks.geometry.symmetry import Potential


class NotRun(Exception):
    """Raised if an input that the check needs is missing; the message names it."""


class NotGiven(NotRun):
    """Raised if the missing input is optional: its absence never fails the contract, not even with ``strict``."""


@dataclass(frozen=True)
class Quantities:
    """Values for the complete data set, by the name of their bound, computed from ``n`` rows.

    ``undecided`` is the reason why there are too few data for a verdict; the values are still reported. With
    ``only_warns`` too few data only give a warning: a statement about a population does not apply to three molecules.
    ``units`` lists the units of quantities that are not in the unit of the rule. ``holds`` is the message if all
    quantities are within bounds, ``examples`` are single cases of what was counted.
    """

    values: Mapping[str, float]
    n: int
    noun: str = "structures"
    undecided: str = ""
    only_warns: bool = False
    units: Mapping[str, str] = field(default_factory=dict)
    holds: str = ""
    examples: tuple[str, ...] = ()


Measurement: TypeAlias = Tally | Quantities
Rounds: TypeAlias = Generator[Any, Any, Measurement]


@dataclass(frozen=True)
class Subject:
    """Data to check, and the inputs of single checks.

    Parameters
    ----------
    parts : Parts
    counts : InputCounts, optional
        Counts of records in the input files by outcome; for contract ``input`` only.
    held_out : Dataset, optional
        Reference structures of the predictions.
    teacher : mapping, optional
        Teacher identity that the labels should have; in the pipeline, the one in the parameters.
    potential : Potential, optional
        Student that made the predictions, evaluated in float64.
    relabel : Potential, optional
        Teacher that made the labels, evaluated again; returns NaN if it fails.
    reference : Dataset, optional
        Data set to compare distributions with.
    student : mapping, optional
        Inputs that the student can represent: ``elements`` (atomic numbers), ``charges`` (e), ``spin_multiplicities``,
        ``cutoff`` (Å), ``reads_charge`` (True if total charge and spin are among its inputs).
    """

    parts: Parts
    counts: InputCounts | None = None
    held_out: Dataset | None = None
    teacher: Mapping[str, Any] | None = None
    potential: Potential | None = None
    relabel: Potential | None = None
    reference: Dataset | None = None
    student: Mapping[str, Any] | None = None

    @property
    def whole(self) -> Whole:
        """Properties of the data set that are known before it is read."""
        return self.parts.whole


@dataclass(frozen=True)
class Rule:
    """Registered check: contract, name, unit of the measured values, and the remedy if it fails."""

    contract: str
    check: str
    unit: str
    remedy: str
    measure: Callable[[Subject, Bounds], Rounds]

    @property
    def why(self) -> str:
        """Rule in one sentence: the first paragraph of the function's docstring."""
        return (self.measure.__doc__ or "").split("\n\n")[0].strip()


RULES: dict[tuple[str, str], Rule] = {}
RuleFunction: TypeAlias = Callable[[Subject, Bounds], Rounds | Quantities]


class RowFunction(Protocol):
    """Function of a part and its bounds, as decorated by :func:`row_rule`."""

    __name__: str

    def __call__(self, part: Part, bounds: Bounds) -> Rows: ...


A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")


@overload
def ask(question: Callable[[Part], A], /) -> Generator[Any, Any, A]: ...
@overload
def ask(first: Callable[[Part], A], second: Callable[[Part], B], /) -> Generator[Any, Any, tuple[A, B]]: ...
@overload
def ask(
    first: Callable[[Part], A], second: Callable[[Part], B], third: Callable[[Part], C], /
) -> Generator[Any, Any, tuple[A, B, C]]: ...
def ask(*questions: Callable[[Part], Any]) -> Generator[Any, Any, Any]:
    """Apply the questions to every part in one pass and return the merged answers: ``x = yield from ask(question)``.

    Parameters
    ----------
    questions : callable
        Functions of a part. Their return values are merged over the parts by
        :func:`hydrogate.checks.engine.mergeable.merged`.

    Raises
    ------
    NotRun
        No part could answer because an input is missing.
    """
    answers = yield questions if len(questions) > 1 else questions[0]
    return answers


def tallied(question: Callable[[Part], Rows]) -> Callable[[Part], Tally]:
    """Return ``question`` unchanged, typed by its merged result: the rows of all parts become one tally."""
    return cast(Callable[[Part], Tally], question)


def rule(*contracts: str, remedy: str, unit: str = "") -> Callable[[RuleFunction], RuleFunction]:
    """Register the decorated function of a subject and its bounds as a check in ``contracts``, under its own name."""

    def declare(conclude: RuleFunction) -> RuleFunction:
        @wraps(conclude)
        def measure(subject: Subject, bounds: Bounds) -> Rounds:
            concluded = conclude(subject, bounds)
            return concluded if isinstance(concluded, Quantities) else (yield from concluded)

        _declare(contracts, measure, unit, remedy)
        return conclude

    return declare


def row_rule(*contracts: str, remedy: str, unit: str = "") -> Callable[[RowFunction], RowFunction]:
    """Register the decorated function of a part and its bounds as a check in ``contracts``, under its own name."""

    def declare(look: RowFunction) -> RowFunction:
        @wraps(look)
        def measure(subject: Subject, bounds: Bounds) -> Rounds:
            return (yield from ask(tallied(partial(look, bounds=bounds))))

        _declare(contracts, measure, unit, remedy)
        return look

    return declare


def _declare(contracts: tuple[str, ...], measure: Callable[[Subject, Bounds], Rounds], unit: str, remedy: str) -> None:
    for contract in contracts:
        RULES[contract, measure.__name__] = Rule(contract, measure.__name__, unit, remedy, measure)
