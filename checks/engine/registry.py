"""What a check is: one function found by its name, that measures; bounds judge what it measured.

A data set is judged part by part (:mod:`hydrogate.checks.engine.partition`), so a check is written in one of two
forms. A :func:`row_rule` looks at a part by itself and returns :class:`Rows`, one value a structure, atom or bond. A
:func:`rule` concludes on the whole: it yields functions of a part, is sent their merged answers, and returns
:class:`Quantities`, or the merged answer to a function that returned Rows. Either raises :class:`NotRun` where an input
that it needs is absent; a part for which it is raised has nothing to say. No check compares with a number of its own.
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
    """An input that the check needs is absent; the message names it."""


class NotGiven(NotRun):
    """The absent input is one that data may lack: nothing is refused for that, not even strictly."""


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


Measurement: TypeAlias = Tally | Quantities
Rounds: TypeAlias = Generator[Any, Any, Measurement]


@dataclass(frozen=True)
class Subject:
    """What is judged, and what it is judged with.

    Parameters
    ----------
    parts : Parts
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
        """What is known of the data set before it is read."""
        return self.parts.whole


@dataclass(frozen=True)
class Rule:
    """A check: its contract and name, the unit of what it measures, what to do when it fires."""

    contract: str
    check: str
    unit: str
    remedy: str
    measure: Callable[[Subject, Bounds], Rounds]

    @property
    def why(self) -> str:
        """The rule in one sentence, from the function's docstring."""
        return (self.measure.__doc__ or "").split("\n\n")[0].strip()


RULES: dict[tuple[str, str], Rule] = {}
RuleFunction: TypeAlias = Callable[[Subject, Bounds], Rounds | Quantities]


class RowFunction(Protocol):
    """A function of a part and its bounds: what :func:`row_rule` decorates."""

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
    """Ask every part, in one pass, and return the merged answers: ``answer = yield from ask(question)``.

    Parameters
    ----------
    questions : callable
        Functions of a part. What they return is merged over the parts by
        :func:`hydrogate.checks.engine.mergeable.merged`.

    Raises
    ------
    NotRun
        No part could answer, since an input is absent.
    """
    answers = yield questions if len(questions) > 1 else questions[0]
    return answers


def tallied(question: Callable[[Part], Rows]) -> Callable[[Part], Tally]:
    """``question`` as it is, typed by what it is merged into: the rows of all parts become one tally."""
    return cast(Callable[[Part], Tally], question)


def rule(*contracts: str, remedy: str, unit: str = "") -> Callable[[RuleFunction], RuleFunction]:
    """Declare the decorated function of a subject and its bounds as the check of its name in ``contracts``."""

    def declare(conclude: RuleFunction) -> RuleFunction:
        @wraps(conclude)
        def measure(subject: Subject, bounds: Bounds) -> Rounds:
            concluded = conclude(subject, bounds)
            return concluded if isinstance(concluded, Quantities) else (yield from concluded)

        _declare(contracts, measure, unit, remedy)
        return conclude

    return declare


def row_rule(*contracts: str, remedy: str, unit: str = "") -> Callable[[RowFunction], RowFunction]:
    """Declare the decorated function of a part and its bounds as the check of its name in ``contracts``."""

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
