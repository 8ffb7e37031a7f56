"""Molecular dynamics of many isolated molecules at once: relaxation, Langevin, velocity Verlet.

Each step is the one of ASE, applied to the concatenated atoms of all molecules, in double precision whatever the
precision of the potential. Units are Å, eV, eV/Å and amu; velocities and times use ASE's unit of time (one femtosecond
is ``ase.units.fs``).
"""

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol, Self, TypeVar

import numpy as np
import torch
from ase import Atoms, units
from numpy.typing import NDArray

from hydrogate.models.neighbours import neighbour_pairs
from hydrogate.models.potential import Student, energy_and_forces
from hydrogate.models.teachers import Failure, Teacher, charge_and_multiplicity

Floats = NDArray[np.float64]
Scalar = TypeVar("Scalar", bound=np.generic)

# Å. Neighbours are kept up to this distance beyond the cutoff.
SKIN = 1.0


class Potential(Protocol):
    """Energies (M,) in eV and forces (N, 3) in eV/Å of M molecules with their atoms at ``positions`` (N, 3) Å.

    A molecule with a position that is not finite has NaN; the other molecules are not affected.
    """

    def __call__(self, positions: Floats) -> tuple[Floats, Floats]: ...


@dataclass(frozen=True, eq=False)
class Molecules:
    """Assignment of atoms to molecules.

    Parameters
    ----------
    masses : (N,), amu
    offset : (M + 1,) int64
        Molecule ``m`` owns the atoms ``offset[m]:offset[m + 1]``.
    """

    masses: Floats
    offset: NDArray[np.int64]

    @classmethod
    def of(cls, structures: Sequence[Atoms]) -> Self:
        """Return the assignment for ``structures``."""
        masses = np.concatenate([atoms.get_masses() for atoms in structures])
        return cls(masses, np.cumsum([0, *map(len, structures)], dtype=np.int64))

    def total(self, values: Floats) -> Floats:
        """Sum ``values`` (N, …) over the atoms of each molecule, (M, …)."""
        summed: Floats = np.add.reduceat(values, self.offset[:-1], axis=0)
        return summed

    def spread(self, values: NDArray[Scalar]) -> NDArray[Scalar]:
        """Repeat ``values`` (M, …) for each atom, (N, …)."""
        return np.repeat(values, np.diff(self.offset), axis=0)

    def at_rest(self, velocities: Floats) -> Floats:
        """Remove the centre-of-mass motion of each molecule from ``velocities`` (N, 3); rotation is kept."""
        momentum = self.total(self.masses[:, None] * velocities)
        return velocities - self.spread(momentum / self.total(self.masses)[:, None])

    def temperature(self, velocities: Floats) -> Floats:
        """Return the temperature (M,) in K of the motion about the centre of mass; 0 for a single atom."""
        freedom = np.maximum(3 * np.diff(self.offset) - 3, 1)
        kelvin: Floats = 2.0 * self.kinetic_energy(self.at_rest(velocities)) / (freedom * units.kB)
        return kelvin

    def kinetic_energy(self, velocities: Floats) -> Floats:
        """Return the kinetic energy (M,) in eV."""
        return 0.5 * self.total(self.masses * (velocities * velocities).sum(axis=1))

    def maxwell_boltzmann(self, temperature: float, noise: "Noise") -> Floats:
        """Draw velocities (N, 3) at ``temperature`` K; no molecule has centre-of-mass motion."""
        return self.at_rest(np.sqrt(units.kB * temperature / self.masses)[:, None] * noise())


class Noise:
    """Normal random numbers for the atoms of several molecules.

    Each molecule has its own generator, so its numbers do not depend on the other molecules in the run.

    Parameters
    ----------
    molecules : Molecules
    seeds : sequence of int or of sequences of int
        One per molecule.
    """

    def __init__(self, molecules: Molecules, seeds: Sequence[int | Sequence[int]]) -> None:
        self.sizes = np.diff(molecules.offset).tolist()
        self.generators = [np.random.default_rng(seed) for seed in seeds]

    def __call__(self) -> Floats:
        """Draw (N, 3) numbers of zero mean and unit variance."""
        drawn = [rng.standard_normal((size, 3)) for rng, size in zip(self.generators, self.sizes, strict=True)]
        return np.concatenate(drawn)

    @property
    def state(self) -> str:
        """State of the random generators as JSON, for storage."""
        return json.dumps([rng.bit_generator.state for rng in self.generators])

    @state.setter
    def state(self, kept: str) -> None:
        for rng, state in zip(self.generators, json.loads(kept), strict=True):
            rng.bit_generator.state = state


