"""Base class of students: a student defines only the energy, and its forces are derived here.

Forces can be computed in two ways, which must agree: by plain autograd, which all evaluation of a student uses, and by
a compiled graph (`hydrogate.models.compiled`), which only training uses, because only training repays its compile time.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols
from numpy.typing import NDArray
from torch import Tensor, nn

from hydrogate.models.batch import Batch, collate


class Prediction(NamedTuple):
    """Prediction of a student for a batch.

    Parameters
    ----------
    energy : (M,) float64, eV
        Total energies.
    forces : (N, 3), eV/Å
    dipole : (M, 3), e·Å, optional
        About the origin of the positions; None if the student predicts no dipole.
    """

    energy: Tensor
    forces: Tensor
    dipole: Tensor | None = None


EnergyAndForces = Callable[[Batch], Prediction]
"""Function that predicts a batch and keeps the graph."""


class CompiledStep(NamedTuple):
    """Time of a compiled training step as a share of a plain step's.

    Parameters
    ----------
    of_plain : float
        If the plain step runs in plain PyTorch.
    of_kernels : float
        If the plain step uses C++ kernels.
    """

    of_plain: float
    of_kernels: float


class UnsupportedStructure(ValueError):
    """Structure with an element, charge or spin multiplicity that the student was not trained on."""


@dataclass(frozen=True)
class Support:
    """Elements, charges and spin multiplicities that a student was trained on and can predict.

    Parameters
    ----------
    elements : tuple of int
        Atomic numbers.
    charges : tuple of int, e
        Total charges.
    spin_multiplicities : tuple of int
        2S + 1.

    Raises
    ------
    ValueError
        An element is not an atomic number, or is listed twice.
    """

    elements: tuple[int, ...]
    charges: tuple[int, ...] = (0,)
    spin_multiplicities: tuple[int, ...] = (1,)

    def __post_init__(self) -> None:
        known = range(1, len(chemical_symbols))
        if len(set(self.elements)) < len(self.elements) or not all(number in known for number in self.elements):
            raise ValueError(f"elements {self.elements}: expected atomic numbers, each once")

    @classmethod
    def of(cls, structures: Sequence[Atoms]) -> "Support":
        """Return the support that covers ``structures``."""
        return cls(
            tuple(sorted({z for atoms in structures for z in atoms.numbers.tolist()})),
            tuple(sorted({int(atoms.info.get("charge", 0)) for atoms in structures})),
            tuple(sorted({int(atoms.info.get("spin", 1)) for atoms in structures})),
        )

    def refuse_others(self, batch: Batch, name: str, first: int = 0) -> None:
        """Raise an error unless all of ``batch`` is supported.

        Parameters
        ----------
        batch : Batch
        name : str
            Name of the student, for the message.
        first : int
            Index of the first structure of ``batch`` in the message.

        Raises
        ------
        UnsupportedStructure
            The message gives the structure, its value, the allowed values and the remedy.
        """
        for what, values, owner, known, written in (
            ("element", batch.numbers, batch.structure, self.elements, chemical_symbols.__getitem__),
            ("total charge", batch.charge, None, self.charges, str),
            ("spin multiplicity", batch.spin_multiplicity, None, self.spin_multiplicities, str),
        ):
            strange = ~torch.isin(values, torch.tensor(known, device=values.device))
            if strange.any():
                at = int(strange.nonzero()[0])
                index = first + (at if owner is None else int(owner[at]))
                observed, *allowed = map(written, (int(values[at]), *known))
                raise UnsupportedStructure(
                    f"structure {index} has {what} {observed}; student {name!r} was trained on {what} "
                    f"{', '.join(allowed)} only. Train it on data that contain the other, or remove the structure"
                )


class Student(nn.Module, ABC):
    """A potential: energies of a batch, smooth in the positions.

    A subclass sets ``name``, ``cutoff`` (Å) and `interaction_energy`. It sets ``reads_charge`` if total charge and spin
    multiplicity are its inputs, and ``reads_pairs`` if atoms beyond the cutoff are. A student that predicts dipoles
    sets `interaction_energy_and_dipole` and ``dipole_weight``, the default weight of the dipole in its loss.
    ``kernels`` lists the kernels of `hydrogate.models.kernels` that it uses, and ``compiled_step`` gives the measured
    benefit of compiling. A subclass needs nothing else.

    Parameters
    ----------
    size : dataclass
        Sizes of the student.
    support : Support
    """

    name: str
    cutoff: float
    reads_charge: bool = False
    reads_pairs: bool = False
    dipole_weight: float | None = None
    kernels: tuple[str, ...] = ()
    compiled_step = CompiledStep(0.5, 0.5)
    reference_energies: Tensor
    energy_scale: Tensor

    def __init__(self, size: Any, support: Support) -> None:
        super().__init__()
        self.size = size
        self.support = support
        self.register_buffer("reference_energies", torch.zeros(len(atomic_numbers)))
        self.register_buffer("energy_scale", torch.ones(()))

    @abstractmethod
    def interaction_energy(self, batch: Batch) -> Tensor:
        """Return the energies (M,) in eV above the atoms' reference energies.

        ``self.energy_scale`` (eV) is a typical energy of one atom.
        """

    def interaction_energy_and_dipole(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Return `interaction_energy` and, if the student predicts it, the dipole (M, 3) in e·Å."""
        return self.interaction_energy(batch), None

    def collate(self, structures: Sequence[Atoms], dtype: torch.dtype = torch.float32) -> Batch:
        """Return ``structures`` as a batch for this student; see `hydrogate.models.batch.collate`."""
        return collate(structures, self.cutoff, dtype, pairs=self.reads_pairs)

    def reference_energy(self, batch: Batch) -> Tensor:
        """Return the atoms' reference energies summed over each structure, (M,) float64 in eV."""
        atoms = self.reference_energies.double()[batch.numbers]
        return atoms.new_zeros(batch.n_structures).index_add(0, batch.structure, atoms)

    def fit_references(self, batches: Sequence[Batch], energies: NDArray[np.float64], scale: float) -> None:
        """Fit the reference energies by least squares, and set the energy scale.

        Parameters
        ----------
        batches : sequence of Batch
            One structure each.
        energies : (M,) float64, eV
        scale : float, eV
            Typical energy of one atom.

        Raises
        ------
        ValueError
            ``scale`` is not a positive number, or a reference energy is not finite.
        """
        if not (np.isfinite(scale) and scale > 0):
            raise ValueError(f"the energy scale must be a positive number of eV, got {scale}: check the labels")
        known = self.support.elements
        counts = np.array([[int((batch.numbers == z).sum()) for z in known] for batch in batches], dtype=np.float64)
        references = np.linalg.lstsq(counts, np.asarray(energies, dtype=np.float64), rcond=None)[0]
        if not np.isfinite(references).all():
            raise ValueError("the reference energies are not finite: an energy label is not finite")
        with torch.no_grad():
            # Rounded to single precision once, so that casting the student does not change total energies.
            self.reference_energies[list(known)] = torch.from_numpy(references).float().to(self.reference_energies)
            self.energy_scale.fill_(float(np.float32(scale)))


