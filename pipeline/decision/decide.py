"""``hydrogate decide``: the gates' verdicts and the next milestone. Outside the DVC graph, so that it always runs.

In:  ``metrics/{input,structures,labels,predictions}.json`` (findings), ``metrics/{training,validation,md}.json``,
     ``gates`` and ``milestones`` in ``params.yaml``, and DVC's own account of what has changed.
Out: ``metrics/decision.json``, plain numbers and strings.

After a failed contract the metrics of the last good run are still there; they say nothing of the present data, so the
decision is then ``blocked``, and names what blocks.
"""

import argparse
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from hydrogate.checks.errors import BadParams, did_you_mean
from hydrogate.checks.findings import Report
from hydrogate.checks.gates.gates import Judgement
from hydrogate.checks.gates.milestones import MORE_DATA_COMMAND, SHOW_PARAMS, Band, Blocker, Decision, decide
from hydrogate.checks.metrics.bootstrap import Metric
from hydrogate.checks.render.decision_text import decision_text
from hydrogate.pipeline.decision.committed_metrics import REPRO, Metrics, judged, read_metrics
from hydrogate.pipeline.decision.plan import plan_of
from hydrogate.pipeline.molecules.records import digest_of, resolve_input
from hydrogate.pipeline.outputs import write_json
from hydrogate.pipeline.params import Params, load_params
from hydrogate.pipeline.program import REFUSED, stage_exit_status
from hydrogate.pipeline.stages.guard import read_report
from hydrogate.pipeline.storage.hdf5 import UnreadableFile, read_dataset

COMPARE_AGAIN = f"{REPRO} -- --force --single-item validate"
ALL_AGAIN = f"{REPRO} -- --force"
DATA_OF = {"structures": "structures.h5", "labels": "labelled.h5", "predictions": "predictions.h5"}
# Fingerprints that must agree: what was judged, what was learned from and what was measured are one thing.
_CHAIN = (
    (
        ("labels", "fingerprint"),
        ("training", "labelled_fingerprint"),
        ("validation", "labelled_fingerprint"),
        ("md", "labelled_fingerprint"),
    ),
    (("training", "student_fingerprint"), ("validation", "student_fingerprint"), ("md", "student_fingerprint")),
    (("validation", "predictions_fingerprint"), ("predictions", "fingerprint")),
)
_ABSENT = ("deleted", "not in cache")


class Stale(NamedTuple):
    """A stage of which something has changed since it ran; no name where DVC could not tell."""

    stage: str
    changes: str


def run(root: Path = Path(), stale: Callable[[Path], list[Stale]] | None = None) -> Decision:
    """Decide; nothing is written.

    Parameters
    ----------
    root : Path
        The project's root.
    stale : callable, optional
        Says, for a root, what has changed since the metrics were made; DVC by default.
    """
    params, blockers = _params(root / "params.yaml")
    blockers += _contract_blockers(root)
    metrics, unreadable = read_metrics(root)
    blockers += unreadable
    blockers += [Blocker(f"stale metrics: {what}", REPRO) for what in _disagreements(metrics)]
    blockers += _stale_blockers((stale or stale_stages)(root))
    found: dict[str, Metric] = {}
    judgements: list[Judgement] = []
    bands: tuple[Band, ...] = ()
    if params is not None:
        blockers += _input_blockers(root, params) + _baseline_blockers(root, params, metrics)
        found, judgements, malformed = judged(params, metrics)
        blockers, bands = blockers + malformed, params.milestones
    more_data = MORE_DATA_COMMAND
    if params is not None and not blockers:
        with suppress(ValueError):  # what no plan can say is decided all the same
            more_data = plan_of(params, metrics, found, judgements).command or more_data
    decision = decide(found.get("force_rmse"), judgements, bands, blockers, more_data)
    return replace(decision, caveats=tuple(_caveats(root)))


def write_decision(decision: Decision, root: Path = Path()) -> None:
    """Write ``metrics/decision.json``."""
    metrics, _ = read_metrics(root)
    write_json(root / "metrics/decision.json", to_json(decision, metrics))


