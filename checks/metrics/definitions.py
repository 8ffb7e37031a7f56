"""Each metric of a student, defined once: pooled over atoms, with an interval by a bootstrap over molecules.

Errors are against the teacher, not against chemistry. A metric is one function: it takes a :class:`Comparison` to a
statistic and is found through the registry. A mean of batch RMSEs, a mean over molecules of their RMSEs, and a mean
length of the force error are all different figures; none of them is called RMSE here.

Energies are compared as they are: no overall shift is removed, since the student carries per-element references and
promises the teacher's total energies. A prediction of zero force counts as 90° off.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from ase.data import atomic_numbers, chemical_symbols
from numpy.typing import NDArray

from hydrogate.checks.metrics.bootstrap import Floats, Metric, OfSums, Quantile, Statistic, bootstrap, point
from hydrogate.checks.metrics.comparison import Comparison

# Bins of the teacher's |F|, eV/Å, named in meV/Å because DVC splits names at dots.
ANGULAR_BINS = ((0.0, 0.1), (0.1, 0.3), (0.3, 0.5), (0.5, 1.0), (1.0, 3.0), (3.0, math.inf))


class Plain(NamedTuple):
    """A number that has no interval, with the ``n`` molecules that stand behind it."""

    value: float
    n: int


class Definition(NamedTuple):
    """A registered metric.

    ``over`` names the members of a family (elements, bins) and is empty for a single one; ``error`` says that it is the
    size of an error that can be resampled, so that the ratio of two students' says which is better.
    """

    unit: str
    function: Callable[..., Statistic | Plain]
    over: tuple[str, ...]
    error: bool


_REGISTRY: dict[str, Definition] = {}


def _metric(
    name: str, unit: str, over: Sequence[str] = (), *, error: bool = True
) -> Callable[[Callable[..., Statistic | Plain]], Callable[..., Statistic | Plain]]:
    """Register a function under ``name``; for a family ``{}`` in the name stands for the member, its second argument.

    It returns a statistic to be resampled, or a plain number that has no interval.
    """

    def register(function: Callable[..., Statistic | Plain]) -> Callable[..., Statistic | Plain]:
        _REGISTRY[name] = Definition(unit, function, tuple(over), error)
        return function

    return register


def _pooled(
    c: Comparison, chosen: NDArray[np.bool_], function: Callable[..., Floats], *columns: Floats | float
) -> OfSums:
    """A function of the sums of ``columns`` ((N,) or a constant) over the chosen atoms."""
    molecule = c.molecule_of_atom[chosen]
    sums = [
        np.bincount(molecule, np.broadcast_to(column, chosen.shape)[chosen], minlength=c.molecules)
        for column in columns
    ]
    return OfSums(np.stack(sums, axis=1), function, len(np.unique(molecule)))


def _square(vectors: Floats) -> Floats:
    """(N,) squared lengths; NaN where infinite, since one over infinity would be a figure."""
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
    """Root mean square of the force error's components."""
    return _rmse(c, _all(c))


@_metric("force_rmse_relative", "")
def force_rmse_relative(c: Comparison) -> Statistic:
    """Force RMSE over the RMS teacher force."""
    return _relative(c, _all(c))


@_metric("force_mae", "eV/Å")
def force_mae(c: Comparison) -> Statistic:
    """Mean absolute error of the force components, not the mean length of the error.

    As the field reports it, and so the one figure that depends a little on how the molecules lie in the axes.
    """
    return _pooled(c, _all(c), np.divide, np.abs(c.error).sum(axis=1), 3.0)


@_metric("hydrogen_force_error", "")
def hydrogen_force_error(c: Comparison) -> Statistic:
    """Force RMSE on hydrogen over the RMS teacher force on hydrogen."""
    return _relative(c, c.numbers == 1)


