"""What became of the records of the input files, as plain counts."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from hydrogate.checks.data.dataset import Quarantined

# The checks of contract ``input`` that set a record aside, in the order in which a record meets them.
SETTING_ASIDE = ("readable", "sanitizes", "known_elements", "has_3d")


@dataclass(frozen=True)
class InputCounts:
    """Every record of the input, accounted for.

    Parameters
    ----------
    records_read : mapping of str to int
        Records read, by file.
    molecules : int
        Records that became a molecule: fully implicit, mixed, fully explicit and without hydrogen together.
    quarantined : mapping of str to tuple of Quarantined
        Records set aside, by the check that did it, one key for each of ``SETTING_ASIDE``.
    implicit_hydrogens, explicit_hydrogens : int
        Hydrogens over all molecules, before any is added.
    fully_implicit, mixed, fully_explicit, without_hydrogen : int
        Molecules whose hydrogens are all implicit, some of each, all written down; that have none.
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
        """Records read over all files."""
        return sum(self.records_read.values())

    @property
    def n_quarantined(self) -> int:
        """Records set aside over all checks."""
        return sum(len(records) for records in self.quarantined.values())

    def fingerprint(self) -> str:
        """SHA-256 of the counts and the quarantine."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()
