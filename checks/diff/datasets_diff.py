"""Comparison of two data sets: contents, distances between distributions, molecules added and removed."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hydrogate.checks.data.dataset import Dataset
from hydrogate.checks.geometry.chemistry import molecule_key
from hydrogate.checks.geometry.observables import force_norms
from hydrogate.checks.rules.reference import element_distance, energy_per_atom, kolmogorov_smirnov

QUANTILES = {"min": 0.0, "5 %": 0.05, "median": 0.5, "95 %": 0.95, "max": 1.0}


@dataclass(frozen=True)
class Spread:
    """Quantiles of the finite values among ``n``; ``not_finite`` counts the others. No quantiles if none is finite."""

    n: int
    not_finite: int
    quantiles: Mapping[str, float]


@dataclass(frozen=True)
class Side:
    """Contents of one of the two data sets.

    Parameters
    ----------
    name : str
    units : str
        Units in which the numbers of its file were read; those here are in eV, Å and eV/Å.
    hydrogen_fraction : float, optional
        None if there are no atoms.
    sizes : Spread
        Atoms per structure.
    force : Spread, optional
        |F| of each atom, eV/Å; None if the data set has no forces.
    energy_per_atom : Spread, optional
        eV; None if the data set has no energies.
    """

    name: str
    units: str
    structures: int
    atoms: int
    molecules: int
    species_percent: Mapping[str, float]
    hydrogen_fraction: float | None
    sizes: Spread
    force: Spread | None
    energy_per_atom: Spread | None
    teacher: str
    fingerprint: str


@dataclass(frozen=True)
class Difference:
    """Difference between ``one`` and ``other``.

    Parameters
    ----------
    told_by : str
        The key that identifies molecules: ``molecule_key`` of SMILES if both data sets have one for every structure,
        else ``formula``, which isomers share.
    new, lost : mapping of str to int
        Molecules that are only in ``other`` and only in ``one``, with their numbers of structures.
    changed : mapping of str to (int, int)
        Molecules in both whose number of structures differs.
    unreadable_smiles : int
        SMILES that RDKit cannot read; each counts as its own molecule.
    element_distance : float, optional
        Jensen-Shannon distance of the elements, base 2.
    force_distance, energy_distance : float, optional
        Kolmogorov-Smirnov distance of |F| and of energy per atom, over finite values; None unless both have labels.
    """

    one: Side
    other: Side
    told_by: str
    new: Mapping[str, int]
    lost: Mapping[str, int]
    changed: Mapping[str, tuple[int, int]]
    unreadable_smiles: int
    element_distance: float | None
    force_distance: float | None
    energy_distance: float | None

    @property
    def same(self) -> bool:
        """True if the contents are bit-for-bit identical; file names are not compared."""
        return self.one.fingerprint == self.other.fingerprint


def compare(
    one: Dataset,
    other: Dataset,
    *,
    names: tuple[str, str] = ("one", "other"),
    units: tuple[str, str] = ("eV,angstrom", "eV,angstrom"),
) -> Difference:
    """Compare ``other`` with ``one``; ``units`` are those of the files, the data sets are in eV and Å."""
    told_by, counts, unreadable = _molecules(one, other)
    forces = [_force(data) for data in (one, other)]
    energies = [_energy(data) for data in (one, other)]
    sides = [
        Side(
            name=names[index],
            units=units[index],
            structures=len(data),
            atoms=len(data.numbers),
            molecules=len(counts[index]),
            species_percent=data.species_percentages(),
            hydrogen_fraction=float((data.numbers == 1).mean()) if len(data.numbers) else None,
            sizes=_spread(data.sizes.astype(np.float64)),
            force=_spread_of(forces[index]),
            energy_per_atom=_spread_of(energies[index]),
            teacher=teacher_name(data),
            fingerprint=data.fingerprint(),
        )
        for index, data in enumerate((one, other))
    ]
    before, after = counts
    first, second = sides
    return Difference(
        one=first,
        other=second,
        told_by=told_by,
        new={key: after[key] for key in after if key not in before},
        lost={key: before[key] for key in before if key not in after},
        changed={key: (before[key], after[key]) for key in before if key in after and before[key] != after[key]},
        unreadable_smiles=unreadable,
        element_distance=_defined(element_distance(one, other)),
        force_distance=_distance(*forces),
        energy_distance=_distance(*energies),
    )


def teacher_name(data: Dataset) -> str:
    """Return the teacher's name, method and version, as far as the data set stores them, else ``none``."""
    teacher = data.teacher or {}
    return " ".join(str(teacher[key]) for key in ("name", "method", "version") if key in teacher) or "none"


def _force(data: Dataset) -> NDArray[np.float64] | None:
    return None if data.forces is None else force_norms(data)


def _energy(data: Dataset) -> NDArray[np.float64] | None:
    return None if data.energy is None else energy_per_atom(data)


def _spread_of(values: NDArray[np.float64] | None) -> Spread | None:
    return None if values is None else _spread(values)


def _spread(values: NDArray[np.float64]) -> Spread:
    finite = values[np.isfinite(values)]
    quantiles = np.quantile(finite, list(QUANTILES.values())).tolist() if len(finite) else []
    return Spread(len(values), len(values) - len(finite), dict(zip(QUANTILES, quantiles, strict=False)))


def _distance(values: NDArray[np.float64] | None, others: NDArray[np.float64] | None) -> float | None:
    if values is None or others is None:
        return None
    return _defined(kolmogorov_smirnov(values[np.isfinite(values)], others[np.isfinite(others)]))


def _defined(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _molecules(one: Dataset, other: Dataset) -> tuple[str, list[Counter[str]], int]:
    """Return the identifying key, the structures per molecule of both data sets, the number of unreadable SMILES."""
    both = (one, other)
    if not all((data.smiles != "").all() for data in both):
        return "formula", [Counter(data.formula(row) for row in range(len(data))) for data in both], 0
    keys: dict[str, str] = {}
    unreadable = 0
    for smiles in dict.fromkeys([*one.smiles.tolist(), *other.smiles.tolist()]):
        try:
            keys[smiles] = molecule_key(smiles)
        except ValueError:
            keys[smiles] = smiles
            unreadable += 1
    return "molecule_key", [Counter(keys[smiles] for smiles in data.smiles.tolist()) for data in both], unreadable
