"""HTML report of a project: metrics and parameters from git, data and plots if a run has written them.

On a fresh clone it shows the committed findings and metrics, and lists what is missing.
"""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydrogate.checks.data.dataset import Dataset
from hydrogate.checks.errors import BadParams
from hydrogate.checks.findings import Report
from hydrogate.checks.gates.milestones import Decision
from hydrogate.checks.metrics.bootstrap import Metric
from hydrogate.checks.render.html.page import Content, html_page
from hydrogate.pipeline.decision import decide
from hydrogate.pipeline.outputs import write_text
from hydrogate.pipeline.params import Params, load_params
from hydrogate.pipeline.stages.check import held_out
from hydrogate.pipeline.stages.guard import readable_reports
from hydrogate.pipeline.storage.hdf5 import UnreadableFile, read_dataset

CURVES = Path("plots/training/plots/metrics")


def write_html(
    root: Path, path: Path, decision: Decision | None = None, reports: Sequence[Report] | None = None
) -> None:
    """Write the report of the project at ``root`` to ``path``, as one self-contained file.

    Parameters
    ----------
    root, path : Path
    decision : Decision, optional
        Default: decide again.
    reports : sequence of Report, optional
        Findings of the contracts; default: the committed findings.
    """
    findings = tuple(readable_reports(root)) if reports is None else reports
    page = html_page(gather(root, decision or decide.run(root), findings))
    write_text(path, page, errors="replace")  # JSON may contain a lone surrogate, which UTF-8 cannot


def gather(root: Path, decision: Decision, reports: Sequence[Report]) -> Content:
    """Collect the content of the report; a damaged file is listed, not skipped silently."""
    absent: list[str] = []
    params = _params(root, absent)
    labelled = _data(root / "data/labelled.h5", absent)
    predicted = _data(root / "data/predictions.h5", absent)
    split = params.validate_.split if params else "test"
    comparable = labelled is not None and predicted is not None
    reference = held_out(labelled, split) if labelled is not None and comparable else None
    if reference is not None and predicted is not None and len(reference) != len(predicted):
        absent.append(f"data/predictions.h5 does not match the {split} split of data/labelled.h5: predict again")
        reference = predicted = None
    return Content(
        decision=decision,
        bands=params.milestones if params else (),
        reports=reports,
        metrics={k: m for name in ("validation", "md") for k, m in _metrics(root / f"metrics/{name}.json")},
        curves=dict(_curves(root / CURVES, absent)),
        data=labelled if labelled is not None else _data(root / "data/structures.h5", absent),
        held_out=reference,
        predicted=predicted,
        absent=absent,
    )


def _params(root: Path, absent: list[str]) -> Params | None:
    try:
        return load_params(root / "params.yaml")
    except BadParams as error:
        absent.append(str(error))
        return None


def _data(path: Path, absent: list[str]) -> Dataset | None:
    name = f"data/{path.name}"
    if not path.exists():
        absent.append(f"missing: {name}; showing the committed findings")
        return None
    try:
        return read_dataset(path)
    except UnreadableFile as error:
        absent.append(str(error))
        return None


def _metrics(path: Path) -> Iterator[tuple[str, Metric]]:
    try:
        content: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return  # the decision is blocked and names the file
    for name, block in content.items() if isinstance(content, Mapping) else ():
        if isinstance(block, Mapping):
            try:
                yield name, Metric.from_dict(block)
            except (KeyError, TypeError, ValueError):
                continue  # as above


def _curves(folder: Path, absent: list[str]) -> Iterator[tuple[str, list[float]]]:
    for path in sorted(folder.glob("*.tsv")):
        try:
            with path.open(encoding="utf-8", newline="") as file:
                yield path.stem, [float(row[path.stem]) for row in csv.DictReader(file, delimiter="\t")]
        except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
            absent.append(f"{CURVES / path.name}: unreadable curve ({error!r}); train again")
