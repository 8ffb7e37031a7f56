"""Tests of periodic structures against plain sums: neighbours across cell faces, lattice electrostatics, stress."""

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS
from scipy.special import erfc

from hydrogate.models.batch import collate, join
from hydrogate.models.calculator import StudentCalculator
from hydrogate.models.compiled import compiled_energy_and_forces
from hydrogate.models.dynamics import StudentPotential
from hydrogate.models.kernels import in_plain_torch
from hydrogate.models.neighbours import FARTHEST, neighbour_pairs, periodic_pairs
from hydrogate.models.pair_potentials import COULOMB, SMEARING, lattice_electrostatics
from hydrogate.models.potential import Student, Support, energy_and_forces, predict
from hydrogate.models.students import make_student, student_names

SIZE = {"features": 16, "layers": 2, "radial": 6, "cutoff": 4.0}


@pytest.fixture(params=student_names())
def student(request: pytest.FixtureRequest) -> Student:
    torch.manual_seed(0)
    made = make_student(request.param, SIZE, Support((1, 6, 8))).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter *= 1.5
    return made


def crystal(edge: float = 7.0) -> Atoms:
    """Return methanol in a skew cell that it does not fill evenly, or, for a small ``edge``, CO.

    With an edge below the cutoff, an atom has its own images as neighbours.
    """
    rng = np.random.default_rng(0)
    atoms = molecule("CH3OH") if edge > 5 else Atoms("CO", [[0, 0, 0], [0.9, 0.7, 0.2]])
    atoms.set_cell(np.eye(3) * edge + rng.normal(0, 0.3, (3, 3)))
    atoms.pbc = True
    atoms.rattle(0.1, seed=1)
    return atoms


def slab() -> Atoms:
    atoms = crystal(3.6)
    atoms.pbc = (True, True, False)
    return atoms


@pytest.mark.parametrize("pbc", [(True, True, True), (True, False, True), (False, False, True)])
@pytest.mark.parametrize("edge", [3.6, 7.0])
def test_neighbours_are_the_images_within_the_cutoff(edge: float, pbc: tuple[bool, ...]) -> None:
    atoms = crystal(edge)
    atoms.pbc = pbc
    atoms.positions[0] += 3 * atoms.cell[0] if pbc[0] else 0.0  # an atom that has left the cell
    pairs, shifts, cell = periodic_pairs(atoms, 4.0)
    reach = [range(-6, 7) if one else (0,) for one in pbc]
    expected = {
        (i, j, *shift)
        for i, j, shift in product(range(len(atoms)), range(len(atoms)), product(*reach))
        if (i, shift) != (j, (0, 0, 0))
        and np.linalg.norm(atoms.positions[j] + np.array(shift) @ cell - atoms.positions[i]) <= 4.0
    }
    assert {(*pair, *shift) for pair, shift in zip(pairs.T.tolist(), shifts.tolist(), strict=True)} == expected
    assert len(pairs.T) == len(expected) > len(atoms)
    assert (np.diff(pairs[0]) >= 0).all()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda atoms: atoms.set_cell(None), r"structure 0 \(CO\): periodic along .* spans no volume"),
        (lambda atoms: atoms.set_cell(atoms.cell.array[[0, 0, 2]]), "spans no volume"),
        (lambda atoms: atoms.cell.__setitem__((0, 0), np.nan), "spans no volume"),
        (lambda atoms: atoms.positions.__setitem__((1, 2), np.inf), "atom 1 has a position that is not finite"),
        (lambda atoms: atoms.positions.__setitem__((1, 2), 2 * FARTHEST), "atom 1 is more than 1000 Å away"),
    ],
)
def test_what_does_not_repeat_is_refused(change: Callable[[Atoms], None], why: str) -> None:
    atoms = slab()
    change(atoms)
    with pytest.raises(ValueError, match=why):
        collate([atoms], 4.0)


