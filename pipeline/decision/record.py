"""The input of the decision, read once: parameters, findings, metrics, and what has changed since."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hydrogate.checks.errors import BadParams
from hydrogate.checks.findings import Report
from hydrogate.checks.gates.milestones import Blocker
from hydrogate.pipeline.decision.committed_metrics import Metrics, read_metrics
from hydrogate.pipeline.decision.staleness import Stale
from hydrogate.pipeline.molecules.records import digest_of, resolve_input
from hydrogate.pipeline.params import Params, load_params
from hydrogate.pipeline.stages.guard import read_report
from hydrogate.pipeline.storage.hdf5 import UnreadableFile, read_dataset

DATA_OF = {"structures": "structures.h5", "labels": "labelled.h5", "predictions": "predictions.h5"}


@dataclass(frozen=True)
class Record:
    """The state of a project, as the decision sees it.

    Parameters
    ----------
    params : Params or str
        ``params.yaml``, or the reason why it is invalid.
    reports : mapping of str to Report or str
        The findings of each contract, or why they cannot be read; no entry where no check has written any.
    metrics : Metrics
        The metrics files that can be read.
    unreadable : tuple of Blocker
        What is wrong with the others.
    stale : tuple of Stale
        What has changed since the metrics were made.
    input_digest : str, optional
        Of the files that ``regenerate.input`` names; None where they are not here, or nothing says what was read.
    baseline : str, optional
        Fingerprint of the predictions that ``validate.baseline`` names; None where there is nothing to compare with.
    unreadable_baseline : str
        Why those predictions cannot be read; empty where they can.
    data : frozenset of str
        The files of ``DATA_OF`` that are here.
    """

    params: Params | str
    reports: Mapping[str, Report | str]
    metrics: Metrics
    unreadable: tuple[Blocker, ...]
    stale: tuple[Stale, ...]
    input_digest: str | None
    baseline: str | None
    unreadable_baseline: str
    data: frozenset[str]


def read_record(root: Path, stale: Sequence[Stale]) -> Record:
    """Read the project at ``root``; whatever cannot be read is recorded with its reason and raises nothing.

    Parameters
    ----------
    root : Path
    stale : sequence of Stale
        What has changed, by :func:`hydrogate.pipeline.decision.staleness.stale_stages`.
    """
    params = _params(root / "params.yaml")
    reports = {name: _report(root, name) for name in ("input", *DATA_OF) if _findings(root, name).exists()}
    metrics, unreadable = read_metrics(root)
    baseline, fault = _baseline(root, params, metrics)
    return Record(
        params=params,
        reports=reports,
        metrics=metrics,
        unreadable=tuple(unreadable),
        stale=tuple(stale),
        input_digest=_input_digest(root, params, reports),
        baseline=baseline,
        unreadable_baseline=fault,
        data=frozenset(name for name in DATA_OF.values() if (root / "data" / name).exists()),
    )


def _findings(root: Path, contract: str) -> Path:
    return root / "metrics" / f"{contract}.json"


def _params(path: Path) -> Params | str:
    try:
        return load_params(path)
    except (BadParams, OSError) as error:
        return str(error)


def _report(root: Path, contract: str) -> Report | str:
    try:
        return read_report(contract, root / "metrics")
    except UnreadableFile as error:
        return str(error)


def _input_digest(root: Path, params: Params | str, reports: Mapping[str, Report | str]) -> str | None:
    """Stage ``list_input`` sees a changed file at the next `dvc repro`; the decision must see it before."""
    if isinstance(params, str) or not isinstance(reports.get("input"), Report):
        return None
    spec = params.regenerate.input
    try:
        return digest_of(
            resolve_input([str(root / entry) for entry in ([spec] if isinstance(spec, str) else spec)]).paths
        )
    except UnreadableFile:
        return None


def _baseline(root: Path, params: Params | str, metrics: Metrics) -> tuple[str | None, str]:
    """DVC does not track the baseline; a missing file does not count as a change."""
    named = None if isinstance(params, str) else params.validate_.baseline
    compared = isinstance(metrics.get("validation", {}).get("regression"), Mapping)
    if named is None or not compared or not (root / named).exists():
        return None, ""
    try:
        return read_dataset(root / named).fingerprint(), ""
    except UnreadableFile as error:
        return None, str(error)
