"""Tests of dynamics of many molecules at once against ASE's dynamics of one molecule."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.md.langevin import Langevin as AseLangevin
from ase.md.verlet import VelocityVerlet as AseVelocityVerlet
from ase.optimize import FIRE

from hydrogate.models import dynamics
from hydrogate.models.calculator import StudentCalculator
from hydrogate.models.dynamics import (
    Fire,
    Floats,
    Langevin,
    Molecules,
    Noise,
    Potential,
    State,
    StudentPotential,
    TeacherPotential,
    VelocityVerlet,
)
from hydrogate.models.potential import Student, Support, UnsupportedStructure
from hydrogate.models.students import make_student, student_names
from hydrogate.models.teachers import Failure, Labels, make_teacher

SIZE = {"features": 8, "layers": 2, "radial": 6, "cutoff": 3.0}


def made(name: str) -> Student:
    torch.manual_seed(0)
    student = make_student(name, SIZE, Support((1, 6, 8))).double()
    student.energy_scale.fill_(0.5)
    return student


def rattled(names: tuple[str, ...] = ("CH3OH", "H2O", "CH3CHO")) -> list[Atoms]:
    structures = [molecule(name) for name in names]
    for seed, atoms in enumerate(structures):
        atoms.rattle(0.05, seed=seed)
    return structures


def noise(molecules: Molecules, seed: int) -> Noise:
    return Noise(molecules, [[seed, index] if index else seed for index in range(len(molecules.offset) - 1)])


def stacked(structures: list[Atoms]) -> Floats:
    return np.concatenate([atoms.positions for atoms in structures])


class Springs(Calculator):
    """ASE calculator with a spring between every pair of atoms, at rest at the initial distance."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012

    def __init__(self, start: Floats) -> None:
        super().__init__()
        self.potential = springs([start])

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        energy, forces = self.potential(self.atoms.positions)
        self.results = {"energy": float(energy[0]), "forces": forces}


def springs(starts: list[Floats], constant: float = 20.0) -> Potential:
    """Return the same potential for several molecules; ``constant`` in eV/Å²."""
    bounds = np.cumsum([0, *map(len, starts)])
    pairs = [np.triu_indices(len(start), 1) for start in starts]
    rests = [np.linalg.norm(s[i] - s[j], axis=1) for s, (i, j) in zip(starts, pairs, strict=True)]

    def potential(positions: Floats) -> tuple[Floats, Floats]:
        energy, forces = np.zeros(len(starts)), np.zeros_like(positions)
        for m, ((i, j), rest) in enumerate(zip(pairs, rests, strict=True)):
            own, total = positions[bounds[m] : bounds[m + 1]], forces[bounds[m] : bounds[m + 1]]
            vector = own[i] - own[j]
            length = np.linalg.norm(vector, axis=1)
            energy[m] = 0.5 * constant * np.square(length - rest).sum()
            pull = (-constant * (length - rest) / length)[:, None] * vector
            np.add.at(total, i, pull)
            np.add.at(total, j, -pull)
        return energy, forces

    return potential


@pytest.mark.parametrize("name", student_names())
def test_velocity_verlet_is_ases_with_the_calculator(name: str) -> None:
    student, structures = made(name), rattled()
    molecules, potential = Molecules.of(structures), StudentPotential(made(name), structures, skin=0.2)
    velocities = molecules.maxwell_boltzmann(300.0, noise(molecules, 0))
    state, integrator = State.at(stacked(structures), velocities, potential), VelocityVerlet(molecules, 0.5)
    for _ in range(100):
        state = integrator.step(state, potential)
    for index, atoms in enumerate(structures):
        own = slice(*molecules.offset[index : index + 2])
        atoms.calc = StudentCalculator(student)
        atoms.set_velocities(velocities[own])
        AseVelocityVerlet(atoms, 0.5 * units.fs).run(100)
        assert np.abs(atoms.positions - state.positions[own]).max() < 1e-8
        assert np.abs(atoms.get_velocities() - state.velocities[own]).max() < 1e-8
        assert atoms.get_potential_energy() == pytest.approx(state.energy[index], abs=1e-8)
    assert np.abs(state.positions - stacked(rattled())).max() > 0.1, "the test needs atoms that leave their neighbours"


