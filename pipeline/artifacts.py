"""What `hydrogate check` leaves for other programs and for readers: JUnit XML, and the Data Docs of each contract.

Neither is a dependency or an output of a stage: Data Docs hold the time of their making.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydrogate.checks.bounds import Override, resolve_bounds
from hydrogate.checks.findings import Report
from hydrogate.checks.render.junit import junit_xml
from hydrogate.pipeline.hdf5 import written_whole

DATA_DOCS = Path("reports/data-docs")


def write_junit(
    path: Path, reports: Sequence[Report], decision: Mapping[str, Any] | None = None, strict: bool = False
) -> None:
    """Write what :func:`hydrogate.checks.render.junit.junit_xml` makes of them."""
    with written_whole(path) as temporary:
        temporary.write_text(junit_xml(reports, decision, strict), encoding="utf-8")


def write_data_docs(folder: Path, report: Report, overrides: Sequence[Override]) -> Path:
    """Write the Data Docs of ``report`` below ``folder/<contract>`` and return their first page (extra ``gx``).

    Parameters
    ----------
    folder : Path
    report : Report
    overrides : sequence of (source, mapping)
        Those that ``report`` was judged with; the bounds' reasons become notes.
    """
    from hydrogate.checks.distributions import data_docs

    _, declared = resolve_bounds(report.contract, profile=report.profile, overrides=overrides)
    for name, page in data_docs(report, declared).items():
        with written_whole(folder / report.contract / name) as temporary:
            temporary.write_text(page, encoding="utf-8")
    return folder / report.contract / "index.html"
