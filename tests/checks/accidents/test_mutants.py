"""Mutants, one per contract check: each corrupts a valid data set so that only its check and declared others fail.

For every data set, the findings do not depend on how it is partitioned.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hydrogate.checks import Dataset, Report, Severity, Verdict, check
from hydrogate.checks.accidents.catalogue import changed, without_atoms
from hydrogate.checks.data.dataset import Quarantined
from hydrogate.checks.engine.bounds import resolve_bounds
from hydrogate.checks.engine.partition import Parts
from hydrogate.checks.engine.registry import RULES
from hydrogate.checks.geometry.observables import geometry
from hydrogate.checks.geometry.symmetry import Potential

# A hundred structures are too few for population bounds; each element of the valid data set is in three structures of
# train.
COVERAGE = {"train": {"min": 3}, "valid": {"min": 0}, "test": {"min": 0}, "min_structures": 100}


class Mutant(NamedTuple):
    """A corruption of a data set, and the other checks of error severity that correctly fail too.

    ``bounds`` are given for a check that never fails with its shipped bounds.
    """

    spoil: Callable[[Dataset], Dataset]
    also: tuple[str, ...] = ()
    severity: Severity = Severity.ERROR
    bounds: Mapping[str, Mapping[str, object]] = MappingProxyType({})


def without_hydrogens(data: Dataset) -> Dataset:
    """Remove all hydrogens: the bug that this project was written for."""
    return without_atoms(data, np.flatnonzero(data.numbers == 1))


def bare_without_two(data: Dataset) -> Dataset:
    """Remove SMILES, bond blocks and two hydrogens of an acetonitrile, which no bond assignment can compensate."""
    row = int(np.flatnonzero(data.smiles == "CC#N")[0])
    lost = data.offset[row] + np.flatnonzero(data.numbers[data.atoms_of(row)] == 1)[:2]
    nothing = np.full(len(data), "", dtype=object)
    bare = without_atoms(data, lost)
    return replace(bare, expected_hydrogens=np.full(len(data), -1, dtype=np.int32), smiles=nothing)


def atom_alone(data: Dataset) -> Dataset:
    return without_atoms(data, np.arange(data.offset[3] + 1, data.offset[4]))


def torn_molecule(data: Dataset) -> Dataset:
    """Move the hydroxyl group of an ethanol, atoms 2 and 8, three Å farther out."""
    away = data.positions[2] - data.positions[1]
    return replace(
        data, positions=changed(data.positions, [2, 8], data.positions[[2, 8]] + 3 * away / np.linalg.norm(away))
    )


def turned_copy(data: Dataset) -> Dataset:
    """Replace structure 1 by structure 0, rotated and translated."""
    turned = Rotation.from_euler("xyz", [50, 20, 70], degrees=True).apply(data.positions[data.atoms_of(0)]) + 4.0
    return replace(data, positions=changed(data.positions, data.atoms_of(1), turned))


def bromine_in_one(data: Dataset) -> Dataset:
    return replace(data, numbers=changed(data.numbers, int(np.flatnonzero(data.numbers == 17)[0]), 35))


def relaxed_hydrogens(data: Dataset) -> Dataset:
    """Set every X-H bond to one length."""
    shape, positions = geometry(data), data.positions.astype(np.float64)
    away = (positions[shape.hydrogen] - positions[shape.partner]) / shape.length[:, None]
    relaxed = changed(positions, shape.hydrogen, positions[shape.partner] + 1.09 * away)
    return replace(data, positions=relaxed.astype(np.float32))


def hydrogen_at_origin(data: Dataset) -> Dataset:
    row = int(data.offset[2])
    hydrogen = row + int(np.flatnonzero(data.numbers[data.atoms_of(2)] == 1)[0])
    return replace(data, positions=changed(data.positions, hydrogen, 40.0))


def two_atoms_together(data: Dataset) -> Dataset:
    near = data.positions[1] + np.float32([0.3, 0.0, 0.0])
    return replace(data, positions=changed(data.positions, 0, near))


def leaking_split(data: Dataset) -> Dataset:
    return replace(data, split=changed(data.split, 0, "train" if data.split[0] != "train" else "test"))


def permuted_forces(data: Dataset) -> Dataset:
    forces = data.forces.copy()
    for row in range(len(data)):
        forces[data.atoms_of(row)] = forces[data.atoms_of(row)][::-1]
    return replace(data, forces=forces)


def torn(data: Dataset) -> Dataset:
    """Add a constant force to every atom of one structure."""
    own = data.atoms_of(0)
    return replace(data, forces=changed(data.forces, own, data.forces[own] + np.float32(0.05)))


def shuffled_labels(data: Dataset) -> Dataset:
    """Permute the labels of one molecule's geometries: every statistic of the data set stays the same."""
    order = np.arange(len(data))
    order[6:9] = [7, 8, 6]
    forces = np.concatenate([data.forces[data.atoms_of(int(row))] for row in order])
    return replace(data, energy=data.energy[order], forces=forces)


