"""Gates: acceptance thresholds for a student, each with a reason, evaluated on the entire interval of a metric.

A gate passes if the entire 95 % interval lies on the good side of its threshold. It fails if the entire interval lies
on the bad side. In between it is undecided, and reports the number of molecules that would decide it. A metric that is
a single number (n_structures, hydrogen_fraction, convergence: a count, a fraction of the set, a ratio of losses) has no
interval; its gate declares ``confidence: 0`` and compares the value. An undefined metric never passes.

Some gates accept equality, such as a ratio to a baseline with threshold 1. Then the interval almost never lies entirely
on the good side, so the gate declares a ``tolerance``. It still fails if the entire interval lies beyond the threshold.
Otherwise it passes if the entire interval lies within the threshold plus the tolerance.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Annotated, Literal

from pydantic import Field, ValidationError, field_validator

from hydrogate.checks.declarations import Section, explain
from hydrogate.checks.errors import BadParams, did_you_mean
from hydrogate.checks.findings import Verdict
from hydrogate.checks.metrics.bootstrap import LEVEL, Metric
from hydrogate.checks.metrics.definitions import metric_names
from hydrogate.checks.metrics.regression import count_of

# Metrics that cannot be computed from predictions alone, and their source.
MEASURED_ELSEWHERE = {
    "convergence": "stage train writes it to metrics/training.json",
    "force_gradient_error": "stage validate writes it to metrics/validation.json",
    "speedup_over_teacher": "`python3 -m nox -s benchmarks -- student` measures it",
    "kernel_speedup": "`python3 -m nox -s benchmarks -- student` measures it, on a CUDA device",
    "md_stability": "stage dynamics writes it to metrics/md.json",
    "md_drift": "stage dynamics writes it to metrics/md.json",
    "md_temperature": "stage dynamics writes it to metrics/md.json",
    "md_broken_bonds": "stage dynamics writes it to metrics/md.json",
    "regression": "it requires the predictions of a baseline (validate.baseline)",
}
_NAME = re.compile(r"[a-z][a-z0-9_]*")
# Width of a one-sided interval relative to a two-sided one at the same confidence level, for a normal distribution.
ONE_SIDED = NormalDist().inv_cdf(LEVEL) / NormalDist().inv_cdf((1 + LEVEL) / 2)

Number = Annotated[float, Field(allow_inf_nan=False)]


class Gate(Section):
    """Declaration of one gate.

    Parameters
    ----------
    metric : str
        Name of the metric to evaluate; thresholds are in its unit.
    comparison : str
        ``<``, ``<=``, ``>=`` or ``>`` compares with ``threshold``; ``between`` compares with ``low`` and ``high``,
        both included.
    required : bool
        True if the milestone depends on this gate. Gates that are not required are still reported.
    confidence : float
        0.95 evaluates the entire interval; 0 compares the value.
    tolerance : float
        Distance by which the interval may extend beyond the threshold, unless the entire interval lies beyond it.
    one_sided : bool
        Only the interval end nearest the threshold must satisfy the condition, at the same confidence. The interval is
        narrower by the factor 1.645 / 1.960.
    min_n : int
        Minimum number of molecules (epochs, for ``convergence``); the gate is undecided below it.
    command : str
        Command that starts the work to fix a failed gate.
    reason : str
        Justification of the threshold.
    """

    metric: str
    comparison: Literal["<", "<=", ">=", ">", "between"]
    threshold: Number | None = None
    low: Number | None = None
    high: Number | None = None
    required: bool
    confidence: Number
    tolerance: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    one_sided: bool = False
    min_n: Annotated[int, Field(gt=0)]
    command: str = "python3 -m nox -s repro"
    reason: Annotated[str, Field(min_length=1)]

    @field_validator("metric")
    @classmethod
    def _known(cls, name: str) -> str:
        known = [*metric_names(), *MEASURED_ELSEWHERE]
        if name not in known:
            raise ValueError(f"unknown metric{did_you_mean(name, known)}")
        return name

    @field_validator("confidence")
    @classmethod
    def _interval_or_value(cls, confidence: float) -> float:
        if confidence not in (0.0, LEVEL):
            raise ValueError(f"metrics have {LEVEL:.0%} intervals: use {LEVEL} for the interval, 0 for the value")
        return confidence

    def good(self, value: float) -> bool:
        """Return True if ``value`` lies on the good side of the threshold."""
        match self.comparison:
            case "<":
                return value < self._threshold
            case "<=":
                return value <= self._threshold
            case ">=":
                return value >= self._threshold
            case ">":
                return value > self._threshold
            case "between":
                low, high = self.edges
                return low <= value <= high

    @property
    def _threshold(self) -> float:
        return self.edges[0]

    @property
    def tolerated(self) -> "Gate":
        """Copy of this gate with the threshold shifted by the tolerance; the gate itself if it has no tolerance."""
        if not self.tolerance:
            return self
        moved = self._threshold + (self.tolerance if self.comparison in ("<", "<=") else -self.tolerance)
        return self.model_copy(update={"threshold": moved, "tolerance": 0.0})

    @property
    def of_split(self) -> bool:
        """True if more held-out molecules would narrow the interval; False if n counts epochs or selected molecules."""
        return self.metric == "regression" or self.metric not in MEASURED_ELSEWHERE

    @property
    def edges(self) -> tuple[float, ...]:
        """Threshold, or the two ends of the range."""
        chosen = (self.low, self.high) if self.comparison == "between" else (self.threshold,)
        return tuple(edge for edge in chosen if edge is not None)

    @property
    def allowed(self) -> str:
        """Condition as text."""
        if self.comparison == "between":
            return f"{self.low:g} to {self.high:g}"
        tolerance = f" (tolerance {self.tolerance:g})" if self.tolerance else ""
        return f"{self.comparison} {self.threshold:g}{tolerance}"


@dataclass(frozen=True)
class Judgement:
    """Result of one gate for a student.

    Parameters
    ----------
    metric : Metric or None
        None if the metric was not measured.
    molecules_needed : int or None
        Number of held-out molecules that would decide an undecided gate; None if no number would, or if none is needed.
    """

    name: str
    gate: Gate
    metric: Metric | None
    verdict: Verdict
    message: str
    molecules_needed: int | None = None

    def __str__(self) -> str:
        return f"gate {self.name}: {self.message}"


def read_gates(content: object, where: str = "gates") -> dict[str, Gate]:
    """Read the gates of a declaration, in the order given.

    Raises
    ------
    BadParams
        The content is not a mapping; a key or metric is unknown (the message suggests the closest known name); or the
        thresholds do not match the comparison.
    """
    if not isinstance(content, Mapping):
        raise BadParams(f"{where}: expected a mapping of gates, got {content!r}")
    gates = {}
    for name, block in content.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise BadParams(f"{where}: gate {name!r}: use only lower-case letters, digits and underscores")
        try:
            gates[name] = Gate.model_validate(block)
        except ValidationError as error:
            raise BadParams(f"{where}.{name}: {explain(error, Gate)}") from error
        _refuse_contradiction(gates[name], f"{where}.{name}")
    return gates


def _refuse_contradiction(gate: Gate, where: str) -> None:
    given = {key for key in ("threshold", "low", "high") if getattr(gate, key) is not None}
    expected = {"low", "high"} if gate.comparison == "between" else {"threshold"}
    if given != expected:
        raise BadParams(
            f"{where}: comparison {gate.comparison!r} requires {' and '.join(sorted(expected))}, "
            f"got {' and '.join(sorted(given)) or 'none'}"
        )
    if gate.low is not None and gate.high is not None and gate.low > gate.high:
        raise BadParams(f"{where}: low {gate.low:g} is above high {gate.high:g}")
    for key in ("one_sided", "tolerance"):
        if getattr(gate, key) and (gate.comparison == "between" or not gate.confidence):
            raise BadParams(f"{where}: {key} requires a single threshold and confidence {LEVEL}")


def judge(name: str, gate: Gate, metric: Metric | None, note: str = "", held_out: int = 0) -> Judgement:
    """Evaluate one gate.

    Parameters
    ----------
    name : str
    gate : Gate
    metric : Metric or None
        None if the metric was not measured; the verdict is then ``not_run``.
    note : str
        Reason why the metric was not measured, or a remark to print with the value.
    held_out : int
        Number of molecules in the held-out split, not all of which contribute to every metric; 0 if unknown.
    """

    def say(verdict: Verdict, message: str, needed: int | None = None) -> Judgement:
        """Build the result; ``needed`` counts molecules that contribute to the metric."""
        if metric is None or needed is None or not gate.of_split:
            return Judgement(name, gate, metric, verdict, message)
        needed = held_out_molecules(metric, needed, held_out)
        message = f"{message}, about {needed} held-out molecules would decide"
        return Judgement(name, gate, metric, verdict, message, needed)

    if metric is None:
        reason = note or MEASURED_ELSEWHERE.get(gate.metric, "stage validate writes it to metrics/validation.json")
        return say(Verdict.NOT_RUN, f"metric {gate.metric} was not measured: {reason}")
    allowed = f"allowed {gate.allowed} {metric.unit}".rstrip() + (f"; {note}" if note else "")
    if metric.value is None:
        message = f"undefined (n = {metric.n}); {allowed}"
        return say(Verdict.UNDECIDED, message, gate.min_n if metric.n < gate.min_n else None)
    if metric.n < gate.min_n:
        message = f"{metric} is measured on fewer than {gate.min_n}; {allowed}"
        return say(Verdict.UNDECIDED, message, molecules_to_decide(gate, metric) or gate.min_n)
    low, high = _interval(gate, metric, metric.value)
    if low is None or high is None:
        message = f"{metric} has no interval, which confidence {gate.confidence:g} requires; {allowed}"
        return say(Verdict.UNDECIDED, message)
    if low > high:
        return say(Verdict.ERROR, f"the lower end of the interval of {metric} is above the upper end; measure it again")
    message = f"{metric}, {allowed}"
    spans_a_range = len(gate.edges) > 1 and any(low <= edge <= high for edge in gate.edges)
    if not gate.good(low) and not gate.good(high) and not spans_a_range:
        return say(Verdict.FAIL, message)
    if gate.tolerated.good(low) and gate.tolerated.good(high):
        return say(Verdict.PASS, message)
    message = f"{message}: the interval includes the threshold"
    needed = molecules_to_decide(gate, metric)
    if needed is None:
        return say(Verdict.UNDECIDED, f"{message}, no number of molecules would decide a value on the threshold")
    return say(Verdict.UNDECIDED, message, max(needed, metric.n + 1))


def held_out_molecules(metric: Metric, molecules: int, held_out: int) -> int:
    """Return how many held-out molecules include ``molecules`` that contribute to ``metric``; some lack an element."""
    return math.ceil(molecules * max(held_out / metric.n, 1.0)) if metric.n else molecules


def _interval(gate: Gate, metric: Metric, value: float) -> tuple[float | None, float | None]:
    if not gate.confidence:
        return value, value
    if metric.low is None or metric.high is None or not gate.one_sided:
        return metric.low, metric.high
    return value - ONE_SIDED * (value - metric.low), value + ONE_SIDED * (metric.high - value)


def molecules_to_decide(gate: Gate, metric: Metric) -> int | None:
    """Estimate the number of molecules that would decide ``gate`` if the value stays the same; at least ``min_n``.

    Returns
    -------
    int or None
        None if the metric is undefined, has no interval or lies on an edge (as defined by `molecules_to_exclude`), or
        if the gate compares only the value.
    """
    if metric.value is None or not gate.confidence:
        return None
    scale = ONE_SIDED if gate.one_sided else 1.0
    if gate.tolerance:
        # A gate fails once the interval excludes the threshold, and passes once it excludes the tolerated threshold.
        # Depending on the value, both outcomes may be possible.
        ways = [gate.edges] if not gate.good(metric.value) else []
        ways += [gate.tolerated.edges] if gate.tolerated.good(metric.value) else []
    else:
        ways = [gate.edges]
    needed = [count for way in ways if (count := molecules_to_exclude(metric, way, scale)) is not None]
    return max(min(needed), gate.min_n) if needed else None


def molecules_to_exclude(metric: Metric, edges: Sequence[float], scale: float = 1.0) -> int | None:
    """Estimate the number of molecules at which the interval just excludes ``edges``; its width scales as 1/√n.

    The number may be smaller than the present one: the interval is then widened.

    Parameters
    ----------
    metric : Metric
    edges : sequence of float
        Values to exclude, in the metric's unit.
    scale : float
        Factor applied to the half width.

    Returns
    -------
    int or None
        None if the value lies on an edge, is too close to it for a data set of any realistic size, or has no interval.
    """
    if metric.value is None or metric.low is None or metric.high is None:
        return None
    needed: list[int | None] = [2]
    for edge in edges:
        half = metric.high - metric.value if edge > metric.value else metric.value - metric.low
        distance = abs(edge - metric.value)
        wider = scale * half / distance if distance else math.inf
        needed.append(count_of(metric.n * wider * wider))  # not ** 2: it raises where the product is infinite
    counts = [count for count in needed if count is not None]
    return max(counts) if len(counts) == len(needed) else None
