"""The loss of a few labelled structures, as training makes it small."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hydrogate.models.batch import Batch, join
from hydrogate.models.loss import Loss
from hydrogate.models.potential import EnergyAndForces, Prediction, Student, energy_and_forces


class Labelled(NamedTuple):
    """One structure, its energy () float64 in eV, its forces (n, 3) in eV/Å, and any dipole (3,) in e·Å."""

    batch: Batch
    energy: Tensor
    forces: Tensor
    dipole: Tensor | None = None


class Objective(nn.Module):
    """The loss of a batch as one forward pass, which is where data-parallel wrappers look."""

    def __init__(self, student: Student, loss: Loss) -> None:
        super().__init__()
        self.student, self.loss = student, loss
        self.function: EnergyAndForces = self.eager

    def eager(self, batch: Batch) -> Prediction:
        """The prediction by plain autograd, with its graph."""
        return energy_and_forces(self.student, batch, create_graph=True)

    def forward(self, some: Sequence[Labelled]) -> Tensor:
        """One number."""
        batch = join([one.batch for one in some])
        energy, forces, dipole = self.function(batch)
        true_energy, true_forces = torch.stack([one.energy for one in some]), torch.cat([one.forces for one in some])
        sizes = torch.bincount(batch.structure)
        return self.loss(energy, forces, true_energy, true_forces, sizes, dipole, dipoles_of(some))


def dipoles_of(some: Sequence[Labelled]) -> Tensor | None:
    """(M, 3) e·Å, or None where a structure has none."""
    dipoles = [one.dipole for one in some if one.dipole is not None]
    return torch.stack(dipoles) if len(dipoles) == len(some) else None
