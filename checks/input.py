"""Contract ``input``: what became of the records of the input files, as plain counts, and its checks."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from hydrogate.checks.bounds import Bounds
from hydrogate.checks.dataset import Quarantined
from hydrogate.checks.rules import NotRun, Quantities, Subject, rule

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


def _counts(subject: Subject) -> InputCounts:
    if subject.counts is None:
        raise NotRun("the records of the input were not counted; give the input files themselves")
    return subject.counts


@rule("input", unit="records", remedy="Look for a file or a record that the reader passed over.")
def readable(subject: Subject, bounds: Bounds) -> Quantities:
    """Records in equal molecules out plus quarantined; where there is no molecule at all, every record is lost."""
    counts = _counts(subject)
    lost = counts.n_read - counts.molecules - counts.n_quarantined if counts.molecules else max(counts.n_read, 1)
    return Quantities({"": float(lost)}, counts.n_read, "records")


def _set_aside(subject: Subject, check: str) -> Quantities:
    counts = _counts(subject)
    return Quantities({"": float(len(counts.quarantined[check]))}, counts.n_read, "records")


@rule("input", unit="records quarantined", remedy="Embed 2-D drawings in three dimensions before they come here.")
def has_3d(subject: Subject, bounds: Bounds) -> Quantities:
    """Coordinates are three-dimensional."""
    return _set_aside(subject, "has_3d")


@rule(
    "input",
    unit="hydrogens",
    remedy="Stage regenerate makes them explicit (regenerate.add_hydrogens); ase.io.read would not.",
)
def implicit_hydrogens(subject: Subject, bounds: Bounds) -> Quantities:
    """Hydrogens that the file leaves implicit, over all molecules; and molecules with some written and some not."""
    counts = _counts(subject)
    values = {"implicit": float(counts.implicit_hydrogens), "mixed_molecules": float(counts.mixed)}
    return Quantities(values, counts.molecules, "molecules")


@rule(
    "input",
    unit="records quarantined",
    remedy="Extend regenerate.elements, where the teacher and the student know the element.",
)
def known_elements(subject: Subject, bounds: Bounds) -> Quantities:
    """Elements are within the teacher's and the student's set."""
    return _set_aside(subject, "known_elements")


@rule(
    "input",
    unit="records quarantined",
    remedy="Read RDKit's reasons in the quarantine; correct charges and bond orders.",
)
def sanitizes(subject: Subject, bounds: Bounds) -> Quantities:
    """Valences and aromaticity make sense to RDKit."""
    return _set_aside(subject, "sanitizes")
