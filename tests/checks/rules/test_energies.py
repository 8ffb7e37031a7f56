"""Tests of energies against a fit of one energy per element, by NumPy's least squares, and against isolated atoms."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from ase.build import molecule

from hydrogate.checks import Dataset, Finding, Verdict, check
from hydrogate.checks.data.dataset import concatenate

NAMES = ("CH4", "H2O", "CO2", "CH3OH", "C2H6")
OF_ELEMENT = {1: -13.0, 6: -1030.0, 8: -2040.0}
OF_CHARGE = -6.0


def found(data: Dataset, name: str, bounds: Mapping[str, object] | None = None) -> Finding:
    report = check(data, "labels", overrides=[("test", {"labels": {name: bounds or {}}})])
    return next(finding for finding in report.findings if finding.check == name)


def energies_of(data: Dataset) -> np.ndarray:
    """Return energies that depend on the elements and the charge only."""
    of_atom = np.array([OF_ELEMENT[z] for z in data.numbers.tolist()])
    return np.add.reduceat(of_atom, data.offset[:-1]) + OF_CHARGE * data.charge


def made(names: tuple[str, ...] = NAMES, copies: int = 8, charged: bool = False) -> Dataset:
    """Return ``copies`` of each molecule with composition energies; if ``charged``, every other one is a cation."""
    structures = [molecule(name) for name in names for _ in range(copies)]
    for row, atoms in enumerate(structures):
        atoms.info = {"charge": row % 2, "spin": 1 + row % 2} if charged else {}
    data = concatenate(
        structures, forces=[np.zeros((len(atoms), 3)) for atoms in structures], energy=[0.0] * len(structures)
    )
    return replace(data, energy=energies_of(data))


def with_noise(data: Dataset) -> Dataset:
    """Add noise of 0.02 eV per atom, and make one structure 1 eV per atom too low."""
    noise = np.random.default_rng(0).normal(0.0, 0.02, len(data))
    noise[3] = -1.0
    return replace(data, energy=data.energy + noise * data.sizes)


@pytest.mark.parametrize("charged", [False, True])
def test_what_the_fit_leaves_is_what_numpys_leaves(charged: bool) -> None:
    data = with_noise(made(charged=charged))
    counts = np.stack([np.add.reduceat(data.numbers == z, data.offset[:-1], dtype=float) for z in OF_ELEMENT], axis=1)
    columns = np.column_stack([counts, data.charge]) / data.sizes[:, None]
    left = data.energy / data.sizes
    left = left - columns @ np.linalg.lstsq(columns, left, rcond=None)[0]
    deviation = np.median(np.abs(left - np.median(left)))
    finding = found(data, "energy_residual")
    assert (finding.verdict, finding.n, finding.n_bad) == (Verdict.FAIL, 40, 2)
    assert finding.observed["robust_z"] == pytest.approx((np.median(left) - left.min()) / 1.4826 / deviation, rel=5e-3)
    assert finding.observed["standard_deviation"] == pytest.approx(left.std(), rel=1e-6)
    scale = found(data, "energy_residual_scale")
    assert (scale.verdict, scale.n) == (Verdict.PASS, 40)
    assert scale.observed["value"] == pytest.approx(deviation, rel=5e-3)
    above = found(replace(data, energy=2 * energies_of(data) - data.energy), "energy_residual")
    assert above.observed["robust_z"] == pytest.approx(finding.observed["robust_z"], rel=5e-3)


def test_too_few_structures_for_the_elements_are_not_judged() -> None:
    data = with_noise(made())
    for name in ("energy_residual", "energy_residual_scale"):
        assert found(data.subset(range(39)), name, {"min_structures_per_rank": 13}).verdict is not Verdict.NOT_RUN
        few = found(data.subset(range(38)), name, {"min_structures_per_rank": 13})
        assert few.verdict is Verdict.NOT_RUN
        assert "38 structures with compositions of rank 3; at least rank 2 and 39 structures needed" in few.message
        one = found(made(("CH4",), 40), name)
        assert "40 structures with compositions of rank 1; at least rank 2" in one.message
        assert found(with_noise(made(("CH4", "C2H6"), 10)), name).verdict is not Verdict.NOT_RUN
        charges = with_noise(made(charged=True))
        needed = found(charges, name, {"min_structures_per_rank": 13})
        assert "rank 4; at least rank 2 and 52 structures needed" in needed.message
        cations = replace(charges, charge=np.ones_like(charges.charge))
        assert found(cations, name, {"min_structures_per_rank": 13}).verdict is not Verdict.NOT_RUN


def test_energies_that_are_exactly_their_composition_are_undecided() -> None:
    data = replace(made(), energy=np.zeros(40))
    assert found(data, "energy_residual").verdict is Verdict.UNDECIDED
    assert found(data, "energy_residual_scale").verdict is Verdict.UNDECIDED


def test_an_energy_that_is_none_is_left_out_of_the_fit_and_nothing_passes() -> None:
    data = with_noise(made())
    data.energy[7] = np.nan
    finding = found(data, "energy_residual")
    assert finding.verdict is Verdict.UNDECIDED
    assert "no data to measure robust_z" in finding.message


BINDING = {"H": -4.0, "C": -5.0, "O": -6.0}
ALONE = {"H": -9.0, "C": -1025.0, "O": -2034.0}


def test_each_element_is_held_against_its_atom_alone() -> None:
    data = replace(made(), isolated_atom_energies=ALONE)
    finding = found(data, "isolated_atom_energies", {"min_atoms": 40})
    assert (finding.verdict, finding.n) == (Verdict.PASS, 40)
    gains = [np.mean([BINDING[symbol] for symbol in molecule(name).symbols]) for name in NAMES]
    assert finding.observed["missing"] == 0.0
    assert finding.observed["all"] == pytest.approx(np.median(gains), rel=1e-3)
    assert finding.observed.keys() == {"missing", "all", "H", "C"}
    assert [finding.observed[symbol] for symbol in "HC"] == pytest.approx([-4.0, -5.0], abs=1e-6)
    rarer = found(data, "isolated_atom_energies", {"min_atoms": 41})
    assert rarer.observed.keys() == {"missing", "all", "H"}


def test_charges_have_no_part_in_what_an_element_gains() -> None:
    data = replace(made(charged=True), isolated_atom_energies=ALONE)
    observed = found(data, "isolated_atom_energies", {"min_atoms": 1}).observed
    assert {symbol: observed[symbol] for symbol in BINDING} == pytest.approx(BINDING, abs=1e-6)


def test_elements_that_no_composition_tells_apart_are_judged_together() -> None:
    data = replace(made(("CH4",)), isolated_atom_energies=ALONE)
    observed = found(data, "isolated_atom_energies", {"min_atoms": 1}).observed
    assert observed == {"missing": 0.0, "all": pytest.approx((4 * -4.0 - 5.0) / 5, rel=1e-3)}


def test_an_element_without_its_atom_alone_is_missing() -> None:
    data = made()
    told = found(data, "isolated_atom_energies")
    assert told.message == "not run: the data set has no isolated-atom energies."
    finding = found(replace(data, isolated_atom_energies={"C": -1025.0}), "isolated_atom_energies")
    assert (finding.verdict, finding.n, finding.observed) == (Verdict.FAIL, 40, {"missing": 2.0})
    assert "structures (no isolated atom of H, O)" in finding.message
    more = {**ALONE, "N": -1480.0}
    assert found(replace(data, isolated_atom_energies=more), "isolated_atom_energies").observed["missing"] == 0.0
