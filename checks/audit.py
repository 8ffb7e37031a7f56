"""Checks that ask the teacher again: the only ones that see a wrong label that looks like a right one."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hydrogate.checks.bounds import Bounds
from hydrogate.checks.dataset import Dataset
from hydrogate.checks.observables import force_norms, per_structure
from hydrogate.checks.rules import NotRun, Quantities, Subject, rule
from hydrogate.checks.symmetry import Potential

CONFIDENCE = 0.95


def _teacher(subject: Subject) -> tuple[Dataset, Potential]:
    if subject.relabel is None:
        raise NotRun("no teacher was given to ask again (--audit)")
    if subject.data.energy is None or subject.data.forces is None:
        raise NotRun("the data set carries no labels")
    return subject.data, subject.relabel


class Sample(NamedTuple):
    """Structures to ask the teacher about: at random, and those that the other checks find strangest."""

    random: NDArray[np.int64]
    outliers: NDArray[np.int64]


def audit_sample(subject: Subject, size: int, seed: int) -> Sample:
    """``size`` structures of each kind; where there are fewer structures, all of them are the random half."""
    data = subject.data
    random = np.sort(np.random.default_rng(seed).choice(len(data), min(size, len(data)), replace=False))
    order = np.argsort(-strangeness(subject), kind="stable")
    return Sample(random, order[~np.isin(order, random)][:size])


def strangeness(subject: Subject) -> NDArray[np.float64]:
    """(M,) the largest robust z-score of a structure among RMS force, composition residual and sibling work."""
    data = subject.data
    rms = np.sqrt(per_structure(force_norms(data) ** 2, data) / np.maximum(data.sizes, 1))
    with np.errstate(divide="ignore"):
        scores = [np.log(rms), subject.composition.residual]
    pairs = subject.siblings
    disagreement = np.zeros(len(data))
    np.maximum.at(disagreement, pairs.second, np.abs(pairs.energy_difference - pairs.work))
    strangest: NDArray[np.float64] = np.max([_robust_z(score) for score in (*scores, disagreement)], axis=0)
    return strangest


def _robust_z(values: NDArray[np.float64]) -> NDArray[np.float64]:
    centred = np.abs(values - np.median(values))
    scale = 1.4826 * np.median(centred)
    # What is not finite is the strangest of all.
    return np.nan_to_num(centred / scale if scale > 0 else centred, nan=np.inf, posinf=np.inf)


def missed_share(n: int) -> float:
    """The share of wrong labels that ``n`` right ones in a random sample would miss at 95 %: 1 - 0.05^(1/n)."""
    return 1.0 - (1.0 - CONFIDENCE) ** (1.0 / n) if n else 1.0


@rule("labels", unit="eV, eV/Å", remedy="The stored labels are not this teacher's at these positions: label again.")
def label_audit(subject: Subject, bounds: Bounds) -> Quantities:
    """Sampled structures labelled again agree with what is stored; energies up to one constant."""
    data, relabel = _teacher(subject)
    sample = audit_sample(subject, bounds.settings["structures"], bounds.settings["seed"])
    rows = np.concatenate([sample.random, sample.outliers])
    answers = relabel([data.to_atoms(int(row)) for row in rows])
    assert data.energy is not None
    assert data.forces is not None
    stored = data.energy[rows]
    shift = np.array([energy for energy, _ in answers]) - stored
    energies = np.abs(shift - np.median(shift[: len(sample.random)]))
    forces = np.array(
        [
            np.abs(answer - data.forces[data.atoms_of(int(row))]).max()
            for row, (_, answer) in zip(rows, answers, strict=True)
        ]
    )
    values: dict[str, float] = {"missed_share": missed_share(len(sample.random))}
    for half, of in (("random", slice(0, len(sample.random))), ("outliers", slice(len(sample.random), None))):
        if len(rows[of]):
            values[f"forces_{half}"] = float(forces[of].max())
            values[f"energy_{half}"] = float(energies[of].max())
    worst = data.name(int(rows[np.argmax(np.nan_to_num(forces, nan=np.inf))]))
    return Quantities(values, len(sample.random), f"random structures (largest force difference in {worst})")


@rule("labels", remedy="The teacher's forces are not the gradient of its energy, or the labels are another teacher's.")
def energy_force_consistency(subject: Subject, bounds: Bounds) -> Quantities:
    """E(x + h) − E(x − h) by the teacher against 2h·F as stored, on sampled structures, relative."""
    data, relabel = _teacher(subject)
    assert data.forces is not None
    wanted = bounds.settings
    random = np.random.default_rng(wanted["seed"])
    rows = np.sort(random.choice(len(data), min(wanted["structures"], len(data)), replace=False))
    displaced, work = [], []
    for row in rows.tolist():
        step = random.normal(0.0, wanted["step"], (int(data.sizes[row]), 3))
        for sign in (1.0, -1.0):
            moved = data.to_atoms(row)
            moved.positions += sign * step
            displaced.append(moved)
        work.append(2.0 * float((data.forces[data.atoms_of(row)] * step).sum()))
    energies = np.array([energy for energy, _ in relabel(displaced)]).reshape(-1, 2)
    expected = -np.array(work)
    scale = float(np.sqrt(np.mean(expected**2))) if len(expected) else 0.0
    error = float(np.sqrt(np.mean((energies[:, 0] - energies[:, 1] - expected) ** 2))) if scale else float("nan")
    return Quantities({"": error / scale if scale else float("nan")}, len(rows))
