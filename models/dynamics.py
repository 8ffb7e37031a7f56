"""Molecular dynamics of many isolated molecules at once: relaxation, Langevin, velocity Verlet.

Each step is ASE's own, over the flat atoms of all molecules, in double precision whatever the potential computes in.
Å, eV, eV/Å and amu; velocities and times in ASE's unit (``ase.units.fs`` is one femtosecond of it).
"""

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol, Self

import numpy as np
import torch
from ase import Atoms, units
from numpy.typing import NDArray

from hydrogate.models.neighbours import neighbour_pairs
from hydrogate.models.potential import Student, energy_and_forces
from hydrogate.models.teachers import Failure, Teacher, charge_and_multiplicity

Floats = NDArray[np.float64]

# Å beyond the cutoff within which neighbours are remembered.
SKIN = 1.0


class Potential(Protocol):
    """Energies (M,) eV and forces (N, 3) eV/Å of M molecules with their atoms at ``positions`` (N, 3) Å.

    NaN for a molecule with a position that is not finite, and for that molecule alone.
    """

    def __call__(self, positions: Floats) -> tuple[Floats, Floats]: ...


@dataclass(frozen=True, eq=False)
class Molecules:
    """Which atoms are whose.

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
        """Those of ``structures``."""
        masses = np.concatenate([atoms.get_masses() for atoms in structures])
        return cls(masses, np.cumsum([0, *map(len, structures)], dtype=np.int64))

    def total(self, values: Floats) -> Floats:
        """``values`` (N, …) summed over the atoms of each molecule, (M, …)."""
        return np.add.reduceat(values, self.offset[:-1], axis=0)

    def spread(self, values: NDArray[np.generic]) -> NDArray[np.generic]:
        """``values`` (M, …) given to each atom, (N, …)."""
        return np.repeat(values, np.diff(self.offset), axis=0)

    def at_rest(self, velocities: Floats) -> Floats:
        """``velocities`` (N, 3) without the motion of each molecule as a whole; it may turn."""
        momentum = self.total(self.masses[:, None] * velocities)
        return velocities - self.spread(momentum / self.total(self.masses)[:, None])

    def temperature(self, velocities: Floats) -> Floats:
        """(M,) K, of the motion about the centre of mass; 0 for a single atom."""
        freedom = np.maximum(3 * np.diff(self.offset) - 3, 1)
        return 2.0 * self.kinetic_energy(self.at_rest(velocities)) / (freedom * units.kB)

    def kinetic_energy(self, velocities: Floats) -> Floats:
        """(M,) eV."""
        return 0.5 * self.total(self.masses * (velocities * velocities).sum(axis=1))

    def maxwell_boltzmann(self, temperature: float, noise: "Noise") -> Floats:
        """(N, 3) velocities at ``temperature`` K, no molecule moving as a whole."""
        return self.at_rest(np.sqrt(units.kB * temperature / self.masses)[:, None] * noise())


class Noise:
    """Normal numbers for the atoms of several molecules; each has its own, whoever else is moved with it.

    Parameters
    ----------
    molecules : Molecules
    seeds : sequence of int or of sequences of int
        One a molecule.
    """

    def __init__(self, molecules: Molecules, seeds: Sequence[int | Sequence[int]]) -> None:
        self.sizes = np.diff(molecules.offset).tolist()
        self.generators = [np.random.default_rng(seed) for seed in seeds]

    def __call__(self) -> Floats:
        """(N, 3), of zero mean and unit variance."""
        drawn = [rng.standard_normal((size, 3)) for rng, size in zip(self.generators, self.sizes, strict=True)]
        return np.concatenate(drawn)

    @property
    def state(self) -> str:
        """Where the generators are, in a form that can be kept."""
        return json.dumps([rng.bit_generator.state for rng in self.generators])

    @state.setter
    def state(self, kept: str) -> None:
        for rng, state in zip(self.generators, json.loads(kept), strict=True):
            rng.bit_generator.state = state


class StudentPotential:
    """A student's energies and forces, by plain autograd; neighbours are found again where atoms have moved far enough.

    Parameters
    ----------
    student : Student
        In whose precision, and where it is, all is computed.
    structures : sequence of ase.Atoms
        Isolated; charge and spin in ``info``.
    skin : float, Å
        Neighbours are remembered so far beyond the cutoff; a molecule's are found again when one of its atoms has moved
        by half of that.

    Raises
    ------
    UnsupportedStructure, ValueError
        The student was not taught one of the structures, or it is periodic, empty or impossible; the message names it.
    """

    def __init__(self, student: Student, structures: Sequence[Atoms], skin: float = SKIN) -> None:
        for index, atoms in enumerate(structures):
            charge_and_multiplicity(atoms)
            if atoms.pbc.any():
                name = f"structure {index} ({atoms.get_chemical_formula()})"
                raise ValueError(
                    f"{name} is periodic; only isolated molecules are moved. If it is one, set pbc to False"
                )
        # What a step differentiates by is the positions alone.
        self.student = copy.deepcopy(student).requires_grad_(False)
        weights = next(self.student.parameters())
        self.batch = student.collate(structures, weights.dtype).to(weights.device, weights.dtype)
        student.support.refuse_others(self.batch, student.name)
        self.skin, self.molecules = skin, Molecules.of(structures)
        self.found_at = np.full((len(self.molecules.masses), 3), np.nan)
        self.near = np.empty((2, 0), dtype=np.int64)
        self.edges = [self.near] * len(structures)

    def __call__(self, positions: Floats) -> tuple[Floats, Floats]:
        """See `Potential`."""
        self._find_neighbours(positions)
        # By NumPy's `take` and `compress`, in a quarter of the time that indexing takes.
        reach = positions.take(self.near[1], axis=0) - positions.take(self.near[0], axis=0)
        edges = self.near.compress(np.einsum("ij,ij->i", reach, reach) < self.student.cutoff**2, axis=1)
        batch = replace(
            self.batch,
            positions=torch.from_numpy(positions).to(self.batch.positions),
            edge_index=torch.from_numpy(edges).to(self.batch.edge_index),
        )
        found = energy_and_forces(self.student, batch)
        # Without neighbours even a lost atom has an energy.
        there = np.logical_and.reduceat(np.isfinite(positions).all(axis=1), self.molecules.offset[:-1])
        energy = np.where(there, found.energy.cpu().numpy(), np.nan)
        return energy, np.where(self.molecules.spread(there)[:, None], found.forces.double().cpu().numpy(), np.nan)

    def _find_neighbours(self, positions: Floats) -> None:
        with np.errstate(invalid="ignore", over="ignore"):
            moved = np.square(positions - self.found_at).sum(axis=1)
        # Written so that what is not finite has moved.
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
    """A teacher's energies and forces, molecule by molecule; one that it cannot label has NaN."""

    def __init__(self, teacher: Teacher, structures: Sequence[Atoms]) -> None:
        self.teacher, self.structures = teacher, [atoms.copy() for atoms in structures]

    def __call__(self, positions: Floats) -> tuple[Floats, Floats]:
        """See `Potential`."""
        energies, forces, first = [], [], 0
        for atoms in self.structures:
            atoms.positions = positions[first : first + len(atoms)]
            first += len(atoms)
            finite = np.isfinite(atoms.positions).all()
            (answer,) = self.teacher.label([atoms]) if finite else (Failure("a position is not finite"),)
            failed = isinstance(answer, Failure)
            energies.append(np.nan if failed else answer.energy)
            forces.append(np.full((len(atoms), 3), np.nan) if failed else answer.forces)
        return np.array(energies), np.concatenate(forces)


