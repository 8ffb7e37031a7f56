"""Compiled energies and forces for training, and the comparison that they must pass before they are used."""

import copy
import math
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from hydrogate.models.batch import Batch
from hydrogate.models.kernels import fastest
from hydrogate.models.potential import EnergyAndForces, Prediction, Student, energy_and_forces


def compiled_energy_and_forces(student: Student) -> EnergyAndForces:
    """Compile `energy_and_forces`, with the graph kept, into one function of any batch with two or more structures.

    Only the form with ``torch.func.grad`` inside the compiled function works, and not for every student: with some
    (``x**2`` on slices made by ``split``) the compiled training graph silently returns wrong forces. Compare it with
    `energy_and_forces` before use, forces with gradients enabled, at the weights in use.
    """

    def total(positions: Tensor, batch: Batch) -> tuple[Tensor, tuple[Tensor, ...]]:
        energy, dipole = student.interaction_energy_and_dipole(batch.at(positions))
        return energy.sum(), (energy,) if dipole is None else (energy, dipole)

    def both(
        numbers: Tensor,
        positions: Tensor,
        structure: Tensor,
        charge: Tensor,
        spin: Tensor,
        edges: Tensor,
        pairs: Tensor | None,
    ) -> tuple[Tensor, ...]:
        batch = Batch(numbers, positions, structure, charge, spin, edges, pairs)
        gradient, (energy, *dipole) = torch.func.grad(total, has_aux=True)(positions, batch)
        return energy, -gradient, *dipole

    compiled = torch.compile(both, dynamic=True, fullgraph=True)

    def call(batch: Batch) -> Prediction:
        if batch.cell is not None:
            # The compiled graph supports only isolated structures.
            return energy_and_forces(student, batch, create_graph=True)
        student.support.refuse_others(batch, student.name)
        energy, *rest = compiled(
            batch.numbers,
            batch.positions,
            batch.structure,
            batch.charge,
            batch.spin_multiplicity,
            batch.edge_index,
            batch.pairs,
        )
        return Prediction(energy.double() + student.reference_energy(batch), *rest)

    return call


def compiled_share(student: Student, device: str) -> float:
    """Return the time of a compiled training step on ``device`` (cpu or cuda) as a share of a plain step's."""
    served = student.kernels and all(fastest(kernel, device) == "cpp" for kernel in student.kernels)
    return student.compiled_step.of_kernels if served else student.compiled_step.of_plain


class CompiledRefused(RuntimeError):
    """The training step cannot be compiled, or its compiled form is not accurate enough."""


class Faithfulness(NamedTuple):
    """Largest relative deviation of a function from `energy_and_forces` in double precision.

    Parameters
    ----------
    deviation : float
        Largest over interaction energies, forces, any dipoles, and the gradient of a loss of all of them by the
        parameters.
    allowed : float
        1e-5, or ten times the deviation of plain autograd in the student's own precision, if that is larger.
    """

    deviation: float
    allowed: float

    @property
    def holds(self) -> bool:
        """True if the deviation is small enough; a deviation that is not finite never is."""
        return self.deviation <= self.allowed

    def __str__(self) -> str:
        return f"the compiled step deviates by {self.deviation:.1e} from plain autograd, allowed {self.allowed:.1e}"


def faithfulness(student: Student, function: EnergyAndForces, batch: Batch) -> Faithfulness:
    """Compare ``function`` of ``student`` with plain autograd in double precision, as training uses it.

    Forces are computed with their graph, and the parameter gradient goes through both energies and forces.
    """
    exact_student = copy.deepcopy(student).double()
    exact = _observed(exact_student, partial(energy_and_forces, exact_student, create_graph=True), _double(batch))
    plain = _observed(student, partial(energy_and_forces, student, create_graph=True), batch)
    tested = _observed(student, function, batch)

    def deviation(values: list[Tensor]) -> float:
        pairs = zip(values, exact, strict=True)
        parts = [float((v.double() - e).norm() / e.norm().clamp(min=1e-12)) for v, e in pairs]
        return max(parts) if all(map(math.isfinite, parts)) else math.inf

    return Faithfulness(deviation(tested), max(1e-5, 10 * deviation(plain)))


def verified_energy_and_forces(student: Student, batch: Batch) -> EnergyAndForces:
    """Return `compiled_energy_and_forces` after compiling and verifying it on ``batch`` (two structures or more).

    Raises
    ------
    CompiledRefused
        It does not compile here (for example without a C++ compiler), or its deviation is too large.
    """
    function = compiled_energy_and_forces(student)
    try:
        found = faithfulness(student, function, batch)
    except (RuntimeError, OSError) as error:
        first = next(iter(str(error).strip().splitlines()), "")
        raise CompiledRefused(f"the training step does not compile here ({type(error).__name__}: {first})") from error
    if not found.holds:
        raise CompiledRefused(str(found))
    return function


def _double(batch: Batch) -> Batch:
    return batch.to(batch.positions.device, torch.float64)


def _observed(student: Student, function: EnergyAndForces, batch: Batch) -> list[Tensor]:
    """Return interaction energies, forces, any dipoles, and the gradient of a loss of them all by the parameters."""
    energy, *rest = function(batch)
    values = [energy - student.reference_energy(batch), *(value for value in rest if value is not None)]
    # Each number has a different weight, so that errors do not cancel in the sum.
    loss = values[0].sum()
    for value in values[1:]:
        weights = torch.cos(torch.arange(value.numel(), device=value.device, dtype=value.dtype)).view_as(value)
        loss = loss + (value * weights).sum()
    gradient = torch.autograd.grad(loss, list(student.parameters()))
    return [*(value.detach() for value in values), torch.cat([part.flatten() for part in gradient])]
