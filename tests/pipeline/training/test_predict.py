"""Command ``hydrogate predict``: output in both formats, and rejected inputs."""

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.io import read, write
from rdkit import Chem
from rdkit.Chem import AllChem

from hydrogate.checks.data.dataset import Dataset, concatenate
from hydrogate.models.potential import Student, Support, predict
from hydrogate.models.student_file import save_student
from hydrogate.models.students import make_student
from hydrogate.pipeline.storage.hdf5 import read_dataset, write_dataset
from hydrogate.pipeline.training.predict import refuse_crowded


@pytest.fixture
def call(call: Callable[..., Any]) -> Callable[..., Any]:
    """Call of ``hydrogate predict``."""
    return partial(call, "predict")


@pytest.fixture
def student(tmp_path: Path) -> Student:
    torch.manual_seed(0)
    size = {"features": 8, "layers": 1, "radial": 6, "cutoff": 4.0}
    made = make_student("so3lr", size, Support((1, 6, 7, 8, 9, 16, 17)))
    save_student(made, tmp_path / "student.safetensors", {})
    return made.eval()


@pytest.fixture
def few(labelled: Dataset, tmp_path: Path) -> Dataset:
    some = labelled.subset(range(0, 21, 3))
    write_dataset(some, tmp_path / "some.h5")
    return some


def test_it_writes_a_data_set_of_its_own(call, student: Student, few: Dataset, tmp_path: Path) -> None:
    result = call("some.h5", "-o", "out.h5", "--student", "student.safetensors", "--batch-size", "3")
    assert result.status == 0, result.err
    assert "labelled by so3lr" in result.out
    found = read_dataset(tmp_path / "out.h5")
    expected = predict(student, [few.to_atoms(row) for row in range(len(few))], batch_size=3)
    assert found.energy.tolist() == [energy for energy, _ in expected]
    assert np.array_equal(found.forces, np.concatenate([forces for _, forces in expected]).astype(np.float32))
    assert found.smiles.tolist() == few.smiles.tolist()
    assert found.teacher["kind"] == "student"
    # No labels of the teacher remain.
    assert (found.dipole, found.charges, found.isolated_atom_energies) == (None, None, None)


def test_it_reads_and_writes_extxyz(call, student: Student, few: Dataset, tmp_path: Path) -> None:
    write(tmp_path / "some.extxyz", [few.to_atoms(row) for row in range(len(few))])
    assert call("some.extxyz", "-o", "out.extxyz", "--student", "student.safetensors").status == 0
    frames = read(tmp_path / "out.extxyz", ":")
    expected = predict(student, [few.to_atoms(row) for row in range(len(few))])
    for atoms, (energy, forces) in zip(frames, expected, strict=True):
        assert atoms.get_potential_energy() == pytest.approx(energy, abs=1e-6)
        assert np.allclose(atoms.get_forces(), forces, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("some.h5", "-o", "out.csv"), "out.csv: unknown suffix '.csv'; expected .h5"),
        (("some.h5", "-o", "some.h5"), "some.h5: already exists"),
        (("some.h5", "-o", "some.h5", "--force"), "some.h5: would overwrite an input file"),
        (("some.h5", "-o", "some.h5/out.h5"), "cannot write to"),
        (("some.h5", "-o", "out.h5", "--student", "gone.safetensors"), "gone.safetensors: no such file"),
        (("some.h5", "-o", "out.h5", "--student", "some.h5"), "some.h5: not a student file"),
        (("none.h5", "-o", "out.h5"), "no structure to predict"),
        (
            ("bare.sdf", "-o", "out.h5"),
            "structure 0 (C2O, bare.sdf record 0) has 0 explicit H, its valences imply 6; 1 of 1",
        ),
        (("strange.h5", "-o", "out.h5"), "has total charge -1; student 'so3lr' was trained on total charge 0 only"),
    ],
)
def test_what_cannot_be_predicted_is_refused(
    call, student: Student, few: Dataset, tmp_path: Path, arguments: tuple[str, ...], why: str
) -> None:
    write_dataset(few.subset([]), tmp_path / "none.h5")
    write_dataset(replace(few, charge=np.full(len(few), -1, np.int16)), tmp_path / "strange.h5")
    ethanol = Chem.MolFromSmiles("CCO")
    AllChem.EmbedMolecule(ethanol, randomSeed=0)
    Chem.MolToMolFile(ethanol, str(tmp_path / "bare.sdf"))
    result = call("--student", "student.safetensors", *arguments)
    assert result.status == 2
    assert why in result.err
    assert not (tmp_path / "out.h5").exists()


