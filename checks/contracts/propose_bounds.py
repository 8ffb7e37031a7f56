"""Bounds proposed from a data set that is trusted: what each check observed on it, with a margin.

The rule, for each end of each interval: an end lies ``margin`` of the way from the observed value to the shipped end,
so that 0 leaves no room, 1 gives the shipped bounds, and an exact ``max: 0`` stays what it is. Where the shipped
interval starts above zero (a scale, such as the RMS force), its upper end lies at most ``margin`` times the observed
value away: a factor between two units is then seen whatever the scale. Where the observed value is beyond the shipped
end, the end moves out beyond it, by ``margin`` times the value or half the shipped interval, whichever is less; but not
where the bound is exact or physics, for then the data are at fault and the shipped bound stays.
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
# Statements of physics, or of what was done to the data: they may be drawn tighter, and no data set is trusted so far
# that it loosens them.
FIXED = frozenset(
    {
        "energy_force_consistency", "heavy_atoms_moved",
        "hydrogen_bond_lengths", "label_audit", "min_distance", "net_force", "net_torque", "restoring_forces",
        "sibling_work",
    }
)  # fmt: skip

# These measure with their bound: what they observe under one says nothing of another, so that it stays.
MEASURED_WITH = frozenset({"bond_lengths_match_orders", "duplicates"})


class End(NamedTuple):
    """One end of an interval: its name, the proposed number, the shipped one, and what was observed."""

    name: str
    value: float
    shipped: float
    observed: float

    @property
    def loosened(self) -> bool:
        """Whether the proposed end allows more than the shipped one."""
        return self.value < self.shipped if self.name.endswith("min") else self.value > self.shipped


@dataclass(frozen=True)
class ProposedCheck:
    """What is proposed for one check.

    Parameters
    ----------
    ends : mapping of (str, str) to End
        By quantity ("" where the check has one) and end: min, max, warn_min, warn_max.
    behind : str
        How many rows of what stand behind the observed values.
    note : str
        Why nothing is proposed; empty where something is.
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
        """As the ``contracts`` section of a file of parameters."""
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
        """The checks of which some end is looser than the shipped one."""
        return tuple(check.check for check in self.checks if any(end.loosened for end in check.ends.values()))


def propose(
    data: Dataset,
    contract: str = "structures",
    *,
    profile: str | None = None,
    overrides: Sequence[Override] = (),
    margin: float = 0.5,
) -> Proposal:
    """Bounds for each check of ``contract``, from what it observes on ``data``.

    Parameters
    ----------
    data : Dataset
        A trusted one; whether it holds under the proposal, :func:`hydrogate.checks.check` says.
    contract : str
        structures or labels.
    profile, overrides
        The bounds to start from, as in :func:`hydrogate.checks.check`.
    margin : float
        From 0 (the observed values) to 1 (the shipped bounds); see the module.

    Raises
    ------
    BadParams
        An unknown contract, profile, check or key, or a margin outside 0 to 1.
    """
    if contract not in PROPOSED:
        raise BadParams(f"bounds are proposed for structures and labels, not {contract!r}")
    if not 0.0 <= margin <= 1.0:
        raise BadParams(f"--margin {margin!r}: a number from 0 to 1 is needed")
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
    note = "" if ends else "nothing finite was observed"
    return ProposedCheck(bounds.check, ends, f"{finding.n} {measured.noun}", note)


def _observed(measured: Measurement, bounds: Bounds) -> dict[str, list[float]]:
    """The finite values by the key of the limits that judge them; of rows, the smallest and the largest."""
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
    """The end ``name`` for what was observed; see the module for the rule."""
    outward = -1.0 if name.endswith("min") else 1.0
    room = outward * (shipped - value)
    if room < 0.0:
        # A warning's end that the data are beyond rightly warns of them.
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
    """To three digits, away from the observed value."""
    rounding = ROUND_CEILING if outward > 0.0 else ROUND_FLOOR
    return float(Context(prec=3, rounding=rounding).create_decimal(Decimal(repr(float(value)))))


def proposal_yaml(proposals: Sequence[Proposal], origin: str, margin: float) -> str:
    """The file: a comment on each line with the observed value, the rows behind it, and the shipped bound.

    Parameters
    ----------
    proposals : sequence of Proposal
        Of one profile, each of another contract.
    origin : str
        What the data set is called.
    """
    lines = [
        f"# Bounds proposed by `hydrogate profile` from {_plain(origin)}, margin {margin:g}.",
        "# Read every line before you rely on it: a bound is as good as the data that it was taken from.",
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
    """As YAML reads it back: 1e-06 without a dot would be a string."""
    plain = int(value) if value.is_integer() else value
    return yaml.safe_dump(plain).split("\n")[0]


def _plain(text: str) -> str:
    """On one line, with nothing that ends a comment or that YAML refuses."""
    return "".join(letter if letter.isprintable() else " " for letter in " ".join(text.split()))
