"""The scripts in PyMOL itself: `python -m nox -s pymol`, with Debian's `pymol`."""

import numpy as np
from ase import Atoms
from ase.build import molecule
from matplotlib.image import imread

from hydrogate.checks.data.dataset import concatenate
from hydrogate.checks.metrics.comparison import Comparison
from hydrogate.pipeline.reports.visualize import pictures, run


def picture_of(folder, teacher, student) -> np.ndarray:
    """(height, width, 3) the pixels, from 0 to 1, of methanol with the two forces on its hydroxyl hydrogen."""
    atoms: Atoms = molecule("CH3OH")
    hydrogen = 3
    assert atoms.numbers[hydrogen] == 1
    forces = np.zeros((2, len(atoms), 3))
    forces[:, hydrogen] = teacher, student
    labelled, predicted = (concatenate([atoms], forces=[one]) for one in forces)
    scripts = run(labelled, Comparison.of(labelled, predicted), [0], folder, scale=0.3, worst=0.5)
    (made,) = pictures(scripts)
    return np.asarray(imread(made))[..., :3]


def bluish(picture):
    return int(((picture[..., 2] - picture[..., 0]) > 0.25).sum())


def orange(picture):
    return int(((picture[..., 0] - picture[..., 2]) > 0.25).sum() - _red(picture).sum())


def _red(picture):
    return (picture[..., 0] - picture[..., 1] > 0.2) & (np.abs(picture[..., 1] - picture[..., 2]) < 0.05)


def test_arrows_and_errors_are_seen(tmp_path):
    still = picture_of(tmp_path / "still", (0, 0, 0), (0, 0, 0))
    assert bluish(still) < 50
    assert orange(still) < 50
    assert not _red(still).any()
    assert (still < 0.95).any(axis=2).sum() > 10_000  # sticks and spheres on white
    apart = picture_of(tmp_path / "apart", (5.0, 0, 0), (-5.0, 0, 0))
    assert bluish(apart) > 500
    assert orange(apart) > 500
    assert _red(apart).sum() > 300