def energy_and_forces(student: Student, batch: Batch, create_graph: bool = False) -> Prediction:
    """Compute energies, forces and any dipoles by plain autograd; total energies are summed in double precision.

    Parameters
    ----------
    student : Student
    batch : Batch
    create_graph : bool
        Keep the graph, so that a loss of both can be differentiated by the parameters.

    Raises
    ------
    UnsupportedStructure
        See `Support.refuse_others`.
    """
    student.support.refuse_others(batch, student.name)
    positions = batch.positions.detach().requires_grad_(True)
    with torch.enable_grad():
        energy, dipole = student.interaction_energy_and_dipole(batch.at(positions))
        # An isolated atom's energy may not depend on its position at all.
        (gradient,) = torch.autograd.grad(
            energy.sum(), positions, create_graph=create_graph, allow_unused=True, materialize_grads=True
        )
    # Total energies reach thousands of eV, which single precision does not resolve to a meV.
    found = Prediction(energy.double() + student.reference_energy(batch), -gradient, dipole)
    if create_graph:
        return found
    return Prediction(found.energy.detach(), found.forces.detach(), None if dipole is None else dipole.detach())


def predict(
    student: Student, structures: Sequence[Atoms], *, batch_size: int = 32, dtype: torch.dtype | None = None
) -> list[tuple[float, NDArray[np.float64]]]:
    """Predict energies and forces of ``structures`` by plain autograd.

    Parameters
    ----------
    student : Student
    structures : sequence of ase.Atoms
    batch_size : int
        Number of structures per batch.
    dtype : torch.dtype, optional
        Precision of the computation; by default the student's own.

    Returns
    -------
    list of (float, (n, 3) float64)
        Energy in eV and forces in eV/Å, in order.

    Raises
    ------
    UnsupportedStructure
        See `Support.refuse_others`.
    """
    parameter = next(student.parameters())
    # Differentiation by the positions alone is faster if the weights are constants.
    used = copy.deepcopy(student).to(dtype or parameter.dtype).requires_grad_(False)
    results = []
    for first in range(0, len(structures), batch_size):
        some = structures[first : first + batch_size]
        batch = student.collate(some, dtype or parameter.dtype).to(parameter.device, dtype or parameter.dtype)
        student.support.refuse_others(batch, student.name, first)
        energy, forces, _ = energy_and_forces(used, batch)
        parts = np.split(forces.double().cpu().numpy(), np.cumsum([len(atoms) for atoms in some])[:-1])
        results += list(zip(energy.tolist(), parts, strict=True))
    return results
