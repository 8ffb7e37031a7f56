"""Distorted geometries of held-out molecules: displaced by sigma, reproducible by seed, labelled or rejected."""

import numpy as np
import pytest
from ase.build import molecule

from hydrogate.checks.data.dataset import concatenate
from hydrogate.pipeline.commands.distorted import run
from hydrogate.pipeline.molecules.sampling import NEAREST_UNREMARKABLE

ASKED = [molecule(name) for name in ("CH3CH2OH", "CH4", "NH3", "H2O")]


def spring(structures, strength=1.0):
    """Potential that pulls each atom to the origin."""
    return [(strength * float((a.positions**2).sum()) / 2, -strength * a.positions) for a in structures]


@pytest.fixture
def data():
    """Ethanol, a second geometry of it, methane, ammonia and water."""
    return concatenate([ASKED[0], *ASKED], parent=np.array([0, 0, 2, 3, 4]))


def test_every_molecule_is_moved_once_by_sigma(data):
    seen = []

    def teacher(structures):
        seen.extend(structures)
        return spring(structures)

    metrics = run(data, lambda structures: spring(structures, 1.5), teacher, sigma=0.1, count=100, seed=0)
    assert [len(atoms) for atoms in seen] == [9, 5, 4, 3]
    moved = np.concatenate([a.positions - b.positions for a, b in zip(seen, ASKED, strict=True)])
    assert 0.07 < moved.std() < 0.13
    lengths = np.concatenate([a.positions for a in seen])
    assert metrics["force_rmse"].value == pytest.approx(0.5 * np.sqrt((lengths**2).mean()), rel=1e-5)
    assert metrics["force_rmse"].n == 4


def test_equal_seeds_ask_about_equal_geometries(data):
    first, again, other = (
        run(data, lambda structures: spring(structures, 2.0), spring, 0.1, 2, seed)["force_rmse"].value
        for seed in (0, 0, 1)
    )
    assert first == again != other


def test_no_two_atoms_come_too_near(data):
    nearest = []

    def teacher(structures):
        nearest.extend(np.sort(a.get_all_distances()[np.triu_indices(len(a), 1)])[0] for a in structures)
        return spring(structures)

    run(data, spring, teacher, sigma=0.15, count=10, seed=0)
    assert min(nearest) >= NEAREST_UNREMARKABLE - 1e-6


def test_a_geometry_without_a_label_is_refused_by_name(data):
    def failing(structures):
        answers = spring(structures)
        return [*answers[:2], (float("nan"), np.full((4, 3), np.nan)), *answers[3:]]

    with pytest.raises(
        ValueError, match=r"structure 2 \(H3N.*cannot label the distorted geometry; try a smaller --sigma"
    ):
        run(data, spring, failing, 0.1, 10, 0)


def test_no_molecules_are_no_result(data):
    with pytest.raises(ValueError, match="no molecule to distort"):
        run(data.subset(np.array([], dtype=np.int64)), spring, spring, 0.1, 10, 0)


def test_the_student_is_asked_before_the_teacher_s_minutes(data):
    def untaught(structures):
        raise ValueError("was taught no carbon")

    with pytest.raises(ValueError, match="was taught no carbon"):
        run(data, untaught, lambda structures: pytest.fail("the teacher was asked"), 0.1, 10, 0)
