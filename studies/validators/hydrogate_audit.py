"""Hydrogate's contracts as shipped, and the teacher asked again about 20 random structures and 20 strange ones."""

import json
from functools import cache

from hydrogate.checks.data.dataset import Dataset
from hydrogate.checks.geometry.symmetry import Potential
from hydrogate.pipeline.commands.audit import Audit, asked_again, ready_teacher
from studies.validators.hydrogate import complaints as complaints_without

SOURCE = "contracts.md"


def complaints(data: Dataset) -> list[str]:
    """The checks that refuse."""
    return complaints_without(data, _teacher(json.dumps(dict(data.teacher or {}), sort_keys=True)))


@cache
def _teacher(stated: str) -> Potential:
    """The teacher that the data set names, which answers nothing twice."""
    identity = json.loads(stated)
    return asked_again(ready_teacher(Audit(identity.get("name", "xtb")), identity), quiet=True)