def another_reference(data: Dataset) -> Dataset:
    """Raise every second energy by 1 eV."""
    return replace(data, energy=changed(data.energy, slice(0, None, 2), data.energy[::2] + 1.0))


def turned(data: Dataset) -> Dataset:
    """Add forces with a net torque and zero sum to one structure."""
    own = data.atoms_of(0)
    arm = data.positions[own] - data.positions[own].mean(axis=0)
    extra = np.cross([0.0, 0.0, 0.02], arm).astype(np.float32)
    return replace(data, forces=changed(data.forces, own, data.forces[own] + extra))


MUTANTS: dict[tuple[str, str], Mutant] = {
    ("structures", "finite"): Mutant(
        lambda d: replace(d, positions=changed(d.positions, (3, 0), np.nan)),
        also=("min_distance", "hydrogen_bond_lengths", "connected", "student_fit"),
    ),
    ("structures", "quarantine_share"): Mutant(
        lambda d: replace(
            d, n_read=d.n_read + 5, quarantine=tuple(Quarantined("good.sdf", 100 + k, "not 3-D") for k in range(5))
        )
    ),
    ("structures", "explicit_hydrogens"): Mutant(
        without_hydrogens, also=("hydrogen_fraction", "element_fraction", "xh_spread", "hydrogen_bond_lengths",
              "bond_lengths_match_orders", "charge_parity")
    ),
    ("structures", "perceivable_bonds"): Mutant(bare_without_two, severity=Severity.WARN),
    ("structures", "hydrogen_fraction"): Mutant(
        lambda d: replace(d, numbers=np.where(d.numbers == 1, 9, d.numbers).astype(np.uint8)),
        also=("explicit_hydrogens", "element_fraction", "xh_spread", "hydrogen_bond_lengths",
              "bond_lengths_match_orders"),
    ),
    ("structures", "element_fraction"): Mutant(
        lambda d: replace(d, numbers=np.where(d.numbers == 6, 14, d.numbers).astype(np.uint8)),
        also=("xh_spread", "hydrogen_bond_lengths", "bond_lengths_match_orders", "student_fit"),
    ),
    ("structures", "element_drift"): Mutant(
        lambda d: replace(d, numbers=np.where(d.numbers == 8, 16, d.numbers).astype(np.uint8)),
        also=("hydrogen_bond_lengths", "bond_lengths_match_orders"),
    ),
    ("structures", "xh_spread"): Mutant(relaxed_hydrogens),
    ("structures", "min_distance"): Mutant(
        two_atoms_together, also=("hydrogen_bond_lengths", "bond_lengths_match_orders", "connected")
    ),
    ("structures", "hydrogen_bond_lengths"): Mutant(hydrogen_at_origin, also=("connected", "student_fit")),
    ("structures", "size"): Mutant(atom_alone, also=("explicit_hydrogens",)),
    ("structures", "charge_parity"): Mutant(
        lambda d: replace(d, charge=changed(d.charge, 0, 1)), also=("student_fit",)
    ),
    ("structures", "heavy_atoms_moved"): Mutant(
        lambda d: replace(d, heavy_atoms_moved=changed(d.heavy_atoms_moved, 3, 0.3))
    ),
    ("structures", "connected"): Mutant(torn_molecule),
    ("structures", "bond_lengths_match_orders"): Mutant(
        lambda d: replace(d, positions=d.positions * np.float32(0.94))
    ),
    ("structures", "student_fit"): Mutant(bromine_in_one, also=("element_coverage",)),
    ("structures", "duplicates"): Mutant(turned_copy),
    ("structures", "split_leakage"): Mutant(leaking_split),
    ("structures", "element_coverage"): Mutant(bromine_in_one, also=("student_fit",)),
    ("structures", "element_pair_coverage"): Mutant(
        lambda d: replace(d, numbers=changed(d.numbers, 0, 16)), severity=Severity.WARN
    ),
    ("structures", "split_similarity"): Mutant(
        lambda d: replace(d, smiles=changed(d.smiles, slice(0, 3), d.smiles[6])),
        also=("split_leakage",),
        bounds={"split_similarity": {"largest": {"max": 0.99}}},
    ),
    ("labels", "finite"): Mutant(
        lambda d: replace(d, forces=changed(d.forces, (3, 0), np.inf)),
        also=("force_magnitude", "force_rms", "force_rms_per_structure", "restoring_forces", "net_force", "net_torque",
              "sibling_work", "sibling_residual"),
    ),
    ("labels", "min_distance"): Mutant(
        two_atoms_together, also=("sibling_work", "sibling_residual", "hydrogen_bond_lengths", "net_torque")
    ),
    ("labels", "hydrogen_bond_lengths"): Mutant(
        hydrogen_at_origin, also=("sibling_work", "sibling_residual", "restoring_forces", "net_torque")
    ),
    ("labels", "complete"): Mutant(lambda d: replace(d, n_read=d.n_read + 1)),
    ("labels", "force_magnitude"): Mutant(
        lambda d: replace(d, forces=d.forces * np.float32(23.06)),
        also=("force_rms", "sibling_work", "sibling_residual", "net_force"),
    ),
    ("labels", "force_rms"): Mutant(
        lambda d: replace(d, forces=d.forces / np.float32(1000)),
        also=("force_magnitude", "sibling_work", "sibling_residual"),
    ),
    ("labels", "force_rms_per_structure"): Mutant(
        lambda d: replace(d, forces=changed(d.forces, d.atoms_of(4), 0.0)),
        also=("sibling_work", "sibling_residual"),
    ),
    ("labels", "restoring_forces"): Mutant(
        lambda d: replace(d, forces=-d.forces), also=("sibling_work", "sibling_residual")
    ),
    ("labels", "sibling_residual"): Mutant(another_reference),
    ("labels", "sibling_work"): Mutant(
        permuted_forces,
        also=("sibling_residual", "restoring_forces", "hydrogen_forces", "net_torque"),
    ),
    ("labels", "net_force"): Mutant(torn),
    ("labels", "net_torque"): Mutant(turned),
    ("labels", "constant_labels"): Mutant(
        lambda d: replace(d, energy=changed(d.energy, slice(0, 3), d.energy[0])),
        also=("sibling_work", "sibling_residual"),
    ),
    ("labels", "isolated_atom_energies"): Mutant(
        lambda d: replace(d, isolated_atom_energies={s: e / 27.2 for s, e in d.isolated_atom_energies.items()})
    ),
    ("labels", "energy_residual"): Mutant(
        lambda d: replace(d, energy=changed(d.energy, slice(0, 3), d.energy[:3] + 30.0))
    ),
    ("labels", "energy_residual_scale"): Mutant(
        lambda d: replace(d, energy=d.energy / 27.211386),
        also=("sibling_work", "sibling_residual", "isolated_atom_energies"),
    ),
    ("labels", "force_scale_by_element"): Mutant(
        lambda d: replace(d, forces=d.forces * np.float32(4.0)),
        also=("sibling_work", "sibling_residual", "force_magnitude", "force_rms"),
    ),
    ("labels", "distribution_drift"): Mutant(
        lambda d: replace(d, forces=d.forces * np.float32(1.3)),
        also=("sibling_work", "sibling_residual"),
    ),
    ("labels", "dipoles"): Mutant(lambda d: replace(d, dipole=changed(d.dipole, (4, 1), np.nan))),
    ("labels", "partial_charges"): Mutant(lambda d: replace(d, charges=changed(d.charges, 4, d.charges[4] + 0.1))),
    ("labels", "energy_force_consistency"): Mutant(
        lambda d: replace(d, forces=d.forces * np.float32(1.05)), also=("sibling_work", "sibling_residual")
    ),
    ("labels", "label_audit"): Mutant(shuffled_labels, also=("sibling_work", "sibling_residual", "net_torque")),
    ("labels", "teacher_identity"): Mutant(lambda d: replace(d, teacher={**d.teacher, "version": "0.0"})),
    ("labels", "hydrogen_forces"): Mutant(
        lambda d: replace(d, forces=np.where((d.numbers == 1)[:, None], 0, d.forces).astype(np.float32)),
        also=("force_magnitude", "restoring_forces", "sibling_work", "sibling_residual", "net_force", "net_torque"),
    ),
}  # fmt: skip


