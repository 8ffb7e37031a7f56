"""Counts of the records of the input files: read, converted to molecules, quarantined."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from hydrogate.checks.data.dataset import Quarantined

# Checks of contract ``input`` that quarantine a record, in the order in which they are applied.
SETTING_ASIDE = ("readable", "sanitizes", "known_elements", "has_3d")


@dataclass(frozen=True)
class InputCounts:
    """Counts that account for every input record.

    Parameters
    ----------
    records_read : mapping of str to int
        Number of records read, by file.
    molecules : int
        Number of records that became a molecule: the sum of ``fully_implicit``, ``mixed``, ``fully_explicit`` and
        ``without_hydrogen``.
    quarantined : mapping of str to tuple of Quarantined
        Quarantined records by check, with one key for each of ``SETTING_ASIDE``.
    implicit_hydrogens, explicit_hydrogens : int
        Number of hydrogens over all molecules, before any is added.
    fully_implicit, mixed, fully_explicit, without_hydrogen : int
        Number of molecules with only implicit hydrogens, with both kinds, with only explicit hydrogens, and with none.
    """

    records_read: Mapping[str, int]
    molecules: int
    quarantined: Mapping[str, tuple[Quarantined, ...]]
    implicit_hydrogens: int
    explicit_hydrogens: int
    fully_implicit: int
    mixed: int
    fully_explicit: int
    without_hydrogen: int

    @property
    def n_read(self) -> int:
        """Number of records read over all files."""
        return sum(self.records_read.values())

    @property
    def n_quarantined(self) -> int:
        """Number of records quarantined over all checks."""
        return sum(len(records) for records in self.quarantined.values())

    def fingerprint(self) -> str:
        """Return the SHA-256 of the counts and the quarantine."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()