class StudentPotential:
    """Energies and forces of a student by plain autograd; neighbours are updated only where atoms moved far enough.

    Parameters
    ----------
    student : Student
        Its precision and its device are used for the computation.
    structures : sequence of ase.Atoms
        Isolated; charge and spin in ``info``.
    skin : float, Å
        Neighbours are kept up to this distance beyond the cutoff. A molecule's neighbours are updated when one of its
        atoms has moved by half of it.

    Raises
    ------
    UnsupportedStructure, ValueError
        The student was not trained on one of the structures, or a structure is periodic, empty or has an invalid
        charge or spin; the message names it.
    """

    def __init__(self, student: Student, structures: Sequence[Atoms], skin: float = SKIN) -> None:
        for index, atoms in enumerate(structures):
            charge_and_multiplicity(atoms)
            if atoms.pbc.any():
                name = f"structure {index} ({atoms.symbols.get_chemical_formula()})"
                raise ValueError(
                    f"{name} is periodic; only isolated molecules can be simulated. If it is one, set pbc to False"
                )
        # A step differentiates by the positions alone.
        self.student = copy.deepcopy(student).requires_grad_(False)
        weights = next(self.student.parameters())
        self.batch = student.collate(structures, weights.dtype).to(weights.device, weights.dtype)
        student.support.refuse_others(self.batch, student.name)
        self.skin, self.molecules = skin, Molecules.of(structures)
        self.found_at = np.full((len(self.molecules.masses), 3), np.nan)
        self.near = np.empty((2, 0), dtype=np.int64)
        self.edges = [self.near] * len(structures)

    def __call__(self, positions: Floats) -> tuple[Floats, Floats]:
        """Return energies and forces; see `Potential`."""
        self._find_neighbours(positions)
        # NumPy's `take` and `compress` need a quarter of the time of indexing.
        reach = positions.take(self.near[1], axis=0) - positions.take(self.near[0], axis=0)
        edges = self.near.compress(np.einsum("ij,ij->i", reach, reach) < self.student.cutoff**2, axis=1)
        batch = replace(
            self.batch,
            positions=torch.from_numpy(positions).to(self.batch.positions),
            edge_index=torch.from_numpy(edges).to(self.batch.edge_index),
        )
        found = energy_and_forces(self.student, batch)
        # Without neighbours, even an atom at a position that is not finite has an energy.
        there = np.logical_and.reduceat(np.isfinite(positions).all(axis=1), self.molecules.offset[:-1])
        energy = np.where(there, found.energy.cpu().numpy(), np.nan)
        return energy, np.where(self.molecules.spread(there)[:, None], found.forces.double().cpu().numpy(), np.nan)

    def _find_neighbours(self, positions: Floats) -> None:
        with np.errstate(invalid="ignore", over="ignore"):
            moved = np.square(positions - self.found_at).sum(axis=1)
        # In this form, an atom whose displacement is not finite counts as moved.
        stale = np.logical_or.reduceat(~(moved <= (0.5 * self.skin) ** 2), self.molecules.offset[:-1])
        if not stale.any():
            return
        for molecule in np.flatnonzero(stale).tolist():
            own = slice(*self.molecules.offset[molecule : molecule + 2].tolist())
            finite = np.isfinite(positions[own]).all()
            pairs = neighbour_pairs(positions[own] if finite else np.empty((0, 3)), self.student.cutoff + self.skin)
            self.edges[molecule] = pairs + own.start
            self.found_at[own] = positions[own]
        self.near = np.concatenate(self.edges, axis=1)


class TeacherPotential:
    """Energies and forces of a teacher, molecule by molecule; NaN for a molecule that it cannot label."""

    def __init__(self, teacher: Teacher, structures: Sequence[Atoms]) -> None:
        self.teacher = teacher
        self.structures: list[Atoms] = [
            atoms.copy()  # type: ignore[no-untyped-call]  # ASE has no types here
            for atoms in structures
        ]

    def __call__(self, positions: Floats) -> tuple[Floats, Floats]:
        """Return energies and forces; see `Potential`."""
        energies: list[float] = []
        forces: list[Floats] = []
        first = 0
        for atoms in self.structures:
            atoms.positions = positions[first : first + len(atoms)]
            first += len(atoms)
            finite = np.isfinite(atoms.positions).all()
            (answer,) = self.teacher.label([atoms]) if finite else (Failure("a position is not finite"),)
            if isinstance(answer, Failure):
                energies.append(np.nan)
                forces.append(np.full((len(atoms), 3), np.nan))
            else:
                energies.append(answer.energy)
                forces.append(answer.forces)
        return np.array(energies), np.concatenate(forces)


class State(NamedTuple):
    """Positions (N, 3) and velocities (N, 3), with the energies (M,) and forces (N, 3) at these positions."""

    positions: Floats
    velocities: Floats
    energy: Floats
    forces: Floats

    @classmethod
    def at(cls, positions: Floats, velocities: Floats, potential: Potential) -> Self:
        """Return the state with the energies and forces of ``potential``."""
        return cls(positions, velocities, *potential(positions))


