"""Observables against a reference: ASE's minimum image convention, or the same structure without a cell."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.geometry import get_distances

from hydrogate.checks import Verdict, check
from hydrogate.checks.data.dataset import concatenate
from hydrogate.checks.geometry.observables import bond_forces, bonds, fragments, geometry, net_torque, sibling_work

SKEWED = np.array([[6.0, 0.0, 0.0], [-4.0, 6.0, 0.0], [2.0, -3.0, 7.0]])


def periodic(atoms: Atoms, cell: object, pbc: object = True) -> Atoms:
    """Return ``atoms`` wrapped into ``cell``, so that molecules cross the cell boundaries."""
    atoms = atoms.copy()
    atoms.set_cell(cell)
    atoms.pbc = pbc
    atoms.translate([0.1, 0.2, 0.3])
    atoms.wrap()
    return atoms


@pytest.mark.parametrize("cell", [9.0 * np.eye(3), 1.5 * SKEWED])
@pytest.mark.parametrize("name", ["H2O", "CH3CH2OH", "H2", "CH3SH"])
def test_a_molecule_cut_by_the_faces_of_its_cell_is_the_molecule(name: str, cell: np.ndarray) -> None:
    alone, cut = (geometry(concatenate([atoms])) for atoms in (molecule(name), periodic(molecule(name), cell)))
    for one, two in zip(alone[:5], cut[:5], strict=True):
        np.testing.assert_allclose(one, two, atol=1e-5)


@pytest.mark.parametrize("pbc", [(True, True, True), (True, True, False), (False, False, True)])
def test_distances_are_those_of_ases_minimum_image(pbc: tuple[bool, bool, bool]) -> None:
    rng = np.random.default_rng(7)
    for _ in range(20):
        atoms = Atoms("CH5O", rng.uniform(-8, 8, (7, 3)), cell=SKEWED, pbc=pbc)
        data = concatenate([atoms])
        positions = data.positions.astype(float)
        distance = get_distances(positions, positions, SKEWED, pbc)[1] + np.where(np.eye(7), np.inf, 0.0)
        shape = geometry(data)
        expected = min(distance.min(), 5.0)
        assert min(shape.min_distance[0], 5.0) == pytest.approx(expected, abs=1e-6)
        near = np.isfinite(shape.length)
        chosen = distance[shape.hydrogen[near], shape.partner[near]]
        np.testing.assert_allclose(shape.length[near], chosen, atol=1e-6)
        assert np.all(distance[1:6][:, [0, 6]][~near] > 5.0)


def test_a_small_cell_brings_an_atom_near_its_own_image() -> None:
    assert geometry(concatenate([bulk("Cu")])).min_distance[0] == pytest.approx(3.61 / np.sqrt(2))
    squeezed = Atoms("Ar", cell=[0.5, 8, 8], pbc=True)
    report = check([squeezed], "structures", profile="periodic")
    assert next(f for f in report.findings if f.check == "min_distance").verdict is Verdict.FAIL


def test_an_overlap_through_a_face_is_seen_in_the_cell_and_not_without() -> None:
    atoms = Atoms("CC", [[0.1, 4, 4], [7.9, 4, 4]], cell=[8, 8, 8], pbc=True)
    assert geometry(concatenate([atoms])).min_distance[0] == pytest.approx(0.2, abs=1e-5)
    atoms.pbc = False
    assert geometry(concatenate([atoms])).min_distance[0] == pytest.approx(7.8, abs=1e-5)


@pytest.mark.parametrize("spoiled", ["cell", "positions"])
def test_what_has_no_geometry_is_nan_and_does_not_pass(spoiled: str) -> None:
    atoms = periodic(molecule("H2O"), 9.0 * np.eye(3))
    if spoiled == "cell":
        atoms.set_cell([9, 0, 9])
        atoms.pbc = True
    else:
        atoms.positions[0, 0] = np.nan
    shape = geometry(concatenate([atoms]))
    assert np.isnan(shape.min_distance[0])
    assert np.isnan(shape.length).all()


def test_isolated_and_periodic_structures_stand_side_by_side() -> None:
    both = [molecule("CH3OH"), periodic(molecule("H2O"), SKEWED * 1.5), bulk("Cu"), molecule("NH3")]
    together = geometry(concatenate(both))
    apart = [geometry(concatenate([atoms])) for atoms in both]
    assert together.min_distance.tolist() == [shape.min_distance[0] for shape in apart]
    np.testing.assert_array_equal(together.length, np.concatenate([shape.length for shape in apart]))
    assert np.all(np.diff(together.hydrogen) > 0)


def test_the_force_along_a_bond_goes_through_the_face() -> None:
    water = molecule("H2O")
    forces = np.random.default_rng(0).normal(size=(3, 3))
    of = [concatenate([a], energy=[0.0], forces=[forces]) for a in (water, periodic(water, SKEWED * 1.5))]
    one, two = (bond_forces(data, geometry(data)) for data in of)
    np.testing.assert_allclose(one.force, two.force, atol=1e-5)


def test_work_goes_through_the_face_and_not_between_two_cells() -> None:
    water = periodic(molecule("H2O"), 9.0 * np.eye(3))
    moved = water.copy()
    moved.translate([0.05, -0.15, 0.0])
    moved.wrap()
    strained = water.copy()
    strained.set_cell(9.1 * np.eye(3))
    forces = [np.full((3, 3), 0.2)] * 3
    data = concatenate([water, moved, strained], energy=[0.0, 0.1, 0.2], forces=forces, parent=[0, 0, 0])
    pairs = sibling_work(data)
    assert pairs.second.tolist() == [1]
    assert pairs.work[0] == pytest.approx(-3 * 0.2 * -0.1, abs=1e-5)
    assert pairs.rms_displacement[0] == pytest.approx(np.hypot(0.05, 0.15), abs=1e-5)


def test_fragments_are_what_bonds_hold_together() -> None:
    water, methanol = molecule("H2O"), molecule("CH3OH")
    apart = water + methanol
    apart.positions[3:] += 6.0
    found = [methanol, apart, Atoms("He3", np.eye(3) * 9.0), Atoms("H"), water]
    data = concatenate(found)
    assert fragments(data, bonds(data)).tolist() == [1, 2, 3, 1, 1]


def test_the_torque_is_about_the_centroid() -> None:
    far = Atoms("HH", [[100, 0, 0], [101, 0, 0]])
    data = concatenate([far], energy=[0.0], forces=[np.array([[0, 1, 0], [0, -1, 0]])])
    assert net_torque(data)[0] == pytest.approx(1.0)
    pushed = concatenate([far], energy=[0.0], forces=[np.ones((2, 3))])
    assert net_torque(pushed)[0] == pytest.approx(0.0, abs=1e-6)


def test_torque_is_judged_on_what_is_isolated_alone() -> None:
    forces = [np.array([[0, 1, 0], [0, -1, 0]])]
    boxed = Atoms("HH", [[0, 0, 0], [1, 0, 0]], cell=[5, 5, 5], pbc=True)
    free = Atoms("HH", [[0, 0, 0], [1, 0, 0]])

    def verdict(*atoms: Atoms) -> tuple[Verdict, int]:
        data = concatenate(list(atoms), energy=[0.0] * len(atoms), forces=forces * len(atoms))
        found = next(f for f in check(data, "labels").findings if f.check == "net_torque")
        return found.verdict, found.n

    assert verdict(boxed) == (Verdict.NOT_RUN, 0)
    assert verdict(boxed, free) == (Verdict.FAIL, 1)
