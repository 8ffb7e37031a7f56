"""Contract ``labels``: dipoles and partial charges, which only some teachers provide; a data set may lack both."""

import numpy as np
from numpy.typing import NDArray

from hydrogate.checks.engine.bounds import Bounds
from hydrogate.checks.engine.partition import Part
from hydrogate.checks.engine.registry import NotGiven, row_rule
from hydrogate.checks.engine.row_counts import Rows
from hydrogate.checks.geometry.observables import per_structure


def _given(lacking: NDArray[np.bool_], what: str) -> NDArray[np.int64]:
    """Return the structures that are not ``lacking``; all values of a structure are NaN if it has none."""
    given = np.flatnonzero(~lacking)
    if not len(given):
        raise NotGiven(f"no structure has {what}")
    return given


@row_rule("labels", remedy="Relabel the structure, or store NaN in all three components to mark a missing dipole.")
def dipoles(part: Part, bounds: Bounds) -> Rows:
    """Number of non-finite dipole components of each structure that has a dipole."""
    dipole = part.data.dipole
    if dipole is None:
        raise NotGiven("the data set has no dipoles")
    given = _given(np.logical_and.reduce(np.isnan(dipole), axis=1), "a dipole")
    bad = np.count_nonzero(~np.isfinite(dipole[given]), axis=1)
    return Rows(bad, lambda row: f"{part.name(int(given[row]))} has the dipole {dipole[given[row]]} e·Å", given)


@row_rule(
    "labels",
    unit="e",
    remedy="The charges have another structure, order or unit, or miss an atom: store one charge in e for each atom.",
)
def partial_charges(part: Part, bounds: Bounds) -> Rows:
    """|Σ partial charges − total charge| of each structure with partial charges; a non-finite charge fails."""
    data, charges = part.data, part.data.charges
    if charges is None:
        raise NotGiven("the data set has no partial charges")
    with np.errstate(invalid="ignore"):
        total = per_structure(charges, data)
        lacking = data.sizes == 0
        if np.isnan(total).any():
            lacking = per_structure(np.isnan(charges), data) == data.sizes
        given = _given(lacking, "partial charges")
        total = total[given]
        excess = np.abs(total - data.charge[given])
    return Rows(
        excess,
        lambda row: (
            f"{part.name(int(given[row]))} has partial charges that sum to {total[row]:.4g} e instead of "
            f"its total charge of {data.charge[given[row]]:d} e"
        ),
        given,
    )
