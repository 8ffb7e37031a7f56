"""Pandera and Great Expectations on the same declaration, including cases in which they wrongly pass."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from hydrogate.checks import Dataset, Verdict, check
from hydrogate.checks.contracts.great_expectations import gx_verdicts
from hydrogate.checks.contracts.run import _compare_engines
from hydrogate.checks.engine.bounds import Limits, resolve_bounds
from hydrogate.checks.engine.pandera_rows import failing_atoms, failing_checks, structure_table
from hydrogate.checks.engine.registry import Quantities
from hydrogate.checks.engine.row_counts import Rows
from hydrogate.checks.errors import BadParams
from hydrogate.checks.geometry.symmetry import Potential


def table_of(values: list[float], limits: Limits) -> tuple[pl.DataFrame, dict[str, Limits]]:
    rows = {"c": Rows(np.array(values), str)}
    return structure_table(rows, {"c": limits}, len(values)), {"c": limits}


@pytest.mark.parametrize("value", [2.0, -2.0, float("nan"), float("inf")])
def test_pandera_refuses_what_is_outside_and_what_is_nan(value: float) -> None:
    assert failing_checks(*table_of([0.0, value], Limits(-1.0, 1.0))) == {"c"}
    assert failing_checks(*table_of([0.0, 1.0], Limits(-1.0, 1.0))) == set()


def test_pandera_refuses_nan_against_a_lower_bound_alone() -> None:
    assert failing_checks(*table_of([1.0, float("nan")], Limits(min=0.0))) == {"c"}


def test_several_rows_of_one_structure_are_judged_by_their_extremes() -> None:
    rows = {"c": Rows(np.array([0.0, 5.0, 0.5]), str, np.array([0, 0, 2]))}
    table = structure_table(rows, {"c": Limits(0.0, 1.0)}, 3)
    assert table["c_max"].to_list() == [5.0, None, 0.5]
    assert failing_checks(table, {"c": Limits(0.0, 1.0)}) == {"c"}


@pytest.mark.parametrize("value", ["TRUE", "yes", "False", "0"])
def test_switched_off_pandera_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PANDERA_VALIDATION_ENABLED", value)
    with pytest.raises(BadParams, match="PANDERA_VALIDATION_ENABLED"):
        failing_checks(*table_of([0.0], Limits(max=1.0)))


def test_pandera_refuses_atoms_that_are_none(labelled: Dataset) -> None:
    assert failing_atoms(labelled) == set()
    assert failing_atoms(replace(labelled, forces=None)) == set()
    for number in (0, 119):
        numbers = labelled.numbers.copy()
        numbers[5] = number
        assert failing_atoms(replace(labelled, numbers=numbers)) == {"numbers"}
    for value in (np.nan, -np.nan, np.inf, -np.inf):
        forces, positions = labelled.forces.copy(), labelled.positions.copy()
        forces[7, 2] = positions[0, 1] = value
        assert failing_atoms(replace(labelled, forces=forces)) == {"forces"}
        assert failing_atoms(replace(labelled, forces=forces, positions=positions)) == {"forces", "positions"}


def test_great_expectations_agrees_on_a_good_and_a_spoiled_data_set(labelled: Dataset, ask_again: Potential) -> None:
    inputs = {"teacher": labelled.teacher, "relabel": ask_again, "compared_with": labelled}
    good = check(labelled, "labels", great_expectations=True, **inputs)
    assert good.holds(strict=True), [str(finding) for finding in good.refusals(strict=True)]
    spoiled = replace(labelled, forces=labelled.forces * np.float32(23.06))
    found = {f.check: f.verdict for f in check(spoiled, "labels", great_expectations=True).findings}
    assert found["force_magnitude"] is Verdict.FAIL
    assert Verdict.ERROR not in found.values()


@pytest.mark.parametrize(("value", "holds"), [(0.5, True), (0.2, False), (float("nan"), False), (float("inf"), False)])
def test_great_expectations_judges_by_the_same_bounds(value: float, holds: bool) -> None:
    _, bounds = resolve_bounds("structures")
    verdicts = gx_verdicts({"hydrogen_fraction": Quantities({"": value}, 100)}, bounds)
    assert verdicts == {"hydrogen_fraction": holds}


def test_an_expectation_that_great_expectations_passes_over_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from great_expectations import ValidationDefinition

    run = ValidationDefinition.run

    def shortened(*args: object, **options: object) -> object:
        result = run(*args, **options)
        result.results.pop()
        return result

    monkeypatch.setattr(ValidationDefinition, "run", shortened)
    with pytest.raises(RuntimeError, match="2 expectations declared, 1 evaluated"):
        gx_verdicts({"hydrogen_fraction": Quantities({"": 0.5}, 100)}, resolve_bounds("structures")[1])


def test_engines_that_disagree_are_an_error(labelled: Dataset) -> None:
    report = check(labelled, "labels")
    _, declared = resolve_bounds("labels")
    findings = {finding.check: finding for finding in report.findings}
    _compare_engines(findings, {"force_rms": False}, declared, "pandera")
    assert findings["force_rms"].verdict is Verdict.ERROR
    assert "pandera verdict fail" in str(findings["force_rms"])


def test_check_imports_neither_torch_nor_great_expectations_nor_h5py() -> None:
    script = (
        "import sys; from ase.build import bulk, molecule; from hydrogate.checks import check\n"
        "check([molecule('CH3CH2OH')], profile='small')\n"
        "check([bulk('NaCl', 'rocksalt', a=5.64)], profile='periodic')\n"
        "print(sorted({'torch', 'great_expectations', 'h5py', 'dvc'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
