"""Contract ``predictions``: that a student's predictions are of the held-out structures, and physics of some kind."""

import numpy as np
from ase import Atoms

from hydrogate.checks.bounds import Bounds
from hydrogate.checks.rules import NotRun, Quantities, Rows, Subject, rule
from hydrogate.checks.symmetry import Potential, force_gradient_error, permutation_error, rotation_error

_STUDENT = "The student or the graph that evaluated it is at fault: run its conformance tests (tests/models)."


@rule("predictions", remedy="Run the validate stage again on the present data set.")
def same_structures(subject: Subject, bounds: Bounds) -> Rows:
    """The predictions are of the held-out structures: same atoms, same positions, same order."""
    data, held_out = subject.data, subject.held_out
    if held_out is None:
        raise NotRun("no held-out reference was given")
    if len(data) != len(held_out):
        return Rows(
            np.full(max(len(data), len(held_out)), np.nan),
            lambda row: f"{len(data)} structures predicted, {len(held_out)} held out",
        )
    differs = np.array(
        [data.structure_fingerprint(row) != held_out.structure_fingerprint(row) for row in range(len(data))],
        dtype=float,
    )
    return Rows(differs, lambda row: f"{data.name(row)} is not the held-out {held_out.name(row)}")


def _sample(subject: Subject, bounds: Bounds) -> tuple[Potential, list[Atoms]]:
    if subject.potential is None:
        raise NotRun("no student was given to evaluate")
    size = min(bounds.settings["structures"], len(subject.data))
    chosen = np.random.default_rng(bounds.settings["seed"]).choice(len(subject.data), size, replace=False)
    return subject.potential, [subject.data.to_atoms(int(row)) for row in np.sort(chosen)]


@rule("predictions", unit="eV, eV/Å", remedy=_STUDENT)
def rotation_invariance(subject: Subject, bounds: Bounds) -> Quantities:
    """Turning a molecule changes neither its energy nor, turned back, its forces."""
    potential, structures = _sample(subject, bounds)
    energy, forces = rotation_error(potential, structures, seed=bounds.settings["seed"])
    return Quantities({"energy": energy, "forces": forces}, len(structures))


@rule("predictions", unit="eV, eV/Å", remedy=_STUDENT)
def permutation_invariance(subject: Subject, bounds: Bounds) -> Quantities:
    """Another order of the atoms changes neither the energy nor, put back in order, the forces."""
    potential, structures = _sample(subject, bounds)
    energy, forces = permutation_error(potential, structures, seed=bounds.settings["seed"])
    return Quantities({"energy": energy, "forces": forces}, len(structures))


@rule("predictions", remedy=_STUDENT)
def energy_force_consistency(subject: Subject, bounds: Bounds) -> Quantities:
    """Forces equal the negative gradient of the energy, by central finite differences, relative."""
    potential, structures = _sample(subject, bounds)
    return Quantities({"": force_gradient_error(potential, structures, seed=bounds.settings["seed"])}, len(structures))
