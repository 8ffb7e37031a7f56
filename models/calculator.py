"""A trained student as an ASE calculator: one structure at a time, isolated or periodic, for what ASE does with it."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress
from torch import Tensor

from hydrogate.models.batch import Batch
from hydrogate.models.potential import Student, energy_and_forces
from hydrogate.models.teachers import charge_and_multiplicity


class StudentCalculator(Calculator):
    """Energies (eV), forces (eV/Å), of a periodic structure with a volume the stress (eV/Å³, positive where the cell
    would shrink), of an isolated one, from a student that predicts it, the dipole (e·Å).

    Charge (e) and 2S + 1 are read from ``atoms.info["charge"]`` and ``atoms.info["spin"]``. Nothing is computed again
    for the same structure; whatever changes (the atoms, their charge or spin, the student's weights), no old answer is
    given.

    Parameters
    ----------
    student : Student
        `hydrogate.models.student_file.load_student` reads one; it computes in its own precision, where it is.

    Raises
    ------
    UnsupportedStructure, ValueError
        On calculation: the student was not taught such a structure; it is empty, not finite, or periodic in a way that
        the student or the cell does not allow; its electrons do not fit its spin.
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces", "stress"]

    def __init__(self, student: Student) -> None:
        super().__init__()
        self.student = student
        if student.dipole_weight is not None:
            self.implemented_properties = [*type(self).implemented_properties, "dipole"]
        self._seen: object = None
        self._constant: Student | None = None
        self._constant_of: object = None

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """What ASE compares, and what it does not know of: charge, spin, and the weights."""
        changes: list[str] = super().check_state(atoms, tol)
        return changes if self._seen == self._beside(atoms) else [*changes, "info"]

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """All properties at once."""
        super().calculate(atoms, properties, system_changes)
        charge_and_multiplicity(self.atoms)
        weights = next(self.student.parameters())
        batch = self.student.collate([self.atoms], weights.dtype).to(weights.device, weights.dtype)
        student, slope = self._constant_student(), None
        if batch.cell is None:
            energy, forces, dipole = energy_and_forces(student, batch)
        else:
            (energy, forces, slope), dipole = energy_forces_and_strain(student, batch, batch.cell), None
        self.results = {"energy": energy.item(), "free_energy": energy.item(), "forces": forces.double().cpu().numpy()}
        if dipole is not None:
            self.results["dipole"] = dipole[0].double().cpu().numpy()
        if slope is not None and self.atoms.cell.rank == 3:
            stress = slope[0].double().cpu().numpy() / self.atoms.cell.volume
            self.results["stress"] = full_3x3_to_voigt_6_stress(stress)
        self._seen = self._beside(self.atoms)

    def _constant_student(self) -> Student:
        """The student with its weights as constants, which is differentiated faster by the positions alone."""
        versions = self._versions()
        if self._constant is None or self._constant_of != versions:
            self._constant = copy.deepcopy(self.student).requires_grad_(False)
            self._constant_of = versions
        return self._constant

    def _versions(self) -> tuple[Any, ...]:
        # A tensor's version counts what was done to it in place; another tensor in its stead is another address.
        weights = (*self.student.parameters(), *self.student.buffers())
        return tuple((tensor.data_ptr(), tensor._version, tensor.dtype) for tensor in weights)

    def _beside(self, atoms: Atoms) -> tuple[Any, ...]:
        return atoms.info.get("charge", 0), atoms.info.get("spin", 1), self._versions()


def energy_forces_and_strain(student: Student, batch: Batch, cell: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """As `energy_and_forces`, with the slope of the energies as atoms and ``cell`` are strained alike, (M, 3, 3) eV."""
    student.support.refuse_others(batch, student.name)
    leaf = batch.positions.detach().requires_grad_(True)
    strain = torch.zeros_like(cell).requires_grad_(True)
    symmetric = 0.5 * (strain + strain.mT)
    positions = leaf + torch.einsum("na,nab->nb", leaf, symmetric[batch.structure])
    energy = student.interaction_energy(replace(batch, positions=positions, cell=cell + cell @ symmetric))
    gradient, slope = torch.autograd.grad(energy.sum(), (leaf, strain))
    return energy.detach().double() + student.reference_energy(batch), -gradient, slope
