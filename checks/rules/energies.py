"""Contract ``labels``: energies against a fit of one energy per element, and against isolated-atom energies."""

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

# Column name of the total charge in the composition fit; the other columns are atomic numbers.
CHARGE = 1000


def composition(part: Part) -> tuple[LeastSquares, Extremes]:
    """Return the fit of energy per atom on element shares and charge per atom, and the range of the total charges.

    Structures without a finite energy are excluded from the fit.
    """
    data, energy, _ = labels_of(part)
    usable = np.isfinite(energy)
    size = np.maximum(data.sizes, 1)[usable]
    columns = np.column_stack([part.compositions, data.charge])[usable] / size[:, None]
    fit = LeastSquares.of((*part.elements.tolist(), CHARGE), columns, energy[usable] / size)
    return fit, Extremes.of(data.charge)


def solved(fit: LeastSquares, charges: Extremes) -> Solution:
    """Solve E = Σ_Z n_Z e_Z + q e_q; the charge term is used only if charges differ."""
    return fit.solve(but=() if charges.least < charges.greatest else (CHARGE,))


def composition_residual(part: Part, coefficients: Mapping[int, float]) -> NDArray[np.float64]:
    """Return the (M,) residuals of the energy per atom after the composition fit, eV."""
    data, energy, _ = labels_of(part)
    fitted = part.compositions @ np.array([coefficients.get(z, 0.0) for z in part.elements.tolist()])
    fitted += data.charge * coefficients.get(CHARGE, 0.0)
    residual: NDArray[np.float64] = (energy - fitted) / np.maximum(data.sizes, 1)
    return residual


def _residuals(part: Part, coefficients: Mapping[int, float]) -> tuple[Histogram, Moments]:
    residual = composition_residual(part, coefficients)
    return Histogram.of(residual), Moments.of(residual)


def _composition(subject: Subject, bounds: Bounds) -> Generator[Any, Any, tuple[Histogram, Moments]]:
    """Return the histogram and the moments of the residual of the composition fit."""
    solution = solved(*(yield from ask(composition)))
    wanted = bounds.settings["min_structures_per_rank"] * solution.rank
    if solution.rank < 2 or subject.whole.structures < wanted:
        raise NotRun(
            f"{subject.whole.structures} structures with compositions of rank {solution.rank}; at least rank 2 and "
            f"{wanted} structures needed"
        )
    residuals: tuple[Histogram, Moments] = yield from ask(partial(_residuals, coefficients=solution.coefficients))
    return residuals


@rule(
    "labels", unit="eV/atom", remedy="Inspect the outliers: a failed SCF, another level of theory, or a shuffled order."
)
def energy_residual(subject: Subject, bounds: Bounds) -> Rounds:
    """Residual energy per atom after a fit of element energies: largest robust z-score and standard deviation."""
    residual, moments = yield from _composition(subject, bounds)
    middle, scale = residual.median, 1.4826 * residual.deviation
    farthest = max(residual.extremes.greatest - middle, middle - residual.extremes.least)
    z = farthest / scale if scale > 0 else np.nan
    return Quantities({"robust_z": z, "standard_deviation": moments.deviation}, residual.n)


@rule("labels", unit="eV/atom", remedy="Check the unit of the energies: eV is expected, not hartree or kcal/mol.")
def energy_residual_scale(subject: Subject, bounds: Bounds) -> Rounds:
    """Median absolute deviation of the residual of the composition fit; a value of exactly 0 is undecided."""
    residual, _ = yield from _composition(subject, bounds)
    return Quantities({"": residual.deviation or float("nan")}, residual.n)


@rule(
    "labels",
    unit="eV",
    remedy="The isolated atoms have another unit, method or element than the labels: use one method for both.",
)
def isolated_atom_energies(subject: Subject, bounds: Bounds) -> Rounds:
    """Binding energy per atom, overall and by element: composition fit minus isolated atom; none may be missing."""
    whole = subject.whole
    if not whole.isolated_atom_energies:
        raise NotRun("the data set has no isolated-atom energies")
    alone = {atomic_numbers[symbol]: energy for symbol, energy in whole.isolated_atom_energies.items()}
    counts, gain, (fit, charges) = yield from ask(element_counts, partial(_gains, alone=alone), composition)
    without = [chemical_symbols[z] for z in sorted(counts) if z not in alone]
    if without:
        return Quantities(
            {"missing": float(len(without))}, whole.structures, f"structures (no isolated atom of {', '.join(without)})"
        )
    values = {"missing": 0.0, "all": gain.median}
    solution = solved(fit, charges)
    if solution.rank == len(solution.coefficients):
        often = [z for z in sorted(counts) if counts[z] >= bounds.settings["min_atoms"]]
        values |= {chemical_symbols[z]: solution.coefficients[z] - alone[z] for z in often}
    return Quantities(values, whole.structures)


def _gains(part: Part, alone: Mapping[int, float]) -> Histogram:
    """Return the binding energies per atom: energy minus that of the isolated atoms, over the atom count, eV."""
    return Histogram.of(composition_residual(part, alone))