@_metric("energy_mae_per_atom", "eV/atom")
def energy_mae_per_atom(c: Comparison) -> Statistic:
    """Mean over structures of |ΔE| / atoms; no overall shift removed."""
    sizes = np.diff(c.offset)
    error = np.abs(c.energy_predicted - c.energy) / sizes
    sums = [np.bincount(c.molecule, column, minlength=c.molecules) for column in (error, np.ones(len(sizes)))]
    return OfSums(np.stack(sums, axis=1), np.divide, c.molecules)


@_metric("angular_error_mean_deg", "degree")
def angular_error_mean_deg(c: Comparison) -> Statistic:
    """Mean angle between predicted and teacher force, atoms above the floor."""
    return _pooled(c, c.above_floor, np.divide, c.angles, 1.0)


@_metric("angular_error_median_deg", "degree")
def angular_error_median_deg(c: Comparison) -> Statistic:
    """Half of the atoms above the floor are at most this far off."""
    return Quantile(c.angles[c.above_floor], c.molecule_of_atom[c.above_floor], c.molecules, 0.5)


@_metric("angular_error_p99_deg", "degree")
def angular_error_p99_deg(c: Comparison) -> Statistic:
    """99 % of the atoms above the floor are at most this far off."""
    return Quantile(c.angles[c.above_floor], c.molecule_of_atom[c.above_floor], c.molecules, 0.99)


@_metric("angular_error_max_deg", "degree", error=False)
def angular_error_max_deg(c: Comparison) -> Plain:
    """The worst angle of the atoms above the floor; a maximum has no interval."""
    angles, molecules = c.angles[c.above_floor], c.molecule_of_atom[c.above_floor]
    return Plain(float(angles.max()) if len(angles) else math.nan, len(np.unique(molecules)))


@_metric("angle_within_5deg", "", error=False)
def angle_within_5deg(c: Comparison) -> Statistic:
    """Share of the atoms above the floor that are at most 5° off."""
    within = np.where(np.isnan(c.angles), np.nan, c.angles <= 5.0)
    return _pooled(c, c.above_floor, np.divide, within, 1.0)


@_metric("angular_atoms_below_floor", "", error=False)
def angular_atoms_below_floor(c: Comparison) -> Statistic:
    """Share of the atoms that the angular figures leave out."""
    return _pooled(c, _all(c), np.divide, (~c.above_floor).astype(np.float64), 1.0)


def _bin_name(low: float, high: float) -> str:
    return f"{low * 1000:.0f}_to_{high * 1000:.0f}" if math.isfinite(high) else f"{low * 1000:.0f}_up"


_BIN_OF = {_bin_name(low, high): (low, high) for low, high in ANGULAR_BINS}


@_metric("angular_error_mean_deg_at_{}_mev", "degree", over=tuple(_BIN_OF))
def angular_error_in_bin(c: Comparison, name: str) -> Statistic:
    """Mean angle over atoms whose teacher force lies in a bin, no floor."""
    low, high = _BIN_OF[name]
    # An atom without a teacher force has no angle.
    chosen = (c.force_lengths >= low) & (c.force_lengths < high) & (c.force_lengths > 0)
    return _pooled(c, chosen, np.divide, c.angles, 1.0)


@_metric("force_rmse_{}", "eV/Å", over=tuple(chemical_symbols[1:]))
def force_rmse_of_element(c: Comparison, symbol: str) -> Statistic:
    """Force RMSE over the atoms of one element."""
    return _rmse(c, c.numbers == atomic_numbers[symbol])


@_metric("force_rmse_H_on_{}", "eV/Å", over=("C", "N", "O"))
def force_rmse_of_bonded_hydrogen(c: Comparison, symbol: str) -> Statistic:
    """Force RMSE over the hydrogens bonded to C, N or O."""
    return _rmse(c, (c.numbers == 1) & (c.partner == atomic_numbers[symbol]))


@_metric("force_rmse_H_bonding", "eV/Å")
def force_rmse_of_hydrogen_bonds(c: Comparison) -> Statistic:
    """Force RMSE over the hydrogens of hydrogen bonds (N, O, F within 2.5 Å of an H on another N, O, F)."""
    return _rmse(c, c.hydrogen_bonded)


