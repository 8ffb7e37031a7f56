"""Labels under unusual keys are found, or rejected with a suggestion; they are never read as unlabelled."""

from collections.abc import Callable, Sequence
from pathlib import Path

import h5py
import numpy as np
import pytest
from ase import Atoms, units
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db import connect

from hydrogate.checks.data.dataset import Dataset
from hydrogate.checks.data.label_keys import is_gradient, lookalike
from hydrogate.checks.errors import BadParams, UnreadableData
from hydrogate.pipeline.formats import parse_keys, read

Written = Callable[[Dataset | Sequence[Atoms], str], Path]
OF_ASE = (".extxyz", ".traj", ".db", ".aselmdb")


def write_renamed(frames: Sequence[Atoms], written: Written, suffix: str, energy: str, forces: str) -> Path:
    """Write the labels under other keys: in arrays if the format has them, else in the info or the row's data."""
    for atoms in frames:
        atoms.info[energy] = atoms.calc.results["energy"]
        (atoms.arrays if suffix == ".extxyz" else atoms.info)[forces] = atoms.calc.results["forces"]
        atoms.calc = None
    return written(frames, suffix)


@pytest.mark.parametrize("suffix", OF_ASE)
def test_the_keys_of_mace_are_known(suffix: str, few: Dataset, few_atoms: list[Atoms], written: Written) -> None:
    for atoms in few_atoms:
        atoms.info["total_charge"], atoms.info["total_spin"] = atoms.info.pop("charge") - 1, atoms.info.pop("spin") + 1
    data = read(write_renamed(few_atoms, written, suffix, "REF_energy", "REF_forces"))
    np.testing.assert_allclose(data.energy, few.energy)
    np.testing.assert_allclose(data.forces, few.forces, atol=1e-5)
    assert set(data.charge) == {-1}
    assert set(data.spin_multiplicity) == {2}


@pytest.mark.parametrize("suffix", OF_ASE)
def test_declared_keys(suffix: str, few: Dataset, few_atoms: list[Atoms], written: Written) -> None:
    for atoms in few_atoms:
        atoms.info["q"], atoms.info["m"] = 1, 2
    path = write_renamed(few_atoms, written, suffix, "dft_e", "f_dft")
    data = read(path, keys=parse_keys("energy=dft_e,forces=f_dft,charge=q,spin=m"))
    np.testing.assert_allclose(data.energy, few.energy)
    np.testing.assert_allclose(data.forces, few.forces, atol=1e-5)
    assert set(data.charge) == {1}
    assert set(data.spin_multiplicity) == {2}


@pytest.mark.parametrize("suffix", OF_ASE)
@pytest.mark.parametrize("key", ["force", "Forces", "DFT_forces", "F", "forcs", "frc"])
def test_forces_under_another_key_are_named(suffix: str, key: str, few_atoms: list[Atoms], written: Written) -> None:
    path = write_renamed(few_atoms, written, suffix, "energy", key)
    with pytest.raises(
        BadParams,
        match=rf"data\{suffix}: frame 0 has no 'forces' or 'REF_forces' for the forces, but '{key}' of shape \(9, 3\): "
        rf"did you mean --keys forces={key}\?",
    ):
        read(path)
    assert read(path, keys={"forces": key}).forces is not None
    unread = read(path, keys={"forces": "none"})
    assert unread.forces is None
    assert unread.energy is not None


@pytest.mark.parametrize("suffix", OF_ASE)
@pytest.mark.parametrize("key", ["dft_total_gradient", "gradient", "grad", "dE_dx"])
def test_a_gradient_is_named_as_one(
    suffix: str, key: str, few: Dataset, few_atoms: list[Atoms], written: Written
) -> None:
    path = write_renamed(few_atoms, written, suffix, "energy", key)
    with pytest.raises(BadParams, match=rf"'{key}'.*suggests a gradient.*--keys forces=-{key} changes the sign"):
        read(path)
    with pytest.raises(BadParams, match=rf"--keys forces=-{key} changes the sign, --keys forces=\+{key} does not"):
        read(path, keys={"forces": key})
    np.testing.assert_allclose(read(path, keys={"forces": f"-{key}"}).forces, -few.forces, atol=1e-5)
    np.testing.assert_allclose(read(path, keys={"forces": f"+{key}"}).forces, few.forces, atol=1e-5)


