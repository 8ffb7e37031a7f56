"""``hydrogate decide``: verdicts of the gates and the next milestone. Outside the DVC graph, so that it always runs.

In:  ``metrics/{input,structures,labels,predictions}.json`` (findings), ``metrics/{training,validation,md}.json``,
     ``gates`` and ``milestones`` in ``params.yaml``, and the changes that DVC reports.
Out: ``metrics/decision.json``, which contains plain numbers and strings.

After a failed contract, the metrics of the last successful run still exist but do not describe the current data. The
decision is then ``blocked`` and names the cause.
"""

import argparse
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydrogate.checks.errors import BadParams, did_you_mean
from hydrogate.checks.findings import Report
from hydrogate.checks.gates.gates import Judgement
from hydrogate.checks.gates.milestones import MORE_DATA_COMMAND, SHOW_PARAMS, Blocker, Decision, decide
from hydrogate.checks.render.decision_text import decision_text
from hydrogate.pipeline.decision.committed_metrics import REPRO, Metrics, judged
from hydrogate.pipeline.decision.plan import plan_of
from hydrogate.pipeline.decision.record import DATA_OF, Record, read_record
from hydrogate.pipeline.decision.staleness import Stale, stale_stages
from hydrogate.pipeline.outputs import write_json
from hydrogate.pipeline.params import Params, load_params
from hydrogate.pipeline.program import REFUSED, stage_exit_status

COMPARE_AGAIN = f"{REPRO} -- --force --single-item validate"
# Fingerprints that must agree, so that all checks, training and measurements used the same data set and student.
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


def run(root: Path = Path(), stale: Callable[[Path], list[Stale]] | None = None) -> Decision:
    """Decide on the project at ``root`` without writing any file.

    Parameters
    ----------
    root : Path
        Root folder of the project.
    stale : callable, optional
        Returns the changes in a root folder since the metrics were computed; default: asks DVC.
    """
    return decide_from(read_record(root, (stale or stale_stages)(root)))


def decide_from(record: Record) -> Decision:
    """Decide on ``record``; a pure function."""
    blockers = [*_state_blockers(record)]
    caveats = tuple(report.caveat for report in record.reports.values() if isinstance(report, Report) and report.caveat)
    if isinstance(record.params, str):
        # The last good decision must not be kept if the parameters cannot be read.
        return replace(decide(None, [], (), [Blocker(record.params, SHOW_PARAMS), *blockers]), caveats=caveats)
    found, judgements, malformed = judged(record.params, record.metrics)
    blockers += [*_input_blockers(record, record.params), *_baseline_blockers(record, record.params), *malformed]
    more_data = MORE_DATA_COMMAND
    if not blockers:
        with suppress(ValueError):  # no plan is possible; the decision does not need one
            more_data = plan_of(record.params, record.metrics, found, judgements).command or more_data
    decision = decide(found.get("force_rmse"), judgements, record.params.milestones, blockers, more_data)
    return replace(decision, caveats=caveats)


def write_decision(decision: Decision, metrics: Metrics, root: Path = Path()) -> None:
    """Write ``metrics/decision.json``, with the fingerprints of the metrics that it is based on."""
    write_json(root / "metrics/decision.json", to_json(decision, metrics))


def _state_blockers(record: Record) -> Iterator[Blocker]:
    """Yield the blockers that do not depend on the parameters."""
    yield from _contract_blockers(record)
    yield from record.unreadable
    yield from (Blocker(f"stale metrics: {what}", REPRO) for what in _disagreements(record.metrics))
    yield from _stale_blockers(record.stale)


