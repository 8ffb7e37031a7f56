"""`hydrogate evaluate` on files as other programs write them: by hand, the undefined cases, and what is refused."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from rdkit import Chem
from rdkit.Chem import rdDistGeom

from hydrogate.checks.dataset import concatenate
from hydrogate.pipeline.hdf5 import write_dataset

NAMES = ("CH3OH", "H2O", "CH4", "CH3CH2OH")


@pytest.fixture
def call(call):
    """``hydrogate evaluate`` of two files."""
    return lambda reference, *predicted: call("evaluate", "--reference", reference, "--predicted", *predicted)


@pytest.fixture
def metrics(call):
    """The metrics of two files, from the JSON."""

    def read(reference, predicted, *arguments):
        status, out, err = call(reference, predicted, "--format", "json", *arguments)
        assert status == 0, err
        content = json.loads(out)
        assert set(content) == {"metrics"}
        for metric in content["metrics"].values():
            assert set(metric) == {"value", "unit", "n", "low", "high"}
        return content["metrics"]

    return read


def structures():
    return [molecule(name) for name in NAMES]


def forces_of(frames, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(scale=2.0, size=(len(atoms), 3)) for atoms in frames]


def write_extxyz(path, frames, forces, energies=None, **info):
    labelled = []
    for row, (atoms, force) in enumerate(zip(frames, forces, strict=True)):
        copy = atoms.copy()
        energy = None if energies is None else energies[row]
        copy.calc = SinglePointCalculator(copy, energy=energy, forces=np.asarray(force, float))
        copy.info.update({key: values[row] for key, values in info.items()})
        labelled.append(copy)
    write(path, labelled, format="extxyz")


def write_own(path, frames, forces, energies=None, **columns):
    write_dataset(concatenate(frames, forces=forces, energy=energies, **columns), Path(path))


def test_two_formats_by_hand(metrics):
    atoms = Atoms("HCO", positions=[[0, 0, 0], [9, 0, 0], [18, 0, 0]])
    write_extxyz("reference.extxyz", [atoms], [[[1, 0, 0], [0, 2, 0], [0, 0, 3]]], [-9.0])
    write_own("student.h5", [atoms], [np.array([[1, 1, 0], [0, 2, 1], [0, 3, 3]], float)], [-8.4])
    found = metrics("reference.extxyz", "student.h5")
    expected = {
        "force_rmse": math.sqrt(11 / 9), "force_rmse_relative": math.sqrt(11 / 14), "force_mae": 5 / 9,
        "hydrogen_force_error": 1.0, "energy_mae_per_atom": 0.2,
        "angular_error_mean_deg": (90 + math.degrees(math.atan(0.5))) / 3, "angular_error_max_deg": 45.0,
        "angle_within_5deg": 0.0, "force_rmse_O": math.sqrt(3), "oxygen_over_carbon": 2.0,
        "oxygen_over_carbon_relative": 1.0, "hydrogen_fraction": 1 / 3, "n_structures": 1.0,
    }  # fmt: skip
    for name, value in expected.items():
        assert found[name]["value"] == pytest.approx(value, abs=1e-6), name
        assert (found[name]["low"], found[name]["high"]) == (None, None)
    assert (found["force_rmse"]["unit"], found["force_rmse"]["n"]) == ("eV/Å", 1)


def test_every_pair_of_formats_gives_the_same(metrics):
    frames = structures()
    ours, theirs = forces_of(frames), forces_of(frames, 1)
    energies = [-1.0, -2.0, -3.0, -4.0]
    for name, forces in (("r", ours), ("p", theirs)):
        write_extxyz(f"{name}.extxyz", frames, forces, energies, smiles=["CO", "O", "C", "CCO"])
        write_own(f"{name}.h5", frames, forces, energies, smiles=["CO", "O", "C", "CCO"])
    reference = metrics("r.h5", "p.h5")
    for pair in (("r.extxyz", "p.extxyz"), ("r.extxyz", "p.h5"), ("r.h5", "p.extxyz")):
        found = metrics(*pair)
        for name, metric in reference.items():
            assert found[name]["value"] == (metric["value"] and pytest.approx(metric["value"], rel=1e-4)), name
            assert found[name]["n"] == metric["n"]


def test_both_students_of_one_file_by_their_own_keys(metrics):
    """As MACE writes them: the labels and the predictions beside each other."""
    frames = []
    for atoms, force, prediction in zip(structures(), forces_of(structures()), forces_of(structures(), 1), strict=True):
        atoms.info |= {"REF_energy": -1.0, "MACE_energy": -1.5}
        atoms.arrays |= {"REF_forces": force, "MACE_forces": prediction}
        frames.append(atoms)
    write("both.extxyz", frames, format="extxyz")
    own = ("--predicted-keys", "energy=MACE_energy,forces=MACE_forces", "--predicted-units", "eV,angstrom")
    found = metrics("both.extxyz", "both.extxyz", *own)
    error = np.concatenate(forces_of(structures(), 1)) - np.concatenate(forces_of(structures()))
    assert found["force_rmse"]["value"] == pytest.approx(math.sqrt((error**2).mean()), rel=1e-5)


def test_units_and_keys_of_the_other_file_alone(metrics, call):
    frames, forces = structures(), forces_of(structures())
    write_own("reference.h5", frames, forces)
    write_extxyz("student.extxyz", frames, [force / 0.0433641153087705 for force in forces])
    assert metrics("reference.h5", "student.extxyz")["force_rmse"]["value"] > 10
    assert metrics("reference.h5", "student.extxyz", "--units", "kcal/mol,angstrom")["force_rmse"]["value"] < 1e-5
    own = metrics("reference.h5", "student.extxyz", "--predicted-units", "kcal/mol,angstrom")
    assert own["force_rmse"]["value"] < 1e-5


def test_a_prediction_of_zero_counts_as_a_right_angle_and_never_as_nothing(metrics):
    frames, forces = structures(), forces_of(structures())
    write_extxyz("r.extxyz", frames, forces)
    write_extxyz("zero.extxyz", frames, [0 * force for force in forces])
    found = metrics("r.extxyz", "zero.extxyz")
    assert found["angular_error_mean_deg"]["value"] == 90.0
    assert found["angular_error_median_deg"]["value"] == 90.0
    assert found["angle_within_5deg"]["value"] == 0.0
    for name in ("force_rmse_relative", "hydrogen_force_error"):
        assert found[name]["value"] == pytest.approx(1.0)


def test_forces_under_the_floor_leave_the_angles_undefined(metrics):
    frames = structures()
    small = [0.1 * force / np.linalg.norm(force, axis=1)[:, None] for force in forces_of(frames)]
    write_extxyz("r.extxyz", frames, small)
    write_extxyz("p.extxyz", frames, small)
    found = metrics("r.extxyz", "p.extxyz")
    angular = {name: found[name]["value"] for name in found if "angular_error" in name and "_at_" not in name}
    assert set(angular.values()) == {None} and len(angular) == 4
    assert found["angle_within_5deg"] == {"value": None, "unit": "", "n": 0, "low": None, "high": None}
    assert found["angular_atoms_below_floor"]["value"] == 1.0
    assert metrics("r.extxyz", "p.extxyz", "--floor", "0.05")["angular_error_mean_deg"]["value"] < 0.1


def test_an_element_that_is_missing_has_no_error(metrics):
    frames = [molecule("CH4"), molecule("C2H6")]
    write_extxyz("r.extxyz", frames, forces_of(frames))
    write_extxyz("p.extxyz", frames, forces_of(frames, 1))
    found = metrics("r.extxyz", "p.extxyz")
    for name in ("force_rmse_O", "oxygen_over_carbon", "oxygen_over_carbon_relative", "force_rmse_H_on_O"):
        assert (found[name]["value"], found[name]["n"]) == (None, 0)
    assert found["force_rmse_H_on_C"]["value"] > 0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_prediction_that_is_not_finite_leaves_no_figure_and_is_told(metrics, call, bad):
    frames, forces = structures(), forces_of(structures())
    write_own("r.h5", frames, forces)
    broken = [force.copy() for force in forces]
    broken[0][0] = [9.0, 0.0, bad]
    write_own("p.h5", frames, broken)
    found = metrics("r.h5", "p.h5")
    for name in ("force_rmse", "force_rmse_relative", "force_mae", "force_rmse_C", "oxygen_over_carbon"):
        assert found[name]["value"] is None
    assert "1 atoms have predicted forces that are not finite" in call("r.h5", "p.h5")[1]


def test_without_energies_the_forces_are_measured_and_it_is_said(metrics, call):
    frames, forces = structures(), forces_of(structures())
    write_extxyz("r.extxyz", frames, forces, [1.0, 2.0, 3.0, 4.0])
    write_extxyz("p.extxyz", frames, forces)
    found = metrics("r.extxyz", "p.extxyz")
    assert found["energy_mae_per_atom"]["value"] is None
    assert found["force_rmse"]["value"] == 0.0
    _, out, err = call("r.extxyz", "p.extxyz", "--format", "json")
    assert "The prediction holds no energies" in err
    assert json.loads(out)  # notes leave the JSON alone
    assert "The prediction holds no energies" in call("r.extxyz", "p.extxyz", "--format", "markdown")[1]


def test_molecules_are_told_by_smiles_parent_or_not_at_all(metrics, call):
    frames, forces = [molecule("CH3OH")] * 6, forces_of([molecule("CH3OH")] * 6)
    write_extxyz("p.extxyz", frames, forces)
    write_extxyz("smiles.extxyz", frames, forces, smiles=["CO", "OC", "CO", "[CH3][OH]", "CO", "CO"])
    write_own("parents.h5", frames, forces, parent=[0, 0, 0, 3, 3, 3])
    write_own("skeletons.h5", frames, forces, inchikey=["OKKJLVBELUTLKV-UHFFFAOYSA-N"] * 5 + [""])
    for name, molecules, told in (
        ("smiles.extxyz", 1, ""),
        ("parents.h5", 2, ""),
        ("skeletons.h5", 2, "1 of 6 structures do not say its molecule"),
        ("p.extxyz", 6, "No structure says its molecule"),
    ):
        assert metrics(name, "p.extxyz")["n_structures"]["value"] == molecules
        out = call(name, "p.extxyz")[1]
        assert told in out
        assert ("counts as a molecule of its own" in out) == bool(told)


def test_one_split_of_the_reference(metrics, call):
    frames, forces = structures(), forces_of(structures())
    write_own("all.h5", frames, forces, split=["train", "test", "train", "test"])
    write_extxyz("p.extxyz", frames[1::2], forces[1::2])
    assert metrics("all.h5", "p.extxyz", "--split", "test")["n_structures"]["value"] == 2
    assert "the reference has 4 structures, the prediction 2" in call("all.h5", "p.extxyz")[2]
    status, _, err = call("all.h5", "p.extxyz", "--split", "tset")
    assert status == 2 and "did you mean 'test'?" in err


def test_the_same_file_twice_is_told(call):
    write_extxyz("r.extxyz", structures(), forces_of(structures()))
    assert "is it the same file or key?" in call("r.extxyz", "r.extxyz")[1]


def test_charges_that_the_prediction_does_not_say_are_the_references(call):
    ion = molecule("NH3") + Atoms("H", positions=[[0, 0, 1.5]])
    write_extxyz("r.extxyz", [ion, molecule("CH4")], forces_of([ion, molecule("CH4")]), charge=[1, 0])
    write_extxyz("p.extxyz", [ion, molecule("CH4")], forces_of([ion, molecule("CH4")]))
    write_extxyz("q.extxyz", [ion, molecule("CH4")], forces_of([ion, molecule("CH4")]), charge=[-1, 0])
    status, out, _ = call("r.extxyz", "p.extxyz")
    assert status == 0 and "The prediction says no charges" in out
    status, _, err = call("r.extxyz", "q.extxyz")
    assert status == 2 and "structure 0 (H4N, r.extxyz record 0): charge differ" in err


def test_structures_that_differ_are_refused_with_the_first_difference(call):
    frames, forces = structures(), forces_of(structures())
    write_extxyz("r.extxyz", frames, forces)
    moved = [atoms.copy() for atoms in frames]
    moved[2].positions[0] += 0.01
    swapped = [frames[0], frames[2], frames[1], frames[3]]
    other = [*frames[:3], Atoms("SiSCHHHHHH", positions=frames[3].positions[:9])]
    for name, given, says in (
        ("moved", moved, r"structure 2 (CH4, r.extxyz record 2): positions differ"),
        ("swapped", swapped, "structure 1 (H2O, r.extxyz record 1) has 3 atoms in the reference and 5"),
        ("other", other, "structure 3 (C2H6O, r.extxyz record 3): elements differ between the reference (6) and the"),
        ("short", frames[:2], "the reference has 4 structures, the prediction 2"),
    ):
        write_extxyz(f"{name}.extxyz", given, forces_of(given))
        status, out, err = call("r.extxyz", f"{name}.extxyz", "--format", "json")
        assert (status, out) == (2, ""), name
        assert says in " ".join(err.split())
        assert "Traceback" not in err


def test_what_cannot_be_used_exits_2(call, tmp_path):
    frames, forces = structures(), forces_of(structures())
    write_extxyz("r.extxyz", frames, forces)
    write("bare.extxyz", frames, format="extxyz")
    write_own("nan.h5", frames, [force * math.nan for force in forces])
    (tmp_path / "empty.extxyz").write_text("")
    (tmp_path / "broken.h5").write_bytes(b"no HDF5")
    for pair, arguments, says in (
        (("r.extxyz", "bare.extxyz"), (), "the prediction holds no forces"),
        (("bare.extxyz", "r.extxyz"), (), "the reference holds no forces"),
        (("nan.h5", "r.extxyz"), (), "a force of the reference is not finite"),
        (("r.extxyz", "gone.extxyz"), (), "gone.extxyz: no such file"),
        (("r.extxyz", "broken.h5"), (), "broken.h5"),
        (("empty.extxyz", "empty.extxyz"), (), "empty.extxyz"),
        (("r.extxyz", "r.extxyz"), ("--floor", "0"), "--floor 0: expected a force above 0"),
        (("r.extxyz", "r.extxyz"), ("--floor", "nan"), "--floor nan"),
        (("r.extxyz", "r.extxyz"), ("--predicted-keys", "forces=f"), "frame 0 has no 'f' for the forces"),
    ):
        status, out, err = call(*pair, *arguments)
        assert (status, out) == (2, ""), pair
        assert says in " ".join(err.split())
        assert "Traceback" not in err


def test_a_hostile_name_does_nothing_in_markdown(call):
    frames, forces = structures(), forces_of(structures())
    name = "a](javascript:alert(1))<img src=x>.extxyz"
    write_extxyz(name, frames, forces)
    _, out, _ = call(name, name, "--format", "markdown")
    assert "<img" not in out and "](javascript" not in out
    assert "| metric | value |" in out


def test_the_text_names_the_files_the_floor_and_what_the_errors_are_against(call):
    write_extxyz("r.extxyz", structures(), forces_of(structures()))
    write_extxyz("p.extxyz", structures(), forces_of(structures(), 1))
    _, out, _ = call("r.extxyz", "p.extxyz", "--floor", "0.25")
    assert "p.extxyz against r.extxyz, angles from 0.25 eV/Å" in out
    assert "against the reference, not against chemistry" in out
    assert "force_rmse" in out and "undefined" in out


@pytest.mark.parametrize("form", ["text", "markdown", "json"])
def test_where_the_error_is_comes_on_request(call, tmp_path, form):
    right, wrong = tmp_path / "right.extxyz", tmp_path / "wrong.extxyz"
    forces = forces_of(structures())
    write_extxyz(right, structures(), forces)
    worse = [force.copy() for force in forces]
    worse[1][0] += 5.0  # the oxygen of water
    write_extxyz(wrong, structures(), worse)
    status, out, err = call(right, wrong, "--where", "--format", form)
    assert status == 0, err
    if form == "json":
        content = json.loads(out)
        assert content["environments"][0]["bonded_to"] == "H H"
        assert content["structures"][0]["share"] == 1.0
    else:
        assert "Share of the squared error by structure" in " ".join(out.split())
        assert "100.0 %" in out


def test_where_the_error_is_of_a_student_without_error_is_refused(call, tmp_path):
    path = tmp_path / "labels.extxyz"
    write_extxyz(path, structures(), forces_of(structures()))
    status, _, err = call(path, path, "--where")
    assert status == 2
    assert "no error to be found" in err


SMILES = ("CO", "O", "C", "CCO")  # of NAMES


def test_molecules_that_it_was_taught_are_left_out(metrics, call):
    frames, ours, theirs = structures(), forces_of(structures()), forces_of(structures(), 1)
    write_own("r.h5", frames, ours, smiles=list(SMILES))
    write_own("p.h5", frames, theirs)
    learned = [molecule(name) for name in ("CH4", "CH3OH", "H2O")]
    # Ethanol is of the split test, methanol written otherwise, water in heavy atoms alone.
    write_own(
        "t.h5", [*learned, molecule("CH3CH2OH")], forces_of([*learned, molecule("CH3CH2OH")]),
        smiles=["C", "OC", "[OH2]", "CCO"], split=["train", "valid", "train", "test"],
    )  # fmt: skip
    found = metrics("r.h5", "p.h5", "--training", "t.h5")
    error = theirs[3] - ours[3]
    assert found["force_rmse"]["value"] == pytest.approx(math.sqrt((error**2).mean()), rel=1e-5)
    assert found["n_structures"]["value"] == 1
    assert "3 of 4 structures are of molecules it was taught" in call("r.h5", "p.h5", "--training", "t.h5")[1]


def test_whom_it_was_taught_is_told_by_smiles_or_not_at_all(call):
    frames, forces = structures(), forces_of(structures())
    write_own("r.h5", frames, forces, smiles=list(SMILES))
    write_own("untold.h5", frames, forces)
    write_own("test.h5", frames, forces, smiles=list(SMILES), split=["test"] * 4)
    for reference, training, said in (
        ("r.h5", "untold.h5", "4 of 4 structures of the training data say none"),
        ("untold.h5", "r.h5", "4 of 4 structures of the reference say none"),
        ("r.h5", "test.h5", "it holds no structure, or none but of split test"),
        ("r.h5", "r.h5", "all 4 structures of the reference are of molecules that were learned from"),
    ):
        status, out, err = call(reference, "r.h5", "--training", training)
        assert (status, out) == (2, "") and said in err, err


def test_of_the_training_data_molecules_alone_are_asked_for(metrics):
    """Whatever its labels are called, and where it has none."""
    frames, ours, theirs = structures(), forces_of(structures()), forces_of(structures(), 1)
    for name, forces in (("r", ours), ("p", theirs)):
        for atoms, force in zip(frames, forces, strict=True):
            atoms.arrays["F"] = force
        for atoms, smiles in zip(frames, SMILES, strict=True):
            atoms.info["smiles"] = smiles
        write(f"{name}.extxyz", frames, format="extxyz")
    write_extxyz("t.extxyz", frames[:1], ours[:1], smiles=["CO"])
    methane = Chem.AddHs(Chem.MolFromSmiles("C"))
    rdDistGeom.EmbedMolecule(methane, randomSeed=1)
    Chem.MolToMolFile(methane, "t.sdf")
    declared = ("--keys", "forces=F", "--units", "kcal/mol,angstrom")
    for training in ("t.extxyz", "t.sdf"):
        assert metrics("r.extxyz", "p.extxyz", "--training", training, *declared)["n_structures"]["value"] == 3


def test_a_smiles_that_names_no_molecule_is_named(call):
    frames, forces = structures(), forces_of(structures())
    write_own("r.h5", frames, forces, smiles=list(SMILES))
    write_own("t.h5", frames, forces, smiles=["C", "((", "N", "O"])
    status, _, err = call("r.h5", "r.h5", "--training", "t.h5")
    assert status == 2
    assert "structure 1 (" in err and "of the training data: SMILES '(('" in err


def test_structures_of_no_split_are_called_so(call):
    write_extxyz("r.extxyz", structures(), forces_of(structures()))
    status, _, err = call("r.extxyz", "r.extxyz", "--split", "test")
    assert status == 2 and "known: '' (of no split)" in err
