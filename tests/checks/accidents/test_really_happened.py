"""Data corruptions that have occurred in practice: each is applied to a valid data set, and a named check fails."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest
from ase import Atoms
from rdkit import Chem
from rdkit.Chem import rdDistGeom

from hydrogate.checks import Dataset, Report, Severity, Verdict, check, concatenate
from hydrogate.checks.accidents import ACCIDENTS, hurt
from hydrogate.checks.accidents.catalogue import without_atoms
from hydrogate.checks.engine.bounds import resolve_bounds
from hydrogate.checks.geometry.chemistry import perceives
from hydrogate.checks.geometry.observables import compositions
from hydrogate.checks.geometry.symmetry import Potential
from hydrogate.models.teachers import make_teacher
from hydrogate.pipeline.stages.check import relabel

ALL = np.arange(108)
HALF = np.sort(np.random.default_rng(0).permutation(108)[:54])
FIVE = np.sort(np.random.default_rng(1).permutation(108)[:5])
ONE = np.array([40])
# Half of the molecules, each with all its geometries.
HALF_OF_THE_MOLECULES = np.arange(54)


class Case(NamedTuple):
    """A corruption, the structures that it changes, and the check that fails on the result."""

    sentence: str
    accident: str
    rows: np.ndarray
    fires: str


def case(sentence: str, accident: str, rows: np.ndarray, fires: str) -> Any:
    return pytest.param(Case(sentence, accident, rows, fires), id=sentence)


STRUCTURES = [
    case("hydrogens stripped from all", "hydrogens_stripped", ALL, "explicit_hydrogens"),
    case("hydrogens stripped from all: no population", "hydrogens_stripped", ALL, "hydrogen_fraction"),
    case("hydrogens stripped from 5 %", "hydrogens_stripped", FIVE, "explicit_hydrogens"),
    case("hydrogens stripped from one", "hydrogens_stripped", ONE, "explicit_hydrogens"),
    case("hydrogens at the origin", "hydrogens_at_origin", ALL, "hydrogen_bond_lengths"),
    case("hydrogens of one at the origin", "hydrogens_at_origin", ONE, "hydrogen_bond_lengths"),
    case("polar hydrogens only", "polar_hydrogens_only", FIVE, "explicit_hydrogens"),
    case("positions in bohr", "positions_in_bohr", ALL, "hydrogen_bond_lengths"),
    case("positions of 5 % in bohr", "positions_in_bohr", FIVE, "hydrogen_bond_lengths"),
    case("a split that leaks conformers", "conformers_across_split", ONE, "split_leakage"),
    case("a duplicated block", "duplicated_block", FIVE, "duplicates"),
    case("SMILES that disagree with the coordinates", "smiles_of_another", HALF, "bond_lengths_match_orders"),
]
# Without siblings: no comparison of two geometries of one molecule is possible.
LABELS = [
    case("forces x 23.06", "forces_in_kcal", ALL, "force_magnitude"),
    case("forces x 23.06, 5 %", "forces_in_kcal", FIVE, "force_rms_per_structure"),
    case("forces x 532", "forces_divided_by_kcal", ALL, "force_magnitude"),
    case("forces x 532, 5 %", "forces_divided_by_kcal", FIVE, "force_rms_per_structure"),
    case("forces x 51.42", "forces_converted_twice", ALL, "force_magnitude"),
    case("forces x 51.42, 5 %", "forces_converted_twice", FIVE, "force_rms_per_structure"),
    case("forces / 1000", "forces_a_thousandth", ALL, "force_rms"),
    case("forces / 1000, 5 %", "forces_a_thousandth", FIVE, "force_rms_per_structure"),
    case("gradients for forces", "gradients_for_forces", ALL, "restoring_forces"),
    case("forces permuted between atoms", "forces_permuted", ALL, "net_torque"),
    case("forces permuted in one structure", "forces_permuted", ONE, "net_torque"),
    case("energies in kcal/mol", "energies_in_kcal", ALL, "energy_residual_scale"),
    case("energies in hartree", "energies_in_hartree", ALL, "energy_residual_scale"),
    case("energies in hartree, 5 %", "energies_in_hartree", FIVE, "energy_residual"),
    case("energies shuffled", "energies_shuffled", ALL, "energy_residual"),
    case("zeros for failed labels", "zeros_for_failed_labels", FIVE, "force_rms_per_structure"),
    case("zero for one failed label", "zeros_for_failed_labels", ONE, "energy_residual"),
    case("hydrogens stripped after labelling", "hydrogens_stripped", FIVE, "net_force"),
]
SIBLINGS = [
    case("gradients for forces, 5 %", "gradients_for_forces", FIVE, "sibling_residual"),
    case("gradient for forces, one", "gradients_for_forces", ONE, "sibling_residual"),
    case("energies shifted for half the set", "energies_shifted", HALF, "sibling_residual"),
    case("two teachers, half", "two_teachers", HALF, "sibling_residual"),
    case("two teachers, 5 %", "two_teachers", FIVE, "sibling_work"),
]
# No check without the teacher can detect these.
AUDIT = [
    case("a sign flip in 5 %", "gradients_for_forces", FIVE, "label_audit"),
    case("a sign flip in one structure", "gradients_for_forces", ONE, "label_audit"),
    case("energies shifted for half of the molecules", "energies_shifted", HALF_OF_THE_MOLECULES, "label_audit"),
    case("two teachers, half of the molecules", "two_teachers", HALF_OF_THE_MOLECULES, "label_audit"),
    case("two teachers, 5 %, no siblings", "two_teachers", FIVE, "label_audit"),
]
ASK_59 = [("test", {"labels": {"label_audit": {"structures": 59}}})]


def refused_by(report: Report) -> set[str]:
    return {finding.check for finding in report.refusals()}


def spoiled(data: Dataset, one: Case) -> Dataset:
    return hurt(ACCIDENTS[one.accident], data, one.rows)


def without_siblings(data: Dataset) -> Dataset:
    return replace(data, parent=np.arange(len(data)))


def without(data: Dataset, *, smiles: bool) -> Dataset:
    """Return ``data`` as read from a file of bare atoms: no hydrogen count, and no SMILES if ``smiles`` is set."""
    said = np.full(len(data), "", dtype=object) if smiles else data.smiles
    return replace(data, expected_hydrogens=np.full(len(data), -1, dtype=np.int32), smiles=said)


def test_the_good_ones_are_refused_by_nothing(structures: Dataset, labelled: Dataset, ask_again: Potential) -> None:
    assert refused_by(check(structures, "structures")) == set()
    assert refused_by(check(without(structures, smiles=True), "structures")) == set()
    for data in (labelled, without_siblings(labelled)):
        assert refused_by(check(data, "labels", overrides=ASK_59, relabel=ask_again)) == set()


@pytest.mark.parametrize("one", STRUCTURES)
def test_the_structures_are_refused(one: Case, structures: Dataset) -> None:
    assert one.fires in refused_by(check(spoiled(structures, one), "structures"))


@pytest.mark.parametrize("one", [item for item in STRUCTURES if "stripped" in item.id])
@pytest.mark.parametrize("smiles", [False, True], ids=["by SMILES", "by perception"])
def test_hydrogens_are_missed_without_a_bond_block(one: Case, structures: Dataset, smiles: bool) -> None:
    assert one.fires in refused_by(check(without(spoiled(structures, one), smiles=smiles), "structures"))


@pytest.mark.parametrize("one", LABELS)
def test_the_labels_are_refused_without_siblings(one: Case, labelled: Dataset) -> None:
    assert one.fires in refused_by(check(spoiled(without_siblings(labelled), one), "labels"))


@pytest.mark.parametrize("one", SIBLINGS)
def test_the_labels_are_refused_with_siblings(one: Case, labelled: Dataset) -> None:
    assert one.fires in refused_by(check(spoiled(labelled, one), "labels"))


@pytest.mark.parametrize("one", AUDIT)
def test_what_passes_without_siblings_is_found_by_the_teacher(
    one: Case, labelled: Dataset, ask_again: Potential
) -> None:
    bad = spoiled(without_siblings(labelled), one)
    assert refused_by(check(bad, "labels")) == set(), "detected without the teacher, which docs/contracts.md excludes"
    assert one.fires in refused_by(check(bad, "labels", overrides=ASK_59, relabel=ask_again))


@pytest.mark.parametrize("stated", [True, False], ids=["spin stated", "spin from the electrons"])
def test_one_hydrogen_lost_from_one_structure_of_bare_atoms(structures: Dataset, stated: bool) -> None:
    hydrogen = int(np.flatnonzero(structures.numbers == 1)[0])
    bad = without(without_atoms(structures, np.array([hydrogen])), smiles=True)
    if not stated:
        spin = bad.spin_multiplicity.copy()
        spin[0] = 2
        bad = replace(bad, spin_multiplicity=spin)
    assert "explicit_hydrogens" in refused_by(check(bad, "structures"))


def test_a_structure_without_perceptible_bonds_is_a_warning(structures: Dataset) -> None:
    """Acetonitrile without two hydrogens: an even number of electrons, and no valid bond assignment."""
    row = int(np.flatnonzero(structures.smiles == "CC#N")[0])
    hydrogens = np.flatnonzero(structures.numbers[structures.atoms_of(row)] == 1)[:2] + structures.offset[row]
    bad = without(without_atoms(structures, hydrogens), smiles=True)
    finding = next(f for f in check(bad, "structures").findings if f.check == "perceivable_bonds")
    assert (finding.verdict, finding.severity, finding.n_bad) == (Verdict.FAIL, Severity.WARN, 1)
    assert f"structure {row} " in finding.message


def test_of_two_hydrogens_lost_perception_knows_little(structures: Dataset) -> None:
    """Two lost hydrogens without SMILES are detected only by perception, as docs/contracts.md states."""
    hydrogen = [np.flatnonzero(structures.to_atoms(row).numbers == 1) for row in range(len(structures))]
    rng = np.random.default_rng(0)
    starts = structures.offset[:-1]
    lost = [rng.choice(of_one, 2, replace=False) + start for of_one, start in zip(hydrogen, starts, strict=True)]
    bad = without(without_atoms(structures, np.concatenate(lost)), smiles=True)
    sound = np.array([perceives(bad.to_atoms(row)) for row in range(len(bad))])
    assert 0.7 < sound.mean() < 0.9
    three = np.flatnonzero(sound)[:3]
    few = without(without_atoms(structures, np.concatenate([lost[row] for row in three.tolist()])), smiles=True)
    assert refused_by(check(few, "structures")) == set()


def test_a_few_smiles_of_others_are_a_warning_that_names_the_first(structures: Dataset) -> None:
    report = check(hurt(ACCIDENTS["smiles_of_another"], structures, ONE), "structures")
    finding = next(finding for finding in report.findings if finding.check == "bond_lengths_match_orders")
    assert (finding.verdict, finding.severity) == (Verdict.FAIL, Severity.WARN)
    assert "structure 40 " in finding.message


@pytest.fixture(scope="module")
def by_gfn1(labelled: Dataset) -> Dataset:
    """Return the valid data set, labelled by another method."""
    answers = relabel(make_teacher("xtb", "GFN1-xTB"), [labelled.to_atoms(row) for row in range(len(labelled))])
    energy, forces = zip(*answers, strict=True)
    return replace(labelled, energy=np.array(energy), forces=np.concatenate(forces).astype(np.float32))


def mixed(data: Dataset, other: Dataset, rows: Sequence[int]) -> Dataset:
    """Return ``data`` with the labels of ``other`` in ``rows``."""
    energy, forces = data.energy.copy(), data.forces.copy()
    energy[rows] = other.energy[rows]
    taken = np.isin(data.structure_of_atom, rows)
    forces[taken] = other.forces[taken]
    return replace(data, energy=energy, forces=forces)


def at_the_reference_of(data: Dataset, other: Dataset) -> Dataset:
    """Return ``other`` with its element energies fitted to those of ``data``, the usual way to merge two data sets."""
    counts, weight = compositions(data).counts, 1.0 / data.sizes
    apart = other.energy - data.energy
    elements, *_ = np.linalg.lstsq(counts * weight[:, None], apart * weight, rcond=None)
    return replace(other, energy=other.energy - counts @ elements)


@pytest.mark.parametrize("rows", [HALF, HALF_OF_THE_MOLECULES, FIVE, ONE])
def test_two_methods_at_their_own_references(rows: np.ndarray, labelled: Dataset, by_gfn1: Dataset) -> None:
    report = check(mixed(without_siblings(labelled), by_gfn1, rows), "labels")
    assert "energy_residual" in refused_by(report)


def test_two_methods_at_one_reference(labelled: Dataset, by_gfn1: Dataset, ask_again: Potential) -> None:
    near = at_the_reference_of(labelled, by_gfn1)
    assert "sibling_residual" in refused_by(check(mixed(labelled, near, HALF), "labels"))
    assert "sibling_work" in refused_by(check(mixed(labelled, near, FIVE), "labels"))
    for rows in (HALF_OF_THE_MOLECULES, FIVE):
        bad = mixed(without_siblings(labelled), near, rows)
        assert refused_by(check(bad, "labels")) == set()
        assert "label_audit" in refused_by(check(bad, "labels", overrides=ASK_59, relabel=ask_again))


def test_a_teacher_under_another_name_is_named(labelled: Dataset) -> None:
    report = check(labelled, "labels", teacher={**labelled.teacher, "method": "GFN1-xTB"})
    assert "teacher_identity" in refused_by(report)


def test_a_split_that_leaks_tautomers() -> None:
    """Keto and enol form of acetylacetone: different SMILES and InChIKey, one molecule."""
    smiles = ["CC(=O)CC(C)=O", "CC(O)=CC(C)=O", "CCCCCO"]
    atoms = []
    for one in smiles:
        molecule = Chem.AddHs(Chem.MolFromSmiles(one))
        assert rdDistGeom.EmbedMolecule(molecule, randomSeed=1) == 0
        numbers = [atom.GetAtomicNum() for atom in molecule.GetAtoms()]
        atoms.append(Atoms(numbers, molecule.GetConformer().GetPositions()))
    for second, leaks in (("test", {"split_leakage"}), ("train", set())):
        data = concatenate(atoms, smiles=smiles, split=["train", second, "test"])
        off = [("test", {"structures": {"xh_spread": {"enabled": False}}})]
        assert refused_by(check(data, "structures", overrides=off)) == leaks


def test_an_element_share_shifted_by_augmentation(structures: Dataset) -> None:
    """Forty more geometries of each molecule with fluorine, none of the others."""
    with_fluorine = np.unique(structures.structure_of_atom[structures.numbers == 9])
    data = structures.subset(np.concatenate([np.arange(len(structures)), np.repeat(with_fluorine, 40)]))
    noise = np.random.default_rng(0).normal(0.0, 0.03, data.positions.shape).astype(np.float32)
    data = replace(data, positions=data.positions + noise)
    refused = refused_by(check(data, "structures", compared_with=structures))
    assert refused == {"element_drift", "element_fraction"}


def test_one_nan_in_ten_million_atoms() -> None:
    count, size = 200_000, 50
    positions = np.zeros((count * size, 3), dtype=np.float32)
    positions[7_654_321, 1] = np.nan
    nothing, ones = np.full(count, "", dtype=object), np.ones(count, dtype=np.int16)
    rows = np.arange(count)
    data = Dataset(
        numbers=np.full(count * size, 6, dtype=np.uint8),
        positions=positions,
        offset=np.arange(count + 1) * size,
        charge=0 * ones,
        spin_multiplicity=ones,
        expected_hydrogens=np.zeros(count, dtype=np.int32),
        smiles=nothing,
        inchikey=nothing,
        source=nothing,
        source_index=rows,
        parent=rows,
        split=nothing,
    )
    others = {name: {"enabled": False} for name in resolve_bounds("structures")[1] if name != "finite"}
    report = check(data, "structures", overrides=[("test", {"structures": others})])
    (finding,) = report.refusals()
    assert (finding.check, finding.n, finding.n_bad) == ("finite", count, 1)
    assert "structure 153086 (C50) has 1 non-finite values" in finding.message
