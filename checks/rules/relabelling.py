"""Checks that relabel with the teacher: the only ones that detect a wrong label that looks plausible."""

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Self

import numpy as np
from ase import Atoms

from hydrogate.checks.engine.bounds import Bounds
from hydrogate.checks.engine.mergeable import Histogram
from hydrogate.checks.engine.partition import Floats, Ints, Part, Picked, picked
from hydrogate.checks.engine.registry import NotRun, Quantities, Rounds, Subject, ask, rule
from hydrogate.checks.geometry.symmetry import Potential
from hydrogate.checks.rules.energies import composition, composition_residual, solved
from hydrogate.checks.rules.labels import labels_of


def _teacher(subject: Subject) -> Potential:
    if subject.relabel is None:
        raise NotRun("no teacher was given for relabelling (--audit)")
    if not (subject.whole.has_energy and subject.whole.has_forces):
        raise NotRun("the data set has no labels")
    return subject.relabel


def _at_random(subject: Subject, size: int, seed: int) -> tuple[Ints, np.random.Generator]:
    """Return at most ``size`` random structures, ascending, and the random generator that drew them."""
    random = np.random.default_rng(seed)
    everything = subject.whole.structures
    return np.sort(random.choice(everything, min(size, everything), replace=False)), random


class Sample(NamedTuple):
    """Structures to relabel: a random sample, and the strongest outliers of the other checks."""

    random: list[Picked]
    outliers: list[Picked]


def audit_sample(subject: Subject, size: int, seed: int) -> Generator[Any, Any, Sample]:
    """Select ``size`` structures of each kind; if the data set has fewer, all of them are the random half."""
    chosen, _ = _at_random(subject, size, seed)
    (fit, charges), odd = yield from ask(composition, _odd_histograms)
    coefficients = solved(fit, charges).coefficients
    residuals = yield from ask(partial(_residuals, coefficients=coefficients))
    scales = tuple((of.median, 1.4826 * of.deviation) for of in (*odd, residuals))
    strangest: Strangest = yield from ask(
        partial(_strangest, coefficients=coefficients, scales=scales, size=size, but=chosen)
    )
    rows = np.concatenate([chosen, strangest.rows])
    by_row = {one.row: one for one in (yield from ask(partial(picked, rows=np.sort(rows))))}
    return Sample([by_row[row] for row in chosen.tolist()], [by_row[row] for row in strangest.rows.tolist()])


def _oddities(part: Part) -> tuple[Floats, Floats]:
    """Return (M,) the logarithm of the RMS force, and (M,) |ΔE − work of the forces| to the parent geometry, eV."""
    labels_of(part)
    disagreement = np.zeros(len(part.data))
    pairs = part.siblings
    np.maximum.at(disagreement, pairs.second, np.nan_to_num(np.abs(pairs.energy_difference - pairs.work)))
    with np.errstate(divide="ignore"):
        return np.log(part.force_rms), disagreement


def _odd_histograms(part: Part) -> tuple[Histogram, Histogram]:
    forces, disagreement = part.once(_oddities)
    return _finite(forces), _finite(disagreement)


def _residuals(part: Part, coefficients: Mapping[int, float]) -> Histogram:
    return _finite(composition_residual(part, coefficients))


def _finite(values: Floats) -> Histogram:
    return Histogram.of(values[np.isfinite(values)])


@dataclass(frozen=True, eq=False)
class Strangest:
    """The ``size`` structures with the highest scores, in descending order; ties keep their order."""

    rows: Ints
    scores: Floats
    size: int

    @classmethod
    def of(cls, rows: Ints, scores: Floats, size: int) -> Self:
        order = np.argsort(-scores, kind="stable")[:size]
        return cls(rows[order], scores[order], size)

    def merge(self, other: Self) -> Self:
        rows, scores = np.concatenate([self.rows, other.rows]), np.concatenate([self.scores, other.scores])
        return type(self).of(rows, scores, self.size)


def _strangest(
    part: Part, coefficients: Mapping[int, float], scales: tuple[tuple[float, float], ...], size: int, but: Ints
) -> Strangest:
    """Rank by the largest robust z-score of RMS force, disagreement with the parent and composition residual."""
    observed = (*part.once(_oddities), composition_residual(part, coefficients))
    scores = np.max([_robust_z(values, *scale) for values, scale in zip(observed, scales, strict=True)], axis=0)
    scores = np.where(np.isfinite(labels_of(part).energy), scores, np.inf)
    rows = np.array(part.rows)
    left = ~np.isin(rows, but)
    return Strangest.of(rows[left], scores[left], size)


def _robust_z(values: Floats, middle: float, scale: float) -> Floats:
    if np.isnan(middle):  # not measured, so no structure is an outlier
        return np.zeros(len(values))
    # Non-finite values rank as the strongest outliers.
    with np.errstate(over="ignore"):
        return np.nan_to_num(np.abs(values - middle) / (scale if scale > 0 else 1.0), nan=np.inf, posinf=np.inf)


