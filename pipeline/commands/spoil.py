"""``hydrogate spoil``: a copy of a data set to which one of the known accidents has happened."""

import numpy as np

from hydrogate.checks.accidents import ACCIDENTS, Accident, NotApplicable, hurt, struck
from hydrogate.checks.data.dataset import Dataset
from hydrogate.checks.errors import BadParams, did_you_mean


def spoilt(data: Dataset, accident: str, share: float, seed: int = 0) -> tuple[Dataset, int]:
    """``data`` after ``accident``, and how many structures it struck.

    Parameters
    ----------
    data : Dataset
    accident : str
        One of :data:`hydrogate.checks.accidents.ACCIDENTS`.
    share : float
        Of the structures, 0 to 1; at least one is struck.
    seed : int

    Raises
    ------
    BadParams
        There is no such accident, or it cannot happen to these data.
    """
    if accident not in ACCIDENTS:
        raise BadParams(f"--accident {accident}: no such accident{did_you_mean(accident, ACCIDENTS)}")
    return after(ACCIDENTS[accident], data, share, seed)


def after(accident: Accident, data: Dataset, share: float, seed: int = 0) -> tuple[Dataset, int]:
    """As :func:`spoilt`, of an accident that need not have a name there."""
    try:
        order = struck(accident, data, seed)
    except NotApplicable as error:
        raise BadParams(f"--accident {accident.name} cannot happen to {data!r}: {error}") from error
    if not len(order):
        raise BadParams(f"--accident {accident.name} would change nothing in {data!r}")
    rows = np.sort(order[: max(1, round(min(share, accident.largest_share) * len(data)))])
    return hurt(accident, data, rows, seed), len(rows)
