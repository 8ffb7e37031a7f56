"""Regression test of a student against its predecessor, by a paired bootstrap.

Both students are evaluated on the same molecules, and the ratio of their errors is resampled with the same molecules in
numerator and denominator. A molecule that is difficult for one student is difficult for the other, so this variation
cancels. As few as 100 molecules can detect a worsening of 10 %, where two separate intervals would overlap.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist

from hydrogate.checks.metrics.bootstrap import LEVEL, Metric, Ratio, bootstrap
from hydrogate.checks.metrics.comparison import Comparison
from hydrogate.checks.metrics.definitions import Plain, statistics_of

POWER = 0.9
# Larger than any data set: a result that needs this many molecules counts as undecidable.
MOST_MOLECULES = 10**9


def ratios_to_baseline(
    student: Comparison, baseline: Comparison, *, resamples: int = 2000, seed: int = 0
) -> dict[str, Metric]:
    """Compute the ratio of each error of the student to that of the baseline, with its paired 95 % interval.

    Parameters
    ----------
    student, baseline : Comparison
        Comparisons of two predictions with the same reference.
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
    """Return the largest ratio, with an interval that is valid for all ratios simultaneously.

    Parameters
    ----------
    ratios : sequence of Metric
        At least one ratio. The result is undefined if any of them is.

    Notes
    -----
    Bonferroni correction: among several 95 % intervals, at least one is wrong in more than 5 % of the cases. Therefore
    each interval is widened, assuming a normal distribution, until all of them are valid together at 95 %.
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
    """Return the half width, in standard errors, of ``count`` simultaneous intervals."""
    return NormalDist().inv_cdf(1.0 - (1.0 - LEVEL) / 2.0 / count)


def molecules_to_see(worsening: float, ratio: Metric, count: int = 1) -> int | None:
    """Estimate the number of molecules that detect a worsening in nine of ten cases.

    Parameters
    ----------
    worsening : float
        Relative worsening; 0.1 means 10 %.
    ratio : Metric
        Ratio to a baseline, or any metric with the same relative width of the interval.
    count : int
        Number of ratios that are evaluated together; see :func:`worst`.

    Returns
    -------
    int or None
        None if the ratio is undefined, has no interval, is not positive, or is too uncertain for any data set.
    """
    if ratio.value is None or ratio.low is None or ratio.high is None or ratio.value <= 0:
        return None
    relative_error = (ratio.high - ratio.low) / 2.0 / _quantile_of_all(1) / ratio.value
    standard_errors = _quantile_of_all(count) + NormalDist().inv_cdf(POWER)
    wider = standard_errors * relative_error / math.log1p(worsening)
    needed = count_of(ratio.n * wider * wider)
    return None if needed is None else max(2, needed)


def count_of(molecules: float) -> int | None:
    """Return ``molecules`` rounded up; None if it is `MOST_MOLECULES` or more, or undefined."""
    return math.ceil(molecules) if molecules < MOST_MOLECULES else None
