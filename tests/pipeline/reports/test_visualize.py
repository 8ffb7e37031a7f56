"""`hydrogate visualize`: selection, content of the files, and that no molecule name gets into a script."""

import json
import re
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from ase import units
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write

from hydrogate.checks.errors import BadParams
from hydrogate.checks.geometry.chemistry import most_diverse
from hydrogate.checks.metrics.comparison import Comparison
from hydrogate.checks.render.pymol import pymol_script
from hydrogate.pipeline.reports.visualize import Choose, chosen, named, pictures, run
from hydrogate.pipeline.storage.hdf5 import write_dataset

HOSTILE = "x\n/import os; os.system('touch owned')"


@pytest.fixture
def predicted(labelled):
    noise = np.random.default_rng(0).normal(scale=0.1, size=labelled.forces.shape)
    return replace(labelled, forces=(labelled.forces + noise).astype(np.float32))


def arrows_of(script, name):
    """Return (k, 2, 3): start and tip of each arrow of object ``name``."""
    content = [float(one) for one in re.search(rf'load_cgo\(\[(.*)\], "{name}"\)', script)[1].split(", ")]
    assert content[0] == 25.0
    body = np.reshape(content[2:], (-1, 14 + 17))
    assert (body[:, 0] == 9.0).all()
    assert (body[:, 14] == 27.0).all()
    np.testing.assert_array_equal(body[:, 4:7], body[:, 15:18])
    return np.stack([body[:, 1:4], body[:, 18:21]], axis=1)


def test_arrows_are_the_forces_to_scale():
    positions = np.array([[0.0, 0, 0], [0, 0, 1.1], [5, 5, 5]])
    teacher = np.array([[4.0, 0, 0], [0, 3.0, 0], [0, 0, 0]])
    student = np.array([[4.0, 1, 0], [np.nan, 0, 0], [0, 0, -2.0]])
    script = pymol_script("m.xyz", positions, teacher, student, scale=0.5, worst=0.8)
    np.testing.assert_allclose(arrows_of(script, "teacher"), [[[0, 0, 0], [2, 0, 0]], [[0, 0, 1.1], [0, 1.5, 1.1]]])
    np.testing.assert_allclose(arrows_of(script, "student"), [[[0, 0, 0], [2, 0.5, 0]], [[5, 5, 5], [5, 5, 4]]])
    assert "/stored.error = [0.8000, 0.8000, 0.8000]" in script
    assert "maximum=0.8" in script


def test_files_hold_every_hydrogen_and_no_name_of_the_file(labelled, predicted, tmp_path):
    named_to_harm = replace(labelled, source=np.full(len(labelled), HOSTILE), smiles=np.full(len(labelled), HOSTILE))
    comparison = Comparison.of(labelled, predicted)
    (script,) = run(named_to_harm, comparison, [4], tmp_path, scale=0.3, worst=0.5)
    atoms, own = read(script.with_suffix(".xyz")), labelled.atoms_of(4)
    np.testing.assert_array_equal(atoms.numbers, labelled.numbers[own])
    np.testing.assert_allclose(atoms.positions, labelled.positions[own], atol=1e-6)
    text = script.read_text()
    assert "system" not in text
    # PyMOL runs the text after a semicolon as a command, even in a comment.
    assert ";" not in text
    (entry,) = json.loads((tmp_path / "index.json").read_text())
    assert entry["hydrogens"] == (atoms.numbers == 1).sum()
    error = comparison.error[own]
    assert entry["force_rmse"] == pytest.approx(np.sqrt((error**2).mean()))
    assert entry["worst_error"] == pytest.approx(np.linalg.norm(error, axis=1).max())


def test_broken_predictions_are_shown_and_not_averaged_away(labelled, predicted, tmp_path):
    predicted.forces[labelled.offset[7]] = np.nan
    comparison = Comparison.of(labelled, predicted)
    assert chosen(labelled, comparison, Choose.WORST, 1) == [7]
    run(labelled, comparison, [7], tmp_path, scale=0.3, worst=0.5)
    (entry,) = json.loads((tmp_path / "index.json").read_text())
    assert entry["force_rmse"] is None
    assert entry["worst_atom"].endswith(" 0")


