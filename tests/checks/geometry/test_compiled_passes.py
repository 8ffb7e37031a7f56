"""Compiled loops against the NumPy versions; equal to the last bit where nothing is summed."""

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.data import covalent_radii
from ase.neighborlist import primitive_neighbor_list

from hydrogate.checks.data.dataset import Dataset, concatenate
from hydrogate.checks.engine import mergeable as statistics
from hydrogate.checks.engine.mergeable import Histogram, LeastSquares
from hydrogate.checks.geometry import distances as pairs
from hydrogate.checks.geometry.distances import BONDED, PERIODIC_CUTOFF, bonds, geometry
from hydrogate.checks.geometry.observables import (
    bond_forces,
    bond_moments,
    compositions,
    force_norms,
    force_squares,
    force_sums,
    net_force,
    net_torque,
    per_structure,
    sibling_work,
)


def random_molecules() -> list[Atoms]:
    """Return molecules of many kinds: one atom, only H, no H, large, coincident, far away, on a grid with ties."""
    rng = np.random.default_rng(3)
    found = [Atoms("H"), Atoms("C"), Atoms("H2", [[0, 0, 0], [0.74, 0, 0]]), molecule("C6H6"), Atoms()]
    for size in (1, 2, 3, 7, 8, 9, 16, 17, 40, 70):
        for elements in ([1], [6, 8, 53], [1, 1, 6, 7], [1, 118]):
            numbers = rng.choice(elements, size)
            found.append(Atoms(numbers, rng.normal(0, 2, (size, 3))))
            found.append(Atoms(numbers, rng.integers(0, 3, (size, 3))))
    found += [Atoms("CH4", np.zeros((5, 3))), Atoms("OH2", 1e12 + molecule("H2O").positions)]
    found += [Atoms("OH2", 1e30 * molecule("H2O").positions)]
    return found


def spoiled() -> list[Atoms]:
    """Return structures with non-finite positions or invalid atomic numbers."""
    found = []
    for name in ("CH3OH", "H2", "NH3"):
        for atom in (0, -1):
            for value in (np.nan, np.inf, -np.inf):
                atoms = molecule(name)
                atoms.positions[atom, 1] = value
                found.append(atoms)
    return [*found, Atoms("XH2", np.eye(3)), Atoms("XCH", np.eye(3))]


def boxed() -> list[Atoms]:
    water = molecule("H2O")
    water.set_cell(6 * np.eye(3))
    water.pbc = True
    return [water, bulk("Cu")]


SETS = {
    "isolated": random_molecules(),
    "spoiled": [*random_molecules()[:8], *spoiled(), *random_molecules()[8:]],
    "periodic": [*random_molecules()[:8], *boxed(), *spoiled()],
    "nothing": [],
}


