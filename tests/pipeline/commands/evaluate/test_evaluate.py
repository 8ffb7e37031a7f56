"""`hydrogate evaluate` on files as other programs write them: values computed by hand, and undefined cases."""

import json
import math

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import write


def test_two_formats_by_hand(metrics, write_extxyz, write_own):
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


def test_every_pair_of_formats_gives_the_same(metrics, structures, forces_of, write_extxyz, write_own):
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


def test_both_students_of_one_file_by_their_own_keys(metrics, structures, forces_of):
    """Use one file as MACE writes it, with labels next to predictions."""
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


def test_units_and_keys_of_the_other_file_alone(metrics, call, structures, forces_of, write_extxyz, write_own):
    frames, forces = structures(), forces_of(structures())
    write_own("reference.h5", frames, forces)
    write_extxyz("student.extxyz", frames, [force / 0.0433641153087705 for force in forces])
    assert metrics("reference.h5", "student.extxyz")["force_rmse"]["value"] > 10
    assert metrics("reference.h5", "student.extxyz", "--units", "kcal/mol,angstrom")["force_rmse"]["value"] < 1e-5
    own = metrics("reference.h5", "student.extxyz", "--predicted-units", "kcal/mol,angstrom")
    assert own["force_rmse"]["value"] < 1e-5


def test_a_prediction_of_zero_counts_as_a_right_angle_and_never_as_nothing(
    metrics, structures, forces_of, write_extxyz
):
    frames, forces = structures(), forces_of(structures())
    write_extxyz("r.extxyz", frames, forces)
    write_extxyz("zero.extxyz", frames, [0 * force for force in forces])
    found = metrics("r.extxyz", "zero.extxyz")
    assert found["angular_error_mean_deg"]["value"] == 90.0
    assert found["angular_error_median_deg"]["value"] == 90.0
    assert found["angle_within_5deg"]["value"] == 0.0
    for name in ("force_rmse_relative", "hydrogen_force_error"):
        assert found[name]["value"] == pytest.approx(1.0)


def test_forces_under_the_floor_leave_the_angles_undefined(metrics, structures, forces_of, write_extxyz):
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


def test_an_element_that_is_missing_has_no_error(metrics, forces_of, write_extxyz):
    frames = [molecule("CH4"), molecule("C2H6")]
    write_extxyz("r.extxyz", frames, forces_of(frames))
    write_extxyz("p.extxyz", frames, forces_of(frames, 1))
    found = metrics("r.extxyz", "p.extxyz")
    for name in ("force_rmse_O", "oxygen_over_carbon", "oxygen_over_carbon_relative", "force_rmse_H_on_O"):
        assert (found[name]["value"], found[name]["n"]) == (None, 0)
    assert found["force_rmse_H_on_C"]["value"] > 0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_prediction_that_is_not_finite_leaves_no_figure_and_is_told(
    metrics, call, bad, structures, forces_of, write_own
):
    frames, forces = structures(), forces_of(structures())
    write_own("r.h5", frames, forces)
    broken = [force.copy() for force in forces]
    broken[0][0] = [9.0, 0.0, bad]
    write_own("p.h5", frames, broken)
    found = metrics("r.h5", "p.h5")
    for name in ("force_rmse", "force_rmse_relative", "force_mae", "force_rmse_C", "oxygen_over_carbon"):
        assert found[name]["value"] is None
    assert "1 atoms have non-finite predicted forces" in call("r.h5", "p.h5")[1]


def test_without_energies_the_forces_are_measured_and_it_is_said(metrics, call, structures, forces_of, write_extxyz):
    frames, forces = structures(), forces_of(structures())
    write_extxyz("r.extxyz", frames, forces, [1.0, 2.0, 3.0, 4.0])
    write_extxyz("p.extxyz", frames, forces)
    found = metrics("r.extxyz", "p.extxyz")
    assert found["energy_mae_per_atom"]["value"] is None
    assert found["force_rmse"]["value"] == 0.0
    _, out, err = call("r.extxyz", "p.extxyz", "--format", "json")
    assert "The prediction has no energies" in err
    assert json.loads(out)  # notes leave the JSON alone
    assert "The prediction has no energies" in call("r.extxyz", "p.extxyz", "--format", "markdown")[1]


def test_molecules_are_told_by_smiles_parent_or_not_at_all(metrics, call, forces_of, write_extxyz, write_own):
    frames, forces = [molecule("CH3OH")] * 6, forces_of([molecule("CH3OH")] * 6)
    write_extxyz("p.extxyz", frames, forces)
    write_extxyz("smiles.extxyz", frames, forces, smiles=["CO", "OC", "CO", "[CH3][OH]", "CO", "CO"])
    write_own("parents.h5", frames, forces, parent=[0, 0, 0, 3, 3, 3])
    write_own("skeletons.h5", frames, forces, inchikey=["OKKJLVBELUTLKV-UHFFFAOYSA-N"] * 5 + [""])
    for name, molecules, told in (
        ("smiles.extxyz", 1, ""),
        ("parents.h5", 2, ""),
        ("skeletons.h5", 2, "1 of 6 structures do not identify its molecule"),
        ("p.extxyz", 6, "No structure identifies its molecule"),
    ):
        assert metrics(name, "p.extxyz")["n_structures"]["value"] == molecules
        out = call(name, "p.extxyz")[1]
        assert told in out
        assert ("counts as a separate molecule" in out) == bool(told)


def test_one_split_of_the_reference(metrics, call, structures, forces_of, write_extxyz, write_own):
    frames, forces = structures(), forces_of(structures())
    write_own("all.h5", frames, forces, split=["train", "test", "train", "test"])
    write_extxyz("p.extxyz", frames[1::2], forces[1::2])
    assert metrics("all.h5", "p.extxyz", "--split", "test")["n_structures"]["value"] == 2
    assert "the reference has 4 structures, the prediction 2" in call("all.h5", "p.extxyz")[2]
    status, _, err = call("all.h5", "p.extxyz", "--split", "tset")
    assert status == 2 and "did you mean 'test'?" in err


def test_the_text_names_the_files_the_floor_and_what_the_errors_are_against(call, structures, forces_of, write_extxyz):
    write_extxyz("r.extxyz", structures(), forces_of(structures()))
    write_extxyz("p.extxyz", structures(), forces_of(structures(), 1))
    _, out, _ = call("r.extxyz", "p.extxyz", "--floor", "0.25")
    assert "p.extxyz against r.extxyz, angles for forces ≥ 0.25 eV/Å" in out
    assert "against the reference, not against chemistry" in out
    assert "force_rmse" in out and "undefined" in out


@pytest.mark.parametrize("form", ["text", "markdown", "json"])
def test_where_the_error_is_comes_on_request(call, tmp_path, form, structures, forces_of, write_extxyz):
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
