"""A data set in parts: however large it is and wherever it lies, it is judged part by part.

A part is a run of structures, families of one parent together. What a check must know of the whole data set it asks
of every part; the answers merge (:mod:`hydrogate.checks.engine.mergeable`). One process asks over threads, a cluster
over its workers, and both get the same answer.
"""

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property, partial, reduce
from itertools import pairwise
from typing import Any, NamedTuple, Protocol, Self, TypeVar

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from hydrogate.checks.data.dataset import Dataset
from hydrogate.checks.data.fingerprint import cuts
from hydrogate.checks.engine.mergeable import merged
from hydrogate.checks.geometry.observables import (
    Bonds,
    Geometry,
    SiblingWork,
    bonds,
    compositions,
    force_norms,
    force_squares,
    geometry,
    sibling_work,
)

Answer = TypeVar("Answer")
Item = TypeVar("Item")
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
# Atoms of a part: large enough that NumPy works in bulk, small enough that what it makes on the way fits a few times.
ATOMS_A_PART = 1_000_000


@dataclass(frozen=True)
class Whole:
    """What is known of a data set before its parts are read.

    Parameters
    ----------
    n_read, quarantined : int
        Records read and records set aside on the way here.
    isolated_atom_energies : mapping of str to float, eV
    has_energy, has_forces : bool
    """

    structures: int
    atoms: int
    n_read: int = 0
    quarantined: int = 0
    teacher: Mapping[str, Any] | None = None
    isolated_atom_energies: Mapping[str, float] = field(default_factory=dict)
    has_energy: bool = False
    has_forces: bool = False

    @classmethod
    def of(cls, data: Dataset) -> Self:
        """What is known of one data set."""
        return cls(
            structures=len(data),
            atoms=len(data.numbers),
            n_read=data.n_read,
            quarantined=len(data.quarantine),
            teacher=data.teacher,
            isolated_atom_energies=data.isolated_atom_energies or {},
            has_energy=data.energy is not None,
            has_forces=data.forces is not None,
        )


@dataclass(frozen=True)
class Place:
    """Where a part is, and where it stands in the whole: ``load`` reads it, ``first`` and ``first_atom`` go before."""

    load: Callable[[], Dataset]
    structures: int
    atoms: int
    first: int = 0
    first_atom: int = 0


class Picked(NamedTuple):
    """One structure taken out of the whole; Å, eV and eV/Å, NaN where there are no labels."""

    row: int
    name: str
    atoms: Atoms
    smiles: str
    energy: float
    forces: NDArray[np.float32]


class Part:
    """Some structures of a data set, read when they are first looked at, with what several checks need of them.

    Parameters
    ----------
    place : Place
    whole : Whole
    """

    def __init__(self, place: Place, whole: Whole) -> None:
        self.place, self.whole = place, whole
        self.unreadable: Exception | None = None
        self._answers: dict[Callable[[Part], Any], Any] = {}

    @cached_property
    def data(self) -> Dataset:
        """The structures; their indices, and those of parents, count from the part's own beginning."""
        try:
            return self.place.load()
        except Exception as error:
            self.unreadable = error
            raise

    @property
    def rows(self) -> range:
        """The indices in the whole of the part's structures."""
        return range(self.place.first, self.place.first + self.place.structures)

    def name(self, row: int) -> str:
        """How a person finds the part's structure ``row``: its number in the whole, its formula, file and record."""
        _, _, rest = self.data.name(row).partition(" (")
        return f"structure {self.place.first + row} ({rest}"

    def own(self, rows: Ints) -> Ints:
        """Of ``rows`` in the whole, ascending, those of this part, as the part counts them."""
        inside = slice(*np.searchsorted(rows, [self.rows.start, self.rows.stop]))
        return rows[inside] - self.place.first

    def own_atoms(self, atoms: Ints) -> Ints:
        """Of ``atoms`` of the whole, ascending, those of this part, as the part counts them."""
        first = self.place.first_atom
        inside = slice(*np.searchsorted(atoms, [first, first + self.place.atoms]))
        return atoms[inside] - first

    def once(self, question: "Callable[[Part], Answer]") -> Answer:
        """The answer to a question that several checks ask, made once; one with arguments of its own only they ask."""
        own = isinstance(question, partial)
        if own:
            return question(self)
        if question not in self._answers:
            self._answers[question] = question(self)
        answer: Answer = self._answers[question]
        return answer

    @cached_property
    def geometry(self) -> Geometry:
        """The pass over all pairs of atoms."""
        return geometry(self.data)

    @cached_property
    def bonds(self) -> Bonds:
        """The bonds that distances show."""
        return bonds(self.data)

    @cached_property
    def siblings(self) -> SiblingWork:
        """Pairs of geometries of one molecule."""
        return sibling_work(self.data)

    @cached_property
    def force_norms(self) -> Floats:
        """(N,) |F|, eV/Å."""
        return force_norms(self.data)

    @cached_property
    def force_rms(self) -> Floats:
        """(M,) RMS force component of each structure, eV/Å."""
        rms: Floats = np.sqrt(force_squares(self.data) / np.maximum(3 * self.data.sizes, 1))
        return rms

    @cached_property
    def elements(self) -> NDArray[np.int64]:
        """Atomic numbers that occur, ascending."""
        return compositions(self.data).elements

    @cached_property
    def compositions(self) -> NDArray[np.int64]:
        """(M, E) atoms of each of ``elements`` in each structure."""
        return compositions(self.data).counts