@pytest.mark.parametrize("suffix", OF_ASE)
@pytest.mark.parametrize("key", ["Energy", "dft_energy", "E", "total_energy", "enrgy", "E_tot", "TotEng"])
def test_energies_under_another_key_are_named(suffix: str, key: str, few_atoms: list[Atoms], written: Written) -> None:
    path = write_renamed(few_atoms, written, suffix, key, "forces")
    with pytest.raises(BadParams, match=rf"for the energy, but '{key}': did you mean --keys energy={key}\?"):
        read(path)
    assert read(path, keys={"energy": key}).energy is not None


@pytest.mark.parametrize(("key", "quantity"), [("Charge", "charge"), ("net_charge", "charge"), ("mult", "spin")])
def test_charge_and_spin_under_another_key_are_named(
    key: str, quantity: str, few_atoms: list[Atoms], written: Written
) -> None:
    for atoms in few_atoms:
        del atoms.info["charge"], atoms.info["spin"]
        atoms.info[key] = 1
    with pytest.raises(BadParams, match=rf"did you mean --keys {quantity}={key}\?"):
        read(written(few_atoms, ".extxyz"))


def test_a_declared_key_that_is_not_there(few_atoms: list[Atoms], few: Dataset, written: Written) -> None:
    path = written(few_atoms, ".extxyz")
    with pytest.raises(BadParams, match=r"frame 0 has no 'REF_force' for the forces, but 'forces' of shape"):
        read(path, keys={"forces": "REF_force"})
    with pytest.raises(BadParams, match="frame 0 has no 'total_chrge' for the charge, but 'charge': did you mean"):
        read(path, keys={"charge": "total_chrge"})
    with pytest.raises(BadParams, match="no structure has 'smile', declared by --keys as the smiles"):
        read(path, keys={"smiles": "smile"})


def test_what_is_no_label_is_left_alone(few_atoms: list[Atoms], written: Written) -> None:
    for atoms in few_atoms:
        atoms.calc = None
        atoms.set_velocities(np.ones((len(atoms), 3)))
        atoms.arrays["dipoles"] = np.ones((len(atoms), 3))
        atoms.info["temperature"], atoms.info["energy_unit"] = 300.0, "eV"
    data = read(written(few_atoms, ".extxyz"))
    assert data.energy is None
    assert data.forces is None


def test_two_known_keys_that_differ(few_atoms: list[Atoms], few: Dataset, written: Written) -> None:
    for atoms in few_atoms:
        atoms.info["REF_energy"] = atoms.calc.results["energy"]
    np.testing.assert_allclose(read(written(few_atoms, ".traj")).energy, few.energy)
    few_atoms[7].info["REF_energy"] += 1.0
    path = written(few_atoms, ".traj")
    with pytest.raises(BadParams, match="frame 7 has both 'energy' and 'REF_energy', with different values"):
        read(path)
    assert read(path, keys={"energy": "REF_energy"}).energy[7] == pytest.approx(few.energy[7] + 1.0)


def test_labels_missing_in_some_frames(few_atoms: list[Atoms], few: Dataset, written: Written) -> None:
    del few_atoms[4].calc.results["forces"]
    path = written(few_atoms, ".extxyz")
    with pytest.raises(UnreadableData, match="frame 4 has no forces, unlike those before it"):
        read(path)
    assert read(path, keys={"forces": "none"}).forces is None
    few_atoms[4].arrays["force"] = np.zeros((len(few_atoms[4]), 3))  # also if a similar key is present
    with pytest.raises(UnreadableData, match="frame 4 has no forces, unlike those before it"):
        read(written(few_atoms, ".extxyz"))
    few_atoms[4].calc = None
    with pytest.raises(UnreadableData, match="frame 4 has no energy"):
        read(written(few_atoms, ".traj"))
    few_atoms[0].calc = few_atoms[1].calc = None
    with pytest.raises(UnreadableData, match="frame 2 has energy, unlike those before it"):
        read(written(few_atoms, ".traj"))


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("forces", np.zeros((9, 2)), r"frame 3: forces is float64 of shape \(1, 9, 2\), expected numbers of shape"),
        ("forces", np.zeros(9), r"frame 3: forces is float64 of shape \(1, 9\)"),
        ("charge", 0.37, "frame 3: charge is 0.37, expected an integer"),
        ("charge", 1e9, "frame 3: charge is 1000000000.0, expected an integer from -32767 to 32767"),
        ("charge", True, "frame 3: charge is True, expected an integer"),
        ("spin", "singlet", r"frame 3: spin is 'singlet', expected the multiplicity 2S \+ 1"),
        ("spin", 0, r"frame 3: spin is 0, expected the multiplicity 2S \+ 1"),
        ("spin", 0.5, r"frame 3: spin is 0.5, expected the multiplicity"),
        ("REF_energy", "failed", "frame 3: REF_energy is 'failed', expected one number"),
        ("REF_energy", [1.0, 2.0], r"frame 3: REF_energy is .*, expected one number"),
    ],
)
def test_values_of_another_form(key: str, value: object, words: str, few_atoms: list[Atoms], written: Written) -> None:
    if key == "REF_energy":
        for atoms in few_atoms:
            atoms.info["REF_energy"] = atoms.calc.results.pop("energy")
    if key == "forces":
        few_atoms[3].calc.results.pop("forces")
    few_atoms[3].info[key] = value
    with pytest.raises(UnreadableData, match=words):
        read(written(few_atoms, ".traj"))