@pytest.fixture(params=list(SETS))
def data(request: pytest.FixtureRequest) -> Dataset:
    return concatenate(SETS[request.param])


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Use the compiled loops for data sets of any size."""
    monkeypatch.setattr(pairs, "COMPILED_FROM", 1)
    return monkeypatch


def test_geometry(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    formula = geometry(data)
    monkeypatch.setattr(pairs, "COMPILED_FROM", 1)
    for name, one, other in zip(formula._fields, geometry(data), formula, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=name)


def test_an_atom_beyond_all_radii_breaks_either_pass_alike(compiled: pytest.MonkeyPatch) -> None:
    data = concatenate([molecule("CH4")])
    with pytest.raises(IndexError):
        geometry(replace(data, numbers=np.full(5, 200, dtype=np.uint8)))


def test_neighbours_through_faces_are_ases() -> None:
    rng = np.random.default_rng(0)
    for pbc in ((True, True, True), (True, False, True), (False, False, True)):
        cell = np.array([[6.0, 0.0, 0.0], [-4.0, 6.0, 0.0], [2.0, -3.0, 7.0]])
        data = concatenate([Atoms("CH6O", rng.uniform(-8, 8, (8, 3)), cell=cell, pbc=pbc)])
        shape, positions = geometry(data), data.positions.astype(float)
        one, two, distance = primitive_neighbor_list("ijd", pbc, cell, positions, PERIODIC_CUTOFF)
        assert shape.min_distance[0] == pytest.approx(distance.min(), abs=1e-12)
        radii = covalent_radii[data.numbers]
        for row, hydrogen in enumerate(shape.hydrogen.tolist()):
            near = (one == hydrogen) & (data.numbers[two] != 1)
            relative = distance[near] / (radii[hydrogen] + radii[two[near]])
            assert shape.relative_length[row] == pytest.approx(min(relative, default=np.inf), abs=1e-12)
            along = positions[hydrogen] - positions[shape.partner[row]] + shape.shift[row]
            assert np.isinf(shape.length[row]) or np.linalg.norm(along) == pytest.approx(shape.length[row], abs=1e-9)


@pytest.mark.parametrize("far", [30.0, 1e6, 1e30, -1e30])
@pytest.mark.parametrize("lost", [0, 2])
def test_an_atom_that_is_lost_across_what_does_not_repeat_leaves_the_others_their_neighbours(
    far: float, lost: int
) -> None:
    slab = molecule("H2O") + molecule("H2O")
    slab.positions[3:] += [1.0, 2.0, 3.0]
    slab.set_cell([[6.0, 0.0, 0.0], [1.0, 6.0, 0.0], [2.0, 1.0, 9.0]])
    slab.pbc = (True, True, False)
    whole = geometry(concatenate([slab]))
    slab.positions[lost, 2] = far
    shape = geometry(concatenate([slab]))
    kept = (whole.hydrogen != lost) & (whole.partner != lost)
    assert kept.sum() == (2 if lost == 0 else 3)
    assert np.allclose(shape.length[kept], whole.length[kept], atol=1e-12)
    assert np.array_equal(shape.partner[kept], whole.partner[kept])


def test_bonds(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    formula = bonds(data)
    monkeypatch.setattr(pairs, "COMPILED_FROM", 1)
    for name, one, other in zip(formula._fields, bonds(data), formula, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=name)
        assert one.dtype == other.dtype


def test_bonds_at_the_very_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    reach = np.float32(BONDED * 2 * covalent_radii[6])
    lengths = [np.nextafter(reach, np.float32(k)) for k in (0, 1, 9)] + [reach]
    data = concatenate([Atoms("CC", [[0, 0, 0], [length, 0, 0]]) for length in lengths])
    formula = bonds(data)
    monkeypatch.setattr(pairs, "COMPILED_FROM", 1)
    assert 0 < len(bonds(data).first) == len(formula.first) < len(lengths)


def test_where_all_are_bonded_to_all(compiled: pytest.MonkeyPatch) -> None:
    assert len(bonds(concatenate([Atoms("C60", np.zeros((60, 3)))])).first) == 60 * 59 // 2


def labelled(structures: list[Atoms]) -> Dataset:
    """Return ``structures``, each with a second geometry and a third with changed elements, with random forces."""
    rng = np.random.default_rng(5)
    # Sums over atoms 1e12 Å away are dominated by rounding errors.
    near = [atoms for atoms in structures if not (np.abs(atoms.positions[np.isfinite(atoms.positions)]) > 1e9).any()]
    family = [atoms for one in near for atoms in (one.copy(), one.copy(), one.copy())]
    for rank, atoms in enumerate(family):
        atoms.positions += rng.normal(0, 0.1, atoms.positions.shape)
        if rank % 3 == 2 and len(atoms):
            atoms.numbers[-1] = 15 - atoms.numbers[-1] % 8
    forces = [rng.normal(0, 2, atoms.positions.shape) for atoms in family]
    parent = np.arange(len(family)) // 3 * 3
    return concatenate(family, energy=rng.normal(size=len(family)), forces=forces, parent=parent)


@pytest.mark.parametrize("spoil", [None, np.nan, np.inf])
@pytest.mark.parametrize("structures", ["isolated", "spoiled", "periodic"])
def test_sums_over_forces(structures: str, spoil: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    data = labelled(SETS[structures])
    if spoil is not None:
        data.forces[::7, 1] = spoil
    found = []
    for from_atoms in (10**9, 1):
        monkeypatch.setattr(pairs, "COMPILED_FROM", from_atoms)
        again = replace(data)
        sums, shape = force_sums(again), geometry(again)
        found.append([*sums, force_norms(again), net_force(again), net_torque(again), *bond_forces(again, shape)])
        with np.errstate(invalid="ignore"):
            found[-1] += sibling_work(again)
        moments = bond_moments(again, shape)
        found[-1] += [np.array(list(moments)), *(column for of in moments.values() for column in of)]
        found[-1] += [force_squares(replace(again)), *compositions(again)]
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)


def test_sums_over_the_atoms_of_a_structure(compiled: pytest.MonkeyPatch) -> None:
    data = concatenate([molecule("H2O"), Atoms(), Atoms("He")])
    values = np.array([0.5, -0.25, 0.125, 8.0], dtype=np.float32)
    assert per_structure(values, data).tolist() == [0.375, 0.0, 8.0]
    assert per_structure(values, data, np.maximum).tolist() == [0.5, 0.0, 8.0]
    assert per_structure(np.stack([values, -values], axis=1), data)[0].tolist() == [0.375, -0.375]


@pytest.mark.parametrize("spoil", [None, np.nan, np.inf, -np.inf, 1e300])
def test_histograms(spoil: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    values = np.concatenate([rng.normal(size=500), rng.normal(0, 1e-30, 50), np.zeros(3), [-0.0, 1e-45]])
    if spoil is not None:
        values[::9] = spoil
    for chosen in (rng.random(len(values)) < 0.5, values > 0, np.isnan(values), np.zeros(len(values), dtype=bool)):
        formula = Histogram.of_kinds(values, chosen)
        with monkeypatch.context() as patch:
            patch.setattr(statistics, "COMPILED_FROM", 1)
            compiled = Histogram.of_kinds(values, chosen)
        for of in (False, True):
            for name in ("bins", "counts", "undefined", "extremes"):
                np.testing.assert_equal(getattr(compiled[of], name), getattr(formula[of], name), err_msg=name)
            np.testing.assert_equal(compiled[of].quantile(0.3), formula[of].quantile(0.3))


def test_rows_that_repeat_are_one_problem() -> None:
    rng = np.random.default_rng(4)
    columns = np.repeat(rng.integers(0, 9, (20, 3)).astype(float), rng.integers(1, 5, 20), axis=0)
    values = columns @ [1.0, -2.0, 3.0] + rng.normal(size=len(columns))
    fit = LeastSquares.of((1, 6, 8), columns, values)
    whole = np.column_stack([columns, values])
    np.testing.assert_allclose(fit.triangle.T @ fit.triangle, whole.T @ whole, rtol=1e-12)
    expected = np.linalg.lstsq(columns, values, rcond=None)[0]
    np.testing.assert_allclose(list(fit.solve().coefficients.values()), expected, rtol=1e-10)


def test_there_are_siblings_to_sum_over() -> None:
    some = [atoms for atoms in random_molecules() if len(atoms)]
    assert len(sibling_work(labelled(some)).work) == len(some) - 2
