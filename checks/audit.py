"""Checks that ask the teacher again: the only ones that see a wrong label that looks like a right one."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hydrogate.checks.bounds import Bounds
from hydrogate.checks.dataset import Dataset
from hydrogate.checks.observables import force_norms, per_structure
from hydrogate.checks.rules import NotRun, Quantities, Subject, rule
from hydrogate.checks.symmetry import Potential


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
    np.maximum.at(disagreement, pairs.second, np.nan_to_num(np.abs(pairs.energy_difference - pairs.work)))
    strangest: NDArray[np.float64] = np.max([_robust_z(score) for score in (*scores, disagreement)], axis=0)
    return strangest if data.energy is None else np.where(np.isfinite(data.energy), strangest, np.inf)


def _robust_z(values: NDArray[np.float64]) -> NDArray[np.float64]:
    finite = values[np.isfinite(values)]
    if not len(finite):  # nothing of this kind was measured, and no structure is the stranger for it
        return np.zeros(len(values))
    middle = np.median(finite)
    scale = 1.4826 * np.median(np.abs(finite - middle))
    # What is not finite is the strangest of all.
    return np.nan_to_num(np.abs(values - middle) / (scale if scale > 0 else 1.0), nan=np.inf, posinf=np.inf)


def missed_share(n: int, of: int) -> float:
    """The share of wrong labels that ``n`` right ones, at random from ``of``, would miss at 95 %: 1 - 0.05^(1/n)."""
    if not n:
        return 1.0
    return 0.0 if n >= of else 1.0 - 0.05 ** (1.0 / n)


def _unanswered(data: Dataset, rows: NDArray[np.int64], values: NDArray[np.float64]) -> str:
    """Which of the structures ``rows`` have no finite value, in words; "" where all have one."""
    without = [data.name(row) for row in rows[~np.isfinite(values)].tolist()]
    return f"no answer of the teacher, or no label, for {len(without)}, such as {without[0]}" if without else ""


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
    n = len(sample.random)
    share = missed_share(n, len(data))
    noun = f"structures (worst: {data.name(int(rows[np.argmax(forces + energies)]))})"
    values, units = {"missed_share": share}, {"missed_share": ""}
    if unanswered := _unanswered(data, rows, forces + shift):
        return Quantities(values, n, noun, unanswered, units=units)
    for half, of in (("random", slice(0, n)), ("outliers", slice(n, None))):
        if len(rows[of]):
            values |= {f"forces_{half}": float(forces[of].max()), f"energy_{half}": float(energies[of].max())}
            units |= {f"forces_{half}": "eV/Å", f"energy_{half}": "eV"}
    outliers = f" and {len(sample.outliers)} outliers of the other checks" if len(sample.outliers) else ""
    missed = f"; at 95 % confidence up to {100 * share:.0f} % wrong labels would have been missed" if share else ""
    holds = f"{n} random structures{outliers} agree with the teacher{missed}"
    return Quantities(values, n, noun, units=units, holds=holds)


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
    difference = energies[:, 0] - energies[:, 1] - expected
    error = float(np.sqrt(np.mean(difference**2))) / scale if scale else float("nan")
    return Quantities({"": error}, len(rows), undecided=_unanswered(data, rows, difference))
