"""Partitioned data sets: checks run part by part, for data of any size, in memory or on disk.

A part is a contiguous range of structures; structures with the same parent stay in one part. A check that needs the
complete data set sends a question to every part, and the answers are merged
(:mod:`hydrogate.checks.engine.mergeable`). A single process uses threads, a cluster its workers; both give the same
answer.
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
# Target number of atoms per part: large enough for efficient NumPy calls, small enough that several parts with their
# temporary arrays fit in memory.
ATOMS_A_PART = 1_000_000


@dataclass(frozen=True)
class Whole:
    """Properties of the complete data set that are known before its parts are read.

    Parameters
    ----------
    n_read, quarantined : int
        Number of records read and of records quarantined so far.
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
        """Return these properties for a data set in memory."""
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
    """Location of a part: ``load`` reads it.

    ``first`` and ``first_atom`` are the numbers of structures and atoms before it in the complete data set.
    """

    load: Callable[[], Dataset]
    structures: int
    atoms: int
    first: int = 0
    first_atom: int = 0


class Picked(NamedTuple):
    """One structure taken from the complete data set, in Å, eV and eV/Å; NaN for missing labels."""

    row: int
    name: str
    atoms: Atoms
    smiles: str
    energy: float
    forces: NDArray[np.float32]


class Part:
    """Part of a data set: its structures, read on first access, and cached quantities that several checks need.

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
        """Structures of the part; their indices and those of their parents start at 0 in each part."""
        try:
            return self.place.load()
        except Exception as error:
            self.unreadable = error
            raise

    @property
    def rows(self) -> range:
        """Indices of the part's structures in the complete data set."""
        return range(self.place.first, self.place.first + self.place.structures)

    def name(self, row: int) -> str:
        """Return the label of structure ``row``: its index in the complete data set, formula, file and record."""
        _, _, rest = self.data.name(row).partition(" (")
        return f"structure {self.place.first + row} ({rest}"

    def own(self, rows: Ints) -> Ints:
        """Return the local indices of those of ``rows`` (global, ascending) that are in this part."""
        inside = slice(*np.searchsorted(rows, [self.rows.start, self.rows.stop]))
        return rows[inside] - self.place.first

    def own_atoms(self, atoms: Ints) -> Ints:
        """Return the local indices of those of ``atoms`` (global, ascending) that are in this part."""
        first = self.place.first_atom
        inside = slice(*np.searchsorted(atoms, [first, first + self.place.atoms]))
        return atoms[inside] - first

    def once(self, question: "Callable[[Part], Answer]") -> Answer:
        """Return the answer to ``question``, cached because several checks may ask it.

        A ``functools.partial`` belongs to a single check and is not cached.
        """
        own = isinstance(question, partial)
        if own:
            return question(self)
        if question not in self._answers:
            self._answers[question] = question(self)
        answer: Answer = self._answers[question]
        return answer

    @cached_property
    def geometry(self) -> Geometry:
        """Results of the loop over all pairs of atoms."""
        return geometry(self.data)

    @cached_property
    def bonds(self) -> Bonds:
        """Bonds derived from interatomic distances."""
        return bonds(self.data)

    @cached_property
    def siblings(self) -> SiblingWork:
        """Work between pairs of geometries of the same molecule."""
        return sibling_work(self.data)

    @cached_property
    def force_norms(self) -> Floats:
        """Force magnitudes |F| (N,), eV/Å."""
        return force_norms(self.data)

    @cached_property
    def force_rms(self) -> Floats:
        """RMS force component of each structure (M,), eV/Å."""
        rms: Floats = np.sqrt(force_squares(self.data) / np.maximum(3 * self.data.sizes, 1))
        return rms

    @cached_property
    def elements(self) -> NDArray[np.int64]:
        """Atomic numbers that occur in the part, in ascending order."""
        return compositions(self.data).elements

    @cached_property
    def compositions(self) -> NDArray[np.int64]:
        """Number of atoms of each of ``elements`` in each structure (M, E)."""
        return compositions(self.data).counts


def picked(part: Part, rows: Ints) -> list[Picked]:
    """Return those of the structures ``rows`` (global, ascending) that are in this part."""
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
    """Callable that applies a question to every item (a part or a file) and merges the answers in item order."""

    def __call__(self, question: Callable[[Item], Answer], items: Sequence[Item]) -> Answer: ...


def over_threads(question: Callable[[Item], Answer], items: Sequence[Item]) -> Answer:
    """Apply ``question`` to all items in threads of this process and merge the answers.

    As many items run at a time as there are cores; NumPy releases the global interpreter lock.
    """
    if len(items) == 1:
        return question(items[0])
    at_once = min(len(items), os.cpu_count() or 1)
    pool = ThreadPoolExecutor(at_once)
    waiting: deque[Future[Answer]] = deque()

    def answers() -> Iterator[Answer]:
        # Limit the number of submitted items, so that answers do not accumulate before they are merged.
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
    """Data set as a sequence of parts.

    Parameters
    ----------
    places : sequence of Place
        At least one; in the order of the complete data set.
    fingerprint : callable
        Returns the fingerprint of the complete data set.
    gather : Gather
        Applies a question to all parts and merges the answers.
    """

    places: Sequence[Place]
    whole: Whole
    fingerprint: Callable[[], str]
    gather: Gather = over_threads

    @classmethod
    def of(cls, data: Dataset, atoms: int = ATOMS_A_PART) -> Self:
        """Return the parts of a data set in memory, with about ``atoms`` atoms each."""
        return cls(numbered(places_of(data, atoms)), Whole.of(data), data.fingerprint)

    def ask(self, question: Callable[[Part], Answer]) -> Answer:
        """Return the merged answers of all parts; an exception in a part is propagated."""
        return self.gather(partial(_put, question, self.whole), self.places)


def _put(question: Callable[[Part], Answer], whole: Whole, place: Place) -> Answer:
    return question(Part(place, whole))


def numbered(places: Sequence[Place]) -> list[Place]:
    """Return ``places`` with ``first`` and ``first_atom`` set, in the given order."""
    first = np.cumsum([0, *(place.structures for place in places)]).tolist()
    first_atom = np.cumsum([0, *(place.atoms for place in places)]).tolist()
    return [replace(p, first=a, first_atom=b) for p, a, b in zip(places, first, first_atom, strict=False)]


def places_of(data: Dataset, atoms: int) -> list[Place]:
    """Return the places of a data set in memory; loading one returns views of its arrays."""
    ends = [0, *cuts(data.offset, data.parent, atoms).tolist(), len(data)]
    return [
        Place(partial(data.part, start, stop), stop - start, int(data.offset[stop] - data.offset[start]))
        for start, stop in pairwise(ends)
    ]