def test_what_no_single_precision_holds_is_infinite_and_no_warning(few_atoms: list[Atoms], written: Written) -> None:
    few_atoms[0].positions[1] = 1e300
    assert np.isinf(read(written(few_atoms, ".extxyz")).positions[1]).all()
    few_atoms[0].info["charge"] = 99999
    with pytest.raises(UnreadableData, match="charge is 99999, expected an integer from -32767 to 32767"):
        read(written(few_atoms, ".extxyz"))


def test_numbers_and_positions_of_frames_have_no_key(few_atoms: list[Atoms], written: Written) -> None:
    with pytest.raises(BadParams, match="--keys positions=… does not apply here"):
        read(written(few_atoms, ".extxyz"), keys={"positions": "pos"})
    with pytest.raises(BadParams, match="only the key of the forces takes a sign"):
        read(written(few_atoms, ".extxyz"), keys={"energy": "-energy"})


def test_gradients_and_energies_are_told_apart() -> None:
    assert is_gradient("dft_total_gradient")
    assert not is_gradient("forces")
    assert lookalike("energy", ["energy_gradient"]) is None
    assert lookalike("forces", ["momenta", "velocities", "positions", "magmoms"]) is None
    assert lookalike("energy", ["temperature", "time", "step", "volume"]) is None


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("dft_total_gradient", "dft_total_force", "did you mean --keys forces=dft_total_force"),
        (
            "dft_total_gradient",
            "total_gradient",
            r"suggests a gradient.*--keys forces=-total_gradient.*\(--keys forces=none ignores it\)",
        ),
        ("dft_total_energy", "dft_energy", "did you mean --keys energy=dft_energy"),
        ("conformations", "coordinates", r"no 'conformations' for the positions.*--keys positions=KEY"),
        ("atomic_numbers", "species", r"no 'atomic_numbers' for the numbers.*--keys numbers=KEY"),
    ],
)
def test_other_keys_in_groups(old: str, new: str, words: str, few: Dataset, written: Written) -> None:
    path = written(few, ".hdf5")
    with h5py.File(path, "r+") as file:
        for group in file.values():
            del group["formation_energy"]
            group.move(old, new)
    with pytest.raises((BadParams, UnreadableData), match=words):
        read(path)


def test_keys_that_no_convention_knows_need_units(few: Dataset, written: Written) -> None:
    """ANI-1x layout: forces instead of gradients, hartree and Å."""
    path = written(few, ".hdf5")
    with h5py.File(path, "r+") as file:
        for group in file.values():
            positions, gradient = group["conformations"][...] * units.Bohr, group["dft_total_gradient"][...]
            group["coordinates"], group["wb97x_dz.forces"] = positions, -gradient / units.Bohr
            group.move("dft_total_energy", "wb97x_dz.energy")
            del group["conformations"], group["dft_total_gradient"]
    keys = parse_keys("positions=coordinates,energy=wb97x_dz.energy,forces=wb97x_dz.forces")
    with pytest.raises(BadParams, match=r"not a key of the format's convention.*--units"):
        read(path, keys=keys)
    data = read(path, keys=keys, unit_system="hartree,angstrom")
    np.testing.assert_allclose(data.positions, few.positions, atol=1e-5)
    np.testing.assert_allclose(data.energy, few.energy)
    np.testing.assert_allclose(data.forces, few.forces, atol=1e-5)