def test_a_batch_holds_isolated_and_periodic_structures(student: Student) -> None:
    """Check that each structure has the same result as alone."""
    some = [molecule("H2O"), crystal(), molecule("CH4"), crystal(3.6)]
    together = student.collate(some, torch.float64)
    parts = join([student.collate([atoms], torch.float64) for atoms in some])
    assert torch.equal(together.edge_vectors(), parts.edge_vectors())
    assert torch.equal(together.cell, parts.cell)
    assert torch.equal(together.to("cpu", torch.float64).at(parts.positions).edge_vectors(), parts.edge_vectors())
    assert not together.cell[[0, 2]].any()
    for (energy, forces), atoms in zip(predict(student, some), some, strict=True):
        ((alone, own),) = predict(student, [atoms])
        assert abs(energy - alone) < 1e-10
        assert np.allclose(forces, own, atol=1e-10)


@pytest.mark.parametrize("make", [crystal, lambda: crystal(3.6), slab], ids=["crystal", "below the cutoff", "slab"])
def test_forces_and_stress_are_slopes_of_the_energy(student: Student, make: Callable[[], Atoms]) -> None:
    atoms = make()
    if student.reads_pairs and not atoms.pbc.all():
        with pytest.raises(ValueError, match="in all three directions or in none"):
            predict(student, [atoms])
        return
    atoms.calc = StudentCalculator(student)
    forces, stress = atoms.get_forces(), atoms.get_stress()
    assert np.abs(forces).max() > 0.1
    assert np.abs(stress).max() > 1e-3
    assert np.allclose(forces, calculate_numerical_forces(atoms, eps=1e-4), atol=1e-5)
    assert np.allclose(stress, calculate_numerical_stress(atoms, eps=1e-5), atol=1e-8)
    with in_plain_torch():
        plain = atoms.copy()
        plain.calc = StudentCalculator(student)
        assert np.allclose(plain.get_forces(), forces, atol=1e-10)
        assert np.allclose(plain.get_stress(), stress, atol=1e-10)


def test_it_does_not_matter_which_cell_describes_a_crystal(student: Student) -> None:
    atoms = crystal(3.6)
    several = atoms.repeat((2, 1, 3))
    several.positions[3] += several.cell.array.sum(axis=0)
    several.positions += [0.3, -0.2, 5.0]
    for one in (atoms, several):
        one.calc = StudentCalculator(student)
    assert abs(several.get_potential_energy() - 6 * atoms.get_potential_energy()) < 1e-8
    assert np.allclose(several.get_forces(), np.tile(atoms.get_forces(), (6, 1)), atol=1e-8)
    assert np.allclose(several.get_stress(), atoms.get_stress(), atol=1e-10)


def test_a_molecule_in_a_large_cell_is_isolated(student: Student) -> None:
    alone = molecule("CH3OH")
    ((energy, _),) = predict(student, [alone])
    errors = []
    for edge in (20.0, 40.0):
        alone.set_cell([edge] * 3)
        alone.pbc = True
        errors.append(abs(predict(student, [alone])[0][0] - energy))
    # Dipoles of neighbouring cells interact as one over the volume.
    assert errors[1] < 1e-12 or errors[0] / errors[1] == pytest.approx(8.0, rel=0.05)


@pytest.mark.parametrize(("kind", "madelung"), [("rocksalt", 1.7475645946), ("cesiumchloride", 1.7626747731)])
def test_madelung_constants(kind: str, madelung: float) -> None:
    """Sum smeared charges over waves, and the rest of the point charges over images. Source: Ewald (1921)."""
    atoms = bulk("NaCl", kind, a=4.0)
    atoms.positions += 0.37
    charges = np.where(atoms.numbers == 11, 1.0, -1.0)
    smeared = lattice_electrostatics(*(torch.tensor(x) for x in (charges, atoms.positions, atoms.cell.array)))
    pairs, shifts, cell = periodic_pairs(atoms, 25.0)
    away = np.linalg.norm(atoms.positions[pairs[1]] + shifts @ cell - atoms.positions[pairs[0]], axis=1)
    rest = 0.5 * COULOMB * np.sum(charges[pairs[0]] * charges[pairs[1]] * erfc(away / SMEARING) / away)
    assert float(smeared) + rest == pytest.approx(-madelung * COULOMB / away.min(), rel=1e-8)


