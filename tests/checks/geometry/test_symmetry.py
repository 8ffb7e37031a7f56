"""Symmetry tests: a correct analytic potential passes; each broken one is detected, with the expected error."""

import math

import numpy as np
import pytest
from ase.build import molecule

from hydrogate.checks.geometry.symmetry import force_gradient_error, permutation_error, rotation_error

STRUCTURES = [molecule(name) for name in ("H2O", "CH4", "CH3CH2OH", "NH3")]


def springs(structures):
    """Compute springs between all pairs, with strength given by the nuclear charges: E = Σ z_i z_j (r - 1)² / 2."""
    results = []
    for atoms in structures:
        vectors = atoms.positions[:, None] - atoms.positions[None]
        distances = np.linalg.norm(vectors, axis=2) + np.eye(len(atoms))
        strength = np.outer(atoms.numbers, atoms.numbers) * (1 - np.eye(len(atoms)))
        energy = 0.25 * float((strength * (distances - 1) ** 2).sum()) - 1000.0 * atoms.numbers.sum()
        forces = -(strength * (distances - 1) / distances)[:, :, None] * vectors
        results.append((energy, forces.sum(axis=1)))
    return results


def broken(energy=lambda atoms: 0.0, forces=lambda atoms, f: f):
    """Return the springs with an additional energy and modified forces."""

    def potential(structures):
        return [
            (e + energy(atoms), forces(atoms, f)) for atoms, (e, f) in zip(structures, springs(structures), strict=True)
        ]

    return potential


def test_a_sound_potential_passes_all():
    assert force_gradient_error(springs, STRUCTURES) < 1e-6
    for measure in (rotation_error, permutation_error):
        energy, forces = measure(springs, STRUCTURES)
        assert energy < 1e-9
        assert forces < 1e-9


def test_flipped_forces_are_twice_the_slope_off():
    assert force_gradient_error(broken(forces=lambda _, f: -f), STRUCTURES) == pytest.approx(2.0, rel=1e-6)


@pytest.mark.parametrize("factor", [0.9, 1.01])
def test_rescaled_forces_show_by_their_factor(factor):
    error = force_gradient_error(broken(forces=lambda _, f: factor * f), STRUCTURES)
    assert error == pytest.approx(abs(factor - 1), rel=1e-4)


def test_forces_with_a_part_that_is_no_gradient_show():
    curl = broken(forces=lambda atoms, f: f + np.cross([0, 0, 10.0], atoms.positions))
    assert force_gradient_error(curl, STRUCTURES, n_directions=10) > 0.01


def test_forces_that_are_zero_are_wholly_wrong():
    assert force_gradient_error(broken(forces=lambda _, f: 0 * f), STRUCTURES) == pytest.approx(1.0)


def test_an_energy_that_sees_the_axes_shows_in_energy_and_forces():
    fixed = np.array([0.3, -0.2, 0.5])
    seen = broken(energy=lambda atoms: float((atoms.positions @ fixed).sum()), forces=lambda _, f: f - fixed)
    assert force_gradient_error(seen, STRUCTURES) < 1e-6
    energy, forces = rotation_error(seen, STRUCTURES)
    assert energy > 0.01
    assert forces > 0.1
    assert max(permutation_error(seen, STRUCTURES)) < 1e-9


def test_an_energy_that_tells_left_from_right_shows():
    def handed(atoms):
        a, b, c = np.diff(atoms.positions[:4], axis=0)
        return float(np.dot(a, np.cross(b, c)))

    energy, _ = rotation_error(broken(energy=handed), [molecule("CH4")] * 2)
    assert energy > 0.01


def test_an_energy_that_sees_the_order_of_the_atoms_shows():
    ordered = broken(energy=lambda atoms: 0.01 * float(np.arange(len(atoms)) @ atoms.numbers))
    energy, forces = permutation_error(ordered, STRUCTURES)
    assert energy > 0.01
    assert forces < 1e-9
    assert max(rotation_error(ordered, STRUCTURES)) < 1e-9


@pytest.mark.parametrize("measure", [rotation_error, permutation_error])
def test_forces_in_the_wrong_order_show(measure):
    wrong = broken(forces=lambda atoms, f: f + 0.1 * np.eye(len(atoms), 3))
    assert measure(wrong, STRUCTURES)[1] > 0.05


def test_charge_and_spin_go_along():
    ion = molecule("CH4")
    ion.info.update(charge=1, spin=2)
    seen = []

    def potential(structures):
        seen.extend(atoms.info for atoms in structures)
        return springs(structures)

    force_gradient_error(potential, [ion])
    rotation_error(potential, [ion])
    permutation_error(potential, [ion])
    assert len(seen) == 7 + 2 + 2
    assert all(info["charge"] == 1 and info["spin"] == 2 for info in seen)


def test_a_cell_turns_with_its_atoms():
    def along_the_cell(structures):
        """Compute a force on the first atom along the first cell vector."""
        pulled = [np.outer(np.arange(len(atoms)) == 0, atoms.cell[0]) for atoms in structures]
        return [(-float((pull * a.positions).sum()), pull) for pull, a in zip(pulled, structures, strict=True)]

    water = molecule("H2O", vacuum=3.0)
    assert max(rotation_error(along_the_cell, [water] * 3)) < 1e-9


def test_the_seed_decides():
    bent = broken(forces=lambda atoms, f: f + 0.1 * atoms.positions)
    assert force_gradient_error(bent, STRUCTURES, seed=1) == force_gradient_error(bent, STRUCTURES, seed=1)
    assert force_gradient_error(bent, STRUCTURES, seed=1) != force_gradient_error(bent, STRUCTURES, seed=2)


def test_nan_is_never_a_small_error():
    lost = broken(energy=lambda atoms: math.nan, forces=lambda _, f: f * math.nan)
    one_lost = broken(forces=lambda atoms, f: f * (math.nan if len(atoms) == 4 else 1.0))
    for potential in (lost, one_lost):
        assert math.isnan(force_gradient_error(potential, STRUCTURES))
        assert math.isnan(rotation_error(potential, STRUCTURES)[1])
        assert math.isnan(permutation_error(potential, STRUCTURES)[1])
    assert math.isnan(rotation_error(lost, STRUCTURES)[0])


def test_nothing_measured_is_never_a_small_error():
    assert math.isnan(force_gradient_error(springs, []))
    for measure in (rotation_error, permutation_error):
        assert all(math.isnan(error) for error in measure(springs, []))


def test_a_potential_without_any_slope_is_undefined():
    assert math.isnan(force_gradient_error(lambda s: [(0.0, np.zeros((len(a), 3))) for a in s], STRUCTURES))
