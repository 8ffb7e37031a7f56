"""SO3LR's filters for fine-tuning data: interatomic distance below 0.25 Å, force component above 25 eV/Å."""

import numpy as np

from hydrogate.checks.data.dataset import Dataset
from hydrogate.checks.geometry.observables import geometry, per_structure
from studies.validators import of_rows

SOURCE = "https://doi.org/10.1021/jacs.5c09558"
# Source: general-molecular-simulations/so3lr, configuration of its fine-tuning.
MIN_DISTANCE = 0.25  # Å
MAX_COMPONENT = 25.0  # eV/Å


def complaints(data: Dataset) -> list[str]:
    """Return the structures that would be filtered out."""
    # Negated comparisons, so that NaN is filtered out.
    near = np.flatnonzero(~(geometry(data).min_distance >= MIN_DISTANCE))
    found = of_rows(data, near.tolist(), f"interatomic distance below {MIN_DISTANCE} Å")
    if data.forces is not None:
        largest = per_structure(np.abs(data.forces).max(axis=1), data, np.maximum)
        beyond = np.flatnonzero(~(largest <= MAX_COMPONENT))
        found += of_rows(data, beyond.tolist(), f"force component above {MAX_COMPONENT:g} eV/Å")
    return found