class State(NamedTuple):
    """Positions (N, 3), velocities (N, 3), energies (M,) and forces (N, 3) there."""

    positions: Floats
    velocities: Floats
    energy: Floats
    forces: Floats

    @classmethod
    def at(cls, positions: Floats, velocities: Floats, potential: Potential) -> Self:
        """The state with the energies and forces of ``potential``."""
        return cls(positions, velocities, *potential(positions))


class VelocityVerlet:
    """Constant energy, as ``ase.md.VelocityVerlet``.

    Parameters
    ----------
    molecules : Molecules
    time_step : float, fs
    """

    def __init__(self, molecules: Molecules, time_step: float) -> None:
        self.dt, self.masses = time_step * units.fs, molecules.masses[:, None]

    def step(self, state: State, potential: Potential) -> State:
        """The state one time step later."""
        halfway = state.velocities + 0.5 * self.dt * state.forces / self.masses
        positions = state.positions + self.dt * halfway
        energy, forces = potential(positions)
        return State(positions, halfway + 0.5 * self.dt * forces / self.masses, energy, forces)


class Langevin:
    """Constant temperature, as ``ase.md.Langevin`` without its ``fixcm``, which samples another distribution.

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
        """The state one time step later."""
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
    """Downhill, each molecule for itself, as ``ase.optimize.FIRE``: its constants, and a step of at most 0.2 Å.

    Source: Bitzek et al., Phys. Rev. Lett. 97, 170201 (2006).

    Parameters
    ----------
    molecules : Molecules
    fmax : float, eV/Å
        A molecule rests once no force of its is larger.
    """

    def __init__(self, molecules: Molecules, fmax: float) -> None:
        count = len(molecules.offset) - 1
        self.molecules, self.fmax = molecules, fmax
        self.dt, self.mixing, self.downhill = np.full(count, 0.1), np.full(count, 0.1), np.zeros(count, dtype=np.int64)

    def relaxed(self, state: State) -> NDArray[np.bool_]:
        """(M,) which molecules rest."""
        square = (state.forces * state.forces).sum(axis=1)
        return np.maximum.reduceat(square, self.molecules.offset[:-1]) < self.fmax**2

    def step(self, state: State, potential: Potential) -> State:
        """One step downhill; ``velocities`` are the method's own and no molecule's."""
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
