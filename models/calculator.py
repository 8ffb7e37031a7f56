"""ASE calculator for a trained student: one isolated or periodic structure at a time."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress
from torch import Tensor

from hydrogate.models.batch import Batch
from hydrogate.models.potential import Student, energy_and_forces
from hydrogate.models.teachers import charge_and_multiplicity


class StudentCalculator(Calculator):
    """ASE calculator with a student's energies (eV), forces (eV/Å), stress (eV/Å³) and dipole (e·Å).

    A periodic structure with a volume has a stress, positive where the cell would shrink. An isolated structure has a
    dipole if the student predicts dipoles.

    Charge (e) and 2S + 1 are read from ``atoms.info["charge"]`` and ``atoms.info["spin"]``. Results are cached for an
    unchanged structure. Any change (of the atoms, their charge or spin, or the student's weights) discards them.

    Parameters
    ----------
    student : Student
        Computes in its own precision on its own device; `hydrogate.models.student_file.load_student` reads one.

    Raises
    ------
    UnsupportedStructure, ValueError
        On calculation: the student was not trained on such a structure; the structure is empty, not finite, or
        periodic in a way that the student or the cell does not support; its electrons do not match its spin.
    """

    implemented_properties: list[str] = ["energy", "free_energy", "forces", "stress"]  # noqa: RUF012, as ASE declares it

    def __init__(self, student: Student) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # ASE has no types here
        self.student = student
        if student.dipole_weight is not None:
            self.implemented_properties = [*type(self).implemented_properties, "dipole"]
        self._seen: object = None
        self._constant: Student | None = None
        self._constant_of: object = None

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """List the changes that ASE detects, and those that it does not: charge, spin and the weights."""
        changes: list[str] = super().check_state(atoms, tol)  # type: ignore[no-untyped-call]  # ASE has no types here
        return changes if self._seen == self._beside(atoms) else [*changes, "info"]

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Compute all properties at once."""
        super().calculate(atoms, properties, system_changes)  # type: ignore[no-untyped-call]  # ASE has no types here
        structure: Atoms | None = self.atoms
        assert structure is not None
        charge_and_multiplicity(structure)
        weights = next(self.student.parameters())
        batch = self.student.collate([structure], weights.dtype).to(weights.device, weights.dtype)
        student, slope = self._constant_student(), None
        if batch.cell is None:
            energy, forces, dipole = energy_and_forces(student, batch)
        else:
            (energy, forces, slope), dipole = energy_forces_and_strain(student, batch, batch.cell), None
        self.results = {"energy": energy.item(), "free_energy": energy.item(), "forces": forces.double().cpu().numpy()}
        if dipole is not None:
            self.results["dipole"] = dipole[0].double().cpu().numpy()
        if slope is not None and structure.cell.rank == 3:
            stress = slope[0].double().cpu().numpy() / structure.cell.volume
            self.results["stress"] = full_3x3_to_voigt_6_stress(stress)  # type: ignore[no-untyped-call]  # as above
        self._seen = self._beside(structure)

    def _constant_student(self) -> Student:
        """Return a copy of the student with constant weights, which is faster to differentiate by positions alone."""
        versions = self._versions()
        if self._constant is None or self._constant_of != versions:
            self._constant = copy.deepcopy(self.student).requires_grad_(False)
            self._constant_of = versions
        return self._constant

    def _versions(self) -> tuple[Any, ...]:
        # A tensor's version counts its in-place changes; a tensor that replaces it has another address.
        weights = (*self.student.parameters(), *self.student.buffers())
        return tuple((tensor.data_ptr(), tensor._version, tensor.dtype) for tensor in weights)

    def _beside(self, atoms: Atoms) -> tuple[Any, ...]:
        return atoms.info.get("charge", 0), atoms.info.get("spin", 1), self._versions()


def energy_forces_and_strain(student: Student, batch: Batch, cell: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return energies, forces and the derivative of the energies by strain, (M, 3, 3) eV.

    As `energy_and_forces`; the strain is applied to atoms and ``cell`` alike.
    """
    student.support.refuse_others(batch, student.name)
    leaf = batch.positions.detach().requires_grad_(True)
    strain = torch.zeros_like(cell).requires_grad_(True)
    symmetric = 0.5 * (strain + strain.mT)
    positions = leaf + torch.einsum("na,nab->nb", leaf, symmetric[batch.structure])
    energy = student.interaction_energy(replace(batch, positions=positions, cell=cell + cell @ symmetric))
    gradient, slope = torch.autograd.grad(energy.sum(), (leaf, strain))
    return energy.detach().double() + student.reference_energy(batch), -gradient, slope
