"""Hydrogate's contracts `structures` and `labels` as shipped, without the teacher."""

from dataclasses import replace

from hydrogate.checks.contracts.run import check
from hydrogate.checks.data.dataset import Dataset
from hydrogate.checks.geometry.symmetry import Potential
from hydrogate.pipeline.storage.hdf5 import without_labels

SOURCE = "contracts.md"
# Most accidents leave the structures as they are, and the contract of structures looks at nothing else.
_OF_STRUCTURES: dict[str, list[str]] = {}


def complaints(data: Dataset, relabel: Potential | None = None) -> list[str]:
    """The checks that refuse, of ``structures`` alone where no teacher was asked; ``relabel`` asks it again."""
    bare = replace(without_labels(data), quarantine=(), n_read=0)
    key = bare.fingerprint()
    if key not in _OF_STRUCTURES:
        _OF_STRUCTURES[key] = _refusals(bare, "structures")
    asked = data.teacher is not None or data.forces is not None
    return _OF_STRUCTURES[key] + (_refusals(data, "labels", relabel) if asked else [])


def _refusals(data: Dataset, contract: str, relabel: Potential | None = None) -> list[str]:
    return [f"{contract}: {finding.check}" for finding in check(data, contract, relabel=relabel).refusals()]
