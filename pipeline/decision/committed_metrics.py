"""Metrics in ``metrics/*.json``, which are all in git, and the verdicts of the gates, for `decide` and `plan`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydrogate.checks.gates.gates import Gate, Judgement, judge
from hydrogate.checks.gates.milestones import Blocker
from hydrogate.checks.metrics.bootstrap import LEVEL, Metric
from hydrogate.checks.metrics.definitions import error_names
from hydrogate.checks.metrics.regression import worst
from hydrogate.pipeline.decision.benchmark_identity import MEASURE, NO_CUDA, SPEEDS, stale
from hydrogate.pipeline.params import Params

REPRO = "python3 -m nox -s repro"

Metrics = Mapping[str, Mapping[str, Any]]
"""Content of each existing file ``metrics/<name>.json``, by name."""


def read_metrics(root: Path) -> tuple[dict[str, dict[str, Any]], list[Blocker]]:
    """Read the metrics files under ``root``; missing or damaged files become blockers."""
    contents: dict[str, dict[str, Any]] = {}
    blockers = []
    for name in ("structures", "labels", "training", "validation", "predictions", "md", "benchmarks"):
        path = root / "metrics" / f"{name}.json"
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            if name in ("training", "validation"):  # the other files are required by their contracts
                blockers.append(Blocker(f"missing metrics: {path}", REPRO))
            continue
        except (OSError, ValueError, RecursionError) as error:
            blockers.append(Blocker(f"unreadable metrics: {path}: {error}", REPRO))
            continue
        if isinstance(content, dict):
            contents[name] = content
        else:
            blockers.append(Blocker(f"unreadable metrics: {path}: holds no mapping", REPRO))
    return contents, blockers


def measured(metrics: Metrics) -> tuple[dict[str, Metric], list[Blocker]]:
    """Return the metrics of the held-out split, of the convergence of training and of MD; and blockers."""
    training = {key: block for key, block in metrics.get("training", {}).items() if key == "convergence"}
    validation = {key: block for key, block in metrics.get("validation", {}).items() if key != "regression"}
    found, unreadable = _read(validation, "validation.json")
    converged, more = _read(training, "training.json")
    dynamics = {key: block for key, block in metrics.get("md", {}).items() if key.startswith("md_")}
    moved, still_more = _read(dynamics, "md.json")
    return found | converged | moved, unreadable + more + still_more


def ratios(metrics: Metrics) -> tuple[dict[str, Metric], list[Blocker]]:
    """Return the ratio of each error to that of the baseline, or no ratios if there is no comparison; and blockers."""
    block = metrics.get("validation", {}).get("regression", {})
    if not isinstance(block, Mapping):
        return {}, [Blocker("unreadable metrics: metrics/validation.json: regression holds no mapping", REPRO)]
    return _read(block, "validation.json: regression")


def speeds(params: Params, metrics: Metrics) -> tuple[dict[str, Metric], dict[str, str], list[Blocker]]:
    """Return the speeds that gates evaluate, a note on each, and blockers for unreadable values.

    The note describes the measurement, or why there is none. Speeds of another student, teacher or code do not count.
    """
    content = metrics.get("benchmarks")
    if content is None:
        return {}, dict.fromkeys(SPEEDS, f"{MEASURE} measures it"), []
    reason = stale(params, content, metrics.get("training", {}).get("student_fingerprint"))
    if reason:
        return {}, dict.fromkeys(SPEEDS, reason), []
    device, held, notes = str(content.get("device")), {}, {}
    for name in SPEEDS:
        figure = content.get(name, f"metrics/benchmarks.json does not hold it; {MEASURE} measures it")
        if not isinstance(figure, Mapping):
            notes[name] = str(figure).removeprefix("not_run: ")
        elif name == "kernel_speedup" and not device.startswith("cuda"):
            notes[name] = NO_CUDA
        else:
            held[name] = figure
            notes[name] = f"{content.get('student')} on {device}, batch {content.get('batch')}"
    found, blockers = _read(held, "benchmarks.json")
    return found, notes, blockers


def _read(content: Mapping[str, Any], where: str) -> tuple[dict[str, Metric], list[Blocker]]:
    found, blockers = {}, []
    for name, block in content.items():
        if not isinstance(block, Mapping):
            continue
        try:
            found[name] = Metric.from_dict(block)
        except (KeyError, TypeError, ValueError) as error:
            blockers.append(Blocker(f"unreadable metrics: metrics/{where}: {name}: {error!r}", REPRO))
    return found, blockers


def judged(params: Params, metrics: Metrics) -> tuple[dict[str, Metric], list[Judgement], list[Blocker]]:
    """Return the metrics, the judgement of each gate, and blockers for unreadable values."""
    found, blockers = measured(metrics)
    to_baseline, more = ratios(metrics)
    regression, note = _regression(params, metrics, to_baseline)
    figures = found | ({"regression": regression} if regression else {})
    fast, notes, still_more = speeds(params, metrics)
    figures |= fast
    notes |= {"regression": note, "md_stability": str(metrics.get("md", {}).get("note", ""))}
    count = found.get("n_structures")
    held_out = count.n if count else 0
    judgements = [
        judge(name, gate, figures.get(gate.metric), notes.get(gate.metric, ""), held_out)
        for name, gate in params.gates.items()
    ]
    return found, judgements, blockers + more + still_more


def regression_names(gates: Mapping[str, Gate]) -> list[str]:
    """Return the errors that must not increase: those whose confidence interval a required gate evaluates."""
    known = error_names()
    names = [gate.metric for gate in gates.values() if gate.required and gate.confidence == LEVEL]
    return [name for name in dict.fromkeys(names) if name in known]


def _regression(params: Params, metrics: Metrics, to_baseline: Mapping[str, Metric]) -> tuple[Metric | None, str]:
    """Return the worst ratio of the required errors with a note on each, or None and the reason."""
    baseline = params.validate_.baseline
    if baseline is None:
        return None, "validate.baseline names no predictions to compare with"
    block = metrics.get("validation", {}).get("regression", {})
    if isinstance(block, Mapping) and "not_run" in block:
        return None, str(block["not_run"])
    names = regression_names(params.gates)
    missing = [name for name in names if name not in to_baseline]
    if missing or not names:
        return None, f"metrics/validation.json holds no ratio of {', '.join(missing) or 'any required metric'} to it"
    metric = worst([to_baseline[name] for name in names])
    each = ", ".join(f"{name} {_ratio(to_baseline[name])}" for name in names)
    return metric, f"against {baseline}: {each}"


def _ratio(metric: Metric) -> str:
    return "undefined" if metric.value is None else f"{metric.value:.3f}"
