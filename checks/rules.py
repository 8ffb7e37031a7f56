"""What a check is: one function found by its name, that measures; bounds judge what it measured.

A data set is judged part by part (:mod:`hydrogate.checks.parts`), so a check is written in one of two forms. A
:func:`row_rule` looks at a part by itself and returns :class:`Rows`, one value a structure, atom or bond. A
:func:`rule` concludes on the whole: it yields functions of a part, is sent their merged answers, and returns
:class:`Quantities`, or the merged answer to a function that returned Rows. Either raises :class:`NotRun` where an input
that it needs is absent; a part for which it is raised has nothing to say. No check compares with a number of its own.
"""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from hydrogate.checks.bounds import Bounds
from hydrogate.checks.dataset import Dataset
from hydrogate.checks.parts import Part, Parts, Whole
from hydrogate.checks.symmetry import Potential
from hydrogate.checks.tally import Rows, Tally

if TYPE_CHECKING:
    from hydrogate.checks.input import InputCounts


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
Asking: TypeAlias = Generator[Any, Any, Measurement]


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
    counts: "InputCounts | None" = None
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
    measure: Callable[[Subject, Bounds], Asking]

    @property
    def why(self) -> str:
        """The rule in one sentence, from the function's docstring."""
        return (self.measure.__doc__ or "").split("\n\n")[0].strip()


RULES: dict[tuple[str, str], Rule] = {}
Concluding: TypeAlias = Callable[[Subject, Bounds], Asking | Quantities]


class Looking(Protocol):
    """A function of a part and its bounds."""

    __name__: str

    def __call__(self, part: Part, bounds: Bounds) -> Rows: ...


def rule(*contracts: str, remedy: str, unit: str = "") -> Callable[[Concluding], Concluding]:
    """Declare the decorated function of a subject and its bounds as the check of its name in ``contracts``."""

    def declare(conclude: Concluding) -> Concluding:
        @wraps(conclude)
        def measure(subject: Subject, bounds: Bounds) -> Asking:
            concluded = conclude(subject, bounds)
            return concluded if isinstance(concluded, Quantities) else (yield from concluded)

        _declare(contracts, measure, unit, remedy)
        return conclude

    return declare


def row_rule(*contracts: str, remedy: str, unit: str = "") -> Callable[[Looking], Looking]:
    """Declare the decorated function of a part and its bounds as the check of its name in ``contracts``."""

    def declare(look: Looking) -> Looking:
        @wraps(look)
        def measure(subject: Subject, bounds: Bounds) -> Asking:
            tally: Tally = yield partial(look, bounds=bounds)
            return tally

        _declare(contracts, measure, unit, remedy)
        return look

    return declare


def _declare(contracts: tuple[str, ...], measure: Callable[[Subject, Bounds], Asking], unit: str, remedy: str) -> None:
    for contract in contracts:
        RULES[contract, measure.__name__] = Rule(contract, measure.__name__, unit, remedy, measure)