def test_every_check_of_structures_and_labels_has_a_mutant() -> None:
    assert set(MUTANTS) == {key for key in RULES if key[0] in ("structures", "labels")}


@pytest.fixture
def good(request: pytest.FixtureRequest) -> Dataset:
    return request.getfixturevalue("structures" if request.param == "structures" else "labelled")


def judged(
    data: Dataset | Parts,
    good: Dataset,
    contract: str,
    ask_again: Potential | None,
    bounds: Mapping[str, Mapping[str, object]] = MappingProxyType({}),
) -> Report:
    """Check ``data`` against ``contract`` with every input that its checks can use; ``good`` is the reference."""
    relabel = ask_again if contract == "labels" else None
    student = {
        "elements": np.unique(good.numbers),
        "charges": [0],
        "spin_multiplicities": [1],
        "cutoff": 5.0,
        "reads_charge": False,
    }
    overrides = [("test", {"structures": {"element_coverage": COVERAGE, **bounds}})] if contract == "structures" else []
    return check(
        data, contract, overrides=overrides, teacher=good.teacher, relabel=relabel, compared_with=good, student=student
    )


@pytest.mark.parametrize("good", ["structures", "labels"], indirect=True)
def test_the_good_data_set_holds_strictly(good: Dataset, ask_again: Potential) -> None:
    report = judged(good, good, "structures" if good.forces is None else "labels", ask_again)
    assert report.holds(strict=True), [str(finding) for finding in report.refusals(strict=True)]