def missed_share(n: int, of: int) -> float:
    """Return the share of wrong labels that ``n`` correct random ones of ``of`` can miss at 95 %: 1 - 0.05^(1/n)."""
    if not n:
        return 1.0
    return 0.0 if n >= of else 1.0 - 0.05 ** (1.0 / n)


def _unanswered(asked: list[Picked], values: Floats) -> str:
    """Describe the structures without a finite value; "" if all have one."""
    without = [one.name for one, value in zip(asked, values.tolist(), strict=True) if not np.isfinite(value)]
    return f"no teacher result or no stored label for {len(without)}, such as {without[0]}" if without else ""


@rule("labels", unit="eV, eV/Å", remedy="The stored labels are not this teacher's labels at these positions: relabel.")
def label_audit(subject: Subject, bounds: Bounds) -> Rounds:
    """Relabelled sample agrees with the stored labels; energies up to one constant."""
    relabel = _teacher(subject)
    random, outliers = yield from audit_sample(subject, bounds.settings["structures"], bounds.settings["seed"])
    asked = [*random, *outliers]
    answers = relabel([one.atoms for one in asked])
    shift = np.array([energy for energy, _ in answers]) - np.array([one.energy for one in asked])
    energies = np.abs(shift - np.median(shift[: len(random)]))
    forces = np.array([np.abs(answer - one.forces).max() for one, (_, answer) in zip(asked, answers, strict=True)])
    n = len(random)
    share = missed_share(n, subject.whole.structures)
    noun = f"structures (worst: {asked[int(np.argmax(forces + energies))].name})"
    values, units = {"missed_share": share}, {"missed_share": ""}
    if unanswered := _unanswered(asked, forces + shift):
        return Quantities(values, n, noun, unanswered, units=units)
    for half, of in (("random", slice(0, n)), ("outliers", slice(n, None))):
        if len(asked[of]):
            values |= {f"forces_{half}": float(forces[of].max()), f"energy_{half}": float(energies[of].max())}
            units |= {f"forces_{half}": "eV/Å", f"energy_{half}": "eV"}
    others = f" and {len(outliers)} outliers of the other checks" if outliers else ""
    missed = f"; at 95 % confidence up to {100 * share:.0f} % wrong labels would have been missed" if share else ""
    holds = f"{n} random structures{others} agree with the teacher{missed}"
    return Quantities(values, n, noun, units=units, holds=holds)


def _inexact(teacher: Mapping[str, Any]) -> str:
    """Describe what a teacher declares inexact in its forces and energies, and the effect; "" if nothing."""
    said = {
        "conservative": "{} predicts forces separately from its energy: they are not the gradient of any energy, so a "
        "student, whose forces are a gradient, learns them only in part",
        "smooth": "the energy of {} jumps when an atom gains or loses a neighbour: a smooth student cannot follow",
    }
    return "; ".join(
        text.format(one.get("method") or one.get("name"))
        for one in teacher.get("several", [teacher])
        for mark, text in said.items()
        if one.get(mark) is False
    )


@rule("labels", remedy="The teacher's forces are not the gradient of its energy, or another teacher made the labels.")
def energy_force_consistency(subject: Subject, bounds: Bounds) -> Rounds:
    """Teacher's E(x + h) − E(x − h) against the stored 2h·F, on sampled structures; relative error.

    Reported as ``inexact`` if the teacher declares that its forces are not a gradient or that its energies jump.
    """
    inexact = _inexact(subject.whole.teacher or {})
    try:
        relabel, wanted = _teacher(subject), bounds.settings
    except NotRun as absent:
        raise NotRun(f"{absent}; {inexact}" if inexact else str(absent)) from None
    rows, random = _at_random(subject, wanted["structures"], wanted["seed"])
    chosen: list[Picked] = yield from ask(partial(picked, rows=rows))
    displaced, work = [], []
    for one in chosen:
        step = random.normal(0.0, wanted["step"], (len(one.atoms), 3))
        for sign in (1.0, -1.0):
            moved: Atoms = one.atoms.copy()  # type: ignore[no-untyped-call]
            moved.positions += sign * step
            displaced.append(moved)
        work.append(2.0 * float((one.forces * step).sum()))
    energies = np.array([energy for energy, _ in relabel(displaced)]).reshape(-1, 2)
    expected = -np.array(work)
    scale = float(np.sqrt(np.mean(expected**2))) if len(expected) else 0.0
    difference = energies[:, 0] - energies[:, 1] - expected
    error = float(np.sqrt(np.mean(difference**2))) / scale if scale else float("nan")
    noun, quantity = (f"structures; {inexact}", "inexact") if inexact else ("structures", "")
    return Quantities({quantity: error}, len(chosen), noun, _unanswered(chosen, difference))
