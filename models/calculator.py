"""A trained student as an ASE calculator: one structure at a time, for whatever ASE does with it."""

import copy
from collections.abc import Sequence
from typing import Any, ClassVar

from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from hydrogate.models.potential import Student, energy_and_forces
from hydrogate.models.teachers import charge_and_multiplicity


class StudentCalculator(Calculator):
    """Energies (eV), forces (eV/Å) and, from a student that predicts it, the dipole (e·Å) of isolated structures.

    Charge (e) and 2S + 1 are read from ``atoms.info["charge"]`` and ``atoms.info["spin"]``. Nothing is computed again
    for the same structure; whatever changes (the atoms, their charge or spin, the student's weights), no old answer is
    given.

    Parameters
    ----------
    student : Student
        `hydrogate.models.potential.load_student` reads one; it computes in its own precision, where it is.

    Raises
    ------
    UnsupportedStructure, ValueError
        On calculation: the student was not taught such a structure; it is periodic, empty, or not finite; its electrons
        do not fit its spin.
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces"]

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
        energy, forces, dipole = energy_and_forces(self._constant_student(), batch)
        self.results = {"energy": energy.item(), "free_energy": energy.item(), "forces": forces.double().cpu().numpy()}
        if dipole is not None:
            self.results["dipole"] = dipole[0].double().cpu().numpy()
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