def test_a_group_without_labels(few: Dataset, written: Written) -> None:
    path = written(few, ".hdf5")
    with h5py.File(path, "r+") as file:
        del file["molecule-003/dft_total_gradient"]
    with pytest.raises(UnreadableData, match="group 'molecule-003' has no forces, unlike those before it"):
        read(path)


def test_units_that_the_file_states_otherwise(few: Dataset, written: Written) -> None:
    path = written(few, ".hdf5")
    with h5py.File(path, "r+") as file:
        file["molecule-003/conformations"].attrs["units"] = "angstrom"
    with pytest.raises(BadParams, match=r"conformations of group 'molecule-003' is in 'angstrom'.*'bohr'"):
        read(path)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("forces", "force", "did you mean --keys forces=force"),
        ("forces", "gradients", "suggests a gradient.*--keys forces=-gradients"),
        ("energies", "total_energies", "did you mean --keys energy=total_energies"),
        ("coords", "xyz", "no 'coords' for the positions.*--keys positions=KEY"),
    ],
)
def test_other_keys_in_npz(old: str, new: str, words: str, few: Dataset, written: Written) -> None:
    path = written(few.subset(range(3)), ".npz")
    with np.load(path) as file:
        arrays = {new if name == old else name: file[name] for name in file}
    np.savez(path, **arrays)
    with pytest.raises((BadParams, UnreadableData), match=words):
        read(path)
    quantity = {"forces": "forces", "energies": "energy", "coords": "positions"}[old]
    sign = "-" if new == "gradients" else ""
    data = read(path, keys={quantity: sign + new}, unit_system="kcal/mol,angstrom")
    np.testing.assert_allclose(data.energy, few.energy[:3])
    np.testing.assert_allclose(np.abs(data.forces), np.abs(few.subset(range(3)).forces), atol=1e-5)


def test_the_energy_of_an_isolated_atom_does_not_hide_another_key(few_atoms: list[Atoms], written: Written) -> None:
    atom = Atoms("C")
    atom.calc = SinglePointCalculator(atom, energy=-50.0)
    for atoms in few_atoms:
        atoms.info["dft_energy"] = atoms.calc.results.pop("energy")
    with pytest.raises(BadParams, match=r"frame 1 has no 'energy'.*did you mean --keys energy=dft_energy"):
        read(written([atom, *few_atoms], ".traj"))


def test_spins_and_charges_of_atoms_are_not_those_of_the_structure(few_atoms: list[Atoms], written: Written) -> None:
    for atoms in few_atoms:
        del atoms.info["spin"]
        atoms.arrays["spin"] = np.full(len(atoms), 0.25)
    assert set(read(written(few_atoms, ".extxyz")).spin_multiplicity) == {1}


def test_whole_numbers_change_their_sign_too(few_atoms: list[Atoms], written: Written) -> None:
    for atoms in few_atoms:
        del atoms.calc.results["forces"]
        atoms.arrays["gradient"] = np.ones((len(atoms), 3), dtype=int)
    assert set(read(written(few_atoms, ".extxyz"), keys={"forces": "-gradient"}).forces.ravel()) == {-1.0}


def test_units_that_a_database_states_otherwise(few: Dataset, few_atoms: list[Atoms], written: Written) -> None:
    path = written(few_atoms, ".db")
    properties = {"energy": "eV", "forces": "eV/Ang"}
    for distance, energy, holds in (("Ang", "eV", True), ("Bohr", "eV", False), ("Ang", "kcal/mol", False)):
        with connect(path, use_lock_file=False) as database:
            database.metadata = {"_distance_unit": distance, "_property_unit_dict": {**properties, "energy": energy}}
        if holds:
            np.testing.assert_allclose(read(path).energy, few.energy)
        else:
            with pytest.raises(BadParams, match=r"states the units .*--units"):
                read(path)
        assert len(read(path, unit_system="eV,angstrom")) == 12


def test_parse_keys() -> None:
    assert parse_keys("energy=E, forces=-dE/dx") == {"energy": "E", "forces": "-dE/dx"}
    assert parse_keys(None) == {}
    for text, words in (
        ("energy", "is not QUANTITY=KEY"),
        ("energy=", "is not QUANTITY=KEY"),
        ("energy=a,energy=b", "energy is given twice"),
    ):
        with pytest.raises(BadParams, match=words):
            parse_keys(text)
