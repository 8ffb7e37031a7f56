"""Definitions of all metrics of a student: pooled over atoms, with an interval from a bootstrap over molecules.

Errors are relative to the teacher, not to experiment or a higher level of theory. A metric is one registered function
that maps a :class:`Comparison` to a statistic. The mean of batch RMSEs, the mean of the RMSEs of molecules, and the
mean length of the force error are different quantities; none of them is called RMSE here.

Energies are compared without removing an overall shift, because the student has per-element reference energies and
must reproduce the teacher's total energies. A predicted force of zero counts as an angle of 90°.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from ase.data import atomic_numbers, chemical_symbols
from numpy.typing import NDArray

from hydrogate.checks.metrics.bootstrap import Floats, Metric, OfSums, Quantile, Statistic, bootstrap, point
from hydrogate.checks.metrics.comparison import Comparison

# Bins of the teacher force |F|, eV/Å; the names use meV/Å because DVC splits names at dots.
ANGULAR_BINS = ((0.0, 0.1), (0.1, 0.3), (0.3, 0.5), (0.5, 1.0), (1.0, 3.0), (3.0, math.inf))


class Plain(NamedTuple):
    """Value without an interval, and the number ``n`` of molecules that contribute."""

    value: float
    n: int


class Definition(NamedTuple):
    """Registered metric.

    ``over`` lists the members of a family (elements, bins) and is empty for a single metric. ``error`` marks the size
    of an error that can be resampled, so that the ratio between two students shows which one is better.
    """

    unit: str
    function: Callable[..., Statistic | Plain]
    over: tuple[str, ...]
    error: bool


_REGISTRY: dict[str, Definition] = {}


def _metric(
    name: str, unit: str, over: Sequence[str] = (), *, error: bool = True
) -> Callable[[Callable[..., Statistic | Plain]], Callable[..., Statistic | Plain]]:
    """Register a function under ``name``; for a family, ``{}`` in the name is replaced by each member.

    The function takes the member as its second argument. It returns a statistic to be resampled, or a plain value
    without an interval.
    """

    def register(function: Callable[..., Statistic | Plain]) -> Callable[..., Statistic | Plain]:
        _REGISTRY[name] = Definition(unit, function, tuple(over), error)
        return function

    return register


def _pooled(
    c: Comparison, chosen: NDArray[np.bool_], function: Callable[..., Floats], *columns: Floats | float
) -> OfSums:
    """Create a statistic from the sums of ``columns`` ((N,) or a constant) over the chosen atoms."""
    molecule = c.molecule_of_atom[chosen]
    sums = [
        np.bincount(molecule, np.broadcast_to(column, chosen.shape)[chosen], minlength=c.molecules)
        for column in columns
    ]
    return OfSums(np.stack(sums, axis=1), function, len(np.unique(molecule)))


def _square(vectors: Floats) -> Floats:
    """Return squared lengths, (N,); NaN instead of infinity, because division by infinity would give a finite value."""
    with np.errstate(over="ignore", invalid="ignore"):
        squares = (vectors**2).sum(axis=1)
    return np.where(np.isfinite(squares), squares, np.nan)


def _root_of_ratio(numerator: Floats, denominator: Floats) -> Floats:
    return np.sqrt(numerator / denominator)


def _rmse(c: Comparison, chosen: NDArray[np.bool_]) -> OfSums:
    return _pooled(c, chosen, _root_of_ratio, _square(c.error), 3.0)


def _relative(c: Comparison, chosen: NDArray[np.bool_]) -> OfSums:
    return _pooled(c, chosen, _root_of_ratio, _square(c.error), _square(c.forces))


def _all(c: Comparison) -> NDArray[np.bool_]:
    return np.ones(len(c.numbers), dtype=np.bool_)


@_metric("force_rmse", "eV/Å")
def force_rmse(c: Comparison) -> Statistic:
    """Root mean square of the components of the force error."""
    return _rmse(c, _all(c))


@_metric("force_rmse_relative", "")
def force_rmse_relative(c: Comparison) -> Statistic:
    """Force RMSE divided by the RMS teacher force."""
    return _relative(c, _all(c))


@_metric("force_mae", "eV/Å")
def force_mae(c: Comparison) -> Statistic:
    """Mean absolute error of the force components, not the mean length of the error.

    This is the usual definition. It is the only metric that depends slightly on the orientation of the molecules.
    """
    return _pooled(c, _all(c), np.divide, np.abs(c.error).sum(axis=1), 3.0)


@_metric("hydrogen_force_error", "")
def hydrogen_force_error(c: Comparison) -> Statistic:
    """Force RMSE on hydrogen divided by the RMS teacher force on hydrogen."""
    return _relative(c, c.numbers == 1)


@_metric("energy_mae_per_atom", "eV/atom")
def energy_mae_per_atom(c: Comparison) -> Statistic:
    """Mean over structures of |ΔE| / number of atoms; no overall shift is removed."""
    sizes = np.diff(c.offset)
    error = np.abs(c.energy_predicted - c.energy) / sizes
    sums = [np.bincount(c.molecule, column, minlength=c.molecules) for column in (error, np.ones(len(sizes)))]
    return OfSums(np.stack(sums, axis=1), np.divide, c.molecules)


@_metric("angular_error_mean_deg", "degree")
def angular_error_mean_deg(c: Comparison) -> Statistic:
    """Mean angle between predicted and teacher force, for atoms above the floor."""
    return _pooled(c, c.above_floor, np.divide, c.angles, 1.0)


@_metric("angular_error_median_deg", "degree")
def angular_error_median_deg(c: Comparison) -> Statistic:
    """Median angle between predicted and teacher force, for atoms above the floor."""
    return Quantile(c.angles[c.above_floor], c.molecule_of_atom[c.above_floor], c.molecules, 0.5)


@_metric("angular_error_p99_deg", "degree")
def angular_error_p99_deg(c: Comparison) -> Statistic:
    """99th percentile of the angle between predicted and teacher force, for atoms above the floor."""
    return Quantile(c.angles[c.above_floor], c.molecule_of_atom[c.above_floor], c.molecules, 0.99)


@_metric("angular_error_max_deg", "degree", error=False)
def angular_error_max_deg(c: Comparison) -> Plain:
    """Largest angle among the atoms above the floor; a maximum has no interval."""
    angles, molecules = c.angles[c.above_floor], c.molecule_of_atom[c.above_floor]
    return Plain(float(angles.max()) if len(angles) else math.nan, len(np.unique(molecules)))


@_metric("angle_within_5deg", "", error=False)
def angle_within_5deg(c: Comparison) -> Statistic:
    """Fraction of the atoms above the floor with an angle of at most 5°."""
    within = np.where(np.isnan(c.angles), np.nan, c.angles <= 5.0)
    return _pooled(c, c.above_floor, np.divide, within, 1.0)


@_metric("angular_atoms_below_floor", "", error=False)
def angular_atoms_below_floor(c: Comparison) -> Statistic:
    """Fraction of the atoms that are excluded from the angle metrics."""
    return _pooled(c, _all(c), np.divide, (~c.above_floor).astype(np.float64), 1.0)


def _bin_name(low: float, high: float) -> str:
    return f"{low * 1000:.0f}_to_{high * 1000:.0f}" if math.isfinite(high) else f"{low * 1000:.0f}_up"


_BIN_OF = {_bin_name(low, high): (low, high) for low, high in ANGULAR_BINS}


@_metric("angular_error_mean_deg_at_{}_mev", "degree", over=tuple(_BIN_OF))
def angular_error_in_bin(c: Comparison, name: str) -> Statistic:
    """Mean angle over the atoms whose teacher force lies in a bin; no floor is applied."""
    low, high = _BIN_OF[name]
    # The angle is undefined for an atom whose teacher force is zero.
    chosen = (c.force_lengths >= low) & (c.force_lengths < high) & (c.force_lengths > 0)
    return _pooled(c, chosen, np.divide, c.angles, 1.0)


@_metric("force_rmse_{}", "eV/Å", over=tuple(chemical_symbols[1:]))
def force_rmse_of_element(c: Comparison, symbol: str) -> Statistic:
    """Force RMSE of the atoms of one element."""
    return _rmse(c, c.numbers == atomic_numbers[symbol])


@_metric("force_rmse_H_on_{}", "eV/Å", over=("C", "N", "O"))
def force_rmse_of_bonded_hydrogen(c: Comparison, symbol: str) -> Statistic:
    """Force RMSE of the hydrogens bonded to C, N or O."""
    return _rmse(c, (c.numbers == 1) & (c.partner == atomic_numbers[symbol]))


@_metric("force_rmse_H_bonding", "eV/Å")
def force_rmse_of_hydrogen_bonds(c: Comparison) -> Statistic:
    """Force RMSE of the hydrogens in hydrogen bonds (N, O, F within 2.5 Å of an H on another N, O, F)."""
    return _rmse(c, c.hydrogen_bonded)


def _oxygen_over_carbon(c: Comparison, weight: Callable[[NDArray[np.bool_]], OfSums]) -> OfSums:
    oxygen, carbon = weight(c.numbers == 8), weight(c.numbers == 6)

    def ratio(o: Floats, o_scale: Floats, c_: Floats, c_scale: Floats) -> Floats:
        return np.sqrt(o / o_scale) / np.sqrt(c_ / c_scale) - 1.0

    return OfSums(np.hstack([oxygen.sums, carbon.sums]), ratio, min(oxygen.n, carbon.n))


@_metric("oxygen_over_carbon", "", error=False)
def oxygen_over_carbon(c: Comparison) -> Statistic:
    """Force RMSE on O divided by force RMSE on C, minus 1."""
    return _oxygen_over_carbon(c, lambda chosen: _rmse(c, chosen))


@_metric("oxygen_over_carbon_relative", "", error=False)
def oxygen_over_carbon_relative(c: Comparison) -> Statistic:
    """As ``oxygen_over_carbon``, with each RMSE divided by the RMS teacher force of its element."""
    return _oxygen_over_carbon(c, lambda chosen: _relative(c, chosen))


@_metric("hydrogen_fraction", "", error=False)
def hydrogen_fraction(c: Comparison) -> Plain:
    """Fraction of hydrogen among all atoms; a property of the set, without an interval."""
    return Plain(float((c.numbers == 1).mean()) if len(c.numbers) else math.nan, c.molecules)


@_metric("n_structures", "molecules", error=False)
def n_structures(c: Comparison) -> Plain:
    """Number of distinct held-out molecules; additional geometries of a molecule are not counted."""
    return Plain(float(c.molecules), c.molecules)


def metric_names() -> list[str]:
    """Return every metric name that :func:`measure` can return."""
    return [member for name, d in _REGISTRY.items() for member in _members(name, d)]


def error_names() -> set[str]:
    """Return the names of the metrics for which a ratio to a baseline is defined."""
    return {member for name, d in _REGISTRY.items() if d.error for member in _members(name, d)}


def _members(name: str, definition: Definition) -> Mapping[str, tuple[str, ...]]:
    if not definition.over:
        return {name: ()}
    return {name.format(member): (member,) for member in definition.over}


def statistics_of(c: Comparison) -> dict[str, tuple[Statistic | Plain, Definition]]:
    """Return the statistic of every metric of ``c``; elements are those present, and always H, C and O."""
    present = {chemical_symbols[z] for z in np.unique(c.numbers).tolist()} | {"H", "C", "O"}
    return {
        full_name: (definition.function(c, *arguments), definition)
        for name, definition in _REGISTRY.items()
        for full_name, arguments in _members(name, definition).items()
        if name != "force_rmse_{}" or arguments[0] in present
    }


def measure(c: Comparison, *, resamples: int = 2000, seed: int = 0) -> dict[str, Metric]:
    """Compute every metric of ``c``.

    Parameters
    ----------
    c : Comparison
    resamples : int
        Number of bootstrap resamples of the molecules.
    seed : int
    """
    found = statistics_of(c)
    statistics = {name: (s, d.unit) for name, (s, d) in found.items() if not isinstance(s, Plain)}
    points = {name: point(s.value, d.unit, s.n) for name, (s, d) in found.items() if isinstance(s, Plain)}
    measured = points | bootstrap(statistics, c.molecules, resamples=resamples, seed=seed)
    return {name: measured[name] for name in found}


def convergence(losses: Sequence[float]) -> Metric:
    """Compute the mean loss of the last tenth of the epochs divided by the least loss, minus 1.

    Parameters
    ----------
    losses : sequence of float
        Loss on the validation split (never the test split) after each epoch, in any unit.

    Returns
    -------
    Metric
        Metric without an interval; ``n`` is the number of epochs. Undefined for fewer than two epochs, or if a loss is
        not finite or the least loss is not positive.
    """
    values = np.asarray(losses, dtype=np.float64)
    if len(values) < 2 or not np.isfinite(values).all() or values.min() <= 0:
        return Metric(None, "", len(values))
    last = values[-max(1, len(values) // 10) :]
    return point(float(last.mean() / values.min() - 1.0), "", len(values))
