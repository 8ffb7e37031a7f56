"""Evaluate measurements against their bounds. Undefined values never pass; a check that crashes gives ``error``."""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hydrogate.checks.engine.bounds import Bounds, Limits
from hydrogate.checks.engine.mergeable import merged
from hydrogate.checks.engine.pandera_rows import holding
from hydrogate.checks.engine.partition import Part, Parts
from hydrogate.checks.engine.registry import Measurement, NotGiven, NotRun, Quantities, Rounds, Rule, Subject
from hydrogate.checks.engine.row_counts import Rows, Tally, outside
from hydrogate.checks.engine.waiver import Waiver
from hydrogate.checks.findings import Finding, Severity, Verdict, number


class Broken(Exception):
    """Raised if a check crashed on a part; the message gives the exception."""


@dataclass(frozen=True)
class Answers:
    """Answers of one part, or of several merged parts, to the checks in one round."""

    by_check: Mapping[str, Any]

    def merge(self, other: "Answers") -> "Answers":
        return Answers({name: _merged(answer, other.by_check[name]) for name, answer in self.by_check.items()})


def _merged(one: Any, other: Any) -> Any:
    """Merge two answers. NotRun gives way to the other answer; Broken replaces any other answer."""
    if isinstance(one, tuple) and isinstance(other, tuple):
        return tuple(_merged(a, b) for a, b in zip(one, other, strict=True))
    for broken in (answer for answer in (one, other) if isinstance(answer, Broken)):
        return broken
    if isinstance(one, NotRun) or isinstance(other, NotRun):
        return other if isinstance(one, NotRun) else one
    try:
        return merged(one, other)
    except Exception as error:
        return _broken(error)


def _broken(error: Exception) -> Broken:
    return Broken(f"{type(error).__name__}: {error}")


@dataclass(frozen=True)
class Round:
    """Questions of all checks for every part in one pass, so each part is read and its pairs are visited only once.

    Parameters
    ----------
    questions : mapping of str to callable, or tuple of callables
        Functions of a part, by check.
    limits : mapping of str to Limits
        Limits of each check that returns rows.
    waivers : mapping of str to sequence of Waiver
        Waivers that may cover rows, by check.
    """

    questions: Mapping[str, Any]
    limits: Mapping[str, Limits]
    waivers: Mapping[str, Sequence[Waiver]]

    def __call__(self, part: Part) -> Answers:
        answers = {name: self._answer(part, asked) for name, asked in self.questions.items()}
        rows = {
            (name, index): answer
            for name, of_check in answers.items()
            for index, answer in enumerate(of_check if isinstance(of_check, tuple) else (of_check,))
            if isinstance(answer, Rows)
        }
        holds = holding(part.data, rows, self.limits) if rows else {}

        def counted(name: str, index: int, answer: Any) -> Any:
            if not isinstance(answer, Rows):
                return answer
            try:
                waivers = self.waivers.get(name, ())
                return Tally.of(answer, self.limits[name], holds[name, index], part.data, waivers)
            except Exception as error:
                return _broken(error)

        return Answers(
            {
                name: tuple(counted(name, index, answer) for index, answer in enumerate(of_check))
                if isinstance(of_check, tuple)
                else counted(name, 0, of_check)
                for name, of_check in answers.items()
            }
        )

    def _answer(self, part: Part, asked: Callable[[Part], Any] | tuple[Callable[[Part], Any], ...]) -> Any:
        if isinstance(asked, tuple):
            return tuple(self._answer(part, question) for question in asked)
        try:
            return part.once(asked)
        except NotRun as absent:
            return type(absent)(*absent.args)  # without the traceback, which would keep the part
        except Exception as error:  # any crash must be reported and must fail the contract
            if part.unreadable:
                raise part.unreadable from None
            return _broken(error)


def judge(
    rules: Sequence[Rule],
    declared: Mapping[str, Bounds],
    subject: Subject,
    waivers: Mapping[str, Sequence[Waiver]] | None = None,
) -> dict[str, tuple[Finding, Measurement | None]]:
    """Run the checks and return finding and measurement by check name.

    The measurements are returned for the other engines, which evaluate them again.
    """
    return findings_of(
        rules, declared, run_rounds(started(rules, declared, subject), declared, subject.parts, waivers or {})
    )


def started(rules: Sequence[Rule], declared: Mapping[str, Bounds], subject: Subject) -> dict[str, Rounds]:
    """Return the started checks by name: generators that have not yet asked a question."""
    return {rule.check: rule.measure(subject, declared[rule.check]) for rule in rules}


