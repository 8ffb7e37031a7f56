"""From a measurement and its bounds to a finding. Undefined never passes; a check that breaks is an ``error``."""

import numpy as np
from numpy.typing import NDArray

from hydrogate.checks.bounds import Bounds, Limits
from hydrogate.checks.findings import Finding, Severity, Verdict
from hydrogate.checks.rules import Measurement, NotRun, Quantities, Rows, Rule, Subject

EXAMPLES = 5


def outside(values: NDArray[np.float64], limits: Limits) -> NDArray[np.bool_]:
    """(K,) whether each value is outside ``limits``; NaN always is."""
    low = -np.inf if limits.min is None else limits.min
    high = np.inf if limits.max is None else limits.max
    return ~((values >= low) & (values <= high))


def judge(rule: Rule, bounds: Bounds, subject: Subject) -> tuple[Finding, Measurement | None]:
    """Measure and judge; the measurement comes along for the engines that judge it again."""
    try:
        measurement = rule.measure(subject, bounds)
    except NotRun as absent:
        return _finding(rule, bounds, Verdict.NOT_RUN, f"not run: {absent}."), None
    except Exception as error:  # whatever broke, the contract must say so and must not hold
        message = f"the check itself broke: {type(error).__name__}: {error}."
        return _finding(rule, bounds, Verdict.ERROR, message), None
    return judged(rule, bounds, measurement), measurement


def judged(rule: Rule, bounds: Bounds, measurement: Measurement) -> Finding:
    """The finding of what was measured."""
    if isinstance(measurement, Rows):
        return _judge_rows(rule, bounds, measurement)
    return _judge_quantities(rule, bounds, measurement)


def _finding(rule: Rule, bounds: Bounds, verdict: Verdict, message: str, **rest: object) -> Finding:
    fields = {"severity": bounds.severity, **rest}
    return Finding(
        contract=rule.contract,
        check=rule.check,
        verdict=verdict,
        message=message,
        remedy=rule.remedy,
        unit=rule.unit,
        reason=bounds.reason,
        source=bounds.source,
        **fields,  # type: ignore[arg-type]
    )


def _judge_rows(rule: Rule, bounds: Bounds, rows: Rows) -> Finding:
    limits = bounds.limits[""]
    values = np.asarray(rows.values, dtype=np.float64)
    n = len(values)
    if not n:
        return _finding(rule, bounds, Verdict.UNDECIDED, f"there are no {rows.noun} to judge.")
    severity = bounds.severity
    bad = outside(values, limits)
    if not bad.any() and limits.warns:
        narrower = limits.as_warning()
        if (doubtful := outside(values, narrower)).any():
            limits, bad, severity = narrower, doubtful, Severity.WARN
    order = _worst_first(values, limits)
    worst = float(values[order[0]])
    known = {
        "severity": severity,
        "n": n,
        "n_bad": int(bad.sum()),
        "observed": {"worst": worst} if np.isfinite(worst) else {},
        "allowed": {"worst": str(limits)},
    }
    if not bad.any():
        return _finding(rule, bounds, Verdict.PASS, f"{n} {rows.noun} within bounds ({limits}).", **known)
    examples = tuple(rows.describe(int(row)) for row in order[: min(EXAMPLES, int(bad.sum()))])
    message = (
        f"{examples[0]}; allowed {limits}{' ' + rule.unit if rule.unit else ''}; {bad.sum()} of {n} {rows.noun} fail."
    )
    return _finding(rule, bounds, Verdict.FAIL, message, examples=examples, **known)


def _worst_first(values: NDArray[np.float64], limits: Limits) -> NDArray[np.int64]:
    """The rows farthest beyond (or nearest to) a bound, worst first; only as many as are shown."""
    low = np.full(len(values), -np.inf) if limits.min is None else limits.min - values
    high = np.full(len(values), -np.inf) if limits.max is None else values - limits.max
    excess = np.nan_to_num(np.maximum(low, high), nan=np.inf, posinf=np.inf, neginf=-np.inf)
    shown = min(EXAMPLES, len(values))
    top = np.argpartition(-excess, shown - 1)[:shown]
    return top[np.lexsort((top, -excess[top]))]


def _judge_quantities(rule: Rule, bounds: Bounds, measured: Quantities) -> Finding:
    observed = {name: float(value) for name, value in measured.values.items()}
    limits = {name: limits_of(name, bounds) for name in observed}
    known = {
        "n": measured.n,
        "observed": {name or "value": value for name, value in observed.items() if np.isfinite(value)},
        "allowed": {name or "value": str(limit) for name, limit in limits.items()},
    }
    sentences = {name: _sentence(rule, name, observed[name], limits[name], measured) for name in observed}
    if measured.undecided:
        text = f"undecided: {measured.undecided}; {'; '.join(sentences.values())}."
        severity = Severity.WARN if measured.only_warns else bounds.severity
        return _finding(rule, bounds, Verdict.UNDECIDED, text, severity=severity, **known)
    undefined = [name for name, value in observed.items() if np.isnan(value)]
    if undefined or not observed or not measured.n:
        text = f"undecided: nothing to measure {', '.join(filter(None, undefined)) or rule.check} on."
        return _finding(rule, bounds, Verdict.UNDECIDED, text, **known)
    values = {name: np.array([value]) for name, value in observed.items()}
    failing = [name for name in observed if outside(values[name], limits[name])[0]]
    severity = bounds.severity
    if not failing:
        failing = [n for n in observed if limits[n].warns and outside(values[n], limits[n].as_warning())[0]]
        severity = Severity.WARN if failing else severity
    text = "; ".join(sentences[name] for name in (failing or observed)) + "."
    if measured.holds and not failing:
        text = f"{measured.holds}."
    verdict = Verdict.FAIL if failing else Verdict.PASS
    return _finding(rule, bounds, verdict, text, severity=severity, n_bad=len(failing), **known)


def limits_of(name: str, bounds: Bounds) -> Limits:
    """The limits of one quantity: its own, those of ``other``, or the check's only ones."""
    return bounds.limits[name] if name in bounds.limits else bounds.limits["other" if "other" in bounds.limits else ""]


def _sentence(rule: Rule, name: str, value: float, limits: Limits, measured: Quantities) -> str:
    unit = measured.units.get(name, rule.unit)
    unit = f" {unit}" if unit else ""
    label = f"{name} " if name else ""
    return f"{label}{value:.4g}{unit} over {measured.n} {measured.noun}, allowed {limits}"
