"""`hydrogate evaluate --training`: molecules of the training data are excluded."""

import json
import math
from pathlib import Path

import h5py
import pytest
from ase import units
from ase.build import molecule
from ase.io import write
from rdkit import Chem
from rdkit.Chem import rdDistGeom


def test_molecules_that_it_was_taught_are_left_out(metrics, call, structures, forces_of, write_own, smiles):
    frames, ours, theirs = structures(), forces_of(structures()), forces_of(structures(), 1)
    write_own("r.h5", frames, ours, smiles=list(smiles))
    write_own("p.h5", frames, theirs)
    learned = [molecule(name) for name in ("CH4", "CH3OH", "H2O")]
    # Ethanol is in split test, methanol has another SMILES, the SMILES of water has its hydrogens in brackets.
    write_own(
        "t.h5", [*learned, molecule("CH3CH2OH")], forces_of([*learned, molecule("CH3CH2OH")]),
        smiles=["C", "OC", "[OH2]", "CCO"], split=["train", "valid", "train", "test"],
    )  # fmt: skip
    found = metrics("r.h5", "p.h5", "--training", "t.h5")
    error = theirs[3] - ours[3]
    assert found["force_rmse"]["value"] == pytest.approx(math.sqrt((error**2).mean()), rel=1e-5)
    assert found["n_structures"]["value"] == 1
    assert (
        "3 of 4 structures are excluded: their molecules are in the training data"
        in call("r.h5", "p.h5", "--training", "t.h5")[1]
    )
    content = json.loads(call("r.h5", "p.h5", "--training", "t.h5", "--format", "json")[1])
    assert content["training"] == {"structures": 4, "left_out": 3}


def test_whom_it_was_taught_is_told_by_smiles_or_not_at_all(call, structures, forces_of, write_own, smiles):
    frames, forces = structures(), forces_of(structures())
    write_own("r.h5", frames, forces, smiles=list(smiles))
    write_own("untold.h5", frames, forces)
    write_own("test.h5", frames, forces, smiles=list(smiles), split=["test"] * 4)
    for reference, training, said in (
        ("r.h5", "untold.h5", "4 of 4 structures of the training data have none"),
        ("untold.h5", "r.h5", "4 of 4 structures of the reference have none"),
        ("r.h5", "test.h5", "has no training structures, only split test or none"),
        ("r.h5", "r.h5", "all 4 structures of the reference are of molecules in the training data"),
    ):
        status, out, err = call(reference, "r.h5", "--training", training)
        assert (status, out) == (2, "") and said in err, err


def test_of_the_training_data_molecules_alone_are_asked_for(metrics, structures, forces_of, write_extxyz, smiles):
    """Ignore the names of its labels, and their absence."""
    frames, ours, theirs = structures(), forces_of(structures()), forces_of(structures(), 1)
    for name, forces in (("r", ours), ("p", theirs)):
        for atoms, force in zip(frames, forces, strict=True):
            atoms.arrays["F"] = force
        for atoms, told in zip(frames, smiles, strict=True):
            atoms.info["smiles"] = told
        write(f"{name}.extxyz", frames, format="extxyz")
    write_extxyz("t.extxyz", frames[:1], ours[:1], smiles=["CO"])
    methane = Chem.AddHs(Chem.MolFromSmiles("C"))
    rdDistGeom.EmbedMolecule(methane, randomSeed=1)
    Chem.MolToMolFile(methane, "t.sdf")
    declared = ("--keys", "forces=F", "--units", "kcal/mol,angstrom")
    for training in ("t.extxyz", "t.sdf"):
        assert metrics("r.extxyz", "p.extxyz", "--training", training, *declared)["n_structures"]["value"] == 3


def test_the_format_of_the_training_data_is_that_of_the_others_where_its_name_tells_none(
    metrics, structures, forces_of, write_extxyz, write_own, smiles
):
    frames, forces = structures(), forces_of(structures())
    write_extxyz("r.extxyz", frames, forces, smiles=smiles)
    write_own("p.h5", frames, forces_of(frames, 1))
    write_extxyz("learned.extxyz", frames[:2], forces[:2], smiles=smiles[:2])
    Path("learned.extxyz").rename("learned")
    Path("r.extxyz").rename("labels")
    write_own("t.h5", frames[:1], forces[:1], smiles=["CO"])
    declared = ("--input-format", "extxyz", "--predicted-input-format", "hdf5")
    for training, left in (("learned", 2), ("t.h5", 3)):
        found = metrics("labels", "p.h5", "--training", training, *declared)
        assert found["n_structures"]["value"] == left


def test_keys_and_units_of_the_training_data_alone(metrics, structures, forces_of, write_own, smiles):
    """Use the SPICE layout with another name for its SMILES, and two files that state their own keys and units."""
    frames, forces = structures(), forces_of(structures())
    write_own("r.h5", frames, forces, smiles=list(smiles))
    write_own("p.h5", frames, forces_of(frames, 1))
    with h5py.File("taught.spice", "w") as file:
        group = file.create_group("methane")
        group["atomic_numbers"] = frames[2].numbers
        group["conformations"] = frames[2].positions[None] / units.Bohr
        group.create_dataset("text", data=["C"], dtype=h5py.string_dtype())
    declared = ("--input-format", "spice", "--keys", "smiles=text", "--units", "hartree,bohr")
    assert metrics("r.h5", "p.h5", "--training", "taught.spice", *declared)["n_structures"]["value"] == 3


def test_a_smiles_that_names_no_molecule_is_named(call, structures, forces_of, write_own, smiles):
    frames, forces = structures(), forces_of(structures())
    write_own("r.h5", frames, forces, smiles=list(smiles))
    write_own("t.h5", frames, forces, smiles=["C", "((", "N", "O"])
    status, _, err = call("r.h5", "r.h5", "--training", "t.h5")
    assert status == 2
    assert "structure 1 (" in err and "of the training data: SMILES '(('" in err