def run_rounds(
    asking: Mapping[str, Generator[Any, Any, Any]],
    declared: Mapping[str, Bounds],
    parts: Parts,
    waivers: Mapping[str, Sequence[Waiver]],
) -> dict[str, Any]:
    """Run all checks together on ``parts``, round by round.

    Returns the result of each check, or the exception that ended it.
    """
    limits = {name: bounds.limits[""] for name, bounds in declared.items() if "" in bounds.limits}
    answers: dict[str, Any] = dict.fromkeys(asking)
    said: dict[str, Any] = {}
    while answers:
        questions: dict[str, Any] = {}
        for name, answer in answers.items():
            try:
                questions[name] = asking[name].send(_said(answer))
            except StopIteration as end:
                said[name] = end.value
            except (NotRun, Broken) as error:
                said[name] = error
            except Exception as error:
                said[name] = _broken(error)
        answers = dict(parts.ask(Round(questions, limits, waivers)).by_check) if questions else {}
    return said


def findings_of(
    rules: Sequence[Rule], declared: Mapping[str, Bounds], concluded: Mapping[str, Measurement | Exception]
) -> dict[str, tuple[Finding, Measurement | None]]:
    """Return the finding of each check, and its measurement or None."""
    findings: dict[str, tuple[Finding, Measurement | None]] = {}
    for rule in rules:
        bounds, measurement = declared[rule.check], concluded[rule.check]
        match measurement:
            case NotRun():
                severity = Severity.WARN if isinstance(measurement, NotGiven) else bounds.severity
                message = f"not run: {measurement}."
                findings[rule.check] = _finding(rule, bounds, Verdict.NOT_RUN, message, severity=severity), None
            case Exception():
                message = f"the check itself crashed: {measurement}."
                findings[rule.check] = _finding(rule, bounds, Verdict.ERROR, message), None
            case _:
                findings[rule.check] = judged(rule, bounds, measurement), measurement
    return findings


def _said(answer: Any) -> Any:
    """Return ``answer``, or raise it if it is an exception."""
    for item in answer if isinstance(answer, tuple) else (answer,):
        if isinstance(item, (NotRun, Broken)):
            raise item
    return answer


def judged(rule: Rule, bounds: Bounds, measurement: Measurement) -> Finding:
    """Return the finding for a measurement."""
    if isinstance(measurement, Tally):
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


def _judge_rows(rule: Rule, bounds: Bounds, tally: Tally) -> Finding:
    limits = bounds.limits[""]
    if not tally.n:
        return _finding(rule, bounds, Verdict.UNDECIDED, f"there are no {tally.noun} to check.")
    severity, beyond = bounds.severity, tally.bad
    if not tally.bad.n and tally.doubtful.n:
        limits, severity, beyond = limits.as_warning(), Severity.WARN, tally.doubtful
    worst = beyond.worst[0].value
    known = {
        "severity": severity,
        "n": tally.n,
        "n_bad": beyond.n,
        "observed": {"worst": worst} if np.isfinite(worst) else {},
        "allowed": {"worst": str(limits)},
    }
    if not beyond.n:
        return _finding(rule, bounds, Verdict.PASS, f"{tally.n} {tally.noun} within bounds ({limits}).", **known)
    unit = f" {rule.unit}" if rule.unit else ""
    message = f"{beyond.texts[0]}; allowed {limits}{unit}; {beyond.n} of {tally.n} {tally.noun} fail."
    return _finding(rule, bounds, Verdict.FAIL, message, examples=beyond.texts, **known)


def _judge_quantities(rule: Rule, bounds: Bounds, measured: Quantities) -> Finding:
    observed = {name: float(value) for name, value in measured.values.items()}
    limits = {name: limits_of(name, bounds) for name in observed}
    known = {
        "n": measured.n,
        "observed": {name or "value": value for name, value in observed.items() if np.isfinite(value)},
        "allowed": {name or "value": str(limit) for name, limit in limits.items()},
        "examples": measured.examples,
    }
    sentences = {name: _sentence(rule, name, observed[name], limits[name], measured) for name in observed}
    if measured.undecided:
        text = f"undecided: {measured.undecided}; {'; '.join(sentences.values())}."
        severity = Severity.WARN if measured.only_warns else bounds.severity
        return _finding(rule, bounds, Verdict.UNDECIDED, text, severity=severity, **known)
    undefined = [name for name, value in observed.items() if np.isnan(value)]
    if undefined or not observed or not measured.n:
        text = f"undecided: no data to measure {', '.join(filter(None, undefined)) or rule.check}."
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
    """Return the limits of one quantity: its own, those of ``other``, or the only limits of the check."""
    return bounds.limits[name] if name in bounds.limits else bounds.limits["other" if "other" in bounds.limits else ""]


def _sentence(rule: Rule, name: str, value: float, limits: Limits, measured: Quantities) -> str:
    unit = measured.units.get(name, rule.unit)
    unit = f" {unit}" if unit else ""
    label = f"{name} " if name else ""
    return f"{label}{number(value)}{unit} over {measured.n} {measured.noun}, allowed {limits}"
