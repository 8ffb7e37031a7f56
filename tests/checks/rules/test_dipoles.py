"""Tests of dipoles and partial charges: valid if present, and no failure if absent."""

from dataclasses import replace

import numpy as np
import pytest

from hydrogate.checks import Dataset, Finding, Severity, Verdict, check
from hydrogate.checks.engine.bounds import resolve_bounds


def found(data: Dataset, name: str) -> Finding:
    report = check(replace(data), "labels")
    return next(finding for finding in report.findings if finding.check == name)


@pytest.mark.parametrize("name", ["dipoles", "partial_charges"])
def test_labels_without_them_are_not_refused(labelled: Dataset, name: str) -> None:
    nothing = {
        "absent": {"dipole": None, "charges": None},
        "all NaN": {"dipole": np.full((len(labelled), 3), np.nan), "charges": np.full_like(labelled.charges, np.nan)},
    }
    for how, columns in nothing.items():
        finding = found(replace(labelled, **columns), name)
        assert (finding.verdict, finding.severity) == (Verdict.NOT_RUN, Severity.WARN), how
        one, several = {"dipoles": ("a dipole", "dipoles")}.get(name, ("partial charges",) * 2)
        said = {"absent": f"the data set has no {several}", "all NaN": f"no structure has {one}"}
        assert finding.message == f"not run: {said[how]}."
        assert not finding.refuses(strict=True)
    assert resolve_bounds("labels")[1][name].severity is Severity.ERROR


def test_a_structure_without_them_is_passed_over_and_the_others_are_judged(labelled: Dataset) -> None:
    dipole, charges = labelled.dipole.copy(), labelled.charges.copy()
    dipole[7] = np.nan
    charges[labelled.atoms_of(7)] = np.nan
    for name in ("dipoles", "partial_charges"):
        finding = found(replace(labelled, dipole=dipole, charges=charges), name)
        assert (finding.verdict, finding.n) == (Verdict.PASS, len(labelled) - 1)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_component_or_charge_that_is_not_finite_fails(labelled: Dataset, value: float) -> None:
    dipole, charges = labelled.dipole.copy(), labelled.charges.copy()
    dipole[7, 2] = value
    charges[labelled.offset[7]] = value
    for name in ("dipoles", "partial_charges"):
        finding = found(replace(labelled, dipole=dipole, charges=charges), name)
        assert (finding.verdict, finding.n_bad) == (Verdict.FAIL, 1)
        assert finding.message.startswith("structure 7 (")


def test_charges_must_sum_to_the_total_charge(labelled: Dataset) -> None:
    charges = labelled.charges.copy()
    charges[labelled.offset[3]] += 0.0009
    assert found(replace(labelled, charges=charges), "partial_charges").verdict is Verdict.PASS
    charges[labelled.offset[3]] += 0.0004
    finding = found(replace(labelled, charges=charges), "partial_charges")
    assert (finding.verdict, finding.n_bad) == (Verdict.FAIL, 1)
    assert "sum to 0.0013 e instead of its total charge of 0 e; allowed at most 0.001 e" in finding.message
    cation = labelled.charge.copy()
    cation[3] = 1
    finding = found(replace(labelled, charge=cation), "partial_charges")
    assert (finding.n_bad, finding.observed["worst"]) == (1, pytest.approx(1.0, abs=1e-4))
