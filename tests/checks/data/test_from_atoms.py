"""ASE Atoms passed to `check` from Python: same keys, units and errors as for files, with Python syntax in messages."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

from hydrogate.checks import Dataset, UnreadableData, Verdict, check, from_atoms
from hydrogate.checks.errors import BadParams

Change = Callable[[Atoms], object]


def single_point(atoms: Atoms, **results: object) -> Atoms:
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


@pytest.fixture
def frames(labelled: Dataset) -> list[Atoms]:
    """Return the valid data set as Atoms with calculators, created anew for each test."""
    return [
        single_point(
            labelled.to_atoms(row),
            energy=float(labelled.energy[row]),
            forces=labelled.forces[labelled.atoms_of(row)].astype(float),
        )
        for row in range(len(labelled))
    ]


def renamed(frames: list[Atoms], energy: str, forces: str, factor: float = 1.0) -> list[Atoms]:
    """Move the labels to info and arrays, under other names and multiplied by ``factor``."""
    for atoms in frames:
        atoms.info[energy] = atoms.calc.results["energy"] * factor
        atoms.arrays[forces] = atoms.calc.results["forces"] * factor
        atoms.calc = None
    return frames


def test_results_of_calculators(frames: list[Atoms], labelled: Dataset) -> None:
    data = from_atoms(frames)
    np.testing.assert_array_equal(data.energy, labelled.energy)
    np.testing.assert_array_equal(data.forces, labelled.forces)
    assert data.fingerprint() == from_atoms(renamed(frames, "REF_energy", "REF_forces")).fingerprint()
    assert check(frames, "labels").holds()


@pytest.mark.parametrize("sign", [1, -1])
def test_declared_keys_and_units(sign: int, frames: list[Atoms], labelled: Dataset) -> None:
    renamed(frames, "dft_e", "gradient", 1 / (units.kcal / units.mol))
    for atoms in frames:
        atoms.arrays["gradient"] *= -sign
    keys = {"energy": "dft_e", "forces": "-gradient" if sign == 1 else "+gradient"}
    data = from_atoms(frames, keys=keys, units="kcal/mol,angstrom")
    np.testing.assert_allclose(data.energy, labelled.energy)
    np.testing.assert_allclose(data.forces, labelled.forces, atol=1e-5)
    assert check(frames, "labels", keys=keys, units="kcal/mol,angstrom").holds()
    assert not check(frames, "labels", keys=keys).holds()


@pytest.mark.parametrize(
    ("energy", "forces", "words"),
    [
        (
            "energy",
            "force",
            r'the forces, but .force. of shape \(9, 3\): did you mean keys=\{"forces": "force"\}\?',
        ),
        ("energy", "dft_total_gradient", r'suggests a gradient.*: keys=\{"forces": "-dft_total_gradient"\} changes'),
        ("dft_energy", "forces", r'did you mean keys=\{"energy": "dft_energy"\}\? \(keys=\{"energy": "none"\} ignores'),
    ],
)
def test_labels_under_another_key_are_named(energy: str, forces: str, words: str, frames: list[Atoms]) -> None:
    renamed(frames, energy, forces)
    with pytest.raises(BadParams, match=words) as refusal:
        check(frames, "labels")
    assert "--" not in str(refusal.value)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"keys": {"enery": "E"}}, "keys=: unknown quantity 'enery'; did you mean 'energy'"),
        ({"keys": {"forces": "REF_force"}}, "frame 0 has no 'REF_force' for the forces, but 'forces' of shape"),
        ({"keys": {"smiles": "smile"}}, "no structure has 'smile', declared by keys= as the smiles"),
        ({"keys": {"positions": "pos"}}, r'keys=\{"positions": "…"\} does not apply here'),
        ({"keys": {"energy": "-energy"}}, "only the key of the forces takes a sign"),
        ({"units": "kcal/mol"}, "units= 'kcal/mol' is unknown; did you mean 'kcal/mol,angstrom'"),
    ],
)
def test_declarations_that_cannot_be_used(given: dict[str, object], words: str, frames: list[Atoms]) -> None:
    with pytest.raises(BadParams, match=words):
        check(frames, "labels", **given)


def test_a_data_set_has_its_keys_and_units(labelled: Dataset) -> None:
    for given in ({"keys": {"energy": "E"}}, {"units": "hartree,bohr"}):
        with pytest.raises(BadParams, match=r"a Dataset is in eV, Å and eV/Å"):
            check(labelled, "labels", **given)


def strip(atoms: Atoms) -> None:
    atoms.calc = None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (strip, r'frame 4 has no energy, unlike those before it: .*keys=\{"energy": "none"\}'),
        (lambda atoms: atoms.calc.results.pop("forces"), "frame 4 has no forces, unlike those before it"),
        (lambda atoms: atoms.calc.results.update(forces=np.zeros((2, 3))), "frame 4: forces is float64 of shape"),
        (lambda atoms: atoms.info.update(charge=0.5), "frame 4: charge is 0.5, expected an integer"),
        (lambda atoms: atoms.info.update(spin=0), r"frame 4: spin is 0, expected the multiplicity 2S \+ 1"),
        (lambda atoms: atoms.set_atomic_numbers([0] * len(atoms)), "frame 4.*(atomic number|different numbers)"),
        (lambda atoms: atoms.rattle(0.1), "frame 4: the results of its calculator are for different positions"),
        (lambda atoms: atoms.set_pbc(True), "frame 4: the results of its calculator are for different pbc"),
    ],
)
def test_frames_that_cannot_be_used(change: Change, words: str, frames: list[Atoms]) -> None:
    change(frames[4])
    with pytest.raises(UnreadableData, match=f"list: {words}"):
        check(frames, "labels")


def test_one_calculator_for_all_holds_the_results_of_the_last() -> None:
    calculator = EMT()
    frames = [bulk("Cu") * (2, 2, 2), bulk("Ag") * (2, 2, 2)]
    for atoms in frames:
        atoms.calc = calculator
        atoms.get_potential_energy()
    with pytest.raises(
        UnreadableData, match="frame 0: the results of its calculator are for different numbers, positions"
    ):
        from_atoms(frames)
    assert from_atoms(frames[1:]).energy is not None


def test_nothing_is_calculated() -> None:
    atoms = bulk("Cu")
    atoms.calc = EMT()
    assert from_atoms([atoms]).energy is None
    assert atoms.calc.results == {}


def test_isolated_atoms_are_set_apart_and_checked_against(frames: list[Atoms], labelled: Dataset) -> None:
    energies = labelled.isolated_atom_energies
    atoms = [single_point(Atoms(symbol), energy=energy) for symbol, energy in energies.items()]
    data = from_atoms([*atoms, *frames])
    assert data.isolated_atom_energies == energies
    assert data.name(0) == f"structure 0 (C2H6O, list record {len(atoms)})"
    ran = {finding.check for finding in check([*atoms, *frames], "labels").findings if finding.verdict is Verdict.PASS}
    assert "isolated_atom_energies" in ran


@pytest.mark.parametrize("number", [-1, 0, 119])
def test_an_isolated_atom_of_no_element_is_refused(number: int, frames: list[Atoms]) -> None:
    atom = single_point(Atoms(numbers=[number], positions=[[0.0, 0.0, 0.0]]), energy=-10.7)
    with pytest.raises(UnreadableData, match=f"frame 0: {number} is not a valid atomic number"):
        from_atoms([atom, *frames])


def test_an_isolated_atom_may_be_tagged_and_have_several_multiplicities(frames: list[Atoms]) -> None:
    tag = {"config_type": "isolated_atom", "charge": 1}
    ion = single_point(Atoms("Na", info=tag), energy=-5.0)
    oxygen = [
        single_point(Atoms("O", info={"spin": spin}), energy=energy) for spin, energy in ((1, -100.0), (3, -102.0))
    ]
    data = from_atoms([ion, *oxygen, *frames])
    assert data.isolated_atom_energies == {"O": -102.0, "Na": -5.0}
    assert len(data) == len(frames)
    with pytest.raises(UnreadableData, match="frame 0 is an isolated atom without an energy"):
        from_atoms([Atoms("Na", info=tag), *frames])


def test_charge_multiplicity_smiles_and_cell() -> None:
    ion = Atoms("OH", [[0, 0, 0], [0, 0, 0.97]], info={"charge": np.int64(-1), "smiles": "[OH-]"})
    mace = molecule("O2", info={"total_charge": 1, "total_spin": 4})
    data = from_atoms([ion, mace, bulk("NaCl", "rocksalt", a=5.64), molecule("CH3")])
    assert data.charge.tolist() == [-1, 1, 0, 0]
    assert data.spin_multiplicity.tolist() == [1, 4, 1, 2]
    assert data.smiles.tolist() == ["[OH-]", "", "", ""]
    assert data.pbc.all(axis=1).tolist() == [False, False, True, False]
    np.testing.assert_allclose(data.cell[2], bulk("NaCl", "rocksalt", a=5.64).cell.array)
    bohr = from_atoms([bulk("Cu")], units="hartree,bohr")
    np.testing.assert_allclose(bohr.cell[0], bulk("Cu").cell.array * units.Bohr)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (molecule("H2O"), r"got a single ase.Atoms: .*ase\.io\.read\(file, ':'\)"),
        ("my.extxyz", "my.extxyz: .* got a file name: run `hydrogate check my.extxyz`"),
        (Path("my.extxyz"), "hydrogate check my.extxyz"),
        ([molecule("H2O"), "H2O"], "list: item 1 is a str, expected ase.Atoms"),
    ],
)
def test_what_is_no_list_of_atoms(data: object, words: str) -> None:
    with pytest.raises(BadParams, match=words):
        check(data)


def test_no_structures() -> None:
    with pytest.raises(UnreadableData, match=r"^list: contains no structures$"):
        check([])
    with pytest.raises(UnreadableData, match="list: contains no structures, only isolated atoms"):
        check([single_point(Atoms("C"), energy=-1.0)])
