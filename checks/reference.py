"""Checks that compare with a reference data set: the one that training went well on, or the branch before."""

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray
from scipy.spatial.distance import jensenshannon
from scipy.stats import ks_2samp

from hydrogate.checks.bounds import Bounds
from hydrogate.checks.dataset import Dataset
from hydrogate.checks.observables import force_norms
from hydrogate.checks.rules import NotRun, Quantities, Subject, rule

_LOOK = "Compare both with `hydrogate show`: another source, another filter, another teacher or another unit."


def _reference(subject: Subject, labelled: bool = False) -> Dataset:
    reference = subject.reference
    if reference is None:
        raise NotRun("no reference data set was given (--reference)")
    if labelled and (subject.data.forces is None or subject.data.energy is None):
        raise NotRun("the data set carries no labels")
    if labelled and (reference.forces is None or reference.energy is None):
        raise NotRun("the reference data set carries no labels")
    return reference


def element_distance(data: Dataset, other: Dataset) -> float:
    """Jensen-Shannon distance (base 2: 0 equal, 1 disjoint) of the element distributions; NaN where one is empty."""
    counts = [np.bincount(one.numbers, minlength=119) for one in (data, other)]
    return float(jensenshannon(*counts, base=2)) if all(count.sum() for count in counts) else float("nan")


def kolmogorov_smirnov(values: NDArray[np.float64], others: NDArray[np.float64]) -> float:
    """Largest difference of the cumulative distributions: 0 equal, 1 disjoint; NaN where one is empty."""
    if not (len(values) and len(others)):
        return float("nan")
    # The asymptotic p-value, which nobody reads, divides by 0 for one value against one.
    method = "asymp" if len(values) + len(others) > 2 else "exact"
    return float(ks_2samp(values, others, method=method).statistic)


def energy_per_atom(data: Dataset) -> NDArray[np.float64]:
    """(M,) energy over atoms of each structure, eV."""
    assert data.energy is not None
    return np.asarray(data.energy / np.maximum(data.sizes, 1))


@rule("structures", remedy=_LOOK)
def element_drift(subject: Subject, bounds: Bounds) -> Quantities:
    """Jensen-Shannon distance (base 2) of the element distribution to the reference's."""
    distance = element_distance(subject.data, _reference(subject))
    return Quantities({"": distance}, len(subject.data.numbers), "atoms")


@rule("labels", remedy=_LOOK)
def force_scale_by_element(subject: Subject, bounds: Bounds) -> Quantities:
    """Median |F| of each element over the reference's, for the elements that both have in number."""
    reference = _reference(subject, labelled=True)
    norms = [(data.numbers, force_norms(data)) for data in (subject.data, reference)]
    ratios: dict[str, float] = {}
    for z in np.intersect1d(subject.data.numbers, reference.numbers).tolist():
        own, theirs = (norm[numbers == z] for numbers, norm in norms)
        if min(len(own), len(theirs)) >= bounds.settings["min_atoms"]:
            scale = float(np.median(theirs))
            ratios[chemical_symbols[z]] = float(np.median(own)) / scale if scale > 0 else float("nan")
    return Quantities(ratios, len(subject.data.numbers), "atoms")


@rule("labels", remedy=_LOOK)
def distribution_drift(subject: Subject, bounds: Bounds) -> Quantities:
    """Kolmogorov-Smirnov distance and largest relative shift of a quartile of |F| and of energy per atom."""
    reference = _reference(subject, labelled=True)
    few = min(len(subject.data), len(reference)) < bounds.settings["min_structures"]
    values: dict[str, float] = {}
    for name, of in (("force", force_norms), ("energy", energy_per_atom)):
        own, theirs = of(subject.data), of(reference)
        if not (len(own) and len(theirs)):
            return Quantities({}, 0)
        values[f"{name}_ks"] = kolmogorov_smirnov(own, theirs)
        quartiles = [np.quantile(sample, [0.25, 0.5, 0.75]) for sample in (own, theirs)]
        spread = float(theirs.std())
        shift = float(np.abs(quartiles[0] - quartiles[1]).max())
        values[f"{name}_quartile_shift"] = shift / spread if spread > 0 else float("nan")
    too_few = f"at least {bounds.settings['min_structures']} structures needed in both" if few else ""
    return Quantities(values, len(subject.data), undecided=too_few)