@pytest.mark.parametrize(
    ("change", "size", "why"),
    [
        (lambda atoms: atoms.info.update(charge=1), {}, r"structure 1 \(CO\) has charge 1 in each cell"),
        (lambda atoms: None, {"dispersion": True}, "supports dispersion only for isolated structures"),
    ],
)
def test_what_so3lr_cannot_sum_over_a_lattice(change: Callable[[Atoms], None], size: dict[str, bool], why: str) -> None:
    atoms = crystal(3.6)
    change(atoms)
    with pytest.raises(ValueError, match=why):
        make_student("so3lr", SIZE | size, Support((1, 6, 8), charges=(0, 1))).collate([molecule("H2O"), atoms])


def test_training_takes_lattices_without_the_compiled_graph(student: Student) -> None:
    batch = student.collate([crystal(), crystal(3.6)], torch.float64)
    plain, found = energy_and_forces(student, batch), compiled_energy_and_forces(student)(batch)
    assert torch.equal(found.energy, plain.energy)
    assert found.forces.requires_grad


def test_dynamics_of_lattices_is_refused(student: Student) -> None:
    with pytest.raises(ValueError, match=r"structure 1 \(CO\) is periodic; only isolated molecules"):
        StudentPotential(student, [molecule("H2O"), crystal(3.6)])


@pytest.mark.parametrize(
    "change",
    [
        lambda atoms: atoms.cell.__setitem__((0, 0), atoms.cell[0, 0] + 1e-9),
        lambda atoms: atoms.set_cell(1.01 * atoms.cell.array, scale_atoms=True),
        lambda atoms: atoms.pbc.__setitem__(slice(None), False),
        lambda atoms: atoms.positions.__setitem__((0, 0), atoms.positions[0, 0] + 1e-9),
    ],
    ids=["a vector of the cell", "the cell and the atoms", "no longer periodic", "moved"],
)
def test_whatever_changes_is_computed_again(student: Student, change: Callable[[Atoms], None]) -> None:
    atoms = crystal(3.6)
    atoms.calc = StudentCalculator(student)
    before = atoms.get_forces()
    change(atoms)
    fresh = atoms.copy()
    fresh.calc = StudentCalculator(student)
    assert np.array_equal(atoms.get_forces(), fresh.get_forces())
    assert not np.array_equal(atoms.get_forces(), before)
    if atoms.pbc.any():
        assert np.array_equal(atoms.get_stress(), fresh.get_stress())
    else:
        with pytest.raises(PropertyNotImplementedError, match="stress"):
            atoms.get_stress()


def test_a_lattice_has_no_dipole(student: Student) -> None:
    atoms = crystal(3.6)
    atoms.calc = StudentCalculator(student)
    with pytest.raises(PropertyNotImplementedError, match="dipole"):
        atoms.get_dipole_moment()


def test_a_cell_relaxes_downhill(student: Student) -> None:
    atoms = crystal()
    atoms.calc = StudentCalculator(student)
    before, volume = atoms.get_potential_energy(), atoms.get_volume()
    BFGS(FrechetCellFilter(atoms), logfile=None).run(steps=3)
    assert atoms.get_potential_energy() < before
    assert atoms.get_volume() != volume


def test_a_lost_atom_of_an_isolated_structure_costs_nothing() -> None:
    """Check that the search uses no grid over the empty space between; see `FARTHEST`."""
    assert neighbour_pairs(np.array([[0, 0, 0], [1, 0, 0], [1e12, 0, 0]]), 4.0).tolist() == [[0, 1], [1, 0]]
