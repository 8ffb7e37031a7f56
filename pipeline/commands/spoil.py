"""``hydrogate spoil``: apply a known kind of data corruption to a copy of a data set."""

import numpy as np

from hydrogate.checks.accidents import ACCIDENTS, Accident, NotApplicable, hurt, struck
from hydrogate.checks.data.dataset import Dataset
from hydrogate.checks.errors import BadParams, did_you_mean


def spoilt(data: Dataset, accident: str, share: float, seed: int = 0) -> tuple[Dataset, int]:
    """Return ``data`` after the corruption ``accident``, and the number of structures it was applied to.

    Parameters
    ----------
    data : Dataset
    accident : str
        One of :data:`hydrogate.checks.accidents.ACCIDENTS`.
    share : float
        Fraction of the structures, 0 to 1; at least one structure is corrupted.
    seed : int

    Raises
    ------
    BadParams
        The kind of data corruption is unknown, or does not apply to these data.
    """
    if accident not in ACCIDENTS:
        raise BadParams(f"--accident {accident}: unknown kind of data corruption{did_you_mean(accident, ACCIDENTS)}")
    return after(ACCIDENTS[accident], data, share, seed)


def after(accident: Accident, data: Dataset, share: float, seed: int = 0) -> tuple[Dataset, int]:
    """Do the same as :func:`spoilt`, with an accident that need not be in the catalogue."""
    try:
        order = struck(accident, data, seed)
    except NotApplicable as error:
        raise BadParams(f"--accident {accident.name} does not apply to {data!r}: {error}") from error
    if not len(order):
        raise BadParams(f"--accident {accident.name} does not change {data!r}")
    rows = np.sort(order[: max(1, round(min(share, accident.largest_share) * len(data)))])
    return hurt(accident, data, rows, seed), len(rows)
