"""``hydrogate review``: run all contracts and gates on local data and write all reports; no training.

In:  ``data/*.h5`` and ``data/student.safetensors``, if they exist; otherwise the committed findings,
     ``metrics/<contract>.json``, are used; ``metrics/`` and ``params.yaml`` for the decision.
Out: ``report.md``, ``report.html``, ``junit.xml`` and ``data-docs/`` in one folder, not tracked by git or DVC.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hydrogate.checks.findings import Report, Verdict
from hydrogate.checks.gates.milestones import Decision
from hydrogate.pipeline.decision import decide, staleness
from hydrogate.pipeline.decision.record import read_record
from hydrogate.pipeline.outputs import refuse_unwritable, write_data_docs, write_junit, write_text
from hydrogate.pipeline.params import load_params
from hydrogate.pipeline.reports import report
from hydrogate.pipeline.reports.git_base import find_base
from hydrogate.pipeline.reports.report_html import write_html
from hydrogate.pipeline.stages import check
from hydrogate.pipeline.stages.guard import read_report
from hydrogate.pipeline.storage.hdf5 import UnreadableFile

NEEDED = {
    "structures": ("structures.h5",),
    "labels": ("labelled.h5",),
    "predictions": ("predictions.h5", "labelled.h5", check.STUDENT.name),
}


@dataclass(frozen=True)
class Review:
    """Results of all contracts and gates.

    Parameters
    ----------
    decision : Decision
    reports : tuple of Report
    told : tuple of str
        Sentences: what was judged, which committed findings were used, what is missing.
    annotations : tuple of str
        Annotations for GitHub.
    """

    decision: Decision
    reports: tuple[Report, ...]
    told: tuple[str, ...]
    annotations: tuple[str, ...]

    def refusals(self) -> Iterator[str]:
        """Yield the reasons why the project must not continue; none if it may."""
        for findings in self.reports:
            if not findings.holds(strict=True):
                names = ", ".join(finding.check for finding in findings.refusals(strict=True))
                yield f"contract {findings.contract} failed: {names or 'no check ran'}"
        for item in self.decision.gates:
            if item.gate.required and item.verdict is not Verdict.PASS:
                yield str(item)
        if self.decision.blocked:
            yield f"blocked: {self.decision.because}"


def run(root: Path, folder: Path, base: str | None = None) -> Review:
    """Run the contracts, decide, and write all reports to ``folder``.

    Parameters
    ----------
    root, folder : Path
    base : str, optional
        Revision to compare with in the Markdown; None to report the current state only.

    Raises
    ------
    BadParams, UnreadableFile
        The parameters, the base, ``folder`` or an existing data file is invalid.
    """
    refuse_unwritable(folder / "report.md")
    if base is not None:
        find_base(root, base)
    params = load_params(root / "params.yaml")
    overrides = check.overrides_of(params)
    reports, told = [], []
    for contract in ("input", *NEEDED):
        lacking = [f"data/{name}" for name in NEEDED.get(contract, ()) if not (root / "data" / name).exists()]
        if contract in NEEDED and not lacking:
            reports.append(check.run(contract, params, root / "data"))
            told.append(f"contract {contract}: judged on data/{NEEDED[contract][0]}")
            continue
        what = f"missing {', '.join(lacking)}; " if lacking else ""
        try:
            reports.append(read_report(contract, root / "metrics"))
            told.append(f"contract {contract}: {what}used the committed findings, metrics/{contract}.json")
        except UnreadableFile as error:
            told.append(f"contract {contract}: {what}not judged: {error}")
    stale = staleness.stale_stages(root)
    record = read_record(root, stale)
    decision = decide.decide_from(record)
    decide.write_decision(decision, record.metrics, root)
    for findings in reports:
        write_data_docs(folder / "data-docs", findings, overrides)
    written = json.loads((root / "metrics/decision.json").read_text(encoding="utf-8"))
    write_junit(folder / "junit.xml", reports, written, strict=True)
    write_html(root, folder / "report.html", decision, reports)
    text, marks = report.run(root, base, reports, stale)
    write_text(folder / "report.md", text, errors="replace")
    return Review(decision, tuple(reports), tuple(told), tuple(marks))
