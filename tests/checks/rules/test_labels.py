"""Tests of contract ``labels`` on small molecules: values by hand, exclusions, and undecided cases."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from hydrogate.checks import Dataset, Finding, Severity, Verdict, check
from hydrogate.checks.data.dataset import Quarantined, concatenate


def found(
    data: Dataset, name: str, bounds: Mapping[str, object] | None = None, teacher: Mapping[str, Any] | None = None
) -> Finding:
    report = check(data, "labels", overrides=[("test", {"labels": {name: bounds or {}}})], teacher=teacher)
    return next(finding for finding in report.findings if finding.check == name)


def labelled(structures: list[Atoms], forces: list[Any], energy: list[float] | None = None, **columns: Any) -> Dataset:
    """Return a labelled data set; ``forces`` are broadcast to (n, 3) for each structure."""
    full = [np.broadcast_to(np.asarray(f, float), (len(atoms), 3)) for atoms, f in zip(structures, forces, strict=True)]
    energies = energy or [float(row) for row in range(len(structures))]
    return concatenate(structures, energy=energies, forces=full, **columns)


def along(*lengths: float) -> np.ndarray:
    """Return forces of these lengths along x."""
    return np.array([[length, 0.0, 0.0] for length in lengths])


WATER = molecule("H2O")
OF_FORCES = (
    "force_magnitude", "force_rms", "force_rms_per_structure", "restoring_forces", "sibling_work", "sibling_residual",
    "net_force", "net_torque", "hydrogen_forces", "constant_labels",
)  # fmt: skip


@pytest.mark.parametrize("lacking", ["energy", "forces"])
def test_without_labels_nothing_is_judged_and_all_are_missing(lacking: str) -> None:
    data = replace(labelled([WATER] * 3, [1.0] * 3), **{lacking: None})
    report = {finding.check: finding for finding in check(data, "labels").findings}
    for name in OF_FORCES:
        assert report[name].message == f"not run: the data set has no {lacking}.", name
    complete = report["complete"]
    assert (complete.verdict, complete.n) == (Verdict.FAIL, 3)
    assert complete.observed == {"missing": 3.0, "quarantined_share": 0.0}


def test_a_label_is_there_or_in_the_quarantine_or_missing() -> None:
    data = labelled([WATER] * 4, [1.0] * 4)
    data.energy[0] = np.nan
    data.forces[4, 1] = np.nan
    data.forces[8, 2] = np.inf  # present but infinite: a case for check finite
    assert found(data, "complete").observed == {"missing": 2.0, "quarantined_share": 0.0}
    counted = found(replace(data, n_read=7, quarantine=(Quarantined("a.sdf", 5, "no SCF"),)), "complete")
    assert counted.observed == {"missing": 4.0, "quarantined_share": pytest.approx(1 / 7)}
    assert (counted.n, counted.n_bad) == (7, 2)
    assert found(replace(data, n_read=3), "complete").observed["missing"] == 2.0


def test_the_size_of_forces() -> None:
    data = labelled([WATER, Atoms("He")], [along(4.0, 1.0, 2.0), along(3.0)])
    finding = found(data, "force_magnitude")
    assert (finding.verdict, finding.n) == (Verdict.PASS, 4)
    assert finding.observed["largest"] == 4.0
    assert finding.observed["median"] == pytest.approx(2.5, rel=1e-3)
    assert finding.observed["p99_9"] == pytest.approx(3.997, rel=1e-3)
    assert "over 4 atoms" in finding.message
    rms = found(data, "force_rms")
    assert (rms.n, rms.observed) == (4, {"value": pytest.approx(np.sqrt(30 / 12))})
    data.forces[0, 0] = np.nan
    for name in ("force_magnitude", "force_rms"):
        assert found(data, name).verdict is Verdict.UNDECIDED
        nothing = found(concatenate([], energy=[], forces=[np.empty((0, 3))]), name)
        assert (nothing.verdict, nothing.n) == (Verdict.UNDECIDED, 0)


def test_a_structure_is_held_against_the_median_and_an_atom_alone_is_not() -> None:
    crystal = Atoms("He", cell=[3, 3, 3], pbc=True)
    data = labelled([WATER, WATER, WATER, Atoms("He"), crystal], [1.0, 1.0, 20.0, 0.0, 1.0])
    finding = found(data, "force_rms_per_structure")
    assert (finding.verdict, finding.n, finding.n_bad) == (Verdict.FAIL, 4, 1)
    assert finding.message.startswith("structure 2 (H2O) has RMS force 20 eV/Å, 20 times the median; allowed")
    zeroed = found(labelled([WATER] * 3, [0.0] * 3), "force_rms_per_structure")
    assert (zeroed.verdict, zeroed.n_bad) == (Verdict.FAIL, 3)


def stretched(name: str, seed: int, pull: float = 0.0, spread: float = 0.05) -> tuple[Atoms, np.ndarray]:
    """Return a molecule with harmonic bonds (10 eV/Å²) to its first atom, and its forces, with ``pull`` on each H."""
    atoms = molecule(name)
    forces = np.zeros((len(atoms), 3))
    change = np.random.default_rng(seed).normal(0.0, spread, len(atoms))
    change[1:] -= change[1:].mean()
    for row in range(1, len(atoms)):
        away = atoms.positions[row] - atoms.positions[0]
        away /= np.linalg.norm(away)
        atoms.positions[row] += change[row] * away
        forces[row] = (pull - 10.0 * change[row]) * away
    forces[0] = -forces.sum(axis=0)
    return atoms, forces


def test_a_stretched_bond_pulls_back() -> None:
    structures, forces = zip(
        *[stretched(name, seed) for name in ("CH4", "H2O", "NH3") for seed in range(3)], strict=True
    )
    data = labelled([*structures], [*forces])
    enough = {"min_bonds": 27}
    finding = found(data, "restoring_forces", enough)
    assert (finding.verdict, finding.n) == (Verdict.PASS, 27)
    assert finding.observed["value"] == pytest.approx(-1.0, abs=1e-5)  # lengths centred per element
    gradients = found(replace(data, forces=-data.forces), "restoring_forces", enough)
    assert gradients.verdict is Verdict.FAIL
    assert gradients.observed["value"] == pytest.approx(1.0, abs=1e-5)
    few = found(data, "restoring_forces", {"min_bonds": 28})
    assert (few.verdict, few.severity) == (Verdict.UNDECIDED, Severity.ERROR)
    assert "27 X-H bonds, at least 28 needed" in few.message
    warned = found(data, "restoring_forces", {"min_bonds": 28, "too_few_only_warn": True})
    assert warned.severity is Severity.WARN


def test_what_pulls_one_element_more_than_another_weakens_the_correlation() -> None:
    both = [stretched("CH4", 1, pull=1.0), stretched("H2O", 2, pull=-2.0)]
    data = labelled([atoms for atoms, _ in both], [forces for _, forces in both])
    deviation, force = [], []
    for atoms, forces in both:
        arms = atoms.positions[1:] - atoms.positions[0]
        lengths = np.linalg.norm(arms, axis=1)
        deviation += [*(lengths - lengths.mean())]
        force += [*(forces[1:] * arms / lengths[:, None]).sum(axis=1)]
    expected = np.dot(deviation, force) / np.sqrt(np.dot(deviation, deviation) * np.var(force) * len(force))
    observed = found(data, "restoring_forces", {"min_bonds": 6}).observed["value"]
    assert observed == pytest.approx(expected, abs=1e-4)
    assert -0.8 < observed < 0.0


def test_bonds_that_hardly_differ_tell_nothing() -> None:
    atoms, forces = stretched("CH4", 1, spread=0.002)
    finding = found(labelled([atoms], [forces]), "restoring_forces", {"min_bonds": 4})
    assert finding.verdict is Verdict.UNDECIDED
    assert "X-H lengths have a spread of 0.00" in finding.message and "at least 0.01 Å needed" in finding.message
    assert (
        found(labelled([atoms], [forces]), "restoring_forces", {"min_bonds": 4, "min_spread": 0}).verdict
        is Verdict.PASS
    )
    dry = labelled([molecule("N2")], [0.0])
    assert found(dry, "restoring_forces").verdict is Verdict.UNDECIDED
    assert found(dry, "restoring_forces", {"may_be_absent": True}).verdict is Verdict.NOT_RUN


def springs(lengths: list[float], scale: float = 1.0) -> Dataset:
    """Return H2 at several lengths, all derived from the first, on a spring of 30 eV/Å² and rest length 0.7 Å."""
    pairs = [Atoms("H2", [[0, 0, 0], [length, 0, 0]]) for length in lengths]
    pull = [30.0 * (length - 0.7) * scale for length in lengths]
    energy = [15.0 * (length - 0.7) ** 2 for length in lengths]
    return labelled(pairs, [along(f, -f) for f in pull], energy, parent=[0] * len(lengths))


@pytest.mark.parametrize(("scale", "slope"), [(1.0, 1.0), (-1.0, -1.0), (23.0, 1 / 23)])
def test_work_of_the_forces_is_the_difference_of_the_energies(scale: float, slope: float) -> None:
    data = springs([0.7, 0.8, 0.9, 1.4], scale)  # the last one has RMS displacement 0.49 Å
    finding = found(data, "sibling_work", {"min_pairs": 2})
    assert finding.n == 2
    assert finding.observed["value"] == pytest.approx(slope, rel=1e-5)
    assert (finding.verdict is Verdict.PASS) is (scale == 1.0)
    assert "over 2 pairs, allowed" in finding.message
    assert "2 pairs, at least 3 needed" in found(data, "sibling_work", {"min_pairs": 3}).message
    assert found(data, "sibling_work", {"min_pairs": 1, "max_rms_displacement": 0.5}).n == 3


def test_geometries_far_from_each_other_are_no_pairs() -> None:
    for data in (springs([0.7, 1.4]), springs([0.7])):
        for name in ("sibling_work", "sibling_residual"):
            finding = found(data, name)
            assert finding.verdict is Verdict.NOT_RUN
            assert "no molecule has two nearby geometries" in finding.message
    still = found(springs([0.7, 0.7]), "sibling_work", {"min_pairs": 1})
    assert still.verdict is Verdict.UNDECIDED


def test_one_energy_of_another_reference_is_named() -> None:
    data = springs([0.7, 0.8, 0.9])
    assert found(data, "sibling_residual").verdict is Verdict.PASS
    data.energy[2] += 10.0
    finding = found(data, "sibling_residual")
    assert (finding.verdict, finding.n, finding.n_bad) == (Verdict.FAIL, 2, 1)
    # Work 0.6 eV; one atom moves by 0.2 Å and its force changes by 6 eV/Å, so Σ |ΔF·Δx| |Δx| is 0.24 eV Å.
    assert finding.observed["worst"] == pytest.approx(10.0 / 0.24, rel=1e-4)
    assert finding.message.startswith(
        "structure 2 (H2) differs from structure 0 by 10.6 eV, but the work of their forces is 0.6 eV; allowed"
    )
    assert "1 of 2 pairs fail" in finding.message


def test_where_forces_do_not_change_the_work_is_exact() -> None:
    data = springs([0.7, 0.8])
    data.forces[:] = 3.0
    finding = found(data, "sibling_residual")
    assert (finding.verdict, finding.n_bad, finding.observed) == (Verdict.FAIL, 1, {})


def test_a_pair_is_waived_by_its_second_structure() -> None:
    data = replace(springs([0.7, 0.8, 0.9]), source=np.array(["a.sdf"] * 3, dtype=object))
    data.energy[2] += 10.0
    waiver = {
        "contract": "labels",
        "check": "sibling_residual",
        "reason": "old",
        "author": "A",
        "expires": "2999-01-01",
    }
    for record, severity in ((2, Severity.WARN), (1, Severity.ERROR)):
        listed = [{**waiver, "structures": [f"a.sdf record {record}"]}]
        report = check(data, "labels", overrides=[("test", {"waivers": listed})])
        assert next(f.severity for f in report.findings if f.check == "sibling_residual") is severity


def test_what_pushes_itself() -> None:
    data = labelled([WATER, WATER, WATER], [0.0, along(0.2, 0.1, 0.0), along(-0.1, 0.0, 0.0)])
    finding = found(data, "net_force")
    assert (finding.verdict, finding.n) == (Verdict.FAIL, 3)
    assert finding.observed == {"other": pytest.approx(0.1)}  # 0.3 divided by √9
    small = replace(data, forces=data.forces / np.float32(20))
    assert (found(small, "net_force").verdict, found(small, "net_force").severity) == (Verdict.FAIL, Severity.WARN)
    exact = found(replace(small, teacher={"name": "xtb"}), "net_force")
    assert (exact.severity, exact.observed) == (Severity.ERROR, {"exact": pytest.approx(0.005)})
    assert found(replace(small, teacher={"name": "orb"}), "net_force").observed.keys() == {"other"}


def test_what_turns_itself_unless_it_is_periodic() -> None:
    pair = Atoms("H2", [[0, 0, 0], [0.74, 0, 0]])
    boxed = Atoms(pair, cell=[9, 9, 9], pbc=True)
    turning = np.array([[0.0, 0.1, 0.0], [0.0, -0.1, 0.0]])
    finding = found(labelled([boxed, pair, pair], [turning, 0.0, turning]), "net_torque")
    assert (finding.verdict, finding.n, finding.n_bad) == (Verdict.FAIL, 2, 1)
    assert finding.message.startswith("structure 2 (H2) has a net torque of 0.074 eV; allowed")
    assert "1 of 2 isolated structures fail" in finding.message
    lattice = found(labelled([boxed], [turning]), "net_torque")
    assert lattice.message == "not run: all structures are periodic."


XTB = {"name": "xtb", "method": "GFN2-xTB", "version": "6.7.1"}


def test_one_teacher_and_the_one_that_was_meant() -> None:
    data = labelled([WATER] * 2, [0.0] * 2)
    assert found(data, "teacher_identity", teacher=XTB).message == "not run: the data set does not name a teacher."
    named = replace(data, teacher=XTB)
    for wanted in (None, {}, {"name": "xtb"}, XTB):
        assert found(named, "teacher_identity", teacher=wanted).verdict is Verdict.PASS
    other = found(named, "teacher_identity", teacher=XTB | {"method": "GFN1-xTB", "version": "7", "device": "cpu"})
    assert (other.verdict, other.observed, other.n) == (Verdict.FAIL, {"value": 3.0}, 2)
    for says in ("method 'GFN2-xTB' instead of 'GFN1-xTB', version '6.7.1' instead of '7'", "device None instead"):
        assert says in other.message
    two = replace(data, teacher={"several": [XTB, {"name": "orb", "method": "omol"}]})
    several = found(two, "teacher_identity", teacher=XTB)
    assert (several.verdict, several.observed, several.n) == (Verdict.FAIL, {"value": 1.0}, 2)
    assert "structures labelled by xtb GFN2-xTB 6.7.1 and orb omol" in several.message


def test_hydrogen_is_held_against_the_heavy_atoms() -> None:
    data = labelled([WATER, WATER], [along(4.0, 1.0, 2.0), along(2.0, 0.0, 3.0)])
    finding = found(data, "hydrogen_forces")
    assert (finding.verdict, finding.n) == (Verdict.PASS, 4)
    assert finding.observed["value"] == pytest.approx(1.5 / 3.0, rel=1e-3)
    alone = found(labelled([molecule("H2")], [along(2.0, -2.0)]), "hydrogen_forces")
    assert (alone.verdict, alone.observed) == (Verdict.PASS, {"value": 1.0})
    dry = labelled([molecule("N2")], [along(2.0, -2.0)])
    assert found(dry, "hydrogen_forces").verdict is Verdict.UNDECIDED
    assert found(dry, "hydrogen_forces", {"may_be_absent": True}).verdict is Verdict.NOT_RUN
    still = labelled([WATER], [along(0.0, 1.0, 1.0)])
    assert found(still, "hydrogen_forces").verdict is Verdict.UNDECIDED


def test_labels_written_over_by_one_constant_are_counted() -> None:
    moved = [Atoms(WATER.numbers, WATER.positions * (1 + 0.01 * row)) for row in range(4)]
    forces = [np.arange(9.0).reshape(3, 3) + 10 * row for row in range(4)]
    assert found(labelled(moved, forces), "constant_labels").observed == {"energy": 0.0, "forces": 0.0}
    constant = labelled(moved, [0.0, along(0.0, 1.0, 2.0), *forces[2:]], [5.0, 5.0, 5.0, 6.0])
    finding = found(constant, "constant_labels")
    assert (finding.verdict, finding.severity, finding.n) == (Verdict.FAIL, Severity.WARN, 4)
    assert finding.observed == {"energy": 2 / 4, "forces": 3 / 12}
    twice = labelled([moved[0], moved[0], moved[1]], forces[:3], [5.0, 5.0, 6.0])
    assert found(twice, "constant_labels").observed["energy"] == 0.0  # one geometry has one energy
    pairs = replace(springs([0.7, 0.8]), energy=np.ones(2))
    assert (found(pairs, "constant_labels").n, found(pairs, "constant_labels").observed["energy"]) == (2, 1 / 2)
    signs = labelled(moved[:2], [along(0.0, 1.0, 2.0), along(-0.0, 3.0, 4.0)], [0.0, -0.0])
    assert found(signs, "constant_labels").observed == {"energy": 1 / 2, "forces": 1 / 6}
    atoms = labelled([Atoms("He"), Atoms("He"), moved[0]], [0.0, 0.0, forces[1]], [5.0, 5.0, 6.0])
    alone = found(atoms, "constant_labels")
    assert (alone.n, alone.observed) == (1, {"energy": 0.0, "forces": 0.0})


def test_of_many_labels_a_sample_by_its_seed_is_looked_at() -> None:
    moved = [Atoms(WATER.numbers, WATER.positions * (1 + 0.01 * row)) for row in range(40)]
    data = labelled(moved, [1.0 + row for row in range(40)], [float(row % 7) for row in range(40)])
    seen = {tuple(found(data, "constant_labels", {"atoms": 30, "seed": seed}).observed.values()) for seed in range(4)}
    assert len(seen) > 1
    assert found(data, "constant_labels", {"atoms": 30}).n == 40
