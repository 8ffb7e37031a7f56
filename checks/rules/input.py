"""Checks of contract ``input``: what became of the records of the input files."""

from hydrogate.checks.data.input_counts import InputCounts
from hydrogate.checks.engine.bounds import Bounds
from hydrogate.checks.engine.registry import NotRun, Quantities, Subject, rule


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
