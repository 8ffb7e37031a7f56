"""Checks of contract ``input``: counts of read, accepted and quarantined records of the input files."""

from hydrogate.checks.data.input_counts import InputCounts
from hydrogate.checks.engine.bounds import Bounds
from hydrogate.checks.engine.registry import NotRun, Quantities, Subject, rule

MOST_EXAMPLES = 100  # reasons of quarantined records in a report; data/quarantine.csv holds all


def _counts(subject: Subject) -> InputCounts:
    if subject.counts is None:
        raise NotRun("the input records were not counted; pass the input files themselves")
    return subject.counts


@rule("input", unit="records", remedy="Look for a file or a record that the reader skipped.")
def readable(subject: Subject, bounds: Bounds) -> Quantities:
    """Records read equal molecules plus quarantined records; if there is no molecule at all, every record is lost."""
    counts = _counts(subject)
    lost = counts.n_read - counts.molecules - counts.n_quarantined if counts.molecules else max(counts.n_read, 1)
    return Quantities({"": float(lost)}, counts.n_read, "records")


def _set_aside(subject: Subject, check: str) -> Quantities:
    counts = _counts(subject)
    records = counts.quarantined[check]
    examples = tuple(f"{one.source} record {one.source_index}: {one.reason}" for one in records[:MOST_EXAMPLES])
    return Quantities({"": float(len(records))}, counts.n_read, "records", examples=examples)


@rule("input", unit="records quarantined", remedy="Convert 2-D drawings to 3-D coordinates before using them as input.")
def has_3d(subject: Subject, bounds: Bounds) -> Quantities:
    """Coordinates of every record are three-dimensional."""
    return _set_aside(subject, "has_3d")


@rule(
    "input",
    unit="hydrogens",
    remedy="Stage regenerate makes them explicit (regenerate.add_hydrogens); ase.io.read does not.",
)
def implicit_hydrogens(subject: Subject, bounds: Bounds) -> Quantities:
    """Number of hydrogens that are implicit in the file, and of molecules that mix explicit and implicit hydrogens."""
    counts = _counts(subject)
    values = {"implicit": float(counts.implicit_hydrogens), "mixed_molecules": float(counts.mixed)}
    return Quantities(values, counts.molecules, "molecules")


@rule(
    "input",
    unit="records quarantined",
    remedy="Extend regenerate.elements if the teacher and the student support the element.",
)
def known_elements(subject: Subject, bounds: Bounds) -> Quantities:
    """Every element is supported by the teacher and the student."""
    return _set_aside(subject, "known_elements")


@rule(
    "input",
    unit="records quarantined",
    remedy="Read RDKit's reasons in the quarantine; correct the charges and bond orders.",
)
def sanitizes(subject: Subject, bounds: Bounds) -> Quantities:
    """Valences and aromaticity pass RDKit's sanitization."""
    return _set_aside(subject, "sanitizes")
