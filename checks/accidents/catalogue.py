"""What an accident is: a function that spoils the named structures of a copy and leaves every other as it is."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from hydrogate.checks.data.dataset import Dataset

Rows: TypeAlias = NDArray[np.int64]
Spoil: TypeAlias = Callable[[Dataset, Rows, np.random.Generator], Dataset]


class NotApplicable(Exception):
    """The accident cannot happen to this data set; the message says what it lacks."""


@dataclass(frozen=True)
class Accident:
    """Something that has happened to a data set.

    Parameters
    ----------
    name : str
    contracts : tuple of str
        The contracts whose data it can happen to.
    source : str
        Where it happened or is described: a link.
    largest_share : float
        The share of the structures that it strikes at its worst; below 1 where striking all is no accident.
    before_labelling : bool
        Whether it strikes the structures that are then labelled: the labels are right for what they are of. The atlas
        labels again what it changed.
    spoil : callable
        ``(data, rows, rng)`` to a data set in which the structures ``rows`` are spoiled.
    """

    name: str
    contracts: tuple[str, ...]
    source: str
    largest_share: float
    before_labelling: bool
    spoil: Spoil

    @property
    def says(self) -> str:
        """What happened, in one sentence."""
        return " ".join((self.spoil.__doc__ or "").split("\n\n")[0].split())


ACCIDENTS: dict[str, Accident] = {}


def accident(
    *contracts: str, source: str, largest_share: float = 1.0, before_labelling: bool = False
) -> Callable[[Spoil], Spoil]:
    """Declare the decorated function as the accident of its name."""

    def declare(spoil: Spoil) -> Spoil:
        name = spoil.__name__
        ACCIDENTS[name] = Accident(name, contracts, source, largest_share, before_labelling, spoil)
        return spoil

    return declare


def hurt(accident: Accident, data: Dataset, rows: Rows, seed: int = 0) -> Dataset:
    """``data`` after ``accident`` struck the structures ``rows``; equal arguments, equal result.

    Raises
    ------
    NotApplicable
        ``data`` lacks what the accident needs.
    """
    rng = np.random.default_rng([seed, crc32(accident.name.encode())])
    return accident.spoil(data, np.asarray(rows, dtype=np.int64), rng)


def struck(accident: Accident, data: Dataset, seed: int = 0) -> Rows:
    """The structures that ``accident`` would change, in the order in which it strikes them.

    Raises
    ------
    NotApplicable
        ``data`` lacks what the accident needs.
    """
    changed = changed_structures(data, hurt(accident, data, np.arange(len(data)), seed))
    return np.random.default_rng(seed).permutation(changed)


def changed(array: NDArray[Any], where: Any, values: Any) -> NDArray[Any]:
    """A copy of ``array`` with other values in some places, of the same type."""
    copy = array.copy()
    copy[where] = values
    return copy


def atoms_of(data: Dataset, rows: Rows) -> NDArray[np.int64]:
    """The atoms of the structures ``rows``, structure by structure."""
    sizes = data.sizes[rows]
    ends = np.cumsum(sizes)
    within = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - sizes, sizes)
    atoms: NDArray[np.int64] = np.repeat(data.offset[:-1][rows], sizes) + within
    return atoms


def labels(data: Dataset) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Energies (M,) in eV and forces (N, 3) in eV/Å, where the data set has them."""
    if data.energy is None or data.forces is None:
        raise NotApplicable("the data set carries no energies and forces")
    return data.energy, data.forces


def spin_of_electrons(data: Dataset, rows: Rows) -> NDArray[np.int16]:
    """2S + 1 of the structures ``rows`` as a reader takes it where nothing is said: 1, or 2 for an odd electron."""
    protons = np.bincount(data.structure_of_atom, weights=data.numbers, minlength=len(data))[rows].astype(np.int64)
    spin: NDArray[np.int16] = (1 + (protons - data.charge[rows]) % 2).astype(np.int16)
    return spin


def without_atoms(data: Dataset, lost: NDArray[np.int64]) -> Dataset:
    """``data`` without the atoms ``lost``; what is said of each structure stays."""
    kept = np.ones(len(data.numbers), dtype=bool)
    kept[lost] = False
    sizes = np.bincount(data.structure_of_atom[kept], minlength=len(data))
    return replace(
        data,
        numbers=data.numbers[kept],
        positions=data.positions[kept],
        offset=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        forces=None if data.forces is None else data.forces[kept],
        charges=None if data.charges is None else data.charges[kept],
    )


def changed_structures(before: Dataset, after: Dataset) -> NDArray[np.int64]:
    """The structures of ``before`` that ``after`` holds otherwise; all of them where structures were added."""
    count = len(before)
    if len(after) != count:
        return np.arange(count)
    differs = before.sizes != after.sizes
    same = np.flatnonzero(~differs)
    one, two = atoms_of(before, same), atoms_of(after, same)
    owner = np.repeat(same, before.sizes[same])
    for name in ("numbers", "positions", "forces"):
        first, second = getattr(before, name), getattr(after, name)
        if first is not None:
            unequal = _unequal(first[one], second[two])
            differs[owner[unequal if unequal.ndim == 1 else np.any(unequal, axis=1)]] = True
    for name in ("energy", "charge", "spin_multiplicity", "smiles", "inchikey", "split", "parent"):
        first, second = getattr(before, name), getattr(after, name)
        if first is not None:
            differs |= _unequal(first, second)
    return np.flatnonzero(differs)


def _unequal(first: NDArray[Any], second: NDArray[Any]) -> NDArray[np.bool_]:
    """Where two arrays differ; a NaN equals a NaN."""
    unequal: NDArray[np.bool_] = first != second
    return unequal if first.dtype == object else unequal & ~(np.isnan(first) & np.isnan(second))
