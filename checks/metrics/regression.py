"""Whether a student is worse than the one that it replaces, by a paired bootstrap.

Both students are measured on the same molecules, and the ratio of their errors is resampled with the same molecules in
both: a molecule that is hard for one is hard for the other, and cancels. With as few as 100 molecules a worsening of
10 % shows, where two separate intervals would overlap.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist

from hydrogate.checks.metrics.bootstrap import LEVEL, Metric, Ratio, bootstrap
from hydrogate.checks.metrics.comparison import Comparison
from hydrogate.checks.metrics.definitions import Plain, statistics_of

POWER = 0.9
# No data set has more: what would take them is not to be decided.
MOST_MOLECULES = 10**9


def ratios_to_baseline(
    student: Comparison, baseline: Comparison, *, resamples: int = 2000, seed: int = 0
) -> dict[str, Metric]:
    """Each error of the student over the same error of the baseline, with its paired 95 % interval.

    Parameters
    ----------
    student, baseline : Comparison
        Two predictions of the same reference.
    resamples : int
    seed : int
    """
    of_baseline = statistics_of(baseline)
    ratios = {
        name: (Ratio(statistic, other), "")
        for name, (statistic, definition) in statistics_of(student).items()
        if definition.error
        and not isinstance(statistic, Plain | Ratio)
        and not isinstance(other := of_baseline[name][0], Plain | Ratio)
    }
    return bootstrap(ratios, student.molecules, resamples=resamples, seed=seed)


def worst(ratios: Sequence[Metric]) -> Metric:
    """The largest of the ratios, with an interval that holds for all of them at once.

    Parameters
    ----------
    ratios : sequence of Metric
        At least one. Undefined where one of them is.

    Notes
    -----
    Bonferroni: of several intervals at 95 % one is off more often than 5 % of the time, so each is widened, as that of
    a normal figure, until all of them hold together at 95 %.
    """
    n = min(ratio.n for ratio in ratios)
    wider = _quantile_of_all(len(ratios)) / _quantile_of_all(1)
    values, lows, highs = [], [], []
    for value, _, _, low, high in ratios:
        if value is None or low is None or high is None:
            return Metric(None, "", n)
        values.append(value)
        lows.append(value - wider * (value - low))
        highs.append(value + wider * (high - value))
    return Metric(max(values), "", n, max(lows), max(highs))


def _quantile_of_all(count: int) -> float:
    """Half width, in standard errors, of ``count`` intervals that hold together."""
    return NormalDist().inv_cdf(1.0 - (1.0 - LEVEL) / 2.0 / count)


def molecules_to_see(worsening: float, ratio: Metric, count: int = 1) -> int | None:
    """How many molecules show a worsening in nine of ten cases.

    Parameters
    ----------
    worsening : float
        0.1 for 10 %.
    ratio : Metric
        The ratio to a baseline, or any figure whose relative interval is as wide.
    count : int
        The ratios that are judged together; see :func:`worst`.

    Returns
    -------
    int or None
        None where the ratio is undefined, has no interval, is not positive, or so uncertain that no data set would do.
    """
    if ratio.value is None or ratio.low is None or ratio.high is None or ratio.value <= 0:
        return None
    relative_error = (ratio.high - ratio.low) / 2.0 / _quantile_of_all(1) / ratio.value
    standard_errors = _quantile_of_all(count) + NormalDist().inv_cdf(POWER)
    wider = standard_errors * relative_error / math.log1p(worsening)
    needed = count_of(ratio.n * wider * wider)
    return None if needed is None else max(2, needed)


def count_of(molecules: float) -> int | None:
    """``molecules`` rounded up; None where they are `MOST_MOLECULES` or more, or undefined."""
    return math.ceil(molecules) if molecules < MOST_MOLECULES else None
