"""Tests of contract ``structures`` on small molecules: value, count and message of each check."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from hydrogate.checks import Dataset, Finding, Severity, Verdict, check
from hydrogate.checks.accidents.catalogue import without_atoms
from hydrogate.checks.data.dataset import Quarantined, concatenate

Spoil = Callable[[Dataset], object]


def found(data: Dataset, name: str, **bounds: object) -> Finding:
    report = check(data, "structures", overrides=[("test", {"structures": {name: bounds}})])
    return next(finding for finding in report.findings if finding.check == name)


def of(*names: str, **columns: object) -> Dataset:
    return concatenate([molecule(name) for name in names], **columns)


def without(name: str, hydrogens: int) -> Atoms:
    atoms = molecule(name)
    return atoms[: len(atoms) - hydrogens]


@pytest.mark.parametrize(
    ("spoil", "count"),
    [
        (lambda data: data.positions.__setitem__(4, np.nan), 3),
        (lambda data: data.forces.__setitem__((4, 1), np.inf), 1),
        (lambda data: data.energy.__setitem__(1, -np.inf), 1),
        (lambda data: data.numbers.__setitem__([4, 6], [0, 119]), 2),
        (lambda data: data.cell.__setitem__((1, 2), np.nan), 1),
    ],
)
def test_what_is_not_finite_or_no_element_is_counted(spoil: Spoil, count: int) -> None:
    boxed = [molecule(name, cell=[9, 9, 9], pbc=True) for name in ("H2O", "CH4", "NH3")]
    data = concatenate(boxed, energy=[1.0, 2.0, 3.0], forces=[np.ones((len(atoms), 3)) for atoms in boxed])
    assert found(data, "finite").verdict is Verdict.PASS
    spoil(data)
    finding = found(replace(data), "finite")
    assert (finding.verdict, finding.n, finding.n_bad) == (Verdict.FAIL, 3, 1)
    assert finding.message.startswith("structure 1 (")
    assert f") has {count} non-finite values or invalid atomic numbers, or no atoms;" in finding.message


def test_a_structure_of_no_atoms_is_not_finite() -> None:
    finding = found(concatenate([molecule("H2O"), Atoms()]), "finite")
    assert (finding.verdict, finding.n_bad) == (Verdict.FAIL, 1)


def test_of_unlabelled_structures_records_are_counted_and_of_labelled_ones_structures() -> None:
    data = of("H2O", "H2O", "CH4", source_index=[0, 0, 1], source=["a.sdf", "a.sdf", "a.sdf"])
    assert found(data, "quarantine_share").message == (
        "not run: the data set has no record count (only the pipeline writes one)."
    )
    aside = (Quarantined("a.sdf", 2, "flat"),)
    finding = found(replace(data, n_read=3, quarantine=aside), "quarantine_share")
    assert (finding.verdict, finding.n, finding.observed) == (Verdict.FAIL, 3, {"value": pytest.approx(1 / 3)})
    assert "over 3 records" in finding.message
    other_files = replace(data, source=np.array(["a", "b", "a"], dtype=object), n_read=3)
    assert found(other_files, "quarantine_share").observed == {"value": 0.0}
    lost = found(replace(data, n_read=4, quarantine=aside), "quarantine_share")
    assert lost.verdict is Verdict.ERROR
    assert "4 records read, but 1 of them are neither in the data set nor quarantined" in lost.message
    labelled = replace(data, energy=np.zeros(3), forces=np.zeros_like(data.positions), n_read=4, quarantine=aside)
    assert found(labelled, "quarantine_share").observed == {"value": 0.25}


def test_hydrogens_are_expected_as_recorded_else_as_the_smiles_implies() -> None:
    methyl = [molecule("CH4"), without("CH4", 1), without("CH4", 1)]
    finding = found(concatenate(methyl, expected_hydrogens=[4, 4, 3], smiles=["", "", "C"]), "explicit_hydrogens")
    assert (finding.verdict, finding.n, finding.n_bad, finding.observed) == (Verdict.FAIL, 3, 1, {"worst": 1.0})
    assert finding.message.startswith("structure 1 (CH3) has 3 explicit H, its valences imply 4; allowed")
    assert finding.message.endswith("1 of 3 structures fail.")
    by_smiles = found(concatenate(methyl, smiles=["C", "[CH3]", "C"]), "explicit_hydrogens")
    assert by_smiles.n_bad == 1
    assert by_smiles.message.startswith("structure 2 (CH3) has 3 explicit H, its valences imply 4;")
    both = found(concatenate([without("CH4", 2)], expected_hydrogens=[4]), "explicit_hydrogens")
    assert both.observed == {"worst": 2.0}


# Acetonitrile without two of its hydrogens: no bonds can be perceived, but all electrons are paired.
RING = Atoms("CCNH", without("CH3CN", 2).positions)


def test_one_failed_perception_among_many_is_no_proof_and_among_few_it_is() -> None:
    many = concatenate([*[molecule("H2O")] * 7, RING])
    finding = found(many, "explicit_hydrogens")
    assert finding.verdict is Verdict.PASS
    assert (
        "8 structures (no valid bonds can be perceived in 1 of 8 without a bond block or SMILES) within"
        in finding.message
    )
    warned = found(many, "perceivable_bonds")
    assert (warned.verdict, warned.severity, warned.n, warned.n_bad) == (Verdict.FAIL, Severity.WARN, 8, 1)
    assert warned.message.startswith("structure 7 (C2HN) has no valid bonds that can be perceived;")
    few = found(many.subset(range(5, 8)), "explicit_hydrogens")
    assert (few.verdict, few.n_bad) == (Verdict.FAIL, 1)
    assert few.message.startswith("structure 2 (C2HN) has 1 explicit H and no valid bonds can be perceived;")
    exactly = many.subset(range(4, 8))
    assert found(exactly, "explicit_hydrogens").verdict is Verdict.PASS
    assert found(exactly, "explicit_hydrogens", max_perception_failures=0.2).verdict is Verdict.FAIL
    unasked = found(exactly, "explicit_hydrogens", max_perception_failures=0.2, min_perceptions=5)
    assert unasked.verdict is Verdict.PASS


def test_a_radical_and_a_bare_skeleton_without_bonds_are_proof_enough() -> None:
    radical = concatenate([*[molecule("H2O")] * 7, without("CH3CN", 1)])
    assert found(radical, "explicit_hydrogens").n_bad == 1
    assert found(radical, "explicit_hydrogens", may_be_radical=True).verdict is Verdict.PASS
    propane = molecule("C3H8")
    bare = concatenate([*[molecule("H2O")] * 7, propane[propane.numbers == 6]])
    finding = found(bare, "explicit_hydrogens")
    assert finding.n_bad == 1
    assert finding.message.startswith("structure 7 (C3) has 0 explicit H and no valid bonds can be perceived;")
    assert found(bare, "explicit_hydrogens", min_carbons_of_bare=3).n_bad == 1
    assert found(bare, "explicit_hydrogens", min_carbons_of_bare=4).verdict is Verdict.PASS


def test_a_cell_without_smiles_tells_no_hydrogens() -> None:
    boxed = [molecule("H2O", cell=[9, 9, 9], pbc=True)] * 2
    finding = found(concatenate(boxed), "explicit_hydrogens")
    assert finding.verdict is Verdict.NOT_RUN
    assert "hydrogens expected in periodic structures without a bond block or SMILES are unknown" in finding.message
    assert found(concatenate([*boxed, molecule("H2O")]), "explicit_hydrogens").verdict is Verdict.PASS
    assert found(concatenate(boxed, smiles=["O", "[OH]"]), "explicit_hydrogens").n_bad == 1
    assert found(concatenate(boxed), "perceivable_bonds").verdict is Verdict.NOT_RUN
    assert "has a bond block or a SMILES, or is periodic" in found(of("CH4", smiles=["C"]), "perceivable_bonds").message


def test_shares_of_elements_and_when_they_are_told() -> None:
    data = of("CH3Cl", "CH3Cl", "CH3SH")
    enough = {"min_structures": 3, "min_formulas": 2}
    hydrogen = found(data, "hydrogen_fraction", **enough)
    assert (hydrogen.verdict, hydrogen.n, hydrogen.observed) == (Verdict.FAIL, 3, {"value": 10 / 16})
    elements = found(data, "element_fraction", **enough)
    assert elements.observed == {"C": 3 / 16, "N": 0.0, "O": 0.0, "other": 2 / 16}
    assert elements.n_bad == 2
    for name in ("hydrogen_fraction", "element_fraction"):
        few = found(data, name, min_structures=4, min_formulas=2)
        assert (few.verdict, few.severity) == (Verdict.UNDECIDED, Severity.WARN)
        assert "3 structures, at least 4 needed" in few.message
        assert "2 distinct formulas, at least 3 needed" in found(data, name, min_structures=3, min_formulas=3).message
    turned = concatenate([molecule("CH3Cl"), molecule("CH3Cl")[::-1]])
    assert (
        "1 distinct formulas, at least 2"
        in found(turned, "hydrogen_fraction", **enough | {"min_structures": 2}).message
    )
    carbon_alone = found(of("CH4"), "element_fraction", min_structures=1, min_formulas=1)
    assert carbon_alone.observed["other"] == 0.0


def test_the_spread_is_that_of_carbons_hydrogens() -> None:
    methane = molecule("CH4")
    length = np.linalg.norm(methane.positions[1])
    methane.positions[1] *= 1.2
    data = concatenate([methane, molecule("H2O")])
    spread = found(data, "xh_spread", min_bonds=4)
    assert (spread.verdict, spread.n) == (Verdict.PASS, 4)
    assert spread.observed["value"] == pytest.approx(0.2 * length * np.sqrt(3) / 4, rel=1e-4)
    few = found(data, "xh_spread", min_bonds=5)
    assert (few.verdict, few.severity) == (Verdict.UNDECIDED, Severity.ERROR)
    assert "4 C-H bonds, at least 5 needed" in few.message


def test_atoms_too_near_are_named_with_their_distance() -> None:
    def pair(distance: float) -> Atoms:
        return Atoms("H2", [[0, 0, 0], [0, 0, distance]])

    finding = found(concatenate([Atoms("H"), pair(0.9), pair(0.5)]), "min_distance")
    assert (finding.verdict, finding.severity, finding.n, finding.n_bad) == (Verdict.FAIL, Severity.ERROR, 2, 1)
    assert finding.message.startswith("structure 2 (H2) has two atoms 0.500 Å apart; allowed")
    assert found(concatenate([pair(0.7)]), "min_distance").severity is Severity.WARN
    images = found(concatenate([Atoms("H"), Atoms("H", cell=[0.5, 9, 9], pbc=True)]), "min_distance")
    assert images.n == 1
    assert images.message.startswith("structure 1 (H) has two atoms 0.500 Å apart (periodic images included);")


def test_a_hydrogen_far_from_everything_is_named() -> None:
    water = molecule("H2O")
    water.positions[2] = water.positions[0] + [3.0, 0, 0]
    data = concatenate([Atoms("H"), molecule("CH4"), water])
    alone = found(data, "hydrogen_bond_lengths", may_be_alone=True)
    assert (alone.verdict, alone.n, alone.n_bad) == (Verdict.FAIL, 6, 1)
    assert alone.message.startswith(
        "structure 2 (H2O) has H atom 2 at 3.000 Å from its nearest heavy atom, 3.09 times the sum of covalent radii;"
    )
    every = found(data, "hydrogen_bond_lengths")
    assert (every.n, every.n_bad) == (7, 2)
    assert every.examples[0].startswith("structure 0 (H) has H atom 0 at ")


def test_without_any_hydrogen_nothing_is_judged_and_only_a_profile_makes_that_right() -> None:
    data = of("N2")
    assert found(data, "hydrogen_bond_lengths").verdict is Verdict.UNDECIDED
    allowed = found(data, "hydrogen_bond_lengths", may_be_absent=True)
    assert allowed.verdict is Verdict.NOT_RUN
    assert "no structure contains hydrogen, which this profile allows" in allowed.message
    assert found(of("N2", "H2O"), "hydrogen_bond_lengths", may_be_absent=True).verdict is Verdict.PASS


def test_sizes() -> None:
    finding = found(concatenate([molecule("CH4"), Atoms("He"), Atoms("He201")]), "size")
    assert (finding.n, finding.n_bad) == (3, 2)
    assert {text[:20] for text in finding.examples} == {"structure 1 (He) has", "structure 2 (He201) "}
    assert any(text == "structure 1 (He) has 1 atoms" for text in finding.examples)


@pytest.mark.parametrize(
    ("symbols", "charge", "spin", "right"),
    [
        ("H2O", 0, 1, True),
        ("H2O", 0, 2, False),
        ("H2O", 0, 3, True),
        ("H2O", 1, 2, True),
        ("H2O", 1, 1, False),
        ("H2O", -1, 2, True),
        ("H", 0, 2, True),
        ("H", 0, 0, False),  # the parity matches, but the number of unpaired electrons is negative
        ("H", 0, 4, False),  # one electron cannot leave three unpaired
        ("He", 0, 3, True),
        ("He", 0, 5, False),
        ("H", 1, 1, True),
        ("H", 3, 1, False),
    ],
)
def test_electrons_charge_and_spin_agree(symbols: str, charge: int, spin: int, right: bool) -> None:
    atoms = Atoms(symbols, info={"charge": charge, "spin": spin})
    finding = found(concatenate([atoms]), "charge_parity")
    assert (finding.verdict is Verdict.PASS) is right
    if not right:
        electrons = int(atoms.numbers.sum()) - charge
        assert (
            f"has {electrons} electrons at charge {charge}, which cannot have spin multiplicity {spin};"
            in finding.message
        )


def test_heavy_atoms_may_not_move_where_hydrogens_are_placed() -> None:
    data = of("H2O", "CH4", "NH3", heavy_atoms_moved=[np.nan, 0.3, 0.0005])
    finding = found(data, "heavy_atoms_moved")
    assert (finding.verdict, finding.n, finding.n_bad) == (Verdict.FAIL, 2, 1)
    assert finding.message.startswith("structure 1 (CH4) has a heavy atom displaced by 0.3 Å;")
    told = found(of("H2O"), "heavy_atoms_moved")
    assert told.verdict is Verdict.NOT_RUN
    assert "does not record how far heavy atoms moved" in told.message


def test_the_bug_is_named_in_words(structures: Dataset) -> None:
    report = check(without_atoms(structures, np.flatnonzero(structures.numbers == 1)), "structures")
    finding = next(f for f in report.findings if f.check == "explicit_hydrogens")
    text = str(finding)
    assert "contract structures, check explicit_hydrogens: structure " in text
    assert "has 0 explicit H, its valences imply" in text
    assert f"{finding.n_bad} of {len(structures)} structures fail" in text
    assert (
        "Add explicit hydrogens with coordinates: use stage regenerate, or RDKit's AddHs(mol, addCoords=True)." in text
    )
    assert len(finding.examples) == 5


def test_a_few_molecules_are_no_population_and_that_only_warns(structures: Dataset) -> None:
    report = check(structures.subset(range(6)), "structures")
    found = {finding.check: finding for finding in report.findings}
    for name in ("hydrogen_fraction", "element_fraction"):
        assert (found[name].verdict, found[name].severity) == (Verdict.UNDECIDED, Severity.WARN)
