"""End-to-end tests of `hydrogate check` and `hydrogate show` on every format: 0 passed, 1 failed, 2 invalid input."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units

from hydrogate.checks.data.dataset import Dataset

Written = Callable[[Dataset | Sequence[Atoms], str], Path]
SUFFIXES = (".extxyz", ".xyz", ".traj", ".db", ".json", ".aselmdb", ".hdf5", ".h5")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_good_labels_hold(suffix: str, labelled: Dataset, written: Written, hydrogate: Callable[..., int]) -> None:
    assert hydrogate("check", written(labelled, suffix), "--contract", "labels") == 0, hydrogate.output


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_hartree_for_ev_is_refused(
    suffix: str, labelled: Dataset, written: Written, hydrogate: Callable[..., int]
) -> None:
    """Reject stored values whose units differ from the convention of the format."""
    wrong = replace(
        labelled, energy=labelled.energy / units.Hartree, forces=labelled.forces / np.float32(units.Hartree)
    )
    path = written(wrong, suffix)
    assert hydrogate("check", path, "--contract", "labels") == 1
    assert "energy_residual_scale" in hydrogate.output
    if suffix not in (".h5", ".hdf5"):
        arguments = ("check", path, "--contract", "labels", "--units", "hartree,angstrom")
        assert hydrogate(*arguments) == 0, hydrogate.output


@pytest.mark.parametrize("suffix", [".extxyz", ".traj", ".db", ".json", ".aselmdb"])
def test_a_wrong_key_is_unusable_until_it_is_declared(
    suffix: str, labelled: Dataset, written: Written, hydrogate: Callable[..., int]
) -> None:
    frames = [labelled.to_atoms(row) for row in range(len(labelled))]
    for row, atoms in enumerate(frames):
        forces = labelled.forces[labelled.atoms_of(row)].astype(float)
        atoms.info["energy" if suffix != ".json" else "dft_energy"] = float(labelled.energy[row])
        (atoms.arrays if suffix == ".extxyz" else atoms.info)["force"] = forces
    path = written(frames, suffix)
    assert hydrogate("check", path, "--contract", "labels") == 2
    assert "did you mean --keys" in hydrogate.output
    assert "Traceback" not in hydrogate.output
    keys = "forces=force" + (",energy=dft_energy" if suffix == ".json" else "")
    assert hydrogate("check", path, "--contract", "labels", "--keys", keys) == 0, hydrogate.output


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".npz"])
def test_a_damaged_file_is_unusable(suffix: str, few: Dataset, written: Written, hydrogate: Callable[..., int]) -> None:
    path = written(few.subset(range(3)), suffix)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert hydrogate("check", path) == 2
    assert hydrogate.output.startswith("UnreadableFile: ")
    assert path.name in hydrogate.output
    assert "Traceback" not in hydrogate.output


def test_one_molecule_in_npz(labelled: Dataset, written: Written, hydrogate: Callable[..., int]) -> None:
    path = written(labelled.subset(range(3)), ".npz")
    assert hydrogate("show", path) == 0
    assert "Read as npz; units: kcal/mol,angstrom (rMD17's convention)." in hydrogate.output
    assert hydrogate("check", path, "--contract", "labels", "--units", "eV,angstrom") == 1
    assert hydrogate("check", path, "--contract", "labels", "--keys", "energies=E") == 2
    assert "unknown quantity 'energies'; did you mean 'energy'" in hydrogate.output


def test_show_takes_keys_and_units(few_atoms: list[Atoms], written: Written, hydrogate: Callable[..., int]) -> None:
    for atoms in few_atoms:
        atoms.info["gradient"] = -atoms.calc.results.pop("forces")
    path = written(few_atoms, ".traj")
    assert hydrogate("show", path) == 2
    assert "--keys forces=-gradient changes the sign" in hydrogate.output
    assert hydrogate("show", path, "--keys", "forces=-gradient", "--units", "kcal/mol,angstrom") == 0
    assert "Read as traj; units: kcal/mol,angstrom (declared)." in hydrogate.output


def test_files_of_several_formats_are_one_data_set(
    labelled: Dataset, written: Written, hydrogate: Callable[..., int]
) -> None:
    half = len(labelled) // 2
    paths = [written(labelled.subset(range(half)), ".traj"), written(labelled.subset(range(half, 108)), ".aselmdb")]
    assert hydrogate("check", *paths, "--contract", "labels", "--format", "json") == 0
    assert '"structures": 108' in hydrogate.output


def test_a_reference_of_the_projects_own_format_says_its_units_itself(
    labelled: Dataset, written: Written, hydrogate: Callable[..., int]
) -> None:
    reference = written(labelled, ".h5")
    path = written(replace(labelled, energy=labelled.energy / units.Hartree), ".traj")
    call = ("check", path, "--contract", "predictions", "--reference", reference, "--units", "hartree,angstrom")
    assert hydrogate(*call) in (0, 1), hydrogate.output


def test_predictions_of_one_split_beside_a_reference_of_all(
    labelled: Dataset, written: Written, hydrogate: Callable[..., int]
) -> None:
    held_out = written(labelled.subset(np.flatnonzero(labelled.split == "test")), ".h5")
    predicted = held_out.rename(held_out.with_name("predicted.h5"))
    reference = written(labelled, ".h5")
    call = ("check", predicted, "--contract", "predictions", "--reference", reference, "--format", "markdown")
    assert hydrogate(*call) == 1
    assert r"select the split with \-\-split" in hydrogate.output
    assert hydrogate(*call, "--split", "test") == 0, hydrogate.output
    assert hydrogate(*call, "--split", "tset") == 2
    assert "did you mean 'test'?" in hydrogate.output


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".npz", ".sdf"])
def test_what_is_no_file_is_said_to_be_none(suffix: str, tmp_path: Path, hydrogate: Callable[..., int]) -> None:
    pipe, folder = tmp_path / f"pipe{suffix}", tmp_path / f"folder{suffix}"
    os.mkfifo(pipe)
    folder.mkdir()
    assert hydrogate("show", pipe) == 2
    assert "pipe or a device, which cannot be read twice" in hydrogate.output
    assert hydrogate("evaluate", "--reference", folder, "--predicted", folder) == 2
    assert "expected a file, but this is a folder; give a file inside it" in hydrogate.output