def picked(part: Part, rows: Ints) -> list[Picked]:
    """The structures ``rows`` (ascending, of the whole) that are in this part."""
    found = []
    for row in part.own(rows).tolist():
        data = part.data
        energy = float("nan") if data.energy is None else float(data.energy[row])
        own = data.atoms_of(row)
        forces = np.full((own.stop - own.start, 3), np.nan, np.float32) if data.forces is None else data.forces[own]
        found.append(
            Picked(part.place.first + row, part.name(row), data.to_atoms(row), str(data.smiles[row]), energy, forces)
        )
    return found


class Gather(Protocol):
    """Puts a question to every item, a part or a file, and merges the answers in the order of the items."""

    def __call__(self, question: Callable[[Item], Answer], items: Sequence[Item]) -> Answer: ...


def over_threads(question: Callable[[Item], Answer], items: Sequence[Item]) -> Answer:
    """Ask in this process, as many items at a time as there are cores: NumPy lets threads run side by side."""
    if len(items) == 1:
        return question(items[0])
    at_once = min(len(items), os.cpu_count() or 1)
    pool = ThreadPoolExecutor(at_once)
    waiting: deque[Future[Answer]] = deque()

    def answers() -> Iterator[Answer]:
        # No more are asked than are under way, so that answers do not pile up before they are merged.
        for item in items:
            waiting.append(pool.submit(question, item))
            if len(waiting) > at_once:
                yield waiting.popleft().result()
        yield from (future.result() for future in waiting)

    try:
        return reduce(merged, answers())
    finally:
        pool.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class Parts:
    """A data set as a sequence of parts.

    Parameters
    ----------
    places : sequence of Place
        At least one; in the order of the whole.
    fingerprint : callable
        The fingerprint of the whole.
    gather : Gather
        Who asks the parts.
    """

    places: Sequence[Place]
    whole: Whole
    fingerprint: Callable[[], str]
    gather: Gather = over_threads

    @classmethod
    def of(cls, data: Dataset, atoms: int = ATOMS_A_PART) -> Self:
        """The parts of a data set in memory, about ``atoms`` atoms each."""
        return cls(numbered(places_of(data, atoms)), Whole.of(data), data.fingerprint)

    def ask(self, question: Callable[[Part], Answer]) -> Answer:
        """The merged answers of all parts; whatever a part raises is raised."""
        return self.gather(partial(_put, question, self.whole), self.places)


def _put(question: Callable[[Part], Answer], whole: Whole, place: Place) -> Answer:
    return question(Part(place, whole))


def numbered(places: Sequence[Place]) -> list[Place]:
    """``places`` one after another, each with what goes before it."""
    first = np.cumsum([0, *(place.structures for place in places)]).tolist()
    first_atom = np.cumsum([0, *(place.atoms for place in places)]).tolist()
    return [replace(p, first=a, first_atom=b) for p, a, b in zip(places, first, first_atom, strict=False)]


def places_of(data: Dataset, atoms: int) -> list[Place]:
    """The parts of a data set in memory, as views of its arrays."""
    ends = [0, *cuts(data.offset, data.parent, atoms).tolist(), len(data)]
    return [
        Place(partial(data.part, start, stop), stop - start, int(data.offset[stop] - data.offset[start]))
        for start, stop in pairwise(ends)
    ]