@pytest.mark.parametrize(
    ("good", "name"), [(key[0], key) for key in MUTANTS], ids=[".".join(key) for key in MUTANTS], indirect=["good"]
)
def test_mutant_is_caught(good: Dataset, name: tuple[str, str], ask_again: Potential) -> None:
    contract, wanted = name
    mutant = MUTANTS[name]
    report = judged(mutant.spoil(good), good, contract, ask_again, mutant.bounds)
    found = {finding.check: finding for finding in report.findings}
    assert found[wanted].verdict is Verdict.FAIL
    _, declared = resolve_bounds(contract)
    assert found[wanted].severity is declared[wanted].severity
    assert report.holds() is (found[wanted].severity is Severity.WARN and not mutant.also)
    # Checks that compare with a reference or with the teacher detect nearly everything; they have mutants of their own.
    comparing = {"element_drift", "force_scale_by_element", "distribution_drift", "label_audit"}
    fired = {f.check for f in report.findings if f.refuses()}
    assert fired - comparing - {"energy_force_consistency", wanted} <= set(mutant.also)
    assert found[wanted].remedy in str(found[wanted])
    assert found[wanted].allowed
    assert found[wanted].n_bad >= 1


def cut(data: Dataset, count: int) -> Parts:
    parts = Parts.of(data, atoms=-(-len(data.numbers) // count))
    assert len(parts.places) == count
    return parts


def compare(one: Report, other: Report) -> None:
    """Assert that both reports are equal, numbers to 1e-9."""
    assert one.fingerprint == other.fingerprint
    assert one.summary == other.summary
    assert one.holds_under == other.holds_under
    for finding, again in zip(one.findings, other.findings, strict=True):
        assert dict(again.observed) == pytest.approx(dict(finding.observed), rel=1e-9, abs=1e-12), finding.check
        assert replace(again, observed=finding.observed) == finding


CASES = [*MUTANTS, ("structures", "good"), ("labels", "good")]


@pytest.mark.parametrize(
    ("good", "name"), [(key[0], key) for key in CASES], ids=[".".join(key) for key in CASES], indirect=["good"]
)
def test_findings_do_not_depend_on_the_cut(good: Dataset, name: tuple[str, str], ask_again: Potential) -> None:
    mutant = MUTANTS.get(name, Mutant(lambda data: data))
    data = mutant.spoil(good)
    # The teacher is slow, so it is used only where needed.
    asked = ask_again if name[1] in ("good", "label_audit", "energy_force_consistency") else None
    whole, two, seven = (judged(cut(data, count), good, name[0], asked, mutant.bounds) for count in (1, 2, 7))
    assert Verdict.ERROR not in {finding.verdict for finding in whole.findings}
    compare(whole, two)
    compare(whole, seven)
