"""Tests of the ASE calculator: it agrees with batched prediction, and caches results without returning stale ones."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_forces
from ase.optimize import BFGS

from hydrogate.models import calculator as module
from hydrogate.models.calculator import StudentCalculator
from hydrogate.models.potential import Student, Support, UnsupportedStructure, predict
from hydrogate.models.students import make_student, student_names

SIZE = {"features": 8, "layers": 2, "radial": 6, "cutoff": 4.0}


def made(name: str) -> Student:
    torch.manual_seed(0)
    return make_student(name, SIZE, Support((1, 6, 8), charges=(0, 1), spin_multiplicities=(1, 2))).double()


@pytest.fixture(params=student_names())
def student(request: pytest.FixtureRequest) -> Student:
    return made(request.param)


@pytest.fixture
def atoms(student: Student) -> Atoms:
    rattled = molecule("CH3OH")
    rattled.rattle(0.1, seed=3)
    rattled.calc = StudentCalculator(student)
    return rattled


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    plain, counted = module.energy_and_forces, []

    def counting(*arguments: object) -> object:
        counted.append(1)
        return plain(*arguments)

    monkeypatch.setattr(module, "energy_and_forces", counting)
    return counted


def test_it_says_what_batched_prediction_says(student: Student, atoms: Atoms) -> None:
    ((energy, forces),) = predict(student, [atoms])
    assert atoms.get_potential_energy() == energy
    assert np.array_equal(atoms.get_forces(), forces)
    assert np.allclose(calculate_numerical_forces(atoms, eps=1e-4), forces, atol=1e-5)


def test_the_dipole_is_there_where_it_is_predicted(student: Student, atoms: Atoms) -> None:
    if student.dipole_weight is None:
        with pytest.raises(PropertyNotImplementedError):
            atoms.get_dipole_moment()
    else:
        expected = student.interaction_energy_and_dipole(student.collate([atoms], torch.float64))[1]
        assert np.array_equal(atoms.get_dipole_moment(), expected[0].detach().numpy())


def test_nothing_is_computed_twice(atoms: Atoms, calls: list[int]) -> None:
    for _ in range(3):
        atoms.get_forces()
        atoms.get_potential_energy()
        atoms.copy()
    assert len(calls) == 1


def test_an_answer_that_was_spoiled_is_not_given_again(atoms: Atoms) -> None:
    first = atoms.get_forces()
    kept = first.copy()
    first[:] = 0.0
    assert np.array_equal(atoms.get_forces(), kept)


@pytest.mark.parametrize(
    "change",
    [
        lambda atoms: atoms.positions.__setitem__((0, 0), atoms.positions[0, 0] + 1e-9),
        lambda atoms: atoms.numbers.__setitem__(0, 8),
        lambda atoms: atoms.info.update(charge=1, spin=2),
        lambda atoms: atoms.calc.student.energy_scale.mul_(2.0),
        lambda atoms: atoms.calc.student.load_state_dict(
            {name: value * 1.1 for name, value in atoms.calc.student.state_dict().items() if value.is_floating_point()},
            strict=False,
        ),
        lambda atoms: atoms.calc.student.float(),
    ],
    ids=["moved", "another element", "another charge", "a buffer", "other weights", "another precision"],
)
def test_whatever_changes_is_computed_again(atoms: Atoms, calls: list[int], change: Callable[[Atoms], None]) -> None:
    atoms.get_potential_energy()
    change(atoms)
    fresh = atoms.copy()
    fresh.calc = StudentCalculator(atoms.calc.student)
    assert atoms.get_potential_energy() == fresh.get_potential_energy()
    assert np.array_equal(atoms.get_forces(), fresh.get_forces())
    assert len(calls) == 3


def test_a_refusal_leaves_no_answer(atoms: Atoms) -> None:
    atoms.get_potential_energy()
    atoms.numbers[0] = 14
    for _ in range(2):
        with pytest.raises(UnsupportedStructure, match="has element Si"):
            atoms.get_potential_energy()
    atoms.numbers[0] = 6
    assert np.isfinite(atoms.get_potential_energy())


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda atoms: atoms.set_pbc(True), "spans no volume"),
        (lambda atoms: atoms.info.update(charge=1), "cannot have spin multiplicity 1"),
        (lambda atoms: atoms.info.update(charge=0.5), "expected an integer charge"),
        (lambda atoms: atoms.positions.__setitem__((0, 0), np.nan), "not finite"),
    ],
)
def test_what_it_cannot_do_is_refused(atoms: Atoms, change: Callable[[Atoms], None], why: str) -> None:
    change(atoms)
    with pytest.raises(ValueError, match=why):
        atoms.get_potential_energy()


def test_an_optimizer_goes_downhill(atoms: Atoms) -> None:
    before = atoms.get_potential_energy()
    BFGS(atoms, logfile=None).run(steps=3)
    assert atoms.get_potential_energy() < before