def _params(path: Path) -> tuple[Params | None, list[Blocker]]:
    try:
        return load_params(path), []
    except (BadParams, OSError) as error:
        # Decided all the same: the last good decision must not stand beside parameters that cannot be read.
        return None, [Blocker(str(error), SHOW_PARAMS)]


def _contract_blockers(root: Path) -> list[Blocker]:
    blockers = []
    absent = [name for name in ("input", *DATA_OF) if not (root / "metrics" / f"{name}.json").exists()]
    if absent:
        blockers.append(Blocker(f"not judged, no metrics/<contract>.json: contract {', '.join(absent)}", REPRO))
    for contract in ("input", *DATA_OF):
        if contract in absent:
            continue
        try:
            report = read_report(contract, root / "metrics")
        except UnreadableFile as error:
            blockers.append(Blocker(f"contract {contract} was not judged: {error}", REPRO))
            continue
        if not report.holds(strict=True) and report.enforced:
            blockers.append(Blocker(_why_refused(report), _command_for(root, contract)))
    return blockers


def _caveats(root: Path) -> Iterator[str]:
    """Of the contracts that do not hold and are not enforced; one that cannot be read blocks."""
    for contract in ("input", *DATA_OF):
        try:
            caveat = read_report(contract, root / "metrics").caveat
        except UnreadableFile:
            continue
        if caveat:
            yield caveat


def _input_blockers(root: Path, params: Params) -> list[Blocker]:
    """DVC watches `samples/` alone; the input may lie anywhere. Files that are not here are no change."""
    spec = params.regenerate.input
    try:
        made_of = read_report("input", root / "metrics").summary.get("input_digest")
        entries = [spec] if isinstance(spec, str) else spec
        present = digest_of(resolve_input([str(root / entry) for entry in entries]).paths)
    except UnreadableFile:
        return []
    if made_of in (None, present):
        return []
    why = f"stale metrics: the files that regenerate.input names ({spec}) are not those that the data were made of"
    return [Blocker(why, ALL_AGAIN)]


def _baseline_blockers(root: Path, params: Params, metrics: Metrics) -> list[Blocker]:
    """DVC does not watch the baseline either. That it is not here is no change."""
    baseline = params.validate_.baseline
    block = metrics.get("validation", {}).get("regression")
    if baseline is None or not isinstance(block, Mapping) or not (root / baseline).exists():
        return []
    try:
        present = read_dataset(root / baseline).fingerprint()
    except UnreadableFile as error:
        return [Blocker(str(error), show_command(baseline))]
    if block.get("baseline_fingerprint") == present:
        return []
    return [Blocker(f"stale metrics: {baseline} is not what metrics/validation.json compares with", COMPARE_AGAIN)]


def _stale_blockers(stale: Sequence[Stale]) -> list[Blocker]:
    """The first in full: what has changed there makes the later ones stale, mostly."""
    if not stale:
        return []
    stage, changes = stale[0]
    first = f"stage {stage}: {changes}" if stage else changes
    others = f" (and of stage {', '.join(item.stage for item in stale[1:])})" if stale[1:] else ""
    return [Blocker(f"stale metrics: {first}{others}", REPRO)]


def _why_refused(report: Report) -> str:
    refusals = report.refusals(strict=True)
    if not refusals:
        return f"contract {report.contract}: no check ran"
    others = f" (and {len(refusals) - 1} more: {', '.join(f.check for f in refusals[1:])})" if refusals[1:] else ""
    return f"{refusals[0]}{others}"


def _command_for(root: Path, contract: str) -> str:
    """On a fresh clone there are findings, and no data to look at."""
    if contract not in DATA_OF or not (root / "data" / DATA_OF[contract]).exists():
        return REPRO
    return check_command(contract)


def check_command(contract: str) -> str:
    """What shows the findings of a contract."""
    return f"python3 -m nox -s hydrogate -- check data/{DATA_OF[contract]} --contract {contract}"


def show_command(path: str) -> str:
    """What shows a data file, or why it cannot be read."""
    return f"python3 -m nox -s hydrogate -- show {shlex.quote(path)}"


