"""Input of the decision, read once: parameters, findings, metrics, and the changes since they were computed."""

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
    """State of a project: everything that the decision depends on.

    Parameters
    ----------
    params : Params or str
        ``params.yaml``, or the reason why it is invalid.
    reports : mapping of str to Report or str
        Findings of each contract, or why they cannot be read; no entry if there is no findings file.
    metrics : Metrics
        Content of the readable metrics files.
    unreadable : tuple of Blocker
        Problems of the other metrics files.
    stale : tuple of Stale
        Changes since the metrics were computed.
    input_digest : str, optional
        Digest of the files named by ``regenerate.input``; None if they are missing or no valid input report exists.
    baseline : str, optional
        Fingerprint of the predictions named by ``validate.baseline``; None if there is nothing to compare with.
    unreadable_baseline : str
        Reason why those predictions cannot be read, or "".
    data : frozenset of str
        Files of ``DATA_OF`` that exist.
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
    """Read the project at ``root``; unreadable files do not raise an error but are recorded with the reason.

    Parameters
    ----------
    root : Path
    stale : sequence of Stale
        Changes reported by :func:`hydrogate.pipeline.decision.staleness.stale_stages`.
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
    """Return the digest of the input files: the decision must detect a change before the next `dvc repro` does."""
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
    """Return the fingerprint of the baseline, and the reason why it cannot be read.

    DVC does not track the baseline; a missing file does not count as a change.
    """
    named = None if isinstance(params, str) else params.validate_.baseline
    compared = isinstance(metrics.get("validation", {}).get("regression"), Mapping)
    if named is None or not compared or not (root / named).exists():
        return None, ""
    try:
        return read_dataset(root / named).fingerprint(), ""
    except UnreadableFile as error:
        return None, str(error)