def test_the_worst_are_one_geometry_each_of_different_molecules(labelled, predicted):
    own = labelled.atoms_of(0)
    predicted.forces[labelled.offset[30] : labelled.offset[32]] += 5.0  # two geometries of one molecule
    predicted.forces[own] += 3.0
    assert chosen(labelled, Comparison.of(labelled, predicted), Choose.WORST, 2) in ([0, 30], [0, 31])


def test_the_diverse_are_unlike_each_other(labelled, predicted):
    rows = chosen(labelled, Comparison.of(labelled, predicted), Choose.DIVERSE, 5)
    assert len({str(labelled.smiles[row]) for row in rows}) == 5
    # No diverse selection of two contains both alkanes.
    assert most_diverse(["CCCCCC", "CCCCCCC", "c1ccccc1Br"], 2) in ([0, 2], [1, 2])
    assert most_diverse(["C", "CC"], 5) == [0, 1]
    with pytest.raises(BadParams, match="36 of 36 molecules have no SMILES"):
        bare = replace(labelled, smiles=np.full(len(labelled), ""))
        chosen(bare, Comparison.of(labelled, predicted), Choose.DIVERSE, 5)


@pytest.mark.parametrize("rows", ["", "a", "1,", "-1", "3,99"])
def test_rows_that_are_none_are_refused(rows):
    with pytest.raises(BadParams, match="--rows"):
        named(rows, 99)
    assert named("3,1,3", 99) == [1, 3]


def test_without_pymol_there_are_no_pictures(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert pictures([tmp_path / "a.pml"]) == []


def test_a_pymol_that_draws_nothing_is_an_error(tmp_path):
    (tmp_path / "a.png").write_bytes(b"an older picture")
    with pytest.raises(RuntimeError, match=r"rendered no picture of .*a\.pml: can't open file"):
        pictures([tmp_path / "a.pml"], write_program(tmp_path, 'echo "can\'t open file"'))


def write_program(folder, line):
    program = folder / "pymol"
    program.write_text(f"#!/bin/sh\n{line}\n")
    program.chmod(0o755)
    return str(program)


@pytest.mark.parametrize("suffix", [".extxyz", ""])
def test_units_and_format_are_those_of_the_predictions_where_the_labels_say_theirs(
    labelled, predicted, tmp_path, call, suffix
):
    """Use the default reference, ``data/labelled.h5``, with all structures in one split."""
    some = labelled.subset([0, 3, 6])
    (tmp_path / "data").mkdir()
    write_dataset(replace(some, split=np.full(3, "test", object)), tmp_path / "data/labelled.h5")
    frames = [some.to_atoms(row) for row in range(3)]
    for row, atoms in enumerate(frames):
        forces = predicted.subset([0, 3, 6]).forces[some.atoms_of(row)].astype(float)
        atoms.calc = SinglePointCalculator(atoms, forces=forces / (units.kcal / units.mol))
    write(tmp_path / f"mine{suffix}", frames, format="extxyz")
    declared = ("--units", "kcal/mol,angstrom", *(() if suffix else ("--input-format", "extxyz")))
    options = ("--split", "test", "--rows", "0,1", "--no-pictures")
    status, _, err = call("visualize", "-o", "out", "--predicted", f"mine{suffix}", *declared, *options)
    assert status == 0, err
    errors = [entry["force_rmse"] for entry in json.loads((tmp_path / "out/index.json").read_text())]
    assert errors == pytest.approx([0.1, 0.1], rel=0.5)  # the noise, not a difference of units


def test_the_command(labelled, predicted, tmp_path, monkeypatch, call):
    write_dataset(labelled, tmp_path / "labelled.h5")
    test = np.flatnonzero(labelled.split == "test")
    write_dataset(predicted.subset(test), tmp_path / "predicted.h5")
    monkeypatch.setenv("PATH", str(tmp_path))
    files = ["--reference", "labelled.h5", "--predicted", "predicted.h5", "--split", "test"]
    visualize = partial(call, "visualize", "-o", "out", *files)
    status, out, _ = visualize("--count", "3")
    assert status == 0
    assert "3 structures" in out
    assert "PyMOL is not installed" in out
    assert len(list((tmp_path / "out").glob("*.pml"))) == 3
    for options, said in (
        (("--rows", "3000"), "the predictions have rows 0 to"),
        (("--rows", ""), "expected integers"),
        (("--worst-error", "inf"), "--worst-error"),
        (("-o", "labelled.h5"), "cannot write to"),
    ):
        status, _, err = visualize(*options)
        assert status == 2
        assert said in err