def _disagreements(metrics: Metrics) -> Iterator[str]:
    for chain in _CHAIN:
        held = [(file, key, metrics[file].get(key)) for file, key in chain if file in metrics]
        for file, key, value in held:
            if not isinstance(value, str) or not value:
                yield f"metrics/{file}.json does not say its {key}"
        known = [item for item in held if item[2]]
        for file, key, value in known[1:]:
            if value != known[0][2]:
                yield f"metrics/{known[0][0]}.json and metrics/{file}.json are of different files ({key})"


def stale_stages(root: Path) -> list[Stale]:
    """What has changed since ``dvc.lock`` was written, stage by stage.

    Data and pictures that are absent, as on a fresh clone, are not a change: their metrics are in git.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(str(root)) as repo:
            status = repo.status()
            made = {str(out) for out in repo.index.outs if not out.metric}
            staged = bool(repo.index.stages)
    except DvcException as error:
        return [Stale("", f"DVC cannot tell what has changed: {error}")]
    if not staged:
        return [Stale("", "DVC cannot tell what has changed: it finds no stage, no dvc.yaml")]
    found = []
    for stage, entries in status.items():
        changes = [change for entry in entries for change in _changes(entry, made)]
        if changes:
            more = f" and {len(changes) - 3} more" if len(changes) > 3 else ""
            found.append(Stale(stage, f"{', '.join(changes[:3])}{more}"))
    return found


def _changes(entry: Any, made: set[str]) -> Iterator[str]:
    if not isinstance(entry, Mapping):
        yield str(entry)
        return
    for paths in entry.values():
        for path, state in paths.items():
            if isinstance(state, Mapping):
                yield from (f"{path} {key} {change}" for key, change in state.items())
            elif not (path in made and state in _ABSENT):
                yield f"{path} {state}"


def to_json(decision: Decision, metrics: Metrics) -> dict[str, Any]:
    """Plain finite numbers and strings: the form of ``metrics/decision.json``."""
    head = {"next_milestone": decision.milestone, "rule": decision.rule, "status": decision.status}
    head |= {"because": decision.because, "advice": decision.advice, "command": decision.command}
    head = {"caveats": "; ".join(decision.caveats)} | head
    fingerprints = {
        key: metrics[file][key]
        for file, key in (
            ("validation", "labelled_fingerprint"),
            ("validation", "student_fingerprint"),
            ("validation", "predictions_fingerprint"),
        )
        if isinstance(metrics.get(file, {}).get(key), str)
    }
    gates = {judgement.name: _judgement_to_json(judgement) for judgement in decision.gates}
    return {key: value for key, value in head.items() if value != ""} | {"gates": gates} | fingerprints


def _judgement_to_json(judgement: Judgement) -> dict[str, Any]:
    gate = judgement.gate
    content = {"verdict": str(judgement.verdict), "required": gate.required, "metric": gate.metric}
    content |= {"allowed": gate.allowed, "confidence": gate.confidence}
    if judgement.metric is not None:
        content |= judgement.metric.to_dict()
    if judgement.molecules_needed is not None:
        content["molecules_needed"] = judgement.molecules_needed
    return content | {"message": judgement.message}


def main(argv: Sequence[str] | None = None) -> int:
    """Decide and say so; 0 for a decision, 1 where it is blocked or ``--require`` is not met."""
    from rich.console import Console

    parser = argparse.ArgumentParser(prog="hydrogate decide", description="Judge the gates, name the next milestone.")
    parser.add_argument("--require", metavar="MILESTONE", help="exit 1 unless this milestone is reached")
    required = parser.parse_args(argv).require
    if required is not None:
        _refuse_unknown(required)
    decision = run()
    write_decision(decision)
    Console(soft_wrap=False).print(decision_text(decision))
    return REFUSED if decision.blocked or required not in (None, decision.milestone) else 0


def _refuse_unknown(milestone: str) -> None:
    params, _ = _params(Path("params.yaml"))
    known = {band.milestone for band in params.milestones} if params else {milestone}
    if milestone not in known:
        raise BadParams(f"--require {milestone!r}: no such milestone in params.yaml{did_you_mean(milestone, known)}")


if __name__ == "__main__":
    sys.exit(stage_exit_status(main))
