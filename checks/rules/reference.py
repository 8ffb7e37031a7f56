"""Checks against a reference data set: one that gave a good student, or that of the base branch."""

from collections.abc import Mapping
from functools import partial

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray
from scipy.spatial.distance import jensenshannon

from hydrogate.checks.data.dataset import Dataset
from hydrogate.checks.engine.bounds import Bounds
from hydrogate.checks.engine.mergeable import Histogram, Moments
from hydrogate.checks.engine.partition import Part, Parts
from hydrogate.checks.engine.registry import NotRun, Quantities, Rounds, Subject, ask, rule
from hydrogate.checks.rules.labels import labels_of
from hydrogate.checks.rules.structures import element_counts

_LOOK = "Compare both with `hydrogate show`: the source, filter, teacher or unit may differ."


def _reference(subject: Subject, labelled: bool = False) -> Dataset:
    reference = subject.reference
    if reference is None:
        raise NotRun("no reference data set was given (--reference)")
    if labelled and not (subject.whole.has_forces and subject.whole.has_energy):
        raise NotRun("the data set has no labels")
    if labelled and (reference.forces is None or reference.energy is None):
        raise NotRun("the reference data set has no labels")
    return reference


def element_distance(data: Dataset, other: Dataset) -> float:
    """Return the Jensen-Shannon distance (base 2: 0 equal, 1 disjoint) of the element shares; NaN if one is empty."""
    return _distance(*(np.bincount(one.numbers, minlength=256) for one in (data, other)))


def _distance(one: NDArray[np.int64], other: NDArray[np.int64]) -> float:
    return float(jensenshannon(one, other, base=2)) if one.any() and other.any() else float("nan")


def kolmogorov_smirnov(values: NDArray[np.float64], others: NDArray[np.float64]) -> float:
    """Return the largest difference of the cumulative distributions: 0 equal, 1 disjoint; NaN if one is empty."""
    if not (len(values) and len(others)):
        return float("nan")
    from scipy.stats import ks_2samp

    # The asymptotic p-value, which is not used, divides by 0 for one value against one.
    method = "asymp" if len(values) + len(others) > 2 else "exact"
    return float(ks_2samp(values, others, method=method).statistic)


def energy_per_atom(data: Dataset) -> NDArray[np.float64]:
    """Return the (M,) energies per atom, eV."""
    assert data.energy is not None
    return np.asarray(data.energy / np.maximum(data.sizes, 1))


@rule("structures", remedy=_LOOK)
def element_drift(subject: Subject, bounds: Bounds) -> Rounds:
    """Jensen-Shannon distance (base 2) between the element distributions of the data set and the reference."""
    reference = _reference(subject)
    counts: dict[int, int] = yield from ask(element_counts)
    distance = _distance(_by_number(counts), np.bincount(reference.numbers, minlength=256))
    return Quantities({"": distance}, subject.whole.atoms, "atoms")


def _by_number(counts: Mapping[int, int]) -> NDArray[np.int64]:
    return np.array([counts.get(z, 0) for z in range(256)])


def forces_by_element(part: Part) -> dict[int, Histogram]:
    """Return histograms of |F| by element, eV/Å."""
    numbers = labels_of(part).data.numbers
    return {z: Histogram.of(part.force_norms[numbers == z]) for z in part.elements.tolist()}


@rule("labels", remedy=_LOOK)
def force_scale_by_element(subject: Subject, bounds: Bounds) -> Rounds:
    """Median |F| of each element divided by the reference's, for elements with enough atoms in both."""
    reference = Parts.of(_reference(subject, labelled=True))
    theirs = reference.ask(forces_by_element)
    own: dict[int, Histogram] = yield from ask(forces_by_element)
    ratios: dict[str, float] = {}
    for z in sorted(own.keys() & theirs.keys()):
        if min(own[z].n, theirs[z].n) >= bounds.settings["min_atoms"]:
            scale = theirs[z].median
            ratios[chemical_symbols[z]] = own[z].median / scale if scale > 0 else float("nan")
    return Quantities(ratios, subject.whole.atoms, "atoms")


@rule("labels", remedy=_LOOK)
def distribution_drift(subject: Subject, bounds: Bounds) -> Rounds:
    """Kolmogorov-Smirnov distance and largest relative quartile shift of |F| and of energy per atom."""
    reference = _reference(subject, labelled=True)
    wanted = bounds.settings["min_structures"]
    # Histogram bins are finest near zero, so energies are shifted by the reference's median.
    middle = float(np.median(energy_per_atom(reference))) if len(reference) else 0.0
    of_labels = partial(_label_histograms, middle=middle)
    theirs = Parts.of(reference).ask(of_labels)
    own = yield from ask(of_labels)
    values: dict[str, float] = {}
    for name in ("force", "energy"):
        (one, _), (other, moments) = own[name], theirs[name]
        if not (one.n and other.n):
            return Quantities({}, 0)
        values[f"{name}_ks"] = one.distance(other)
        shift = max(abs(one.quantile(share) - other.quantile(share)) for share in (0.25, 0.5, 0.75))
        values[f"{name}_quartile_shift"] = shift / moments.deviation if moments.deviation > 0 else float("nan")
    few = min(subject.whole.structures, len(reference)) < wanted
    too_few = f"at least {wanted} structures needed in both" if few else ""
    return Quantities(values, subject.whole.structures, undecided=too_few)


def _label_histograms(part: Part, middle: float) -> dict[str, tuple[Histogram, Moments]]:
    """Return histograms and moments of |F| (eV/Å) and of energy per atom minus ``middle`` (eV)."""
    energy = energy_per_atom(labels_of(part).data) - middle
    return {
        name: (Histogram.of(values), Moments.of(values))
        for name, values in (("force", part.force_norms), ("energy", energy))
    }
