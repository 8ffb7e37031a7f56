"""Regression test of a student against its predecessor: by hand, and by enough simulations to support the claim."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest

from hydrogate.checks.findings import Verdict
from hydrogate.checks.gates.gates import judge, read_gates
from hydrogate.checks.metrics.bootstrap import Metric, OfSums, Ratio, bootstrap
from hydrogate.checks.metrics.comparison import Comparison
from hydrogate.checks.metrics.definitions import error_names, measure
from hydrogate.checks.metrics.regression import molecules_to_see, ratios_to_baseline, worst

GATE = read_gates(
    {
        "regression": {
            "metric": "regression", "comparison": "<=", "threshold": 1.0, "tolerance": 0.1, "required": True,
            "confidence": 0.95, "min_n": 100, "reason": "a test",
        }
    }
)["regression"]  # fmt: skip


def comparison(error, molecules=30, seed=0):
    """Return a comparison whose force errors are ``error`` times those of ``error=1``."""
    rng = np.random.default_rng(seed)
    atoms = 6 * molecules
    forces = rng.normal(size=(atoms, 3))
    return Comparison(
        numbers=np.tile([1, 1, 6, 6, 7, 8], molecules), positions=rng.uniform(-5, 5, (atoms, 3)),
        offset=np.arange(0, atoms + 1, 6), molecule=np.arange(molecules), energy=np.zeros(molecules), forces=forces,
        energy_predicted=error * rng.normal(size=molecules),
        forces_predicted=forces + 0.1 * error * rng.normal(size=forces.shape),
    )  # fmt: skip


def test_what_both_students_share_cancels():
    ratios = ratios_to_baseline(comparison(1.25), comparison(1.0), resamples=100)
    for name in ("force_rmse", "force_rmse_relative", "hydrogen_force_error", "force_rmse_O", "energy_mae_per_atom"):
        assert (ratios[name].value, ratios[name].low, ratios[name].high) == pytest.approx((1.25, 1.25, 1.25)), name
    assert ratios["force_rmse"].n == 30


def test_every_error_has_a_ratio_and_nothing_else_has():
    ratios = ratios_to_baseline(comparison(1.0, seed=1), comparison(1.0, seed=1), resamples=10)
    assert set(ratios) <= error_names()
    assert {"force_rmse", "hydrogen_force_error", "angular_error_mean_deg", "angular_error_p99_deg"} <= set(ratios)
    assert not {"n_structures", "hydrogen_fraction", "angle_within_5deg", "oxygen_over_carbon"} & set(ratios)


@pytest.mark.parametrize(("ours", "theirs"), [(1.0, 0.0), (math.nan, 1.0), (1.0, math.nan)])
def test_a_perfect_baseline_or_a_broken_prediction_leaves_no_ratio(ours, theirs):
    ratios = ratios_to_baseline(comparison(ours), comparison(theirs), resamples=50)
    assert ratios["force_rmse"].value is None
    judgement = judge("regression", GATE, worst([ratios["force_rmse"]]))
    assert judgement.verdict is Verdict.UNDECIDED


def test_the_worst_of_several_by_hand():
    one, two = Metric(1.0, "", 200, 0.9, 1.1), Metric(1.2, "", 150, 1.1, 1.4)
    assert worst([one]) == Metric(1.0, "", 200, pytest.approx(0.9), pytest.approx(1.1))
    both = worst([one, two])
    wider = 2.241403 / 1.959964  # normal quantiles of 1 - 0.05/4 and 1 - 0.05/2
    assert (both.value, both.n) == (1.2, 150)
    assert both.low == pytest.approx(1.2 - 0.1 * wider)
    assert both.high == pytest.approx(1.2 + 0.2 * wider)


@pytest.mark.parametrize(
    "lost",
    [Metric(None, "", 0), Metric(1.0, "", 1), Metric(None, "", 9, 0.9, 1.1), Metric(1.0, "", 9, None, 1.1)],
)
def test_one_undefined_ratio_makes_the_worst_undefined(lost):
    assert worst([Metric(0.5, "", 200, 0.4, 0.6), lost]).value is None


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.80, 0.95, "pass"),
        (0.95, 1.05, "pass"),
        (0.95, 1.10, "pass"),
        (0.95, 1.11, "undecided"),
        (1.00, 1.05, "pass"),
        (1.01, 1.05, "fail"),  # a significant worsening fails, however small
        (1.05, 1.20, "fail"),
    ],
)
def test_the_gate_fails_on_a_shown_worsening_and_passes_where_a_tenth_is_excluded(low, high, verdict):
    assert str(judge("regression", GATE, Metric((low + high) / 2, "", 200, low, high)).verdict) == verdict


def test_molecules_to_see_by_hand():
    # half width: 1.96 standard errors of 0.05 each; a worsening of 10 % (0.0953 in the logarithm) needs 1.96 + 1.28
    ratio = Metric(1.0, "", 100, 1 - 1.959964 * 0.05, 1 + 1.959964 * 0.05)
    assert molecules_to_see(0.1, ratio) == math.ceil(100 * ((1.959964 + 1.281552) * 0.05 / math.log(1.1)) ** 2)
    assert molecules_to_see(0.1, ratio, 3) > molecules_to_see(0.1, ratio)
    assert molecules_to_see(0.05, ratio) > 3 * molecules_to_see(0.1, ratio)
    for lost in (Metric(None, "", 0), Metric(1.0, "", 1), Metric(0.0, "", 5, 0.0, 0.0)):
        assert molecules_to_see(0.1, lost) is None


class TestSimulation:
    """Simulation of 100 molecules: shared difficulty (lognormal, sigma 0.5) and a part per student (sigma 0.1).

    Between students trained for 12 and for 3 epochs on the sample, the latter sigma was 0.09. The worst of three
    metrics is evaluated; each molecule has 35 atoms.
    """

    TRIALS, MOLECULES, ATOMS, OWN = 1000, 100, 35, 0.1

    def judged(self, worsening):
        rng = np.random.default_rng(7)
        shape = (self.TRIALS, 2, self.MOLECULES)
        size = np.exp(
            0.5 * rng.standard_normal((self.TRIALS, 1, self.MOLECULES)) + self.OWN * rng.standard_normal(shape)
        )
        size[:, 0] *= 1.0 + worsening
        # Sums of squares over the atoms of a molecule, half of them hydrogen, and a mean of a non-squared quantity.
        half = 3 * self.ATOMS // 2
        hydrogen, heavy = (size**2 * rng.chisquare(half, shape) for _ in range(2))
        angle = size * (1.0 + 0.6 / math.sqrt(self.ATOMS) * rng.standard_normal(shape))
        ones = np.ones(self.MOLECULES)

        def ratio(values, root):
            sides = [OfSums(np.stack([side, ones], axis=1), root, self.MOLECULES) for side in values]
            return Ratio(*sides), ""

        def rms(total, count):
            return np.sqrt(total / count)

        ratios = {}
        for trial in range(self.TRIALS):
            ratios[f"{trial} all"] = ratio(hydrogen[trial] + heavy[trial], rms)
            ratios[f"{trial} hydrogen"] = ratio(hydrogen[trial], rms)
            ratios[f"{trial} angle"] = ratio(angle[trial], np.divide)
        found = list(bootstrap(ratios, self.MOLECULES, resamples=500, seed=1).values())
        metrics = [worst(found[start : start + 3]) for start in range(0, len(found), 3)]
        return [judge("regression", GATE, metric).verdict for metric in metrics]

    def test_equal_students_give_at_most_five_per_cent_false_alarms(self):
        alarms = self.judged(0.0).count(Verdict.FAIL)
        assert binomtest(alarms, self.TRIALS).proportion_ci(0.95).high < 0.05

    def test_a_worsening_of_a_tenth_is_found_in_nine_of_ten_cases_and_passes_in_none_of_twenty(self):
        verdicts = self.judged(0.1)
        assert binomtest(verdicts.count(Verdict.FAIL), self.TRIALS).proportion_ci(0.95).low > 0.90
        assert binomtest(verdicts.count(Verdict.PASS), self.TRIALS).proportion_ci(0.95).high < 0.05


def test_pairing_is_what_finds_it():
    """Test two students on the same molecules: separate intervals overlap, the paired ratio excludes 1."""
    rng = np.random.default_rng(3)
    hard = np.repeat(np.exp(0.5 * rng.standard_normal(100)), 6)[:, None]
    base = comparison(1.0, molecules=100)
    errors = [0.1 * hard * rng.normal(size=base.forces.shape) for _ in range(2)]
    students = [replace(base, forces_predicted=base.forces + e) for e in (1.1 * errors[0], errors[1])]
    apart = [measure(student, resamples=500)["force_rmse"] for student in students]
    assert apart[0].low < apart[1].high
    assert ratios_to_baseline(*students, resamples=500)["force_rmse"].low > 1.0