def crowded(cube: float, atoms: int = 600, **cell: object) -> Atoms:
    return Atoms(f"C{atoms}", np.random.default_rng(0).uniform(0, cube, (atoms, 3)), **cell)


@pytest.mark.parametrize(
    ("atoms", "least"),
    [
        (crowded(2.0), 590),
        (crowded(2.0, cell=[90, 90, 90], pbc=True), 590),
        (crowded(6.0, cell=[6, 6, 6], pbc=True), 740),  # with periodic images
        (crowded(1.0, 2, cell=[0.9, 0.9, 0.9], pbc=True), 700),
        (crowded(6.0, 2000, cell=[6, 6, 0], pbc=[True, True, False]), 1000),
    ],
)
def test_more_pairs_than_matter_has_are_refused_before_any_are_found(
    call, student: Student, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, atoms: Atoms, least: int
) -> None:
    monkeypatch.setattr("hydrogate.models.batch.neighbour_pairs", lambda *_: pytest.fail("pairs were found"))
    monkeypatch.setattr("hydrogate.models.batch.periodic_pairs", lambda *_: pytest.fail("pairs were found"))
    write(tmp_path / "dense.extxyz", [molecule("H2O"), atoms])
    result = call("dense.extxyz", "-o", "out.h5", "--student", "student.safetensors")
    assert result.status == 2
    said = re.search(
        r"structure 1 \(C\d+, dense\.extxyz record 1\): about (\d+) neighbours per atom within 4 Å, ", result.err
    )
    assert said and int(said[1]) >= least, result.err
    assert "allowed at most 536, 2 atoms/Å³" in result.err


@pytest.mark.parametrize(
    "atoms",
    [
        bulk("C", cubic=True).repeat(2),
        bulk("C").repeat(9),
        bulk("C", cubic=True),
        Atoms("C2", [[0, 0, 0], [0, 1.42, 0]], cell=[2.46, 4.26, 0], pbc=[True, True, False]),
        Atoms("C", pbc=[True, False, False], cell=[1.3, 0, 0]),
        Atoms("C", pbc=True),
        Atoms("C2", [[0, 0, 0], [np.nan, 0, 0]], pbc=True, cell=[3, 3, 3]),
        Atoms("C600", np.full((600, 3), np.nan)),
    ],
)
def test_the_densest_matter_is_not_crowded_and_what_is_no_structure_is_left_to_the_student(atoms: Atoms) -> None:
    for pbc in (atoms.pbc, False):
        copy = atoms.copy()
        copy.pbc = pbc
        refuse_crowded(concatenate([copy]), [0], 5.0)


def test_what_is_not_finite_is_written_and_named(call, student: Student, tmp_path: Path) -> None:
    with torch.no_grad():
        student.reference_energies[6] = torch.nan
    save_student(student, tmp_path / "broken.safetensors", {})
    write(tmp_path / "three.extxyz", [molecule(name) for name in ("H2O", "CH4", "NH3")])
    result = call("three.extxyz", "-o", "out.h5", "--student", "broken.safetensors")
    assert result.status == 1
    assert "energy or forces of 1 of 3 structures are not finite, the first structure 1 (CH4, " in result.err
    assert len(read_dataset(tmp_path / "out.h5")) == 3
