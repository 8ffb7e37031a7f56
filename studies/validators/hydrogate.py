"""Hydrogate's contracts `structures` and `labels` with default bounds, without the teacher."""

from dataclasses import replace

from hydrogate.checks.contracts.run import check
from hydrogate.checks.data.dataset import Dataset
from hydrogate.checks.geometry.symmetry import Potential
from hydrogate.pipeline.storage.hdf5 import without_labels

SOURCE = "contracts.md"
# Most data corruptions do not change the structures, so the results of contract `structures` are cached.
_OF_STRUCTURES: dict[str, list[str]] = {}


def complaints(data: Dataset, relabel: Potential | None = None) -> list[str]:
    """Return the failed checks, of ``structures`` only if the data are unlabelled; ``relabel`` adds the label audit."""
    bare = replace(without_labels(data), quarantine=(), n_read=0)
    key = bare.fingerprint()
    if key not in _OF_STRUCTURES:
        _OF_STRUCTURES[key] = _refusals(bare, "structures")
    asked = data.teacher is not None or data.forces is not None
    return _OF_STRUCTURES[key] + (_refusals(data, "labels", relabel) if asked else [])


def _refusals(data: Dataset, contract: str, relabel: Potential | None = None) -> list[str]:
    return [f"{contract}: {finding.check}" for finding in check(data, contract, relabel=relabel).refusals()]
