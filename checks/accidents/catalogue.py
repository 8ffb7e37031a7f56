"""Registry of data corruptions: functions that corrupt given structures of a copy and leave all others unchanged."""

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
    """Raised if a corruption does not apply to a data set; the message names what the data set lacks."""


@dataclass(frozen=True)
class Accident:
    """A data corruption that has occurred in practice.

    Parameters
    ----------
    name : str
    contracts : tuple of str
        The contracts whose data can have it.
    source : str
        A link to a case or a description of it.
    largest_share : float
        The largest share of the structures that is corrupted; below 1 if changing all of them would be no corruption.
    before_labelling : bool
        Whether it occurs before labelling, so that the labels are correct for the corrupted structures. The atlas
        relabels the structures that it changes.
    spoil : callable
        Maps ``(data, rows, rng)`` to a data set in which the structures ``rows`` are corrupted.
    """

    name: str
    contracts: tuple[str, ...]
    source: str
    largest_share: float
    before_labelling: bool
    spoil: Spoil

    @property
    def says(self) -> str:
        """The description of the corruption, in one sentence."""
        return " ".join((self.spoil.__doc__ or "").split("\n\n")[0].split())


ACCIDENTS: dict[str, Accident] = {}


def accident(
    *contracts: str, source: str, largest_share: float = 1.0, before_labelling: bool = False
) -> Callable[[Spoil], Spoil]:
    """Register the decorated function as a data corruption under the function's name."""

    def declare(spoil: Spoil) -> Spoil:
        name = spoil.__name__
        ACCIDENTS[name] = Accident(name, contracts, source, largest_share, before_labelling, spoil)
        return spoil

    return declare


def hurt(accident: Accident, data: Dataset, rows: Rows, seed: int = 0) -> Dataset:
    """Return a copy of ``data`` with the structures ``rows`` corrupted; equal arguments give an equal result.

    Raises
    ------
    NotApplicable
        ``data`` lacks what the corruption needs.
    """
    rng = np.random.default_rng([seed, crc32(accident.name.encode())])
    return accident.spoil(data, np.asarray(rows, dtype=np.int64), rng)


def struck(accident: Accident, data: Dataset, seed: int = 0) -> Rows:
    """Return the structures that ``accident`` would change, in the order in which they are corrupted.

    Raises
    ------
    NotApplicable
        ``data`` lacks what the corruption needs.
    """
    changed = changed_structures(data, hurt(accident, data, np.arange(len(data)), seed))
    return np.random.default_rng(seed).permutation(changed)


def changed(array: NDArray[Any], where: Any, values: Any) -> NDArray[Any]:
    """Return a copy of ``array``, of the same type, with ``values`` at the positions ``where``."""
    copy = array.copy()
    copy[where] = values
    return copy


def atoms_of(data: Dataset, rows: Rows) -> NDArray[np.int64]:
    """Return the atom indices of the structures ``rows``, structure by structure."""
    sizes = data.sizes[rows]
    ends = np.cumsum(sizes)
    within = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - sizes, sizes)
    atoms: NDArray[np.int64] = np.repeat(data.offset[:-1][rows], sizes) + within
    return atoms


def labels(data: Dataset) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Return energies (M,) in eV and forces (N, 3) in eV/Å, or raise NotApplicable if either is missing."""
    if data.energy is None or data.forces is None:
        raise NotApplicable("the data set has no energies and forces")
    return data.energy, data.forces


def spin_of_electrons(data: Dataset, rows: Rows) -> NDArray[np.int16]:
    """Return 2S + 1 of the structures ``rows`` as a reader defaults it: 1, or 2 for an odd number of electrons."""
    protons = np.bincount(data.structure_of_atom, weights=data.numbers, minlength=len(data))[rows].astype(np.int64)
    spin: NDArray[np.int16] = (1 + (protons - data.charge[rows]) % 2).astype(np.int16)
    return spin


def without_atoms(data: Dataset, lost: NDArray[np.int64]) -> Dataset:
    """Return ``data`` without the atoms ``lost``; values stored per structure stay."""
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
    """Return the structures of ``before`` that differ in ``after``; all of them if the number of structures differs."""
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
    """Return a mask of the elements that differ; NaN equals NaN."""
    unequal: NDArray[np.bool_] = first != second
    return unequal if first.dtype == object else unequal & ~(np.isnan(first) & np.isnan(second))
