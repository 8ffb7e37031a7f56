"""Tests of contract ``predictions``: one mutant per check, on the predictions of an analytic student."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
from ase import Atoms

from hydrogate.checks import Dataset, Verdict, check
from hydrogate.checks.engine.registry import RULES
from hydrogate.checks.geometry.symmetry import Potential


def springs(structures: Sequence[Atoms]) -> list[tuple[float, np.ndarray]]:
    """Evaluate springs of rest length 2 Å between all atom pairs: invariant, with forces −∇E."""
    answers = []
    for atoms in structures:
        vectors = atoms.positions[:, None] - atoms.positions[None]
        distance = np.linalg.norm(vectors, axis=-1) + np.eye(len(atoms)) * 2.0
        stretch = distance - 2.0
        forces = -0.02 * ((stretch / distance)[..., None] * vectors).sum(axis=1)
        answers.append((0.005 * float((stretch**2).sum()), forces))
    return answers


def leaning(structures: Sequence[Atoms]) -> list[tuple[float, np.ndarray]]:
    """Add a field along x, which an isolated molecule does not have."""
    pull = np.array([0.3, 0.0, 0.0])
    return [
        (e - float((a.positions @ pull).sum()), f + pull)
        for a, (e, f) in zip(structures, springs(structures), strict=True)
    ]


def first_atom_special(structures: Sequence[Atoms]) -> list[tuple[float, np.ndarray]]:
    """Make the energy, with consistent forces, depend on which atom comes first."""
    answers = []
    for atoms, (energy, forces) in zip(structures, springs(structures), strict=True):
        centre = atoms.positions[1:].mean(axis=0)
        away = atoms.positions[0] - centre
        extra = np.zeros_like(forces)
        extra[0], extra[1:] = -0.2 * away, 0.2 * away / (len(atoms) - 1)
        answers.append((energy + 0.1 * float(away @ away), forces + extra))
    return answers


def non_conservative(structures: Sequence[Atoms]) -> list[tuple[float, np.ndarray]]:
    """Scale the forces, but not the energy."""
    return [(energy, 1.05 * forces) for energy, forces in springs(structures)]


@pytest.fixture
def predicted(labelled: Dataset) -> tuple[Dataset, Dataset]:
    held_out = labelled.subset(np.flatnonzero(labelled.split == "test"))
    answers = springs([held_out.to_atoms(row) for row in range(len(held_out))])
    forces = np.concatenate([forces for _, forces in answers]).astype(np.float32)
    energy = np.array([energy for energy, _ in answers])
    return held_out, replace(held_out, energy=energy, forces=forces, teacher={"name": "springs"})


class Mutant(NamedTuple):
    """A mutant: corrupted predictions, or a replaced student."""

    spoil: Callable[[Dataset], Dataset] = lambda data: data
    potential: Potential = springs
    also: tuple[str, ...] = ()


def with_nan(data: Dataset) -> Dataset:
    forces = data.forces.copy()
    forces[0, 0] = np.nan
    return replace(data, forces=forces)


MUTANTS = {
    "finite": Mutant(with_nan, also=("net_force",)),
    "same_structures": Mutant(lambda data: data.subset(np.arange(len(data))[::-1])),
    "net_force": Mutant(lambda data: replace(data, forces=data.forces + np.float32(0.01))),
    "rotation_invariance": Mutant(potential=leaning),
    "permutation_invariance": Mutant(potential=first_atom_special),
    "energy_force_consistency": Mutant(potential=non_conservative),
}


def test_every_check_has_a_mutant() -> None:
    assert set(MUTANTS) == {check for of, check in RULES if of == "predictions"}


def test_good_predictions_hold_strictly(predicted: tuple[Dataset, Dataset]) -> None:
    held_out, data = predicted
    report = check(data, "predictions", held_out=held_out, potential=springs)
    assert report.holds(strict=True), [str(finding) for finding in report.refusals(strict=True)]


@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_is_caught(predicted: tuple[Dataset, Dataset], name: str) -> None:
    held_out, data = predicted
    mutant = MUTANTS[name]
    report = check(mutant.spoil(data), "predictions", held_out=held_out, potential=mutant.potential)
    found = {finding.check: finding for finding in report.findings}
    assert found[name].verdict is Verdict.FAIL
    fired = {finding.check for finding in report.findings if finding.refuses()}
    assert {name} <= fired <= {name, *mutant.also} | ({"same_structures"} if name == "same_structures" else set())


def test_structures_missing_from_the_predictions_are_named(predicted: tuple[Dataset, Dataset]) -> None:
    held_out, data = predicted
    report = check(data.subset(range(3)), "predictions", held_out=held_out, potential=springs)
    finding = next(f for f in report.findings if f.check == "same_structures")
    assert f"3 structures predicted, {len(held_out)} held out" in str(finding)


def test_without_student_and_reference_the_checks_are_not_run(predicted: tuple[Dataset, Dataset]) -> None:
    report = check(predicted[1], "predictions")
    found = {finding.check: finding for finding in report.findings}
    for name, says in (("same_structures", "no held-out reference"), ("rotation_invariance", "no student was given")):
        assert found[name].verdict is Verdict.NOT_RUN
        assert says in found[name].message
    assert report.holds()
    assert not report.holds(strict=True)


@pytest.mark.parametrize("name", ["rotation_invariance", "permutation_invariance", "energy_force_consistency"])
def test_the_declared_seed_draws_the_turns_orders_and_steps(predicted: tuple[Dataset, Dataset], name: str) -> None:
    def observed(seed: int) -> Mapping[str, float]:
        bounds = {"predictions": {name: {"seed": seed, "structures": len(predicted[1])}}}
        report = check(predicted[1], "predictions", overrides=[("test", bounds)], potential=MUTANTS[name].potential)
        return next(finding.observed for finding in report.findings if finding.check == name)

    assert observed(0) == observed(0) != observed(1)
