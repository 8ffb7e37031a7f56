"""Input of the range checks: the data set as two tables, and generous ranges as read off a first plot."""

from typing import TYPE_CHECKING, Any

import numpy as np

from hydrogate.checks.data.dataset import Dataset

if TYPE_CHECKING:
    import pandas as pd

# Round numbers beyond all values in a clean data set of drug-like molecules: Å, eV/Å, eV.
RANGES: dict[str, tuple[float, float]] = {
    "number": (1, 118),
    **dict.fromkeys(("x", "y", "z"), (-100.0, 100.0)),
    **dict.fromkeys(("fx", "fy", "fz"), (-100.0, 100.0)),
    "atoms": (1, 1000),
    "charge": (-10, 10),
    "energy": (-1e6, 0.0),
}


def tables(data: Dataset) -> "dict[str, pd.DataFrame]":
    """Return the table ``atoms``, one row per atom, and the table ``structures``, one row per structure."""
    import pandas as pd

    atoms: dict[str, Any] = {"number": data.numbers} | dict(zip("xyz", data.positions.T, strict=True))
    if data.forces is not None:
        atoms |= dict(zip(("fx", "fy", "fz"), data.forces.T, strict=True))
    structures: dict[str, Any] = {"atoms": data.sizes, "charge": data.charge}
    if data.energy is not None:
        structures["energy"] = data.energy
    return {
        name: pd.DataFrame({column: np.ascontiguousarray(values) for column, values in of.items()})
        for name, of in (("atoms", atoms), ("structures", structures))
    }
