"""The compiled way to energies and forces, for training, and the comparison that it must pass before it is believed."""

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
    """`energy_and_forces` with the graph kept, as one compiled function of any batch with two or more structures.

    ``torch.func.grad`` inside the compiled function is the spelling that works, and not for every student: with some
    (``x**2`` on slices made by ``split``) the compiled training graph returns wrong forces without complaint. Whoever
    uses it compares it with `energy_and_forces`, forces with gradients enabled, at the weights in use.
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
            # The compiled graph is one of isolated structures.
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
    """What share of a plain training step's time a compiled one takes on ``device``: cpu or cuda."""
    served = student.kernels and all(fastest(kernel, device) == "cpp" for kernel in student.kernels)
    return student.compiled_step.of_kernels if served else student.compiled_step.of_plain


class CompiledRefused(RuntimeError):
    """The compiled function cannot be made, or cannot be believed."""


class Faithfulness(NamedTuple):
    """How far a function is from `energy_and_forces` in double precision: the largest relative deviation.

    Parameters
    ----------
    deviation : float
        Of interaction energies, forces, any dipoles, or the gradient of a loss of all of them by the parameters.
    allowed : float
        1e-5, or ten times what plain autograd in the student's own precision deviates.
    """

    deviation: float
    allowed: float

    @property
    def holds(self) -> bool:
        """Whether the deviation is small enough; one that is not finite is not."""
        return self.deviation <= self.allowed

    def __str__(self) -> str:
        return f"the compiled step deviates by {self.deviation:.1e} from plain autograd, allowed {self.allowed:.1e}"


def faithfulness(student: Student, function: EnergyAndForces, batch: Batch) -> Faithfulness:
    """Compare ``function`` of ``student`` with plain autograd in double precision, as training uses it.

    Forces come with their graph, and the parameter gradient through both energies and forces.
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
    """`compiled_energy_and_forces`, compiled and compared on ``batch`` (two structures or more).

    Raises
    ------
    CompiledRefused
        It does not compile here (no C++ compiler, say), or it is not faithful.
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
    """Interaction energies, forces, any dipoles, and the gradient of a loss of them all by the parameters."""
    energy, *rest = function(batch)
    values = [energy - student.reference_energy(batch), *(value for value in rest if value is not None)]
    # Weights that differ from number to number, so that no error cancels in the sum.
    loss = values[0].sum()
    for value in values[1:]:
        weights = torch.cos(torch.arange(value.numel(), device=value.device, dtype=value.dtype)).view_as(value)
        loss = loss + (value * weights).sum()
    gradient = torch.autograd.grad(loss, list(student.parameters()))
    return [*(value.detach() for value in values), torch.cat([part.flatten() for part in gradient])]
