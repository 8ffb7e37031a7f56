"""Next milestone of a student: bands of the force RMSE, then the gates. One table; the first matching rule applies.

1. A contract does not pass, or metrics are stale or missing: ``blocked``; the reason names them.
2. The interval of the force RMSE lies inside one milestone (adjacent bands of one milestone are merged). If that
   milestone is not ``gated``, it applies regardless of the gates.
3. The interval spans two or more milestones: ``more_validation_data``.
4. A required gate fails: ``fix_<gate>``.
5. A required gate is undecided or not run: ``more_validation_data``; the reason names the gate.
6. Otherwise the milestone of rule 2 applies.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, NamedTuple

from pydantic import BeforeValidator, Field, ValidationError

from hydrogate.checks.declarations import Section, explain
from hydrogate.checks.errors import BadParams
from hydrogate.checks.findings import Verdict
from hydrogate.checks.gates.gates import Judgement, molecules_to_exclude
from hydrogate.checks.metrics.bootstrap import Metric

BLOCKED = "blocked"
MORE_DATA = "more_validation_data"
# Draws molecules that are not in the shipped sample, which enlarges the held-out split, and then runs the pipeline.
# Used if the number of molecules that would decide is unknown.
MORE_DATA_COMMAND = "python3 -m nox -s hydrogate -- sample --count 4883 --seed 1 && python3 -m nox -s repro"
SHOW_PARAMS = "git diff HEAD -- params.yaml"
_NUMBER = r"(\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)"
_RANGE = re.compile(rf"([\[(])\s*{_NUMBER}\s*,\s*(?:{_NUMBER}|inf)\s*([\])])")


class Range(NamedTuple):
    """Interval in mathematical notation, eV/Å: ``[0.15, 0.25)`` includes 0.15 and excludes 0.25."""

    low: float
    high: float
    holds_low: bool
    holds_high: bool

    def holds(self, value: float) -> bool:
        """Return True if ``value`` lies in the interval."""
        above = value >= self.low if self.holds_low else value > self.low
        below = value <= self.high if self.holds_high else value < self.high
        return above and below

    def __str__(self) -> str:
        high = "inf" if math.isinf(self.high) else f"{self.high:g}"
        return f"{'[' if self.holds_low else '('}{self.low:g}, {high}{']' if self.holds_high else ')'}"


def _read_range(text: Any) -> Any:
    if isinstance(text, Range):
        return text
    found = _RANGE.fullmatch(text.strip()) if isinstance(text, str) else None
    if not found:
        raise ValueError("expected a range such as '[0.15, 0.25)' or '(0.30, inf)'")
    left, low, high, right = found.groups()
    parsed = Range(float(low), float(high) if high else math.inf, left == "[", right == "]")
    if parsed.low >= parsed.high or (math.isinf(parsed.high) and parsed.holds_high):
        raise ValueError(f"the range {text} is empty or includes infinity")
    return parsed


class Band(Section):
    """Range of the force RMSE (eV/Å) that leads to one milestone.

    Parameters
    ----------
    range : Range
    milestone : str
    status : str
        Short status of a student in this band, such as "on track" or "accepted".
    gated : bool
        True if the required gates must pass as well; otherwise the band alone determines the milestone.
    advice : str
    command : str
        Command that starts the milestone.
    reason : str
        Justification of the range.
    """

    range: Annotated[Range, BeforeValidator(_read_range)]
    milestone: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    status: Annotated[str, Field(min_length=1)]
    gated: bool
    advice: str = ""
    command: Annotated[str, Field(min_length=1)]
    reason: Annotated[str, Field(min_length=1)]


def read_milestones(content: object, where: str = "milestones") -> tuple[Band, ...]:
    """Read the bands of a declaration, which must cover [0, ∞) without gaps or overlaps.

    Raises
    ------
    BadParams
        The content is not a list of bands; a key is unknown; there is a gap or an overlap (the message names the two
        bands); or the first or last band does not reach its end.
    """
    if not isinstance(content, list) or not content:
        raise BadParams(f"{where}: expected a list of bands that cover [0, inf), got {content!r}")
    bands = []
    for index, block in enumerate(content):
        try:
            bands.append(Band.model_validate(block))
        except ValidationError as error:
            raise BadParams(f"{where}.{index}: {explain(error, Band)}") from error
    first, last = bands[0].range, bands[-1].range
    if first.low != 0.0 or not first.holds_low:
        raise BadParams(f"{where}: the first band {first} must start with '[0,', so that every RMSE has a milestone")
    if not math.isinf(last.high):
        raise BadParams(f"{where}: the last band {last} must end with 'inf)', so that every RMSE has a milestone")
    for before, after in pairwise(bands):
        _refuse_bad_seam(before, after, where)
    return tuple(bands)


def _refuse_bad_seam(before: Band, after: Band, where: str) -> None:
    left, right = before.range, after.range
    both = left.holds_high and right.holds_low
    if left.high > right.low or (left.high == right.low and both):
        raise BadParams(f"{where}: {left} and {right} overlap at {right.low:g}; each value must have one milestone")
    if left.high < right.low or not (left.holds_high or right.holds_low):
        raise BadParams(f"{where}: gap between {left} and {right}: {left.high:g} has no milestone")
    if before.milestone == after.milestone and before.gated != after.gated:
        raise BadParams(f"{where}: bands {left} and {right} of {before.milestone} have different values of gated")


class Blocker(NamedTuple):
    """Reason why no milestone can be determined, and the command that shows or fixes it."""

    what: str
    command: str


@dataclass(frozen=True)
class Decision:
    """Next milestone, with the rule and the reason that led to it.

    Parameters
    ----------
    milestone : str
    rule : int
        Number of the matching rule in the table, 1 to 6.
    because : str
    status, advice : str
        Status and advice of the band, if the milestone is that of a band.
    command : str
        Command that starts the milestone.
    gates : tuple of Judgement
    caveats : tuple of str
        Warnings to show first, such as data that failed a contract and were accepted nevertheless.
    """

    milestone: str
    rule: int
    because: str
    command: str
    gates: tuple[Judgement, ...]
    status: str = ""
    advice: str = ""
    caveats: tuple[str, ...] = ()

    @property
    def blocked(self) -> bool:
        """True if no milestone could be determined."""
        return self.milestone == BLOCKED


def decide(
    force_rmse: Metric | None,
    gates: Sequence[Judgement],
    bands: Sequence[Band],
    blockers: Sequence[Blocker] = (),
    more_data: str = MORE_DATA_COMMAND,
) -> Decision:
    """Determine the next milestone by the table of this module.

    Parameters
    ----------
    force_rmse : Metric or None
        Force RMSE, eV/Å; None if it was not measured.
    gates : sequence of Judgement
    bands : sequence of Band
        Bands as returned by :func:`read_milestones`.
    blockers : sequence of Blocker
    more_data : str
        Command that draws more molecules, used if a larger held-out split would decide.
    """
    judged = tuple(gates)
    required = [item for item in judged if item.gate.required]
    found = [*blockers]
    if force_rmse is None and not found:
        found.append(Blocker("metric force_rmse is missing", "python3 -m nox -s repro"))
    if not required:
        found.append(Blocker("no gate is required, so nothing would be evaluated (params.yaml, gates)", SHOW_PARAMS))
    if found or force_rmse is None:
        return Decision(BLOCKED, 1, "; ".join(item.what for item in found), found[0].command, judged)
    reached = _bands_of(force_rmse, bands)
    if len({band.milestone for band in reached}) != 1:
        return Decision(MORE_DATA, 3, _why_undecided(force_rmse, reached), more_data, judged)
    # The worst band that the interval touches: "on track" only if the entire interval is.
    band = reached[-1]
    inside = f"force_rmse {force_rmse} lies in {band.milestone}, {' and '.join(str(b.range) for b in reached)}"
    if not band.gated:
        return Decision(band.milestone, 2, inside, band.command, judged, band.status, band.advice)
    failed = [item for item in required if item.verdict in (Verdict.FAIL, Verdict.ERROR)]
    if failed:
        because = "; ".join(str(item) for item in failed)
        return Decision(f"fix_{failed[0].name}", 4, because, failed[0].gate.command, judged)
    open_gates = [item for item in required if item.verdict is not Verdict.PASS]
    if open_gates:
        # More molecules can decide a gate with an interval; a metric that was not measured or has no interval needs the
        # gate's own command.
        first = next((item for item in open_gates if item.molecules_needed is not None), None)
        command = more_data if first else open_gates[0].gate.command
        return Decision(MORE_DATA, 5, "; ".join(str(item) for item in open_gates), command, judged)
    because = f"{inside}; {len(required)} of {len(required)} required gates pass"
    return Decision(band.milestone, 6, because, band.command, judged, band.status, band.advice)


def _bands_of(metric: Metric, bands: Sequence[Band]) -> list[Band]:
    """Return the bands that the interval touches; an empty list if there is no interval."""
    if metric.value is None or metric.low is None or metric.high is None:
        return []
    touched = [
        index for index, band in enumerate(bands) if band.range.holds(metric.low) or band.range.holds(metric.high)
    ]
    return list(bands[touched[0] : touched[-1] + 1]) if touched else []


def _why_undecided(metric: Metric, reached: Sequence[Band]) -> str:
    if not reached:
        return f"force_rmse {metric} has no interval, so no milestone can be determined"
    edges = [before.range.high for before, after in pairwise(reached) if before.milestone != after.milestone]
    needed = molecules_to_exclude(metric, edges)
    enough = f"about {max(needed, metric.n + 1)} held-out molecules would decide" if needed else "it is on a band edge"
    names = " and ".join(dict.fromkeys(band.milestone for band in reached))
    return f"force_rmse {metric} spans {names}; {enough}"
