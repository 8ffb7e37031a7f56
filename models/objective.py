"""Training objective: the loss of a few labelled structures."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hydrogate.models.batch import Batch, join
from hydrogate.models.loss import Loss, Pairs
from hydrogate.models.potential import EnergyAndForces, Prediction, Student, energy_and_forces


class Labelled(NamedTuple):
    """One structure with its energy () float64 in eV, its forces (n, 3) in eV/Å, and any dipole (3,) in e·Å.

    Two structures with the same ``pair`` are the ends of a displacement pair.
    """

    batch: Batch
    energy: Tensor
    forces: Tensor
    dipole: Tensor | None = None
    pair: int | None = None


class Objective(nn.Module):
    """Loss of a batch as one forward pass, as data-parallel wrappers expect it."""

    def __init__(self, student: Student, loss: Loss) -> None:
        super().__init__()
        self.student, self.loss = student, loss
        self.function: EnergyAndForces = self.eager

    def eager(self, batch: Batch) -> Prediction:
        """Predict by plain autograd, and keep the graph."""
        return energy_and_forces(self.student, batch, create_graph=True)

    def forward(self, some: Sequence[Labelled]) -> Tensor:
        """Return the loss, one number."""
        batch = join([one.batch for one in some])
        energy, forces, dipole = self.function(batch)
        true_energy, true_forces = torch.stack([one.energy for one in some]), torch.cat([one.forces for one in some])
        sizes = torch.bincount(batch.structure)
        pairs = pairs_of(some) if self.loss.hessian_weight else None
        labels = (true_energy, true_forces, sizes)
        return self.loss(energy, forces, *labels, dipole, dipoles_of(some), pairs=pairs, numbers=batch.numbers)


def dipoles_of(some: Sequence[Labelled]) -> Tensor | None:
    """Return the dipoles (M, 3) in e·Å, or None if a structure has none."""
    dipoles = [one.dipole for one in some if one.dipole is not None]
    return torch.stack(dipoles) if len(dipoles) == len(some) else None


def pairs_of(some: Sequence[Labelled]) -> Pairs | None:
    """Return the atoms of the displacement pairs with both ends in ``some``, or None if there are none."""
    ends: dict[int, tuple[int, Tensor]] = {}
    first, second, apart, start = [], [], [], 0
    for one in some:
        positions = one.batch.positions
        if one.pair is not None and one.pair in ends:
            before, others = ends[one.pair]
            atoms = torch.arange(len(positions), device=positions.device)
            first.append(atoms + before)
            second.append(atoms + start)
            apart.append((positions - others).square().sum(1).mean().sqrt().expand(len(positions)))
        elif one.pair is not None:
            ends[one.pair] = (start, positions)
        start += len(positions)
    return Pairs(torch.cat(first), torch.cat(second), torch.cat(apart)) if first else None
