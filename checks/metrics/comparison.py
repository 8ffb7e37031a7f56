"""Comparison of a student's predictions with the teacher's labels, atom by atom, with properties of each atom."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Self

import numpy as np
from ase.data import atomic_numbers, covalent_radii
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from hydrogate.checks.data.dataset import Dataset
from hydrogate.checks.metrics.bootstrap import Floats

ANGULAR_FLOOR = 0.5  # eV/Å; at smaller forces an isotropic error of 0.25 eV/Å already gives angles of 50°
# Maximum bond length in units of the sum of covalent radii (contract check hydrogen_bond_lengths).
BOND_FACTOR = 1.40
# Å; rounding difference between two files that store four decimals.
POSITION_TOLERANCE = 1e-4
# Å, H to acceptor. Source: Jeffrey, An Introduction to Hydrogen Bonding (1997): moderate up to 2.2, weak beyond.
HYDROGEN_BOND = 2.5
_DONORS = tuple(atomic_numbers[symbol] for symbol in ("N", "O", "F"))


@dataclass(frozen=True, eq=False)
class Comparison:
    """Predictions of a student and labels of the teacher: N atoms in M structures of G molecules.

    Parameters
    ----------
    numbers : (N,) int
    positions : (N, 3) float64, Å
    offset : (M + 1,) int64
    molecule : (M,) int64
        Molecule index, from 0 to G - 1; all geometries of a molecule share one index.
    energy, energy_predicted : (M,) float64, eV
        NaN if missing.
    forces, forces_predicted : (N, 3) float64, eV/Å
    angular_floor : float, eV/Å
        Minimum teacher force of atoms that enter angle statistics.
    """

    numbers: NDArray[np.int64]
    positions: Floats
    offset: NDArray[np.int64]
    molecule: NDArray[np.int64]
    energy: Floats
    forces: Floats
    energy_predicted: Floats
    forces_predicted: Floats
    angular_floor: float = ANGULAR_FLOOR
    molecules: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "molecules", int(self.molecule.max()) + 1 if len(self.molecule) else 0)

    @classmethod
    def of(cls, reference: Dataset, predicted: Dataset, *, angular_floor: float = ANGULAR_FLOOR) -> Self:
        """Compare two data sets with the same structures and atoms in the same order; energies are optional.

        Raises
        ------
        ValueError
            A data set has no forces, the forces of the reference are not finite, or the data sets differ in structures,
            elements, charge, spin multiplicity or geometry. The message names the first difference.
        """
        for name, data in (("the reference", reference), ("the prediction", predicted)):
            if data.forces is None:
                raise ValueError(f"{name} has no forces ({data!r}); label it or predict it first")
        _refuse_difference(reference, predicted)
        for row in np.argwhere(~np.isfinite(np.asarray(reference.forces)))[:1, 0]:
            raise ValueError(
                f"{reference.name(int(reference.structure_of_atom[row]))}: a force of the reference is not finite; "
                "remove the structure from both files or label it again"
            )
        return cls(
            numbers=reference.numbers.astype(np.int64),
            positions=reference.positions.astype(np.float64),
            offset=reference.offset,
            molecule=molecules_of(reference),
            energy=_energy(reference),
            forces=np.asarray(reference.forces, dtype=np.float64),
            energy_predicted=_energy(predicted),
            forces_predicted=np.asarray(predicted.forces, dtype=np.float64),
            angular_floor=angular_floor,
        )

    @cached_property
    def structure_of_atom(self) -> NDArray[np.int64]:
        """Structure index of each atom, (N,)."""
        return np.repeat(np.arange(len(self.offset) - 1), np.diff(self.offset))

    @cached_property
    def molecule_of_atom(self) -> NDArray[np.int64]:
        """Molecule index of each atom, (N,)."""
        return self.molecule[self.structure_of_atom]

    @cached_property
    def error(self) -> Floats:
        """Predicted minus teacher force, (N, 3), eV/Å."""
        return self.forces_predicted - self.forces

    @cached_property
    def force_lengths(self) -> Floats:
        """Length of the teacher force of each atom, (N,), eV/Å."""
        return np.asarray(np.sqrt((self.forces**2).sum(axis=1)))

    @cached_property
    def angles(self) -> Floats:
        """Angle between predicted and teacher force, (N,), degrees; 90 if the prediction is zero.

        Computed with atan2, because the arc cosine loses half of the digits of a small angle.
        """
        with np.errstate(invalid="ignore"):
            cross = np.linalg.norm(np.cross(self.forces, self.forces_predicted), axis=1)
            angles = np.degrees(np.arctan2(cross, (self.forces * self.forces_predicted).sum(axis=1)))
        angles[(self.forces_predicted == 0).all(axis=1)] = 90.0
        return np.asarray(angles)

    @cached_property
    def above_floor(self) -> NDArray[np.bool_]:
        """Mask of atoms that enter angle statistics, (N,); never an atom whose teacher force is zero."""
        return np.asarray((self.force_lengths >= self.angular_floor) & (self.force_lengths > 0))

    @cached_property
    def partner(self) -> NDArray[np.int64]:
        """Atomic number of the heavy atom bonded to each hydrogen, (N,); 0 for a lone H and for heavy atoms."""
        return _partners(self)[0]

    @cached_property
    def hydrogen_bonded(self) -> NDArray[np.bool_]:
        """Mask of hydrogens bonded to N, O or F with another N, O or F within 2.5 Å, (N,)."""
        return _partners(self)[1]


def _energy(data: Dataset) -> Floats:
    return np.full(len(data), np.nan) if data.energy is None else np.asarray(data.energy, dtype=np.float64)


def _refuse_difference(reference: Dataset, predicted: Dataset) -> None:
    if len(reference) != len(predicted):
        raise ValueError(
            f"the reference has {len(reference)} structures, the prediction {len(predicted)}; "
            "predict exactly the held-out split"
        )
    for index in np.flatnonzero(reference.sizes != predicted.sizes)[:1]:
        raise ValueError(
            f"{reference.name(index)} has {reference.sizes[index]} atoms in the reference and "
            f"{predicted.sizes[index]} in the prediction; predict again from the same file"
        )
    for what, ours, theirs, tolerance in (
        ("elements", reference.numbers, predicted.numbers, 0),
        ("positions", reference.positions, predicted.positions, POSITION_TOLERANCE),
        ("charge", reference.charge, predicted.charge, 0),
        ("spin multiplicity", reference.spin_multiplicity, predicted.spin_multiplicity, 0),
    ):
        # Negated comparison, so that NaN counts as different.
        equal = np.abs(ours.astype(np.float64) - theirs.astype(np.float64)) <= tolerance
        for row in np.argwhere(~equal)[:1]:
            index = reference.structure_of_atom[row[0]] if what in ("elements", "positions") else row[0]
            raise ValueError(
                f"{reference.name(int(index))}: {what} differ between the reference ({ours[row[0]]}) and the "
                f"prediction ({theirs[row[0]]}); predict again from the same file, in the same order"
            )


def molecules_of(data: Dataset) -> NDArray[np.int64]:
    """Return the molecule index of each structure, (M,), from 0: root parents with the same skeleton are merged.

    The first block of the InChIKey is the skeleton without stereochemistry or protons.
    """
    root = data.parent.copy()
    while not np.array_equal(root, data.parent[root]):
        root = data.parent[root]
    skeleton = [str(key)[:14] for key in data.inchikey]
    labels = [skeleton[r] or f"#{r}" for r in root.tolist()]
    return np.unique(np.asarray(labels, dtype=str), return_inverse=True)[1].astype(np.int64)


def _partners(c: Comparison) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    partner = np.zeros(len(c.numbers), dtype=np.int64)
    bridged = np.zeros(len(c.numbers), dtype=np.bool_)
    hydrogen, heavy = np.flatnonzero(c.numbers == 1), np.flatnonzero(c.numbers > 1)
    if not len(hydrogen) or not len(heavy) or not np.isfinite(c.positions).all():
        return partner, bridged
    # A fourth axis separates the structures: one tree serves all of them, with no neighbours across structures.
    far = 10.0 * c.structure_of_atom[:, None]
    places = np.hstack([c.positions, far])
    longest = covalent_radii[1] + covalent_radii[c.numbers[heavy]].max()
    pairs = cKDTree(places[hydrogen]).sparse_distance_matrix(
        cKDTree(places[heavy]), max(HYDROGEN_BOND, BOND_FACTOR * float(longest)), output_type="ndarray"
    )
    h, x, distance = hydrogen[pairs["i"]], heavy[pairs["j"]], pairs["v"]
    ratio = distance / (covalent_radii[1] + covalent_radii[c.numbers[x]])
    order = np.argsort(-ratio, kind="stable")  # the nearest atom is written last
    order = order[ratio[order] <= BOND_FACTOR]
    partner[h[order]] = c.numbers[x[order]]
    donor = np.full(len(c.numbers), -1)
    donor[h[order]] = x[order]
    near = (distance <= HYDROGEN_BOND) & (donor[h] != x) & np.isin(c.numbers[x], _DONORS)
    bridged[h[near & np.isin(partner[h], _DONORS)]] = True
    return partner, bridged