def _oxygen_over_carbon(c: Comparison, weight: Callable[[NDArray[np.bool_]], OfSums]) -> OfSums:
    oxygen, carbon = weight(c.numbers == 8), weight(c.numbers == 6)

    def ratio(o: Floats, o_scale: Floats, c_: Floats, c_scale: Floats) -> Floats:
        return np.sqrt(o / o_scale) / np.sqrt(c_ / c_scale) - 1.0

    return OfSums(np.hstack([oxygen.sums, carbon.sums]), ratio, min(oxygen.n, carbon.n))


@_metric("oxygen_over_carbon", "", error=False)
def oxygen_over_carbon(c: Comparison) -> Statistic:
    """Force RMSE on O over force RMSE on C, minus 1."""
    return _oxygen_over_carbon(c, lambda chosen: _rmse(c, chosen))


@_metric("oxygen_over_carbon_relative", "", error=False)
def oxygen_over_carbon_relative(c: Comparison) -> Statistic:
    """The same with each RMSE over its element's RMS teacher force."""
    return _oxygen_over_carbon(c, lambda chosen: _relative(c, chosen))


@_metric("hydrogen_fraction", "", error=False)
def hydrogen_fraction(c: Comparison) -> Plain:
    """Hydrogen atoms over all atoms; a plain count of the set, no interval."""
    return Plain(float((c.numbers == 1).mean()) if len(c.numbers) else math.nan, c.molecules)


@_metric("n_structures", "molecules", error=False)
def n_structures(c: Comparison) -> Plain:
    """Distinct held-out molecules; further geometries of one add nothing."""
    return Plain(float(c.molecules), c.molecules)


def metric_names() -> list[str]:
    """Every name that :func:`measure` can give."""
    return [member for name, d in _REGISTRY.items() for member in _members(name, d)]


def error_names() -> set[str]:
    """The metrics that have a ratio to a baseline's."""
    return {member for name, d in _REGISTRY.items() if d.error for member in _members(name, d)}


def _members(name: str, definition: Definition) -> Mapping[str, tuple[str, ...]]:
    if not definition.over:
        return {name: ()}
    return {name.format(member): (member,) for member in definition.over}


def statistics_of(c: Comparison) -> dict[str, tuple[Statistic | Plain, Definition]]:
    """Every metric of ``c`` before it is resampled; of the elements those present, and H, C and O always."""
    present = {chemical_symbols[z] for z in np.unique(c.numbers).tolist()} | {"H", "C", "O"}
    return {
        full_name: (definition.function(c, *arguments), definition)
        for name, definition in _REGISTRY.items()
        for full_name, arguments in _members(name, definition).items()
        if name != "force_rmse_{}" or arguments[0] in present
    }


def measure(c: Comparison, *, resamples: int = 2000, seed: int = 0) -> dict[str, Metric]:
    """Every metric of ``c``.

    Parameters
    ----------
    c : Comparison
    resamples : int
        Bootstrap resamples of the molecules.
    seed : int
    """
    found = statistics_of(c)
    statistics = {name: (s, d.unit) for name, (s, d) in found.items() if not isinstance(s, Plain)}
    points = {name: point(s.value, d.unit, s.n) for name, (s, d) in found.items() if isinstance(s, Plain)}
    measured = points | bootstrap(statistics, c.molecules, resamples=resamples, seed=seed)
    return {name: measured[name] for name in found}


def convergence(losses: Sequence[float]) -> Metric:
    """How much worse the last tenth of the epochs is than the best epoch: mean loss over least loss, minus 1.

    Parameters
    ----------
    losses : sequence of float
        Loss on the validation split (never the test split) after each epoch, any unit.

    Returns
    -------
    Metric
        Without an interval; ``n`` is the epochs; undefined below two epochs or where a loss is not finite.
    """
    values = np.asarray(losses, dtype=np.float64)
    if len(values) < 2 or not np.isfinite(values).all() or values.min() <= 0:
        return Metric(None, "", len(values))
    last = values[-max(1, len(values) // 10) :]
    return point(float(last.mean() / values.min() - 1.0), "", len(values))
