"""Gates: what a student must reach, declared with its reason, and judged by the whole interval of a metric.

A gate passes when the whole 95 % interval lies on the good side of its threshold, fails when the whole interval lies on
the bad side, and is undecided in between, with the number of molecules that would decide it. A metric that is a plain
figure (n_structures, hydrogen_fraction, convergence: a count, a share of the set, a ratio of losses) has no interval;
its gate declares ``confidence: 0`` and compares the value. Undefined never passes.

Where equal is good enough (a ratio to a baseline, threshold 1), hardly an interval lies on the good side: such a gate
declares a ``tolerance``. It still fails when the whole interval lies beyond the threshold; else it passes when the
whole interval lies within threshold and tolerance.
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

# Metrics that need more than predictions, and where they come from.
MEASURED_ELSEWHERE = {
    "convergence": "stage train writes it to metrics/training.json",
    "force_gradient_error": "stage validate writes it to metrics/validation.json",
    "speedup_over_teacher": "`python3 -m nox -s benchmarks -- student` measures it",
    "kernel_speedup": "`python3 -m nox -s benchmarks -- student` measures it, on a CUDA device",
    "md_stability": "stage dynamics writes it to metrics/md.json",
    "md_drift": "stage dynamics writes it to metrics/md.json",
    "md_temperature": "stage dynamics writes it to metrics/md.json",
    "md_broken_bonds": "stage dynamics writes it to metrics/md.json",
    "regression": "it needs the predictions of a baseline (validate.baseline)",
}
_NAME = re.compile(r"[a-z][a-z0-9_]*")
# How much narrower an interval is whose one end alone must hold at the same level, if the figure is normal.
ONE_SIDED = NormalDist().inv_cdf(LEVEL) / NormalDist().inv_cdf((1 + LEVEL) / 2)

Number = Annotated[float, Field(allow_inf_nan=False)]


class Gate(Section):
    """One gate.

    Parameters
    ----------
    metric : str
        The metric that is judged; thresholds are in its unit.
    comparison : str
        ``<``, ``<=``, ``>=`` or ``>`` to ``threshold``; ``between`` ``low`` and ``high``, both included.
    required : bool
        Whether the milestone depends on it; reported all the same.
    confidence : float
        0.95 judges the whole interval; 0 compares the value.
    tolerance : float
        How far beyond the threshold the interval may reach where the threshold itself is not shown to be missed.
    one_sided : bool
        Only the end towards the threshold must hold, at the same confidence: an interval narrower by 1.645 / 1.960.
    min_n : int
        Molecules below which nothing is judged (epochs, for ``convergence``).
    command : str
        What starts the work that would fix it.
    reason : str
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
            raise ValueError(f"no metric of this name{did_you_mean(name, known)}")
        return name

    @field_validator("confidence")
    @classmethod
    def _interval_or_value(cls, confidence: float) -> float:
        if confidence not in (0.0, LEVEL):
            raise ValueError(f"metrics carry {LEVEL:.0%} intervals: {LEVEL} judges the interval, 0 the value")
        return confidence

    def good(self, value: float) -> bool:
        """Whether ``value`` lies on the good side."""
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
        """The gate whose threshold is moved by the tolerance; itself where there is none."""
        if not self.tolerance:
            return self
        moved = self._threshold + (self.tolerance if self.comparison in ("<", "<=") else -self.tolerance)
        return self.model_copy(update={"threshold": moved, "tolerance": 0.0})

    @property
    def of_split(self) -> bool:
        """Whether further held-out molecules would tell more of its metric; epochs or chosen molecules are others."""
        return self.metric == "regression" or self.metric not in MEASURED_ELSEWHERE

    @property
    def edges(self) -> tuple[float, ...]:
        """The threshold, or the two ends of the range."""
        chosen = (self.low, self.high) if self.comparison == "between" else (self.threshold,)
        return tuple(edge for edge in chosen if edge is not None)

    @property
    def allowed(self) -> str:
        """The condition in words."""
        if self.comparison == "between":
            return f"{self.low:g} to {self.high:g}"
        tolerance = f" (tolerance {self.tolerance:g})" if self.tolerance else ""
        return f"{self.comparison} {self.threshold:g}{tolerance}"


