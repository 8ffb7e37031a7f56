"""Tests of duplicate detection: copies in any orientation and atom order, but not similar geometries."""

from collections.abc import Callable

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from scipy.spatial.transform import Rotation

from hydrogate.checks import Dataset, Finding, Verdict, check
from hydrogate.checks.data.dataset import concatenate


def found(data: Dataset) -> Finding:
    return next(finding for finding in check(data, "structures").findings if finding.check == "duplicates")


def ethylamine() -> Atoms:
    """Return an ethylamine without any symmetry, so that its mirror image is a different geometry."""
    atoms = molecule("CH3CH2NH2")
    atoms.positions += np.random.default_rng(1).normal(0.0, 0.1, atoms.positions.shape)
    return atoms


def turned(atoms: Atoms) -> Atoms:
    rotation = Rotation.from_euler("xyz", [40, 110, 250], degrees=True)
    return Atoms(atoms.numbers, rotation.apply(atoms.positions) + np.array([1.0, -2.0, 7.0]))


def reordered(atoms: Atoms) -> Atoms:
    return turned(atoms)[np.random.default_rng(2).permutation(len(atoms))]


def trembling(atoms: Atoms) -> Atoms:
    return Atoms(atoms.numbers, atoms.positions + np.random.default_rng(3).normal(0.0, 0.001, atoms.positions.shape))


@pytest.mark.parametrize("copy", [Atoms.copy, turned, reordered, trembling])
def test_one_geometry_twice_is_found(copy: Callable[[Atoms], Atoms]) -> None:
    finding = found(concatenate([molecule("CH3CH2OH"), ethylamine(), molecule("CH4"), copy(ethylamine())]))
    assert finding.verdict is Verdict.FAIL
    assert finding.n_bad == 2
    assert "structure 1 (C2H7N) and structure 3 (C2H7N) are the same geometry" in finding.message


def rattled(atoms: Atoms) -> Atoms:
    return Atoms(atoms.numbers, atoms.positions + np.random.default_rng(4).normal(0.0, 0.02, atoms.positions.shape))


def mirrored(atoms: Atoms) -> Atoms:
    return Atoms(atoms.numbers, atoms.positions * [1, 1, -1])


def charged(atoms: Atoms) -> Atoms:
    return Atoms(atoms.numbers, atoms.positions, info={"charge": 1, "spin": 2})


def strained(atoms: Atoms) -> Atoms:
    return Atoms(atoms.numbers, atoms.positions, cell=[9, 9, 9], pbc=True)


@pytest.mark.parametrize("other", [rattled, mirrored, charged, strained])
def test_what_is_another_geometry_or_state_is_none(other: Callable[[Atoms], Atoms]) -> None:
    assert found(concatenate([ethylamine(), other(ethylamine())])).verdict is Verdict.PASS


def test_a_flat_molecule_is_its_own_mirror_image() -> None:
    flat = molecule("HCOOH")
    (across,) = np.flatnonzero(np.ptp(flat.positions, axis=0) < 1e-6)
    mirrored_in_its_plane = Atoms(flat.numbers, flat.positions * np.where(np.arange(3) == (across + 1) % 3, -1, 1))
    assert found(concatenate([flat, mirrored_in_its_plane, turned(flat)])).n_bad == 3


def test_one_copy_among_many_geometries_of_its_molecule_is_found() -> None:
    rng = np.random.default_rng(5)
    many = [Atoms(a.numbers, a.positions + rng.normal(0.0, 0.1, a.positions.shape)) for a in [ethylamine()] * 40]
    assert found(concatenate([*many, turned(many[7])])).n_bad == 2


def test_a_block_that_stands_there_twice_is_counted_whole(structures: Dataset) -> None:
    twice = structures.subset(np.concatenate([np.arange(len(structures)), np.arange(30, 60)]))
    assert found(structures).n_bad == 0
    assert found(twice).n_bad == 60


def test_thousands_of_copies_of_one_structure_are_all_found() -> None:
    assert found(concatenate([ethylamine()] * 2000)).n_bad == 2000


@pytest.mark.parametrize("symbols", ["H", "HF"])
def test_atoms_and_pairs_have_fingerprints_too(symbols: str) -> None:
    atoms = Atoms(symbols, np.arange(3.0 * len(Atoms(symbols))).reshape(-1, 3))
    assert found(concatenate([atoms, atoms])).n_bad == 2


def test_a_position_that_is_not_finite_is_no_duplicate_and_no_crash() -> None:
    broken = ethylamine()
    broken.positions[0] = np.nan
    assert found(concatenate([broken, broken, ethylamine()])).n_bad == 0
