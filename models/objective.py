"""The loss of a few labelled structures, as training makes it small."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hydrogate.models.batch import Batch, join
from hydrogate.models.loss import Loss
from hydrogate.models.potential import EnergyAndForces, Student, energy_and_forces


class Labelled(NamedTuple):
    """One structure, its energy () float64 in eV, and its forces (n, 3) in eV/Å."""

    batch: Batch
    energy: Tensor
    forces: Tensor


class Objective(nn.Module):
    """The loss of a batch as one forward pass, which is where data-parallel wrappers look."""

    def __init__(self, student: Student, loss: Loss) -> None:
        super().__init__()
        self.student, self.loss = student, loss
        self.function: EnergyAndForces = self.eager

    def eager(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Energies and forces by plain autograd, with their graph."""
        return energy_and_forces(self.student, batch, create_graph=True)

    def forward(self, some: Sequence[Labelled]) -> Tensor:
        """One number."""
        batch = join([one.batch for one in some])
        energy, forces = self.function(batch)
        true_energy, true_forces = torch.stack([one.energy for one in some]), torch.cat([one.forces for one in some])
        return self.loss(energy, forces, true_energy, true_forces, torch.bincount(batch.structure))
