"""How many held-out molecules would decide each gate, and how many show that a student has become worse."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from hydrogate.checks.findings import Verdict
from hydrogate.checks.gates.gates import Judgement, held_out_molecules, molecules_to_decide, molecules_to_exclude
from hydrogate.checks.gates.milestones import Band
from hydrogate.checks.metrics.bootstrap import Metric
from hydrogate.checks.metrics.regression import count_of, molecules_to_see

WORSENING = 0.1  # where no gate declares how much is tolerated


@dataclass(frozen=True)
class Need:
    """How many molecules one verdict takes.

    Parameters
    ----------
    name, verdict : str
    required : bool
        Whether the milestone depends on it.
    n : int or None
        Molecules that contribute now, or epochs.
    molecules : int or None
        Held-out molecules that would decide it if the figure stayed as it is; None where no number would.
    note : str
        Why there is no number, or what it rests on.
    """

    name: str
    verdict: str
    required: bool
    n: int | None
    molecules: int | None
    note: str = ""


@dataclass(frozen=True)
class Plan:
    """What the held-out split must grow to.

    Parameters
    ----------
    held_out : int
        Molecules of the split now.
    gates : tuple of Need
    milestone : Need
        Of the bands of the force RMSE.
    worsening : float
        The share that ``regression`` is to show, in nine of ten cases.
    regression : tuple of Need
        By metric.
    paired : bool
        Whether ``regression`` rests on a baseline; else on the metrics' own intervals, as if nothing were shared.
    more : int
        Molecules, of all splits, that the required verdicts still lack.
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
        """What draws the missing molecules and runs the pipeline; empty where none is missing."""
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
    """How many molecules decide.

    Parameters
    ----------
    metrics : mapping of str to Metric
        With ``force_rmse`` and ``n_structures``.
    judgements : sequence of Judgement
    bands : sequence of Band
    errors : sequence of str
        The metrics that a student must not worsen.
    ratios : mapping of str to Metric
        Their paired ratios to a baseline; empty without one.
    held_out_share : float
        Of all molecules, above 0.

    Raises
    ------
    ValueError
        The force RMSE or the number of molecules was not measured, or too small a share is held out.
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
        raise ValueError(f"of {held_out_share:g} of the molecules no data set holds enough: hold out more of them")
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
            note = "judged by its value alone"
        elif not gate.of_split:
            note = "n counts no molecules"
        elif molecules is None:
            note = "the value lies on the edge, or has no interval"
    return Need(item.name, str(item.verdict), gate.required, n, molecules, note)


def _among(held_out: int, metric: Metric, molecules: int | None) -> int | None:
    return None if molecules is None or not metric.n else held_out_molecules(metric, molecules, held_out)


def _of_milestone(metric: Metric, bands: Sequence[Band], least: int, held_out: int) -> Need:
    edges = [before.range.high for before, after in pairwise(bands) if before.milestone != after.milestone]
    needed = molecules_to_exclude(metric, edges)
    molecules = _among(held_out, metric, None if needed is None else max(needed, least))
    inside = metric.low is not None and metric.high is not None
    decided = inside and molecules is not None and molecules <= metric.n
    note = "" if molecules is not None else "the force RMSE lies on the edge, or has no interval"
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
    """A ratio of two such figures that share nothing varies twice as much."""
    if metric is None or metric.value is None or metric.low is None or metric.high is None:
        return metric
    value, wider = metric.value, math.sqrt(2.0)
    return metric._replace(low=value - wider * (value - metric.low), high=value + wider * (metric.high - value))
