"""Contract ``predictions``: a student's predictions match the held-out structures and obey basic physics."""

from collections.abc import Generator
from functools import partial
from typing import Any

import numpy as np
from ase import Atoms

from hydrogate.checks.data.dataset import Dataset
from hydrogate.checks.engine.bounds import Bounds
from hydrogate.checks.engine.partition import Part, Picked, picked
from hydrogate.checks.engine.registry import NotRun, Quantities, Rounds, Subject, ask, rule, tallied
from hydrogate.checks.engine.row_counts import Rows, Tally
from hydrogate.checks.geometry.symmetry import Potential, force_gradient_error, permutation_error, rotation_error

_STUDENT = "The student, or the graph that evaluated it, is faulty: run its conformance tests (tests/models)."


@rule(
    "predictions",
    remedy="Rerun the validate stage on the current data set; for files, select the split with --split.",
)
def same_structures(subject: Subject, bounds: Bounds) -> Rounds:
    """Predicted and held-out structures are identical: same atoms, same positions, same order."""
    if subject.held_out is None:
        raise NotRun("no held-out reference was given")
    tally: Tally = yield from ask(tallied(partial(_differing, held_out=subject.held_out)))
    return tally


def _differing(part: Part, held_out: Dataset) -> Rows:
    data, predicted = part.data, part.whole.structures
    if predicted != len(held_out):
        last = part.rows.stop == predicted
        surplus = max(len(held_out) - predicted, 0) if last else 0
        return Rows(
            np.full(len(data) + surplus, np.nan),
            lambda row: f"{predicted} structures predicted, {len(held_out)} held out",
        )
    differs = np.array(
        [
            data.structure_fingerprint(row) != held_out.structure_fingerprint(place)
            for row, place in enumerate(part.rows)
        ],
        dtype=float,
    )
    return Rows(differs, lambda row: f"{part.name(row)} does not match the held-out {held_out.name(part.rows[row])}")


def _sample(subject: Subject, bounds: Bounds) -> Generator[Any, Any, tuple[Potential, list[Atoms]]]:
    if subject.potential is None:
        raise NotRun("no student was given to evaluate")
    everything = subject.whole.structures
    size = min(bounds.settings["structures"], everything)
    chosen = np.random.default_rng(bounds.settings["seed"]).choice(everything, size, replace=False)
    structures: list[Picked] = yield from ask(partial(picked, rows=np.sort(chosen)))
    return subject.potential, [one.atoms for one in structures]


@rule("predictions", unit="eV, eV/Å", remedy=_STUDENT)
def rotation_invariance(subject: Subject, bounds: Bounds) -> Rounds:
    """Rotating a molecule leaves its energy unchanged and rotates its forces with it."""
    potential, structures = yield from _sample(subject, bounds)
    energy, forces = rotation_error(potential, structures, seed=bounds.settings["seed"])
    return Quantities({"energy": energy, "forces": forces}, len(structures))


@rule("predictions", unit="eV, eV/Å", remedy=_STUDENT)
def permutation_invariance(subject: Subject, bounds: Bounds) -> Rounds:
    """Reordering the atoms leaves the energy unchanged and reorders the forces with them."""
    potential, structures = yield from _sample(subject, bounds)
    energy, forces = permutation_error(potential, structures, seed=bounds.settings["seed"])
    return Quantities({"energy": energy, "forces": forces}, len(structures))


@rule("predictions", remedy=_STUDENT)
def energy_force_consistency(subject: Subject, bounds: Bounds) -> Rounds:
    """Forces equal the negative gradient of the energy, by central finite differences; relative error."""
    potential, structures = yield from _sample(subject, bounds)
    return Quantities({"": force_gradient_error(potential, structures, seed=bounds.settings["seed"])}, len(structures))
