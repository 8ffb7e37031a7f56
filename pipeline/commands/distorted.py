"""``hydrogate distorted``: a student on held-out molecules, distorted further than in its training data.

A Gaussian displaces every coordinate of each molecule's own geometry; the teacher labels the result on the fly. No gate
uses it: a force field for molecules at room temperature need not cover such geometries, but its users should know where
its range ends.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import pdist

from hydrogate.checks.data.dataset import Dataset
from hydrogate.checks.geometry.symmetry import Floats, Potential
from hydrogate.checks.metrics.bootstrap import Metric
from hydrogate.checks.metrics.comparison import Comparison
from hydrogate.checks.metrics.definitions import measure
from hydrogate.pipeline.molecules.sampling import NEAREST_UNREMARKABLE, REDRAWS
from hydrogate.pipeline.training.predict import predict_dataset


def run(
    data: Dataset, student: Potential, teacher: Potential, sigma: float, count: int, seed: int
) -> dict[str, Metric]:
    """Return all metrics of ``student`` against ``teacher`` on ``count`` distorted molecules of ``data``.

    Parameters
    ----------
    data : Dataset
        If several structures are geometries of one molecule, the parent geometry is used.
    student, teacher : callable
    sigma : float, Å
        Standard deviation of the displacement along each axis.
    count : int
        Number of molecules, drawn at random; all of them if there are fewer.
    seed : int

    Raises
    ------
    ValueError
        There is no molecule, the teacher cannot label a geometry, or the student was not trained on an element of it.
    """
    random = np.random.default_rng(seed)
    own = np.flatnonzero(data.parent == np.arange(len(data)))
    if not len(own):
        raise ValueError(f"no molecule to distort ({data!r})")
    molecules = data.subset(np.sort(random.choice(own, min(count, len(own)), replace=False)))
    moved = [_rattled(molecules.positions[molecules.atoms_of(row)], sigma, random) for row in range(len(molecules))]
    geometries = replace(molecules, positions=np.concatenate(moved).astype(np.float32))
    # Student first: it rejects unknown elements before the teacher spends minutes on labels.
    predicted, labelled = (
        predict_dataset(geometries, potential, identity, batch_size=32, task=str(identity["name"]))
        for potential, identity in ((student, {"name": "predict"}), (teacher, {"name": "label"}))
    )
    assert labelled.forces is not None
    if len(unlabelled := labelled.structure_of_atom[~np.isfinite(labelled.forces).all(axis=1)]):
        raise ValueError(
            f"{labelled.name(int(unlabelled[0]))}: the teacher cannot label the distorted geometry; try a "
            "smaller --sigma or another --seed"
        )
    return measure(Comparison.of(labelled, predicted))


def _rattled(positions: NDArray[np.float32], sigma: float, random: np.random.Generator) -> Floats:
    """Return displaced ``positions`` (n, 3), Å; draw again if two atoms come closer than in any valid data set."""
    for _ in range(REDRAWS):
        moved = positions + random.normal(scale=sigma, size=positions.shape)
        if pdist(moved).min(initial=np.inf) >= NEAREST_UNREMARKABLE:
            break
    return moved
