"""Training loss: energy, force, angle, dipole and curvature terms, each with its weight."""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

# eV/Å. The direction of a smaller teacher force carries little information (an isotropic error of 0.25 eV/Å turns
# 0.3 eV/Å by 50°), so such atoms have no angular term. A shorter predicted force is treated as having this length, so
# that the term is one, with a finite slope, where the prediction is zero.
ANGULAR_FLOOR = 0.5


class Pairs(NamedTuple):
    """Atoms of displacement pairs.

    ``first`` and ``second`` (K,) are the indices of the same atom in the two structures; ``apart`` (K,), Å, is the RMS
    distance between these structures.
    """

    first: Tensor
    second: Tensor
    apart: Tensor


@dataclass(frozen=True)
class Loss:
    """Weighted sum of energy, force, angular, dipole and Hessian terms.

    ``energy_weight·E + force_weight·F + angular_weight·(1 − cos θ) + dipole_weight·D + hessian_weight·H``

    E is the mean over structures of the energy error per atom. F is the mean over atoms of the force error, with a
    weight for each atom from ``element_weights``. The angular term is the mean over atoms with a teacher force of at
    least ``ANGULAR_FLOOR`` (zero if a batch has none), weighted according to ``angular_mean``. D is the mean over
    structures of the dipole error. H is the mean over atoms in displacement pairs of the error of the finite-difference
    Hessian-vector product, eV/Å² (zero if a batch has none).

    Parameters
    ----------
    force : {"norm", "mse"}
        ``norm``: absolute energy error per atom (eV), and unsquared length of the force error (eV/Å) and of the dipole
        error (e·Å). ``mse``: squared errors, by component for force and dipole.
    angular_mean : {"atoms", "forces"}
        Weight of an atom in the angular term: the same for each atom, or the length of its teacher force.
    element_weights : tuple of float
        Weight of an atom in the force term, by atomic number; empty for 1 each.
    energy_weight, force_weight, angular_weight, dipole_weight, hessian_weight : float
        At least zero. The first four must not all be zero. With a dipole weight, prediction and labels must have a
        dipole.
    """

    force: Literal["norm", "mse"]
    energy_weight: float
    force_weight: float
    angular_weight: float
    angular_mean: Literal["atoms", "forces"] = "atoms"
    dipole_weight: float = 0.0
    hessian_weight: float = 0.0
    element_weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        weights = (self.energy_weight, self.force_weight, self.angular_weight, self.dipole_weight)
        every = (*weights, self.hessian_weight)
        if not all(math.isfinite(w) and w >= 0 for w in every) or not any(weights):
            raise ValueError(f"loss weights must be finite, at least zero and not all zero, got {every}")
        if self.force not in ("norm", "mse"):
            raise ValueError(f"unknown form of the force loss {self.force!r}; known: norm, mse")
        if self.angular_mean not in ("atoms", "forces"):
            raise ValueError(f"unknown mean of the angular term {self.angular_mean!r}; known: atoms, forces")

    def __call__(
        self,
        energy: Tensor,
        forces: Tensor,
        true_energy: Tensor,
        true_forces: Tensor,
        sizes: Tensor,
        dipole: Tensor | None = None,
        true_dipole: Tensor | None = None,
        *,
        pairs: Pairs | None = None,
        numbers: Tensor | None = None,
    ) -> Tensor:
        """Return the loss, one number.

        Parameters
        ----------
        energy, true_energy : (M,), eV
        forces, true_forces : (N, 3), eV/Å
        sizes : (M,)
            Number of atoms in each structure.
        dipole, true_dipole : (M, 3), e·Å, optional
        pairs : Pairs, optional
        numbers : (N,), optional
            Atomic numbers.

        Raises
        ------
        ValueError
            There is a dipole weight but a dipole is missing, or there are element weights but no ``numbers``.
        """
        energy_error = ((energy - true_energy) / sizes).to(forces.dtype)
        energy_term = (energy_error.abs() if self.force == "norm" else energy_error.square()).mean()
        force_error = forces - true_forces
        force_terms = self._errors(force_error)
        if self.element_weights:
            if numbers is None:
                raise ValueError("element_weights are given, but no atomic numbers")
            force_terms = force_terms * force_terms.new_tensor(self.element_weights)[numbers]
        force_term = force_terms.mean()
        total = self.energy_weight * energy_term + self.force_weight * force_term
        if self.angular_weight:
            total = total + self.angular_weight * angular_term(forces, true_forces, self.angular_mean)
        if self.dipole_weight:
            if dipole is None or true_dipole is None:
                missing = "student predicts" if dipole is None else "labels contain"
                raise ValueError(f"dipole_weight is {self.dipole_weight}, but the {missing} no dipole; set it to 0")
            error = dipole - true_dipole.to(dipole.dtype)
            total = total + self.dipole_weight * self._errors(error).mean()
        if self.hessian_weight and pairs is not None:
            # Student and teacher use the same two geometries, so the difference is exact at any distance.
            error = (force_error[pairs.first] - force_error[pairs.second]) / pairs.apart[:, None]
            total = total + self.hessian_weight * self._errors(error).mean()
        return total

    def _errors(self, difference: Tensor) -> Tensor:
        """Return the errors (K,) of (K, 3) differences: their lengths, or the means of their squares."""
        if self.force == "norm":
            # The slope is zero, not NaN, where a difference is zero.
            lengths: Tensor = torch.linalg.vector_norm(difference, dim=1)
            return lengths
        return difference.square().mean(1)


def angular_term(forces: Tensor, true_forces: Tensor, mean: str = "atoms") -> Tensor:
    """Return the mean of 1 − cos θ between (N, 3) forces, eV/Å.

    The mean is over atoms with a true force of at least ``ANGULAR_FLOOR``.
    """
    true_length: Tensor = torch.linalg.vector_norm(true_forces, dim=1)
    counted = (true_length >= ANGULAR_FLOOR).to(forces.dtype)
    weight = counted * true_length if mean == "forces" else counted
    length: Tensor = torch.linalg.vector_norm(forces, dim=1).clamp(min=ANGULAR_FLOOR)
    cosine = (forces * true_forces).sum(1) / (length * true_length.clamp(min=ANGULAR_FLOOR))
    # Each counted atom weighs at least the floor; the clamp only gives zero for a batch without counted atoms.
    return ((1.0 - cosine) * weight).sum() / weight.sum().clamp(min=ANGULAR_FLOOR)
