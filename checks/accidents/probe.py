"""Detection matrix: apply every known data corruption to copies of a data set and check each copy."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hydrogate.checks.accidents import ACCIDENTS, Accident, NotApplicable, hurt, struck
from hydrogate.checks.contracts.run import check
from hydrogate.checks.data.dataset import Dataset
from hydrogate.checks.engine.bounds import Bounds, Limits, Override, resolve_bounds
from hydrogate.checks.engine.judge import limits_of
from hydrogate.checks.errors import BadParams, did_you_mean
from hydrogate.checks.findings import Finding, Report, Severity, Verdict
from hydrogate.checks.geometry.symmetry import Potential

PROBED = tuple(sorted({contract for accident in ACCIDENTS.values() for contract in accident.contracts}))
STRENGTHS: Mapping[str, float] = {"all": 1.0, "5 %": 0.05, "1 %": 0.01, "one": 0.0}
# A bound is suggested if the corruption moved its quantity by at least this fraction of the distance to the bound;
# smaller moves are noise.
MOVED = 0.1


class Outcome(StrEnum):
    """Result for one corrupted copy.

    ``warned``: a warning that the clean data do not give, and no failure; ``absent``: the corruption does not apply to
    these data.
    """

    CAUGHT = "caught"
    WARNED = "warned"
    PASSES = "passes"
    ABSENT = "absent"


@dataclass(frozen=True)
class Nearest:
    """The bound that came nearest to failing.

    Parameters
    ----------
    clean, spoiled : float
        The values that the check observed on the clean and on the corrupted data.
    way : float
        The fraction of the distance from ``clean`` to the bound by which the corruption moved the value, 0 to 1.
    """

    check: str
    quantity: str
    clean: float
    spoiled: float
    allowed: str
    way: float


@dataclass(frozen=True)
class Trial:
    """One corruption at one strength: number of corrupted structures, checks that newly fail and newly warn."""

    strength: str
    structures: int
    outcome: Outcome
    refused_by: tuple[str, ...] = ()
    warned_by: tuple[str, ...] = ()
    nearest: Nearest | None = None


@dataclass(frozen=True)
class Line:
    """One corruption at all strengths; ``absent`` is the reason why it does not apply to these data."""

    accident: str
    says: str
    source: str
    trials: tuple[Trial, ...]
    absent: str = ""

    @property
    def weakest_caught(self) -> Trial | None:
        """The trial with the fewest structures that was caught."""
        return next((trial for trial in reversed(self.trials) if trial.outcome is Outcome.CAUGHT), None)

    @property
    def strongest_missed(self) -> Trial | None:
        """The trial with the most structures that did not fail the contract."""
        return next((trial for trial in self.trials if trial.outcome in (Outcome.PASSES, Outcome.WARNED)), None)


@dataclass(frozen=True)
class Probe:
    """The detection matrix of one contract on one data set.

    Parameters
    ----------
    clean : Report
        The report on the sample before any corruption. If it fails, its failing checks cannot be assessed here.
    of : int
        Number of structures from which the sample was drawn.
    """

    contract: str
    profile: str
    seed: int
    of: int
    clean: Report
    lines: tuple[Line, ...]

    @property
    def structures(self) -> int:
        """The number of structures in the sample."""
        return int(self.clean.summary["structures"])

    @property
    def blind(self) -> tuple[str, ...]:
        """Checks that already fail on the clean data."""
        return tuple(finding.check for finding in self.clean.refusals())

    @property
    def not_run(self) -> tuple[Finding, ...]:
        """Findings of the checks that could not run, each with the input that it lacks."""
        return tuple(finding for finding in self.clean.findings if finding.verdict is Verdict.NOT_RUN)

    def to_dict(self) -> dict[str, Any]:
        """Return the matrix as plain numbers and strings."""
        return {
            "contract": self.contract,
            "profile": self.profile,
            "seed": self.seed,
            "structures": self.structures,
            "sampled_from": self.of,
            "holds_before": self.clean.holds(),
            "refused_before": {finding.check: finding.message for finding in self.clean.refusals()},
            "not_run": {finding.check: finding.message for finding in self.not_run},
            "switched_off": list(self.clean.switched_off),
            "accidents": {line.accident: _line_to_dict(line) for line in self.lines},
        }


def _line_to_dict(line: Line) -> dict[str, Any]:
    weakest = line.weakest_caught
    return {
        "says": line.says,
        "source": line.source,
        "absent": line.absent,
        "weakest_caught": weakest.strength if weakest else None,
        "strengths": {trial.strength: {**asdict(trial), "outcome": str(trial.outcome)} for trial in line.trials},
    }


def probe(
    data: Dataset,
    contract: str = "labels",
    *,
    sample: int = 500,
    seed: int = 0,
    profile: str | None = None,
    overrides: Sequence[Override] = (),
    relabel: Potential | None = None,
    compared_with: Dataset | None = None,
    on_trial: Callable[[int], None] | None = None,
) -> Probe:
    """Apply every data corruption to copies of ``data`` and check each copy against ``contract``.

    Parameters
    ----------
    data : Dataset
        Å, eV, eV/Å; never changed.
    sample : int
        Maximum number of structures, which bounds time and memory; structures of one parent stay together.
    seed : int
        Random seed of the sample, of the structures that are corrupted, and of the corruption itself.
    profile, overrides, relabel, compared_with
        As for :func:`hydrogate.checks.check`.
    on_trial : callable, optional
        Called with 1 after each of :func:`count_trials` trials.

    Raises
    ------
    BadParams
        The contract cannot be probed, there are no structures, or ``labels`` is probed on data without labels.
    """
    if contract not in PROBED:
        raise BadParams(f"contract {contract!r} cannot be probed{did_you_mean(contract, PROBED)}")
    if not len(data) or sample < 1:
        raise BadParams(f"nothing to probe: {len(data)} structures, sample size {sample}")
    if contract == "labels" and (data.energy is None or data.forces is None):
        raise BadParams("the data set has no energies and forces: label it, name its --keys, or probe structures")
    chosen, declared = resolve_bounds(contract, profile=profile, overrides=overrides)
    taken = sampled(data, sample, seed)

    def judge(spoiled: Dataset) -> Report:
        return check(
            spoiled, contract, profile=profile, overrides=overrides, relabel=relabel, compared_with=compared_with
        )

    clean = judge(taken)
    lines = []
    for accident in _accidents(contract):
        lines.append(_line(accident, taken, clean, judge, declared, seed, on_trial or (lambda _: None)))
    return Probe(contract, chosen, seed, len(data), clean, tuple(lines))


def _accidents(contract: str) -> list[Accident]:
    return [ACCIDENTS[name] for name in sorted(ACCIDENTS) if contract in ACCIDENTS[name].contracts]


def count_trials(contract: str) -> int:
    """Return the maximum number of corrupted copies that a probe of ``contract`` checks."""
    return len(_accidents(contract)) * len(STRENGTHS)


def sampled(data: Dataset, sample: int, seed: int) -> Dataset:
    """Draw at most ``sample`` structures at random, in order; families of one parent stay together if they fit."""
    if len(data) <= sample:
        return data
    rng = np.random.default_rng(seed)
    _, family, sizes = np.unique(data.parent, return_inverse=True, return_counts=True)
    left, kept = sample, np.zeros(len(sizes), dtype=bool)
    order = rng.permutation(len(sizes))
    for one in order.tolist():
        if sizes[one] <= left:
            kept[one] = True
            left -= int(sizes[one])
        if not left:
            break
    chosen = np.flatnonzero(kept[family])
    if not len(chosen):  # every family is too large: take a part of one, with its parent geometry
        members = np.flatnonzero(family == order[0])
        others = members[members != data.parent[members[0]]]
        chosen = np.append(rng.permutation(others)[: sample - 1], data.parent[members[0]])
    return data.subset(np.sort(chosen))


def _line(
    accident: Accident,
    data: Dataset,
    clean: Report,
    judge: Callable[[Dataset], Report],
    declared: Mapping[str, Bounds],
    seed: int,
    on_trial: Callable[[int], None],
) -> Line:
    try:
        order = struck(accident, data, seed)
        absent = "" if len(order) else "it would change no structure"
    except NotApplicable as error:
        absent, order = str(error), np.empty(0, dtype=np.int64)
    trials: list[Trial] = []
    for strength, share in STRENGTHS.items():
        wanted = max(1, round(min(share, accident.largest_share) * len(data)))
        rows = np.sort(order[:wanted])
        label = f"{100 * accident.largest_share:g} %" if strength == "all" and accident.largest_share < 1 else strength
        if absent:
            trials.append(Trial(label, 0, Outcome.ABSENT))
        elif trials and len(rows) == trials[-1].structures:
            trials.append(replace(trials[-1], strength=label))
        else:
            report = judge(hurt(accident, data, rows, seed))
            trials.append(_trial(label, rows, clean, report, declared))
        on_trial(1)
    return Line(accident.name, accident.says, accident.source, tuple(trials), absent)


def _trial(
    strength: str, rows: NDArray[np.int64], clean: Report, report: Report, declared: Mapping[str, Bounds]
) -> Trial:
    known = {finding.check for finding in clean.refusals()}
    refused = tuple(finding.check for finding in report.refusals() if finding.check not in known)
    before = {finding.check for finding in clean.findings if _warns(finding)}
    warned = tuple(finding.check for finding in report.findings if _warns(finding) and finding.check not in before)
    outcome = Outcome.CAUGHT if refused else Outcome.WARNED if warned else Outcome.PASSES
    nearest = None if refused else _nearest(clean, report, declared)
    return Trial(strength, len(rows), outcome, refused, warned, nearest)


def _warns(finding: Finding) -> bool:
    return finding.severity is Severity.WARN and finding.verdict in (Verdict.FAIL, Verdict.UNDECIDED)


def _nearest(clean: Report, report: Report, declared: Mapping[str, Bounds]) -> Nearest | None:
    """Return the passing quantity that moved the largest fraction of the distance to one of its bounds."""
    before = {finding.check: finding for finding in clean.findings}
    found: list[Nearest] = []
    for finding in report.findings:
        for quantity, spoiled in finding.observed.items():
            observed = before[finding.check].observed.get(quantity)
            if observed is None or finding.verdict is not Verdict.PASS:
                continue
            limits = limits_of("" if quantity in ("value", "worst") else quantity, declared[finding.check])
            way = _way(observed, spoiled, limits)
            if way >= MOVED:
                found.append(Nearest(finding.check, quantity, observed, spoiled, str(limits), way))
    return max(found, key=lambda item: item.way, default=None)


def _way(clean: float, spoiled: float, limits: Limits) -> float:
    """Return the fraction of the distance from ``clean`` to the bound ahead of the value; 0 without such a bound."""
    bound = limits.max if spoiled > clean else limits.min
    return 0.0 if bound is None or bound == clean or spoiled == clean else (spoiled - clean) / (bound - clean)
