"""Round trip of a valid data set through every format: same structures, labels, charges and cells."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from rdkit import Chem

from hydrogate.checks.data.dataset import Dataset
from hydrogate.checks.data.units import UNIT_SYSTEMS
from hydrogate.checks.errors import BadParams, UnreadableData
from hydrogate.pipeline.formats import FORMATS, Declared, declared_for, format_of, read, units_of
from hydrogate.pipeline.formats.spice import charge_of_smiles
from hydrogate.pipeline.storage.hdf5 import read_dataset, write_dataset

Written = Callable[[Dataset | Sequence[Atoms], str], Path]
Compare = Callable[[Dataset, Dataset], None]
OF_ASE = (".extxyz", ".xyz", ".traj", ".db", ".json", ".aselmdb")
KCAL = units.kcal / units.mol


def single_point(atoms: Atoms, energy: float) -> Atoms:
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=np.zeros((len(atoms), 3)))
    return atoms


def test_every_format_has_a_reader_of_its_name_and_units_that_exist() -> None:
    assert set(FORMATS) == {"hdf5", "extxyz", "db", "json", "aselmdb", "traj", "sdf", "spice", "npz"}
    for name, item in FORMATS.items():
        assert item.read.__name__ == f"read_{name}"
        assert item.units in UNIT_SYSTEMS


@pytest.mark.parametrize("suffix", [*OF_ASE, ".hdf5", ".h5"])
def test_round_trip(suffix: str, few: Dataset, written: Written, assert_same: Compare) -> None:
    data = read(written(few, suffix))
    assert_same(data, few)
    assert data.energy.dtype == np.float64
    assert data.forces.dtype == data.positions.dtype == np.float32
    assert data.cell is None
    assert data.pbc is None
    assert data.isolated_atom_energies is None


@pytest.mark.parametrize("suffix", OF_ASE)
def test_charge_and_multiplicity_come_along(suffix: str, few: Dataset, written: Written, assert_same: Compare) -> None:
    charge, spin = few.charge.copy(), few.spin_multiplicity.copy()
    charge[3], spin[3], spin[5] = -1, 2, 3
    charged = replace(few, charge=charge, spin_multiplicity=spin)
    assert_same(read(written(charged, suffix)), charged)


@pytest.mark.parametrize("suffix", OF_ASE)
def test_a_frame_is_found_again(suffix: str, few: Dataset, written: Written) -> None:
    data = read(written(few, suffix))
    assert set(data.source) == {f"data{suffix}"}
    assert data.source_index.tolist() == list(range(12))
    assert data.parent.tolist() == list(range(12))


@pytest.mark.parametrize("suffix", OF_ASE)
def test_cells_come_along(suffix: str, written: Written, tmp_path: Path) -> None:
    slab = bulk("Cu", cubic=True)
    slab.pbc = [True, True, False]
    frames = [single_point(a, -1.0) for a in (bulk("NaCl", "rocksalt", a=5.64), slab, molecule("H2O"))]
    data = read(written(frames, suffix))
    np.testing.assert_allclose(data.cell, [atoms.cell.array for atoms in frames])
    assert data.pbc.tolist() == [[True] * 3, [True, True, False], [False] * 3]
    np.testing.assert_allclose(data.to_atoms(1).cell.array, slab.cell.array)
    assert data.to_atoms(1).pbc.tolist() == [True, True, False]
    assert data.subset([2, 0]).pbc.tolist() == [[False] * 3, [True] * 3]
    write_dataset(data, tmp_path / "stored.h5")
    assert read_dataset(tmp_path / "stored.h5").fingerprint() == data.fingerprint()


@pytest.mark.parametrize("suffix", OF_ASE)
def test_isolated_atoms_are_set_apart(suffix: str, few_atoms: list[Atoms], written: Written, tmp_path: Path) -> None:
    tagged = Atoms("H", info={"config_type": "IsolatedAtom"})
    tagged.calc = SinglePointCalculator(tagged, energy=-10.7)
    ion = single_point(Atoms("Na", info={"charge": 1}), -100.0)
    data = read(written([tagged, single_point(Atoms("C"), -50.1), *few_atoms, ion], suffix))
    assert data.isolated_atom_energies == {"H": -10.7, "C": -50.1}
    assert len(data) == 13
    assert data.source_index.tolist() == list(range(2, 15))
    assert data.formula(12) == "Na"
    write_dataset(data, tmp_path / "stored.h5")
    assert read_dataset(tmp_path / "stored.h5").isolated_atom_energies == {"H": -10.7, "C": -50.1}


def test_of_several_multiplicities_of_an_isolated_atom_the_lowest_energy_counts(
    few_atoms: list[Atoms], written: Written
) -> None:
    carbon = [single_point(Atoms("C", info={"spin": spin}), energy) for spin, energy in ((1, -49.0), (3, -50.1))]
    assert read(written([*carbon, *few_atoms], ".extxyz")).isolated_atom_energies == {"C": -50.1}


def test_two_energies_of_one_isolated_atom_are_refused(few_atoms: list[Atoms], written: Written) -> None:
    carbon = [single_point(Atoms("C"), energy) for energy in (-50.1, -49.0)]
    with pytest.raises(UnreadableData, match=r"frame 1: isolated atom C has energy -49\.0.*earlier one -50\.1"):
        read(written([*carbon, *few_atoms], ".extxyz"))


def test_isolated_atoms_alone_are_no_data_set(written: Written) -> None:
    with pytest.raises(UnreadableData, match="no structures, only isolated atoms"):
        read(written([single_point(Atoms("C"), -50.1)], ".extxyz"))


def test_spice_groups(few: Dataset, written: Written) -> None:
    data = read(written(few, ".hdf5"))
    np.testing.assert_array_equal(data.parent, few.parent)
    assert data.smiles.tolist() == few.smiles.tolist()
    assert data.source[4] == "data.hdf5/molecule-003"
    assert data.source_index.tolist() == [0, 1, 2] * 4


def test_spice_gradients_become_forces_by_sign(few: Dataset, written: Written) -> None:
    path = written(few, ".hdf5")
    with h5py.File(path) as file:
        gradient = file["molecule-000/dft_total_gradient"][0]
    np.testing.assert_allclose(read(path).forces[: len(gradient)], -gradient * units.Hartree / units.Bohr, atol=1e-5)


@pytest.mark.parametrize(
    ("smiles", "charge", "plain"),
    [
        ("[C:1]([H:2])([H:3])([H:4])[N+:5]([H:6])([H:7])[H:8]", 1, "[C]([H])([H])([H])[N+]([H])([H])[H]"),
        ("[Ca+2]", 2, "[Ca+2]"),
        ("[Mg++]", 2, "[Mg++]"),
        ("[O-][N+](=O)C[N@@H+:12]", 1, "[O-][N+](=O)C[N@@H+]"),
        ("CC(=O)[O-:3]", -1, "CC(=O)[O-]"),
        ("[Na+].[Cl-]", 0, "[Na+].[Cl-]"),
        ("C-C", 0, "C-C"),
    ],
)
def test_charge_of_smiles(smiles: str, charge: int, plain: str, few: Dataset, written: Written) -> None:
    assert charge_of_smiles(smiles) == charge
    path = written(few, ".hdf5")
    with h5py.File(path, "r+") as file:
        file["molecule-000/smiles"][0] = smiles
    data = read(path)
    assert data.charge[:4].tolist() == [charge] * 3 + [0]
    assert data.smiles[0] == plain
    # RDKit gives the same charge.
    assert Chem.GetFormalCharge(Chem.MolFromSmiles(smiles, sanitize=False)) == charge


def test_npz_of_one_molecule(few: Dataset, written: Written, assert_same: Compare) -> None:
    one = few.subset(range(3))
    data = read(written(one, ".npz"))
    assert_same(data, one)
    assert data.parent.tolist() == [0, 0, 0]


def test_sgdml_writes_energies_as_a_column(few: Dataset, tmp_path: Path, assert_same: Compare) -> None:
    one = few.subset(range(3))
    shape = (3, -1, 3)
    arrays = {"z": one.numbers[one.atoms_of(0)], "R": one.positions.reshape(shape), "F": one.forces.reshape(shape)}
    np.savez(tmp_path / "a.npz", **arrays, E=one.energy[:, None], r_unit="Ang", e_unit="kcal/mol")
    np.testing.assert_allclose(read(tmp_path / "a.npz").energy, one.energy * KCAL)
    np.savez(tmp_path / "b.npz", **arrays, E=one.energy[:, None], r_unit="Ang", e_unit="eV")
    with pytest.raises(BadParams, match=r"b\.npz: states e_unit = 'eV'.*--units"):
        read(tmp_path / "b.npz")
    assert_same(read(tmp_path / "b.npz", unit_system="eV,angstrom"), one)


@pytest.mark.parametrize("suffix", [".sdf", ".sdf.gz"])
def test_sdf_as_written(suffix: str, few: Dataset, tmp_path: Path) -> None:
    path = tmp_path / f"data{suffix}"
    blocks = []
    for row in range(0, 12, 3):
        mol = Chem.AddHs(Chem.MolFromSmiles(few.smiles[row]))
        conformer = Chem.Conformer(mol.GetNumAtoms())
        conformer.SetPositions(few.positions[few.atoms_of(row)].astype(float))
        mol.AddConformer(conformer)
        blocks.append(Chem.MolToMolBlock(mol) + "$$$$\n")
    content = "".join(blocks).encode()
    if suffix.endswith("gz"):
        import gzip

        content = gzip.compress(content)
    path.write_bytes(content)
    data = read(path)
    roots = few.subset(range(0, 12, 3))
    np.testing.assert_array_equal(data.numbers, roots.numbers)
    np.testing.assert_allclose(data.positions, roots.positions, atol=1e-4)
    assert data.expected_hydrogens.tolist() == roots.expected_hydrogens.tolist()
    assert data.energy is None
    with pytest.raises(BadParams, match="SDF has its own keys and units"):
        read(path, keys={"energy": "E"})


UNITS = {
    "eV,angstrom": (1.0, 1.0),
    "hartree,bohr": (units.Bohr, units.Hartree),
    "hartree,angstrom": (1.0, units.Hartree),
    "kcal/mol,angstrom": (1.0, units.kcal / units.mol),
    "kJ/mol,nm": (units.nm, units.kJ / units.mol),
}


def test_every_unit_system_is_known_here() -> None:
    assert set(UNITS) == set(UNIT_SYSTEMS)


@pytest.mark.parametrize("name", UNITS)
def test_units_are_those_of_ase(name: str, few: Dataset, written: Written, assert_same: Compare) -> None:
    length, energy = UNITS[name]
    cell = np.tile(np.eye(3) * 20.0, (12, 1, 1))
    boxed = replace(few, cell=cell, pbc=np.ones((12, 3), dtype=bool))
    foreign = replace(
        boxed,
        positions=few.positions / length,
        cell=cell / length,
        energy=few.energy / energy,
        forces=few.forces / (energy / length),
    )
    for suffix in (".traj", ".aselmdb"):
        data = read(written(foreign, suffix), unit_system=name)
        assert_same(data, boxed)
        np.testing.assert_allclose(data.cell, cell)


def test_isolated_atom_energies_are_scaled(few_atoms: list[Atoms], written: Written) -> None:
    path = written([single_point(Atoms("C"), -1.0), *few_atoms], ".traj")
    energies = read(path, unit_system="hartree,angstrom").isolated_atom_energies
    assert energies == {"C": pytest.approx(-units.Hartree)}


def test_which_convention_was_used(few: Dataset, written: Written) -> None:
    assert units_of(written(few, ".extxyz")) == "eV,angstrom (ASE's convention)"
    assert units_of(written(few, ".hdf5")) == "hartree,bohr (SPICE's convention)"
    assert units_of(written(few.subset(range(3)), ".npz")) == "kcal/mol,angstrom (rMD17's convention)"
    assert units_of(written(few, ".h5")) == "eV,angstrom (as the file says)"
    assert units_of(written(few, ".traj"), unit_system="hartree,bohr") == "hartree,bohr (declared)"


def test_hdf5_is_told_by_content(few: Dataset, written: Written, tmp_path: Path, assert_same: Compare) -> None:
    spice = written(few, ".hdf5").rename(tmp_path / "spice.h5")
    assert format_of(spice) == "spice"
    ours = written(few, ".h5").rename(tmp_path / "ours.hdf5")
    assert format_of(ours) == "hdf5"
    assert_same(read(spice), few)
    assert_same(read(ours), few)


def test_the_format_can_be_declared(few: Dataset, written: Written, tmp_path: Path, assert_same: Compare) -> None:
    path = written(few, ".extxyz").rename(tmp_path / "data.dat")
    with pytest.raises(BadParams, match=r"data\.dat: unknown suffix.*--input-format"):
        read(path)
    assert_same(read(path, input_format="extxyz"), few)
    with pytest.raises(BadParams, match="unknown format 'extxzy'; did you mean 'extxyz'"):
        read(path, input_format="extxzy")


def test_unknown_units_are_refused(few: Dataset, written: Written) -> None:
    with pytest.raises(BadParams, match="'kcal/mol,angstroms' is unknown; did you mean 'kcal/mol,angstrom'"):
        read(written(few, ".extxyz"), unit_system="kcal/mol,angstroms")


def test_the_projects_own_file_says_its_units_itself(few: Dataset, written: Written, assert_same: Compare) -> None:
    path = written(few, ".h5")
    assert_same(read(path, unit_system="eV,angstrom"), few)
    for declared in ({"unit_system": "hartree,bohr"}, {"keys": {"energy": "E"}}):
        with pytest.raises(BadParams, match="omit --keys and --units"):
            read(path, **declared)


def test_what_is_declared_holds_for_files_that_do_not_say_it_themselves(
    few: Dataset, written: Written, tmp_path: Path
) -> None:
    own, spice, other = written(few, ".h5"), written(few, ".hdf5"), written(few, ".extxyz")
    bare = Path(shutil.copy(other, tmp_path / "bare"))
    sdf = tmp_path / "some.sdf"
    sdf.write_text("")
    given = Declared("extxyz", "kcal/mol,angstrom", {"forces": "F"})
    for itself in (own, sdf):
        assert declared_for(([itself], given), ([bare], given)) == [Declared(), given]
        assert declared_for(([other, bare], given), ([itself], given)) == [given, Declared()]
        # No data set uses the units, so the reader rejects them.
        assert declared_for(([itself], given), ([own], given)) == [given._replace(input_format=None)] * 2
    assert declared_for(([own, other], given), ([bare], given)) == [given, given]
    assert declared_for(([spice], given), ([own], given)) == [given, Declared()]
    assert declared_for(([bare], given._replace(input_format="hdf5")), ([other], given))[0] == Declared("hdf5")
    gone = Path("gone.h5")
    assert declared_for(([gone], given), ([own], given))[0] == given


def test_plain_xyz(few: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "plain.xyz"
    write(path, [few.to_atoms(row) for row in range(12)], format="xyz")
    data = read(path)
    np.testing.assert_array_equal(data.numbers, few.numbers)
    np.testing.assert_allclose(data.positions, few.positions, atol=1e-6)
    assert data.energy is None
    assert data.forces is None


def test_energies_without_forces_are_kept(few_atoms: list[Atoms], few: Dataset, written: Written) -> None:
    for atoms in few_atoms:
        del atoms.calc.results["forces"]
    data = read(written(few_atoms, ".extxyz"))
    np.testing.assert_allclose(data.energy, few.energy)
    assert data.forces is None


def test_smiles_come_along(few_atoms: list[Atoms], few: Dataset, written: Written) -> None:
    for atoms, smiles in zip(few_atoms, few.smiles, strict=True):
        atoms.info["smiles"] = smiles
    assert read(written(few_atoms, ".extxyz")).smiles.tolist() == few.smiles.tolist()


def test_fingerprints_without_cells_stay_as_they_were(few: Dataset) -> None:
    cell, pbc = np.zeros((12, 3, 3)), np.zeros((12, 3), dtype=bool)
    boxed = replace(few, cell=cell, pbc=pbc)
    assert boxed.fingerprint() != few.fingerprint()
    assert boxed.structure_fingerprint(3) == few.structure_fingerprint(3)
    pbc[3] = True
    assert boxed.structure_fingerprint(3) != few.structure_fingerprint(3)


def test_the_documentation_lists_every_format() -> None:
    text = (Path(__file__).resolve().parents[3] / "docs/formats.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:3] == "| `"]
    listed = {row[0].strip("`"): row for row in rows}
    assert set(listed) == set(FORMATS)
    for name, item in FORMATS.items():
        suffixes = item.suffixes or FORMATS["hdf5"].suffixes
        assert listed[name][1] == " ".join(f"`{suffix}`" for suffix in suffixes)
        if name not in ("hdf5", "sdf"):
            assert f"`{item.units}`" in listed[name][3]
    for system in UNIT_SYSTEMS:
        assert f"`{system}`" in text
