"""``hydrogate plan``: number of held-out molecules needed to decide each gate. Reads only files in git, no data.

In:  ``metrics/{training,validation,md}.json``; ``gates``, ``milestones`` and ``regenerate.split`` in ``params.yaml``.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from hydrogate.checks.gates.gates import Judgement
from hydrogate.checks.gates.planning import Plan, plan
from hydrogate.checks.metrics.bootstrap import Metric
from hydrogate.pipeline.decision.committed_metrics import Metrics, judged, ratios, read_metrics, regression_names
from hydrogate.pipeline.params import Params, load_params


def run(root: Path = Path()) -> Plan:
    """Plan for the project at ``root``.

    Raises
    ------
    BadParams, ValueError
        ``params.yaml`` or the metrics are invalid; the message names each file.
    """
    params = load_params(root / "params.yaml")
    metrics, unreadable = read_metrics(root)
    found, judgements, malformed = judged(params, metrics)
    if unreadable or malformed:
        raise ValueError("; ".join(item.what for item in [*unreadable, *malformed]))
    return plan_of(params, metrics, found, judgements)


def plan_of(params: Params, metrics: Metrics, found: Mapping[str, Metric], judgements: Sequence[Judgement]) -> Plan:
    """Plan from ``metrics`` and the results of :func:`hydrogate.pipeline.decision.committed_metrics.judged`.

    Raises
    ------
    ValueError
        Nothing is held out, or the force RMSE or the number of molecules was not measured.
    """
    split = params.regenerate.split
    share = {"valid": split.valid, "test": split.test}[params.validate_.split]
    if not share:
        raise ValueError(f"regenerate.split.{params.validate_.split} is 0 in params.yaml: nothing is held out")
    to_baseline, _ = ratios(metrics)
    return plan(found, judgements, params.milestones, regression_names(params.gates), to_baseline, share)