def test_langevin_is_ases_for_the_same_random_numbers() -> None:
    (atoms,) = structures = rattled(("CH3OH",))
    start = atoms.positions.copy()
    molecules, potential = Molecules.of(structures), springs([start])
    velocities = molecules.maxwell_boltzmann(300.0, noise(molecules, 1))
    state = State.at(start, velocities, potential)
    integrator = Langevin(molecules, 0.5, 300.0, 0.02, noise(molecules, 2))
    for _ in range(50):
        state = integrator.step(state, potential)
    atoms.calc = Springs(start)
    atoms.set_velocities(velocities)
    rng = np.random.default_rng(2)
    AseLangevin(atoms, 0.5 * units.fs, temperature_K=300.0, friction=0.02 / units.fs, fixcm=False, rng=rng).run(50)
    assert np.abs(atoms.positions - state.positions).max() < 1e-10
    assert np.abs(atoms.get_velocities() - state.velocities).max() < 1e-10


def test_fire_is_ases_for_each_molecule_until_it_rests() -> None:
    structures = rattled()
    rests = [molecule(atoms.get_chemical_formula()).positions for atoms in rattled(("H2O",))]
    rests = [molecule("CH3OH").positions, *rests, molecule("CH3CHO").positions]
    molecules, potential = Molecules.of(structures), springs(rests)
    fire = Fire(molecules, 0.05)
    state = State.at(stacked(structures), np.zeros((len(molecules.masses), 3)), potential)
    steps = 0
    while not fire.relaxed(state).all():
        state, steps = fire.step(state, potential), steps + 1
        assert steps < 500
    taken = []
    for index, (atoms, rest) in enumerate(zip(structures, rests, strict=True)):
        atoms.calc = Springs(rest)
        optimizer = FIRE(atoms, logfile=None)
        assert optimizer.run(fmax=0.05, steps=500)
        taken.append(optimizer.nsteps)
        own = slice(*molecules.offset[index : index + 2])
        assert np.abs(atoms.positions - state.positions[own]).max() < 1e-8
    assert steps == max(taken) > min(taken) > 5


def total_energy(state: State, molecules: Molecules) -> Floats:
    return state.energy + molecules.kinetic_energy(state.velocities)


def test_the_energy_error_goes_with_the_square_of_the_time_step() -> None:
    structures = rattled()
    molecules, potential = Molecules.of(structures), springs([atoms.positions for atoms in structures])
    velocities = molecules.maxwell_boltzmann(300.0, noise(molecules, 3))
    errors = []
    for time_step in (0.5, 0.25):
        state, integrator = State.at(stacked(structures), velocities, potential), VelocityVerlet(molecules, time_step)
        energies = [total_energy(state, molecules)]
        for _ in range(int(40 / time_step)):
            state = integrator.step(state, potential)
            energies.append(total_energy(state, molecules))
        errors.append(np.std(energies, axis=0))
    assert np.allclose(errors[0] / errors[1], 4.0, rtol=0.1)


def test_momentum_and_angular_momentum_are_kept() -> None:
    structures = rattled()
    molecules, potential = Molecules.of(structures), StudentPotential(made("painn"), structures)
    velocities = molecules.maxwell_boltzmann(300.0, noise(molecules, 4)) + 0.01
    state, integrator = State.at(stacked(structures), velocities, potential), VelocityVerlet(molecules, 0.5)

    def conserved(state: State) -> Floats:
        momentum = molecules.masses[:, None] * state.velocities
        return np.hstack([molecules.total(momentum), molecules.total(np.cross(state.positions, momentum))])

    before = conserved(state)
    for _ in range(50):
        state = integrator.step(state, potential)
    assert np.allclose(conserved(state), before, atol=1e-9)
    assert np.abs(before).min() > 1e-3


def test_maxwell_boltzmann_has_the_temperature_and_no_momentum() -> None:
    molecules = Molecules.of([molecule("CH3OH")] * 2000)
    velocities = molecules.maxwell_boltzmann(300.0, noise(molecules, 5))
    assert np.abs(molecules.total(molecules.masses[:, None] * velocities)).max() < 1e-12
    found = molecules.temperature(velocities)
    # 15 degrees of freedom each: the standard error of the mean is 300 K · sqrt(2 / 30000) = 2.4 K.
    assert abs(found.mean() - 300.0) < 8.0
    assert found.std() == pytest.approx(300.0 * np.sqrt(2.0 / 15.0), rel=0.1)
    assert np.array_equal(velocities, molecules.maxwell_boltzmann(300.0, noise(molecules, 5)))


def test_each_molecule_has_random_numbers_of_its_own_that_can_be_kept() -> None:
    structures = rattled()
    molecules = Molecules.of(structures)
    several = Noise(molecules, [7, 8, 9])
    one = Noise(Molecules.of(structures[1:2]), [8])
    own = slice(*molecules.offset[1:3])
    first = several()
    assert np.array_equal(first[own], one())
    assert not np.array_equal(first[:3], first[own])
    kept = several.state
    second = several()
    several.state = kept
    assert np.array_equal(several(), second)
    assert not np.array_equal(first, second)