@dataclass(frozen=True)
class Judgement:
    """What a gate says of a student.

    Parameters
    ----------
    metric : Metric or None
        None where nothing measured it.
    molecules_needed : int or None
        How many held-out molecules would decide an undecided gate; None where no number would, or none is needed.
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
    """The gates of a declaration, in its order.

    Raises
    ------
    BadParams
        Not a mapping; an unknown key or metric, with the nearest known one; thresholds that do not fit the comparison.
    """
    if not isinstance(content, Mapping):
        raise BadParams(f"{where}: expected a mapping of gates, got {content!r}")
    gates = {}
    for name, block in content.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise BadParams(f"{where}: gate {name!r}: a name is lower case letters, digits and underscores")
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
            f"{where}: comparison {gate.comparison!r} takes {' and '.join(sorted(expected))}, "
            f"got {' and '.join(sorted(given)) or 'neither'}"
        )
    if gate.low is not None and gate.high is not None and gate.low > gate.high:
        raise BadParams(f"{where}: low {gate.low:g} is above high {gate.high:g}")
    for key in ("one_sided", "tolerance"):
        if getattr(gate, key) and (gate.comparison == "between" or not gate.confidence):
            raise BadParams(f"{where}: {key} needs one threshold and confidence {LEVEL}")


def judge(name: str, gate: Gate, metric: Metric | None, note: str = "", held_out: int = 0) -> Judgement:
    """The verdict of one gate.

    Parameters
    ----------
    name : str
    gate : Gate
    metric : Metric or None
        None where nothing measured it: ``not_run``.
    note : str
        Why it was not measured, or what else belongs to the figure.
    held_out : int
        Molecules of the held-out split, of which not each contributes to every metric; 0 where that is not known.
    """

    def say(verdict: Verdict, message: str, needed: int | None = None) -> Judgement:
        """``needed`` molecules that contribute to the metric."""
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
        message = f"{metric} has no interval, and confidence {gate.confidence:g} needs one; {allowed}"
        return say(Verdict.UNDECIDED, message)
    if low > high:
        return say(Verdict.ERROR, f"the interval of {metric} ends before it starts; measure it again")
    message = f"{metric}, {allowed}"
    spans_a_range = len(gate.edges) > 1 and any(low <= edge <= high for edge in gate.edges)
    if not gate.good(low) and not gate.good(high) and not spans_a_range:
        return say(Verdict.FAIL, message)
    if gate.tolerated.good(low) and gate.tolerated.good(high):
        return say(Verdict.PASS, message)
    message = f"{message}: the interval lies on both sides"
    needed = molecules_to_decide(gate, metric)
    if needed is None:
        return say(Verdict.UNDECIDED, f"{message}, no number of molecules decides a value on the edge")
    return say(Verdict.UNDECIDED, message, max(needed, metric.n + 1))


def held_out_molecules(metric: Metric, molecules: int, held_out: int) -> int:
    """How many of the held-out split hold ``molecules`` that contribute to ``metric``: not each has every element."""
    return math.ceil(molecules * max(held_out / metric.n, 1.0)) if metric.n else molecules


def _interval(gate: Gate, metric: Metric, value: float) -> tuple[float | None, float | None]:
    if not gate.confidence:
        return value, value
    if metric.low is None or metric.high is None or not gate.one_sided:
        return metric.low, metric.high
    return value - ONE_SIDED * (value - metric.low), value + ONE_SIDED * (metric.high - value)


def molecules_to_decide(gate: Gate, metric: Metric) -> int | None:
    """How many molecules would decide ``gate`` if the value stayed as it is; at least ``min_n``.

    Returns
    -------
    int or None
        None where the metric is undefined, has no interval, lies on an edge (as `molecules_to_exclude` takes it), or is
        judged by its value alone.
    """
    if metric.value is None or not gate.confidence:
        return None
    scale = ONE_SIDED if gate.one_sided else 1.0
    if gate.tolerance:
        # To fail, the interval leaves the threshold; to pass, the tolerated one; the value may allow for both.
        ways = [gate.edges] if not gate.good(metric.value) else []
        ways += [gate.tolerated.edges] if gate.tolerated.good(metric.value) else []
    else:
        ways = [gate.edges]
    needed = [count for way in ways if (count := molecules_to_exclude(metric, way, scale)) is not None]
    return max(min(needed), gate.min_n) if needed else None


def molecules_to_exclude(metric: Metric, edges: Sequence[float], scale: float = 1.0) -> int | None:
    """How many molecules would narrow or widen the interval, as 1/√n, until it just holds none of ``edges``.

    Parameters
    ----------
    metric : Metric
    edges : sequence of float
        In the metric's unit.
    scale : float
        Of the half width.

    Returns
    -------
    int or None
        None where the value lies on an edge, or so near to it that no data set would tell, or has no interval.
    """
    if metric.value is None or metric.low is None or metric.high is None:
        return None
    needed: list[int | None] = [2]
    for edge in edges:
        half = metric.high - metric.value if edge > metric.value else metric.value - metric.low
        distance = abs(edge - metric.value)
        wider = scale * half / distance if distance else math.inf
        needed.append(count_of(metric.n * wider * wider))  # no power: it raises where a product is infinite
    counts = [count for count in needed if count is not None]
    return max(counts) if len(counts) == len(needed) else None