class VelocityVerlet:
    """Dynamics at constant energy, as ``ase.md.VelocityVerlet``.

    Parameters
    ----------
    molecules : Molecules
    time_step : float, fs
    """

    def __init__(self, molecules: Molecules, time_step: float) -> None:
        self.dt, self.masses = time_step * units.fs, molecules.masses[:, None]

    def step(self, state: State, potential: Potential) -> State:
        """Return the state one time step later."""
        halfway = state.velocities + 0.5 * self.dt * state.forces / self.masses
        positions = state.positions + self.dt * halfway
        energy, forces = potential(positions)
        return State(positions, halfway + 0.5 * self.dt * forces / self.masses, energy, forces)


class Langevin:
    """Dynamics at constant temperature, as ``ase.md.Langevin`` without ``fixcm``, which samples another distribution.

    Source: Vanden-Eijnden, Ciccotti, Chem. Phys. Lett. 429, 310 (2006), equation 23.

    Parameters
    ----------
    molecules : Molecules
    time_step : float, fs
    temperature : float, K
    friction : float, 1/fs
    noise : Noise
    """

    def __init__(
        self, molecules: Molecules, time_step: float, temperature: float, friction: float, noise: Noise
    ) -> None:
        dt, rate = time_step * units.fs, friction / units.fs
        self.dt, self.masses, self.drawn = dt, molecules.masses[:, None], noise
        sigma = np.sqrt(2.0 * units.kB * temperature * rate / self.masses)
        self.kick = dt / 2.0 - dt * dt * rate / 8.0
        self.drag = dt * rate / 2.0 - dt * dt * rate * rate / 8.0
        self.noise = np.sqrt(dt) * sigma / 2.0 - dt**1.5 * rate * sigma / 8.0
        self.shift = dt**1.5 * sigma / (2.0 * np.sqrt(3.0))
        self.rate = rate

    def step(self, state: State, potential: Potential) -> State:
        """Return the state one time step later."""
        first, second = self.drawn(), self.drawn()
        shift = self.shift * second
        noise = self.noise * first - 0.5 * self.rate * shift
        halfway = self._halfway(state.velocities, state.forces, noise)
        positions = state.positions + self.dt * halfway + shift
        energy, forces = potential(positions)
        return State(positions, self._halfway(halfway, forces, noise), energy, forces)

    def _halfway(self, velocities: Floats, forces: Floats, noise: Floats) -> Floats:
        return velocities + self.kick * forces / self.masses - self.drag * velocities + noise


class Fire:
    """Relaxation of each molecule independently, as ``ase.optimize.FIRE``: its constants, steps of at most 0.2 Å.

    Source: Bitzek et al., Phys. Rev. Lett. 97, 170201 (2006).

    Parameters
    ----------
    molecules : Molecules
    fmax : float, eV/Å
        A molecule is relaxed once none of its forces is larger.
    """

    def __init__(self, molecules: Molecules, fmax: float) -> None:
        count = len(molecules.offset) - 1
        self.molecules, self.fmax = molecules, fmax
        self.dt, self.mixing, self.downhill = np.full(count, 0.1), np.full(count, 0.1), np.zeros(count, dtype=np.int64)

    def relaxed(self, state: State) -> NDArray[np.bool_]:
        """Return a mask (M,) of the relaxed molecules."""
        square = (state.forces * state.forces).sum(axis=1)
        return np.maximum.reduceat(square, self.molecules.offset[:-1]) < self.fmax**2

    def step(self, state: State, potential: Potential) -> State:
        """Return the state one step downhill; its ``velocities`` belong to the method and are not physical."""
        spread, rest = self.molecules.spread, self.relaxed(state)
        velocities, forces = state.velocities, state.forces
        power, speed, force = (
            self.molecules.total((one * other).sum(axis=1))
            for one, other in ((forces, velocities), (velocities, velocities), (forces, forces))
        )
        down = power > 0.0
        turn = np.where(down, self.mixing * np.sqrt(speed / np.where(force > 0.0, force, 1.0)), 0.0)
        velocities = (
            spread(np.where(down, 1.0 - self.mixing, 0.0))[:, None] * velocities + spread(turn)[:, None] * forces
        )
        faster, slower = down & (self.downhill > 5), ~down & (speed > 0.0)
        self.dt = np.where(faster, np.minimum(self.dt * 1.1, 1.0), np.where(slower, self.dt * 0.5, self.dt))
        self.mixing = np.where(faster, self.mixing * 0.99, np.where(down, self.mixing, 0.1))
        self.downhill = np.where(down, self.downhill + 1, 0)

        velocities = velocities + spread(self.dt)[:, None] * forces
        step = spread(self.dt)[:, None] * velocities
        length = np.sqrt(self.molecules.total((step * step).sum(axis=1)))
        scale = np.where(rest, 0.0, 0.2 / np.maximum(length, 0.2))
        return State.at(state.positions + spread(scale)[:, None] * step, velocities, potential)
