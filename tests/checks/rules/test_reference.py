"""Tests of checks against a reference: distances and ratios by hand, and cases that cannot be compared."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from hydrogate.checks import Dataset, Finding, Severity, Verdict, check
from hydrogate.checks.data.dataset import concatenate
from hydrogate.checks.rules.reference import energy_per_atom, kolmogorov_smirnov

OF_LABELS = ("force_scale_by_element", "distribution_drift")


def found(data: Dataset, name: str, reference: Dataset | None, bounds: Mapping[str, object] | None = None) -> Finding:
    contract = "labels" if name in OF_LABELS else "structures"
    report = check(data, contract, overrides=[("test", {contract: {name: bounds or {}}})], compared_with=reference)
    return next(finding for finding in report.findings if finding.check == name)


def pairs(forces: list[float], energies: list[float], symbols: str = "HO") -> Dataset:
    """Return pairs of atoms, ``forces`` on the first atom and half as much on the second; ``energies`` per atom."""
    atoms = [Atoms(symbols, [[0, 0, 0], [0, 0, 0.97]])] * len(forces)
    return concatenate(
        atoms, energy=[2 * energy for energy in energies], forces=[[[f, 0, 0], [0, f / 2, 0]] for f in forces]
    )


def test_without_a_reference_or_labels_nothing_is_compared() -> None:
    data = pairs([1.0, 2.0], [-1.0, -2.0])
    for name in ("element_drift", *OF_LABELS):
        assert found(data, name, None).message == "not run: no reference data set was given (--reference)."
    for name in OF_LABELS:
        for lacking in ("energy", "forces"):
            bare = replace(data, **{lacking: None})
            assert found(bare, name, data).message == "not run: the data set has no labels."
            assert found(data, name, bare).message == "not run: the reference data set has no labels."
    assert found(replace(data, forces=None), "element_drift", data).verdict is Verdict.PASS


def test_the_distance_of_elements_by_hand() -> None:
    methane, water = concatenate([molecule("CH4")]), concatenate([molecule("H2O")] * 2)
    one, other = np.array([4 / 5, 1 / 5, 0]), np.array([2 / 3, 0, 1 / 3])
    middle = (one + other) / 2
    divergence = [sum(p * np.log2(p / m) for p, m in zip(of, middle, strict=True) if p) for of in (one, other)]
    finding = found(methane, "element_drift", water)
    assert (finding.verdict, finding.n) == (Verdict.FAIL, 5)
    assert finding.observed == {"value": pytest.approx(np.sqrt(sum(divergence) / 2))}
    assert "over 5 atoms" in finding.message
    assert found(methane, "element_drift", concatenate([molecule("N2")])).observed == {"value": pytest.approx(1.0)}
    assert found(methane, "element_drift", concatenate([molecule("CH4")] * 3)).observed == {"value": 0.0}
    for pair in ((methane, concatenate([])), (concatenate([]), methane)):
        assert found(pair[0], "element_drift", pair[1]).verdict is Verdict.UNDECIDED


def test_forces_of_each_element_over_the_references() -> None:
    reference, data = pairs([1.0, 2.0, 3.0], [0.0] * 3), pairs([8.0, 8.0, 1.0], [0.0] * 3)
    finding = found(data, "force_scale_by_element", reference, {"min_atoms": 3})
    assert (finding.verdict, finding.n, finding.n_bad) == (Verdict.FAIL, 6, 2)
    assert finding.observed == {"H": pytest.approx(4.0, rel=1e-3), "O": pytest.approx(4.0, rel=1e-3)}
    assert "over 6 atoms" in finding.message
    assert found(data, "force_scale_by_element", reference, {"min_atoms": 4}).verdict is Verdict.UNDECIDED
    fewer = found(data, "force_scale_by_element", reference.subset([0, 1]), {"min_atoms": 3})
    assert fewer.verdict is Verdict.UNDECIDED
    other = pairs([1.0] * 3, [0.0] * 3, "HN")
    assert found(data, "force_scale_by_element", other, {"min_atoms": 3}).observed.keys() == {"H"}
    still = found(data, "force_scale_by_element", pairs([0.0] * 3, [0.0] * 3), {"min_atoms": 3})
    assert still.verdict is Verdict.UNDECIDED


def test_distributions_by_hand() -> None:
    reference = pairs([1.0, 2.0, 3.0, 4.0], [-10.0, -11.0, -12.0, -13.0])
    data = pairs([3.0, 4.0, 5.0, 6.0], [-10.0, -11.0, -12.0, -14.0])
    finding = found(data, "distribution_drift", reference, {"min_structures": 4})
    assert (finding.verdict, finding.n) == (Verdict.FAIL, 4)
    norms, others = (np.array([*f, *(np.array(f) / 2)]) for f in ([3.0, 4, 5, 6], [1.0, 2, 3, 4]))
    below = [abs((norms <= x + 1e-9).mean() - (others <= x + 1e-9).mean()) for x in (*norms, *others)]
    quartiles = [0.25, 0.5, 0.75]
    shift = np.abs(np.quantile(norms, quartiles) - np.quantile(others, quartiles)).max() / others.std()
    energies = np.abs(np.quantile([-14.0, -12, -11, -10], quartiles) - np.quantile([-13.0, -12, -11, -10], quartiles))
    assert finding.observed == {
        "force_ks": pytest.approx(max(below)),
        "force_quartile_shift": pytest.approx(shift, rel=2e-3),
        "energy_ks": pytest.approx(0.25),
        "energy_quartile_shift": pytest.approx(energies.max() / np.std([-13.0, -12, -11, -10]), rel=2e-3),
    }
    assert found(reference, "distribution_drift", reference, {"min_structures": 4}).verdict is Verdict.PASS


def test_few_structures_or_nothing_that_varies_decide_nothing() -> None:
    reference = pairs([1.0, 2.0, 3.0, 4.0], [-10.0, -11.0, -12.0, -13.0])
    for pair in ((reference, reference.subset([0, 1, 2])), (reference.subset([0, 1, 2]), reference)):
        few = found(pair[0], "distribution_drift", pair[1], {"min_structures": 4})
        assert (few.verdict, few.severity) == (Verdict.UNDECIDED, Severity.ERROR)
        assert "at least 4 structures needed in both" in few.message
        assert found(pair[0], "distribution_drift", pair[1], {"min_structures": 3}).verdict is Verdict.FAIL
    constant = pairs([1.0, 2.0, 3.0, 4.0], [-10.0] * 4)
    assert found(reference, "distribution_drift", constant, {"min_structures": 4}).verdict is Verdict.UNDECIDED
    nothing = concatenate([], energy=[], forces=[np.empty((0, 3))])
    for pair in ((reference, nothing), (nothing, reference)):
        empty = found(pair[0], "distribution_drift", pair[1], {"min_structures": 0})
        assert (empty.verdict, empty.observed, empty.n) == (Verdict.UNDECIDED, {}, 0)


def test_energies_are_shared_by_the_atoms_there_are() -> None:
    data = concatenate([Atoms("He"), Atoms("He2"), Atoms()], energy=[-3.0, -4.0, 0.0])
    assert energy_per_atom(data).tolist() == [-3.0, -2.0, 0.0]


@pytest.mark.parametrize(
    ("values", "others", "distance"),
    [([1.0], [2.0], 1.0), ([1.0], [1.0], 0.0), ([1.0, 2.0, 3.0, 4.0], [3.0, 4.0, 5.0, 6.0], 0.5), ([], [1.0], np.nan)],
)
def test_the_distance_of_two_samples(values: list[float], others: list[float], distance: float) -> None:
    for pair in ((values, others), (others, values)):
        assert kolmogorov_smirnov(*map(np.array, pair)) == pytest.approx(distance, nan_ok=True)
