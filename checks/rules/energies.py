"""Contract ``labels``: energies against a fit of one energy an element, and against those of isolated atoms."""

from collections.abc import Generator, Mapping
from functools import partial
from typing import Any

import numpy as np
from ase.data import atomic_numbers, chemical_symbols
from numpy.typing import NDArray

from hydrogate.checks.engine.bounds import Bounds
from hydrogate.checks.engine.mergeable import Extremes, Histogram, LeastSquares, Moments, Solution
from hydrogate.checks.engine.partition import Part
from hydrogate.checks.engine.registry import NotRun, Quantities, Rounds, Subject, ask, rule
from hydrogate.checks.rules.labels import labels_of
from hydrogate.checks.rules.structures import element_counts

# The name of the total charge beside the atomic numbers among the columns of the composition fit.
CHARGE = 1000


def composition(part: Part) -> tuple[LeastSquares, Extremes]:
    """Energy per atom from the share of each element and the total charge over the atoms; the charges' range.

    Structures without a finite energy are left out of the fit.
    """
    data, energy, _ = labels_of(part)
    usable = np.isfinite(energy)
    size = np.maximum(data.sizes, 1)[usable]
    columns = np.column_stack([part.compositions, data.charge])[usable] / size[:, None]
    fit = LeastSquares.of((*part.elements.tolist(), CHARGE), columns, energy[usable] / size)
    return fit, Extremes.of(data.charge)


def solved(fit: LeastSquares, charges: Extremes) -> Solution:
    """E = Σ_Z n_Z e_Z + q e_q; the charge counts only where charges differ."""
    return fit.solve(but=() if charges.least < charges.greatest else (CHARGE,))


def composition_residual(part: Part, coefficients: Mapping[int, float]) -> NDArray[np.float64]:
    """(M,) what the fit leaves of each structure's energy per atom, eV."""
    data, energy, _ = labels_of(part)
    fitted = part.compositions @ np.array([coefficients.get(z, 0.0) for z in part.elements.tolist()])
    fitted += data.charge * coefficients.get(CHARGE, 0.0)
    residual: NDArray[np.float64] = (energy - fitted) / np.maximum(data.sizes, 1)
    return residual


def _residuals(part: Part, coefficients: Mapping[int, float]) -> tuple[Histogram, Moments]:
    residual = composition_residual(part, coefficients)
    return Histogram.of(residual), Moments.of(residual)


def _composition(subject: Subject, bounds: Bounds) -> Generator[Any, Any, tuple[Histogram, Moments]]:
    """The distribution of the residual of the composition fit."""
    solution = solved(*(yield from ask(composition)))
    wanted = bounds.settings["min_structures_per_rank"] * solution.rank
    if solution.rank < 2 or subject.whole.structures < wanted:
        raise NotRun(
            f"{subject.whole.structures} structures of compositions of rank {solution.rank}; rank 2 and {wanted} "
            "structures needed"
        )
    residuals: tuple[Histogram, Moments] = yield from ask(partial(_residuals, coefficients=solution.coefficients))
    return residuals


@rule(
    "labels", unit="eV/atom", remedy="Look at the outliers: a failed SCF, another level of theory, or a shuffled order."
)
def energy_residual(subject: Subject, bounds: Bounds) -> Rounds:
    """Energy per atom after a fit of element energies: largest robust z-score, standard deviation."""
    residual, moments = yield from _composition(subject, bounds)
    middle, scale = residual.median, 1.4826 * residual.deviation
    farthest = max(residual.extremes.greatest - middle, middle - residual.extremes.least)
    z = farthest / scale if scale > 0 else np.nan
    return Quantities({"robust_z": z, "standard_deviation": moments.deviation}, residual.n)


@rule("labels", unit="eV/atom", remedy="Check the unit of the energies: eV is meant, not hartree or kcal/mol.")
def energy_residual_scale(subject: Subject, bounds: Bounds) -> Rounds:
    """Median absolute deviation of the residual of the composition fit; exactly 0 is undecided."""
    residual, _ = yield from _composition(subject, bounds)
    return Quantities({"": residual.deviation or float("nan")}, residual.n)


@rule(
    "labels",
    unit="eV",
    remedy="The isolated atoms are of another unit, method or element than the labels: compute them with one method.",
)
def isolated_atom_energies(subject: Subject, bounds: Bounds) -> Rounds:
    """What the composition fit finds each element to gain in the structures over its isolated atom; none left out."""
    whole = subject.whole
    if not whole.isolated_atom_energies:
        raise NotRun("the data set carries no energies of isolated atoms")
    alone = {atomic_numbers[symbol]: energy for symbol, energy in whole.isolated_atom_energies.items()}
    counts, gain, (fit, charges) = yield from ask(element_counts, partial(_gains, alone=alone), composition)
    without = [chemical_symbols[z] for z in sorted(counts) if z not in alone]
    if without:
        return Quantities(
            {"missing": float(len(without))}, whole.structures, f"structures (without {', '.join(without)})"
        )
    values = {"missing": 0.0, "all": gain.median}
    solution = solved(fit, charges)
    if solution.rank == len(solution.coefficients):
        often = [z for z in sorted(counts) if counts[z] >= bounds.settings["min_atoms"]]
        values |= {chemical_symbols[z]: solution.coefficients[z] - alone[z] for z in often}
    return Quantities(values, whole.structures)


def _gains(part: Part, alone: Mapping[int, float]) -> Histogram:
    """The energy of each structure less that of its atoms alone, over its atoms, eV."""
    return Histogram.of(composition_residual(part, alone))