def _contract_blockers(record: Record) -> Iterator[Blocker]:
    absent = [name for name in ("input", *DATA_OF) if name not in record.reports]
    if absent:
        yield Blocker(f"not judged, no metrics/<contract>.json: contract {', '.join(absent)}", REPRO)
    for contract, report in record.reports.items():
        if isinstance(report, str):
            yield Blocker(f"contract {contract} was not judged: {report}", REPRO)
        elif not report.holds(strict=True) and report.enforced:
            # A fresh clone contains findings but no data to check.
            here = DATA_OF.get(contract) in record.data
            yield Blocker(_why_failed(report), check_command(contract) if here else REPRO)


def _input_blockers(record: Record, params: Params) -> Iterator[Blocker]:
    """Yield a blocker if the input files changed after the last run; missing files do not count as a change."""
    report = record.reports.get("input")
    made_of = report.summary.get("input_digest") if isinstance(report, Report) else None
    if None not in (made_of, record.input_digest) and made_of != record.input_digest:
        spec = params.regenerate.input
        why = f"stale metrics: the files that regenerate.input names ({spec}) are not those that the data were made of"
        yield Blocker(why, REPRO)


def _baseline_blockers(record: Record, params: Params) -> Iterator[Blocker]:
    """Yield a blocker if the baseline is unreadable, or is not the one that the metrics were compared with."""
    baseline = str(params.validate_.baseline)
    if record.unreadable_baseline:
        yield Blocker(record.unreadable_baseline, show_command(baseline))
    elif record.baseline and record.metrics["validation"]["regression"].get("baseline_fingerprint") != record.baseline:
        yield Blocker(f"stale metrics: {baseline} is not what metrics/validation.json compares with", COMPARE_AGAIN)


def _stale_blockers(stale: Sequence[Stale]) -> Iterator[Blocker]:
    """Yield a blocker for the first stale stage, whose changes usually make the later ones stale too."""
    if stale:
        stage, changes = stale[0]
        first = f"stage {stage}: {changes}" if stage else changes
        others = f" (and of stage {', '.join(item.stage for item in stale[1:])})" if stale[1:] else ""
        yield Blocker(f"stale metrics: {first}{others}", REPRO)


def _why_failed(report: Report) -> str:
    refusals = report.refusals(strict=True)
    if not refusals:
        return f"contract {report.contract}: no check ran"
    others = f" (and {len(refusals) - 1} more: {', '.join(f.check for f in refusals[1:])})" if refusals[1:] else ""
    return f"{refusals[0]}{others}"


def check_command(contract: str) -> str:
    """Return the command that shows the findings of a contract."""
    return f"python3 -m nox -s hydrogate -- check data/{DATA_OF[contract]} --contract {contract}"


def show_command(path: str) -> str:
    """Return the command that shows a data file, or why it cannot be read."""
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


def to_json(decision: Decision, metrics: Metrics) -> dict[str, Any]:
    """Convert to plain finite numbers and strings, the format of ``metrics/decision.json``."""
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
    """Decide and print the decision. Exit status: 0 decided, 1 blocked or ``--require`` not met."""
    from rich.console import Console

    parser = argparse.ArgumentParser(
        prog="hydrogate decide", description="Evaluate the gates and report the next milestone."
    )
    parser.add_argument("--require", metavar="MILESTONE", help="exit 1 unless this milestone is reached")
    required = parser.parse_args(argv).require
    root = Path()
    if required is not None:
        _reject_unknown(required, root / "params.yaml")
    record = read_record(root, stale_stages(root))
    decision = decide_from(record)
    write_decision(decision, record.metrics)
    Console(soft_wrap=False).print(decision_text(decision))
    return REFUSED if decision.blocked or required not in (None, decision.milestone) else 0


def _reject_unknown(milestone: str, path: Path) -> None:
    known = {milestone}
    with suppress(BadParams, OSError):  # unreadable parameters block the decision, which reports them
        known = {band.milestone for band in load_params(path).milestones}
    if milestone not in known:
        raise BadParams(f"--require {milestone!r}: no such milestone in params.yaml{did_you_mean(milestone, known)}")


if __name__ == "__main__":
    sys.exit(stage_exit_status(main))
