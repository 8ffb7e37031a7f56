"""What a student is. Its author writes only the energy; forces are derived here, once.

Two ways lead to the forces, and they must agree: plain autograd, which everything that judges a student uses, and a
compiled graph (`hydrogate.models.compiled`), which only training uses, because only there it repays its compile time.
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
    """What a student says of a batch.

    Parameters
    ----------
    energy : (M,) float64, eV
        In total.
    forces : (N, 3), eV/Å
    dipole : (M, 3), e·Å, optional
        About the origin of the positions; None from a student that predicts none.
    """

    energy: Tensor
    forces: Tensor
    dipole: Tensor | None = None


EnergyAndForces = Callable[[Batch], Prediction]
"""The prediction of a batch, with its graph."""


class CompiledStep(NamedTuple):
    """What share of a plain training step's time a compiled one takes.

    Parameters
    ----------
    of_plain : float
        Where the plain step is plain torch.
    of_kernels : float
        Where C++ kernels serve it.
    """

    of_plain: float
    of_kernels: float


class UnsupportedStructure(ValueError):
    """A structure that the student was never taught: an element, charge or spin multiplicity outside its own."""


@dataclass(frozen=True)
class Support:
    """What a student was taught, and so may be asked.

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
        An element is none, or named twice.
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
        """What ``structures`` hold."""
        return cls(
            tuple(sorted({z for atoms in structures for z in atoms.numbers.tolist()})),
            tuple(sorted({int(atoms.info.get("charge", 0)) for atoms in structures})),
            tuple(sorted({int(atoms.info.get("spin", 1)) for atoms in structures})),
        )

    def refuse_others(self, batch: Batch, name: str, first: int = 0) -> None:
        """Raise unless all of ``batch`` is supported.

        Parameters
        ----------
        batch : Batch
        name : str
            The student's, for the message.
        first : int
            Index that the message gives to the first structure of ``batch``.

        Raises
        ------
        UnsupportedStructure
            Names the structure, what it holds, what is allowed and the remedy.
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
                    f"structure {index} has {what} {observed}; student {name!r} was taught {what} {', '.join(allowed)} "
                    "only. Train it on data that hold the other, or leave the structure out"
                )


class Student(nn.Module, ABC):
    """A potential: energies of a batch, smooth in the positions.

    A subclass sets ``name``, ``cutoff`` (Å) and `interaction_energy`; ``reads_charge`` where total charge and spin
    multiplicity are inputs of it, and ``reads_pairs`` where atoms beyond the cutoff are. One that predicts dipoles sets
    `interaction_energy_and_dipole` and ``dipole_weight``, the dipole's weight in its loss where none is declared.
    ``kernels`` names those of `hydrogate.models.kernels` that it uses, and ``compiled_step`` says what compiling is
    worth, measured. Nothing else is its business.

    Parameters
    ----------
    size : dataclass
        The student's own sizes.
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
        """(M,) eV, above the atoms' reference energies; ``self.energy_scale`` (eV) is what is typical of one atom."""

    def interaction_energy_and_dipole(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """`interaction_energy` and, from a student that predicts it, the dipole (M, 3) in e·Å."""
        return self.interaction_energy(batch), None

    def collate(self, structures: Sequence[Atoms], dtype: torch.dtype = torch.float32) -> Batch:
        """``structures`` as this student reads them; see `hydrogate.models.batch.collate`."""
        return collate(structures, self.cutoff, dtype, pairs=self.reads_pairs)

    def reference_energy(self, batch: Batch) -> Tensor:
        """(M,) float64, eV: the atoms' reference energies, summed over each structure."""
        atoms = self.reference_energies.double()[batch.numbers]
        return atoms.new_zeros(batch.n_structures).index_add(0, batch.structure, atoms)

    def fit_references(self, batches: Sequence[Batch], energies: NDArray[np.float64], scale: float) -> None:
        """Set the reference energies by least squares, and the energy scale.

        Parameters
        ----------
        batches : sequence of Batch
            One structure each.
        energies : (M,) float64, eV
        scale : float, eV
            What is typical of one atom's energy.

        Raises
        ------
        ValueError
            ``scale`` is not a positive number, or a reference energy is not finite.
        """
        if not (np.isfinite(scale) and scale > 0):
            raise ValueError(f"the energy scale must be a positive number of eV, got {scale}: look at the labels")
        known = self.support.elements
        counts = np.array([[int((batch.numbers == z).sum()) for z in known] for batch in batches], dtype=np.float64)
        references = np.linalg.lstsq(counts, np.asarray(energies, dtype=np.float64), rcond=None)[0]
        if not np.isfinite(references).all():
            raise ValueError("the reference energies are not finite: an energy label is not finite")
        with torch.no_grad():
            # Rounded to single precision once, so that a cast of the student changes no total energy.
            self.reference_energies[list(known)] = torch.from_numpy(references).float().to(self.reference_energies)
            self.energy_scale.fill_(float(np.float32(scale)))


def energy_and_forces(student: Student, batch: Batch, create_graph: bool = False) -> Prediction:
    """Energies, forces and any dipoles by plain autograd. Total energies are sums in double precision.

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
    # Total energies reach thousands of eV, of which single precision keeps no meV.
    found = Prediction(energy.double() + student.reference_energy(batch), -gradient, dipole)
    return found if create_graph else Prediction(*(part if part is None else part.detach() for part in found))


def predict(
    student: Student, structures: Sequence[Atoms], *, batch_size: int = 32, dtype: torch.dtype | None = None
) -> list[tuple[float, NDArray[np.float64]]]:
    """Energies and forces of ``structures`` by plain autograd.

    Parameters
    ----------
    student : Student
    structures : sequence of ase.Atoms
    batch_size : int
        Structures at a time.
    dtype : torch.dtype, optional
        Precision of the computation; the student's own where it is left out.

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
    # Differentiated by positions alone, which goes faster where the weights are constants.
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
