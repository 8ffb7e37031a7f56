"""Hydrogate's contracts with default bounds; the teacher relabels 20 random structures and 20 outliers."""

import json
from functools import cache

from hydrogate.checks.data.dataset import Dataset
from hydrogate.checks.geometry.symmetry import Potential
from hydrogate.pipeline.commands.audit import Audit, asked_again, ready_teacher
from studies.validators.hydrogate import complaints as complaints_without

SOURCE = "contracts.md"


def complaints(data: Dataset) -> list[str]:
    """Return the failed checks."""
    return complaints_without(data, _teacher(json.dumps(dict(data.teacher or {}), sort_keys=True)))


@cache
def _teacher(stated: str) -> Potential:
    """Return the teacher that the data set declares, with cached results."""
    identity = json.loads(stated)
    return asked_again(ready_teacher(Audit(identity.get("name", "xtb")), identity), quiet=True)
