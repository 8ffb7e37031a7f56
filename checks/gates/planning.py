"""Numbers of held-out molecules needed to decide each gate and to detect that a student has become worse."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from hydrogate.checks.findings import Verdict
from hydrogate.checks.gates.gates import Judgement, held_out_molecules, molecules_to_decide, molecules_to_exclude
from hydrogate.checks.gates.milestones import Band
from hydrogate.checks.metrics.bootstrap import Metric
from hydrogate.checks.metrics.regression import count_of, molecules_to_see

WORSENING = 0.1  # default if no gate declares a tolerance


@dataclass(frozen=True)
class Need:
    """Number of molecules needed for one verdict.

    Parameters
    ----------
    name, verdict : str
    required : bool
        True if the milestone depends on this verdict.
    n : int or None
        Number of molecules (or epochs) that contribute now.
    molecules : int or None
        Number of held-out molecules that would decide it if the value stays the same; None if no number would.
    note : str
        Reason why there is no number, or its basis.
    """

    name: str
    verdict: str
    required: bool
    n: int | None
    molecules: int | None
    note: str = ""


@dataclass(frozen=True)
class Plan:
    """Required size of the held-out split.

    Parameters
    ----------
    held_out : int
        Number of molecules in the split now.
    gates : tuple of Need
    milestone : Need
        Molecules needed to place the force RMSE inside one milestone.
    worsening : float
        Relative worsening that ``regression`` should detect in nine of ten cases.
    regression : tuple of Need
        Molecules needed for ``regression``, one entry per metric.
    paired : bool
        True if ``regression`` is based on paired ratios to a baseline; otherwise it is based on the metrics' own
        intervals, as if the errors of the two students were independent.
    more : int
        Number of molecules, over all splits, that must be added for the required verdicts.
    """

    held_out: int
    gates: tuple[Need, ...]
    milestone: Need
    worsening: float
    regression: tuple[Need, ...]
    paired: bool
    more: int

    @property
    def command(self) -> str:
        """Command that draws the missing molecules and runs the pipeline; empty if none is missing."""
        sample = f"python3 -m nox -s hydrogate -- sample --count {self.more} --seed 1"
        return f"{sample} && python3 -m nox -s repro" if self.more else ""


def plan(
    metrics: Mapping[str, Metric],
    judgements: Sequence[Judgement],
    bands: Sequence[Band],
    errors: Sequence[str],
    ratios: Mapping[str, Metric],
    held_out_share: float,
) -> Plan:
    """Estimate the number of molecules that would decide each gate and the milestone.

    Parameters
    ----------
    metrics : mapping of str to Metric
        Must contain ``force_rmse`` and ``n_structures``.
    judgements : sequence of Judgement
    bands : sequence of Band
    errors : sequence of str
        Names of the metrics that must not become worse.
    ratios : mapping of str to Metric
        Paired ratios of these metrics to a baseline; empty without a baseline.
    held_out_share : float
        Fraction of all molecules that is held out, above 0.

    Raises
    ------
    ValueError
        The force RMSE or the number of molecules was not measured, or the held-out fraction is too small.
    """
    missing = [name for name in ("force_rmse", "n_structures") if name not in metrics]
    if missing:
        raise ValueError(f"{' and '.join(missing)} not measured; run python3 -m nox -s repro")
    held_out = metrics["n_structures"].n
    gates = tuple(_of_gate(item, held_out) for item in judgements)
    least = max((item.gate.min_n for item in judgements if item.gate.metric == "force_rmse"), default=2)
    milestone = _of_milestone(metrics["force_rmse"], bands, least, held_out)
    own = [item.gate for item in judgements if item.gate.metric == "regression"]
    worsening = next((gate.tolerance for gate in own if gate.tolerance), WORSENING)
    regression = tuple(_of_regression(name, metrics, ratios, worsening, len(errors), held_out) for name in errors)
    lacking = [need.molecules for need in (*gates, milestone) if need.required and need.molecules is not None]
    more = count_of(max(0, max(lacking, default=0) - held_out) / held_out_share)
    if more is None:
        raise ValueError(f"the held-out fraction {held_out_share:g} is too small: hold out more molecules")
    return Plan(held_out, gates, milestone, worsening, regression, bool(ratios), more)


def _of_gate(item: Judgement, held_out: int) -> Need:
    gate, metric = item.gate, item.metric
    n, molecules, note = None, None, ""
    if metric is None:
        note = item.message.partition(" was not measured: ")[2]
    elif gate.metric == "n_structures" and gate.comparison in (">=", ">"):
        n, molecules = metric.n, math.ceil(gate.edges[0])
    else:
        n, molecules = metric.n, item.molecules_needed
        if molecules is None and gate.of_split:
            molecules = _among(held_out, metric, molecules_to_decide(gate, metric))
        if metric.value is None:
            note = "undefined"
        elif not gate.confidence:
            note = "only the value is compared"
        elif not gate.of_split:
            note = "n is not a number of molecules"
        elif molecules is None:
            note = "the value lies on the threshold, or has no interval"
    return Need(item.name, str(item.verdict), gate.required, n, molecules, note)


def _among(held_out: int, metric: Metric, molecules: int | None) -> int | None:
    return None if molecules is None or not metric.n else held_out_molecules(metric, molecules, held_out)


def _of_milestone(metric: Metric, bands: Sequence[Band], least: int, held_out: int) -> Need:
    edges = [before.range.high for before, after in pairwise(bands) if before.milestone != after.milestone]
    needed = molecules_to_exclude(metric, edges)
    molecules = _among(held_out, metric, None if needed is None else max(needed, least))
    inside = metric.low is not None and metric.high is not None
    decided = inside and molecules is not None and molecules <= metric.n
    note = "" if molecules is not None else "the force RMSE lies on a band edge, or has no interval"
    verdict = str(Verdict.PASS if decided else Verdict.UNDECIDED)
    return Need("milestone", verdict, True, metric.n, molecules, note)


def _of_regression(
    name: str, metrics: Mapping[str, Metric], ratios: Mapping[str, Metric], worsening: float, count: int, held_out: int
) -> Need:
    metric = ratios.get(name) if ratios else _as_if_unpaired(metrics.get(name))
    if metric is None:
        return Need(name, str(Verdict.NOT_RUN), False, None, None, f"metric {name} was not measured")
    molecules = _among(held_out, metric, molecules_to_see(worsening, metric, count))
    return Need(name, "", False, metric.n, molecules, "" if molecules is not None else "undefined")


def _as_if_unpaired(metric: Metric | None) -> Metric | None:
    """Widen the interval by √2: the variance of a ratio of two independent values is twice as large."""
    if metric is None or metric.value is None or metric.low is None or metric.high is None:
        return metric
    value, wider = metric.value, math.sqrt(2.0)
    return metric._replace(low=value - wider * (value - metric.low), high=value + wider * (metric.high - value))
