"""Contract ``labels``: dipoles and partial charges, of the teachers that give them; a data set may lack both."""

import numpy as np
from numpy.typing import NDArray

from hydrogate.checks.engine.bounds import Bounds
from hydrogate.checks.engine.partition import Part
from hydrogate.checks.engine.registry import NotGiven, row_rule
from hydrogate.checks.engine.row_counts import Rows
from hydrogate.checks.geometry.observables import per_structure


def _given(lacking: NDArray[np.bool_], what: str) -> NDArray[np.int64]:
    """The structures that are not ``lacking``: NaN throughout a structure says that there is none."""
    given = np.flatnonzero(~lacking)
    if not len(given):
        raise NotGiven(f"no structure has {what}")
    return given


@row_rule("labels", remedy="Label the structure again, or store NaN for all three components: no dipole.")
def dipoles(part: Part, bounds: Bounds) -> Rows:
    """Components of a dipole that are not finite, where a structure has a dipole."""
    dipole = part.data.dipole
    if dipole is None:
        raise NotGiven("the data set carries no dipoles")
    given = _given(np.logical_and.reduce(np.isnan(dipole), axis=1), "a dipole")
    bad = np.count_nonzero(~np.isfinite(dipole[given]), axis=1)
    return Rows(bad, lambda row: f"{part.name(int(given[row]))} has the dipole {dipole[given[row]]} e·Å", given)


@row_rule(
    "labels",
    unit="e",
    remedy="Charges of another structure, order or unit, or of one atom too few: e is meant, one for each atom.",
)
def partial_charges(part: Part, bounds: Bounds) -> Rows:
    """|Σ partial charges − total charge|, where a structure has partial charges; one that is not finite fails."""
    data, charges = part.data, part.data.charges
    if charges is None:
        raise NotGiven("the data set carries no partial charges")
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
            f"{part.name(int(given[row]))} has partial charges that sum to {total[row]:.4g} e, its total charge is "
            f"{data.charge[given[row]]:d} e"
        ),
        given,
    )