def test_langevin_shares_the_energy_equally() -> None:
    structures = [molecule("H2O")] * 200
    molecules, potential = Molecules.of(structures), harmonic(np.concatenate([a.positions for a in structures]))
    state = State.at(stacked(structures), np.zeros((600, 3)), potential)
    integrator = Langevin(molecules, 1.0, 300.0, 0.05, noise(molecules, 6))
    kinetic = []
    for step in range(600):
        state = integrator.step(state, potential)
        if step >= 200 and step % 20 == 0:
            per_atom = molecules.masses[:, None] * np.square(state.velocities) / units.kB
            kinetic.append([per_atom[molecules.masses < 2].mean(), per_atom[molecules.masses > 2].mean()])
    hydrogen, oxygen = np.mean(kinetic, axis=0)
    # At least 600 independent coordinates, 20 times: 300 K · sqrt(2 / 12000) = 4 K.
    assert abs(hydrogen - 300.0) < 12.0
    assert abs(oxygen - 300.0) < 12.0


def harmonic(rest: Floats) -> Potential:
    """Return a potential that binds each atom to its position, for molecules of three atoms."""

    def potential(positions: Floats) -> tuple[Floats, Floats]:
        apart = positions - rest
        return 0.5 * 20.0 * np.square(apart).sum(axis=1).reshape(-1, 3).sum(axis=1), -20.0 * apart

    return potential


@pytest.mark.parametrize("name", student_names())
def test_a_molecule_that_is_lost_takes_no_other_with_it(name: str) -> None:
    structures = rattled()
    potential = StudentPotential(made(name), structures)
    positions = stacked(structures)
    energy, forces = potential(positions)
    lost = positions.copy()
    lost[7] = np.nan  # an atom of water
    own = slice(*potential.molecules.offset[1:3])
    for _ in range(2):
        energy_left, forces_left = potential(lost)
        assert np.isnan(energy_left).tolist() == [False, True, False]
        assert np.isnan(forces_left[own]).all()
        assert np.array_equal(np.delete(forces_left, np.arange(own.start, own.stop), axis=0),
                              np.delete(forces, np.arange(own.start, own.stop), axis=0))  # fmt: skip
    assert np.array_equal(potential(positions)[0], energy)


def test_neighbours_are_found_again_when_atoms_have_moved_and_not_before(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, asked = dynamics.neighbour_pairs, []
    monkeypatch.setattr(dynamics, "neighbour_pairs", lambda *a: asked.append(1) or plain(*a))
    structures = rattled()
    potential = StudentPotential(made("painn"), structures, skin=1.0)
    positions = stacked(structures)
    potential(positions)
    assert len(asked) == 3
    positions[0] += 0.28  # 0.485 Å
    potential(positions)
    assert len(asked) == 3
    positions[0] += 0.02
    potential(positions)
    assert len(asked) == 4


@pytest.mark.parametrize(
    ("change", "error", "why"),
    [
        (lambda atoms: atoms.numbers.__setitem__(0, 14), UnsupportedStructure, "structure 1 has element Si"),
        (lambda atoms: atoms.set_pbc(True), ValueError, r"structure 1 .* is periodic"),
        (lambda atoms: atoms.info.update(charge=1), ValueError, "cannot have spin multiplicity"),
        (lambda atoms: atoms.positions.__setitem__(0, np.inf), ValueError, "structure 1 .*not finite"),
    ],
)
def test_what_the_student_cannot_do_is_refused_at_once(
    change: Callable[[Atoms], None], error: type[Exception], why: str
) -> None:
    structures = rattled()
    change(structures[1])
    with pytest.raises(error, match=why):
        StudentPotential(made("painn"), structures)


def test_a_teacher_moves_molecules_too() -> None:
    structures = rattled(("H2O", "CH4"))
    teacher = make_teacher("xtb")
    potential = TeacherPotential(teacher, structures)
    positions = stacked(structures)
    energy, forces = potential(positions)
    for index, (answer, own) in enumerate(zip(teacher.label(structures), (slice(0, 3), slice(3, 8)), strict=True)):
        assert isinstance(answer, Labels)
        assert energy[index] == answer.energy
        assert np.array_equal(forces[own], answer.forces)
    positions[0] = np.nan
    assert np.isnan(potential(positions)[0]).tolist() == [True, False]
    assert np.isnan(structures[0].positions).sum() == 0


def test_what_a_teacher_cannot_label_is_not_finite() -> None:
    class Refusing:
        def label(self, structures: list[Atoms]) -> list[Failure]:
            return [Failure("no convergence") for _ in structures]

    energy, forces = TeacherPotential(Refusing(), rattled(("H2O",)))(stacked(rattled(("H2O",))))
    assert np.isnan(energy).all()
    assert np.isnan(forces).all()
