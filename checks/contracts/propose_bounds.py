"""Proposed bounds from a trusted data set: the values observed by each check, plus a margin.

The rule applies to each end of each interval:

- The proposed end lies at the fraction ``margin`` of the way from the observed value to the shipped end. A margin of 0
  leaves no room, 1 gives the shipped bounds, and an exact ``max: 0`` is unchanged.
- If the shipped interval starts above zero (a scale, such as the RMS force), the upper end is at most ``margin`` times
  the observed value away from it. A factor between two units is then detected at any scale.
- If the observed value is beyond the shipped end, the proposed end is beyond the observed value, by ``margin`` times
  the smaller of the value and half the shipped interval.
- If such a bound is exact or a law of physics, the data are wrong and the shipped bound is kept.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from typing import NamedTuple

import numpy as np
import yaml

from hydrogate.checks.data.dataset import Dataset
from hydrogate.checks.engine.bounds import Bounds, Limits, Override, resolve_bounds
from hydrogate.checks.engine.judge import judge, limits_of
from hydrogate.checks.engine.partition import Parts
from hydrogate.checks.engine.registry import RULES, Measurement, Subject
from hydrogate.checks.engine.row_counts import Tally, outside
from hydrogate.checks.errors import BadParams
from hydrogate.checks.findings import Finding, Verdict

PROPOSED = ("structures", "labels")
ENDS = ("min", "max", "warn_min", "warn_max")
# Bounds from physics or on how the data were processed. A proposal may tighten them; no data set may loosen them.
FIXED = frozenset(
    {
        "energy_force_consistency", "heavy_atoms_moved",
        "hydrogen_bond_lengths", "label_audit", "min_distance", "net_force", "net_torque", "restoring_forces",
        "sibling_work",
    }
)  # fmt: skip

# These checks use their bound in the measurement. The observed value says nothing about another bound, so it is kept.
MEASURED_WITH = frozenset({"bond_lengths_match_orders", "duplicates"})


class End(NamedTuple):
    """One end of an interval: name, proposed value, shipped value and observed value."""

    name: str
    value: float
    shipped: float
    observed: float

    @property
    def loosened(self) -> bool:
        """True if the proposed end allows more than the shipped one."""
        return self.value < self.shipped if self.name.endswith("min") else self.value > self.shipped


@dataclass(frozen=True)
class ProposedCheck:
    """Proposed bounds of one check.

    Parameters
    ----------
    ends : mapping of (str, str) to End
        By quantity ("" if the check has only one) and end: min, max, warn_min, warn_max.
    behind : str
        Number and kind of the rows that the observed values come from.
    note : str
        Reason why nothing is proposed; empty if something is.
    """

    check: str
    ends: Mapping[tuple[str, str], End]
    behind: str = ""
    note: str = ""


@dataclass(frozen=True)
class Proposal:
    """Proposed bounds of one contract."""

    contract: str
    profile: str
    checks: tuple[ProposedCheck, ...]

    def override(self) -> dict[str, object]:
        """Return the proposal as the ``contracts`` section of a parameter file."""
        section: dict[str, dict[str, object]] = {}
        for check in self.checks:
            block: dict[str, object] = {}
            for (quantity, end), proposed in check.ends.items():
                if quantity:
                    of_quantity = block.setdefault(quantity, {})
                    assert isinstance(of_quantity, dict)
                    of_quantity[end] = proposed.value
                else:
                    block[end] = proposed.value
            if block:
                section[check.check] = block
        return {"profile": self.profile, self.contract: section}

    def loosened(self) -> tuple[str, ...]:
        """Return the checks for which at least one end is looser than the shipped one."""
        return tuple(check.check for check in self.checks if any(end.loosened for end in check.ends.values()))


def propose(
    data: Dataset,
    contract: str = "structures",
    *,
    profile: str | None = None,
    overrides: Sequence[Override] = (),
    margin: float = 0.5,
) -> Proposal:
    """Propose bounds for each check of ``contract`` from the values it observes on ``data``.

    Parameters
    ----------
    data : Dataset
        A trusted data set. Use :func:`hydrogate.checks.check` to test if it passes under the proposal.
    contract : str
        structures or labels.
    profile, overrides
        Bounds to start from, as in :func:`hydrogate.checks.check`.
    margin : float
        From 0 (the observed values) to 1 (the shipped bounds); see the module docstring.

    Raises
    ------
    BadParams
        An unknown contract, profile, check or key, or a margin outside 0 to 1.
    """
    if contract not in PROPOSED:
        raise BadParams(f"bounds can be proposed for structures and labels, not {contract!r}")
    if not 0.0 <= margin <= 1.0:
        raise BadParams(f"--margin {margin!r}: expected a number from 0 to 1")
    chosen, declared = resolve_bounds(contract, profile=profile, overrides=overrides)
    rules = [RULES[contract, name] for name, bounds in declared.items() if bounds.enabled]
    judged = judge(rules, declared, Subject(Parts.of(data)))
    checks = tuple(
        _propose(bounds, *judged[name], margin) if bounds.enabled else ProposedCheck(name, {}, note="switched off")
        for name, bounds in declared.items()
    )
    return Proposal(contract, chosen, checks)


def _propose(bounds: Bounds, finding: Finding, measured: Measurement | None, margin: float) -> ProposedCheck:
    if measured is None or finding.verdict is Verdict.UNDECIDED:
        return ProposedCheck(bounds.check, {}, note=finding.message)
    ends: dict[tuple[str, str], End] = {}
    for quantity, values in _observed(measured, bounds).items():
        limits = bounds.limits[quantity]
        fixed = bounds.check in FIXED or limits.max in (0, limits.min)
        kept = bounds.check in MEASURED_WITH or (fixed and bool(outside(np.array(values), limits).any()))
        for name in ENDS:
            if (shipped := getattr(limits, name)) is not None:
                value = min(values) if name.endswith("min") else max(values)
                proposed = shipped if kept else _end(name, value, limits, shipped, margin)
                ends[quantity, name] = End(name, float(proposed), float(shipped), value)
    note = "" if ends else "no finite value was observed"
    return ProposedCheck(bounds.check, ends, f"{finding.n} {measured.noun}", note)


def _observed(measured: Measurement, bounds: Bounds) -> dict[str, list[float]]:
    """Return the finite values by the key of their limits; for rows, the smallest and the largest value."""
    if isinstance(measured, Tally):
        return {"": [measured.least, measured.greatest]} if measured.least <= measured.greatest else {}
    found: dict[str, list[float]] = {}
    for name, value in measured.values.items():
        if math.isfinite(value):
            limits = limits_of(name, bounds)
            key = next(key for key, of in bounds.limits.items() if of is limits)
            found.setdefault(key, []).append(float(value))
    return found


def _end(name: str, value: float, limits: Limits, shipped: float, margin: float) -> float:
    """Return the proposed end ``name`` for an observed value; see the module docstring for the rule."""
    outward = -1.0 if name.endswith("min") else 1.0
    room = outward * (shipped - value)
    if room < 0.0:
        # Data beyond the warning end should give a warning, so it is kept.
        return shipped if name.startswith("warn") else _beyond(value, limits, margin, outward)
    scale = name == "max" and limits.min is not None and limits.min > 0.0
    end = _rounded(value + outward * margin * (min(room, abs(value)) if scale else room), outward)
    return min(end, shipped) if outward > 0.0 else max(end, shipped)


def _beyond(value: float, limits: Limits, margin: float, outward: float) -> float:
    reach = abs(value)
    if limits.min is not None and limits.max is not None:
        reach = min(reach, (limits.max - limits.min) / 2.0)
    return _rounded(value + outward * margin * reach, outward)


def _rounded(value: float, outward: float) -> float:
    """Round to three significant digits, away from the observed value."""
    rounding = ROUND_CEILING if outward > 0.0 else ROUND_FLOOR
    return float(Context(prec=3, rounding=rounding).create_decimal(Decimal(repr(float(value)))))


def proposal_yaml(proposals: Sequence[Proposal], origin: str, margin: float) -> str:
    """Return the proposal as YAML; a comment on each line has the observed value, its rows and the shipped bound.

    Parameters
    ----------
    proposals : sequence of Proposal
        Proposals for the same profile and different contracts.
    origin : str
        Name of the data set.
    """
    lines = [
        f"# Bounds proposed by `hydrogate profile` from {_plain(origin)}, margin {margin:g}.",
        "# Read every line before you rely on it: a bound is only as good as the data that it was derived from.",
        "contracts:",
        f"  profile: {proposals[0].profile}",
    ]
    for proposal in proposals:
        lines.append(f"  {proposal.contract}:")
        for check in proposal.checks:
            lines += _check_lines(check)
    return "\n".join(lines) + "\n"


def _check_lines(check: ProposedCheck) -> list[str]:
    if check.note:
        return [f"    # {check.check}: {_plain(check.note)}"]
    lines = [f"    {check.check}:"]
    quantity_before = ""
    for (quantity, name), end in check.ends.items():
        if quantity != quantity_before:
            lines.append(f"      {quantity}:")
            quantity_before = quantity
        said = f"observed {end.observed:.4g} over {_plain(check.behind)}, "
        if end.loosened:
            said += f"LOOSER than the shipped {end.shipped:g}"
        else:
            said += "as shipped" if end.value == end.shipped else f"shipped {end.shipped:g}"
        lines.append(f"      {'  ' if quantity else ''}{name}: {_number(end.value)}  # {said}")
    return lines


def _number(value: float) -> str:
    """Format a number so that YAML reads it back as a number: 1e-06 without a dot would be a string."""
    plain = int(value) if value.is_integer() else value
    return yaml.safe_dump(plain).split("\n")[0]


def _plain(text: str) -> str:
    """Return ``text`` on one line, without characters that end a comment or that YAML rejects."""
    return "".join(letter if letter.isprintable() else " " for letter in " ".join(text.split()))
