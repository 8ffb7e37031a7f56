"""Files as other programs write them."""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import h5py
import lmdb
import numpy as np
import pytest
from ase import Atoms, units
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db import connect
from ase.db.row import AtomsRow
from ase.io import write
from ase.io.jsonio import encode

from hydrogate.checks.dataset import Dataset
from hydrogate.pipeline.cli import main
from hydrogate.pipeline.hdf5 import write_dataset

KCAL = units.kcal / units.mol


def labelled_atoms(data: Dataset) -> list[Atoms]:
    """The structures with their labels in calculators."""
    frames = [data.to_atoms(row) for row in range(len(data))]
    for row, atoms in enumerate(frames):
        forces = data.forces[data.atoms_of(row)].astype(float)
        atoms.calc = SinglePointCalculator(atoms, energy=float(data.energy[row]), forces=forces)
    return frames


def write_frames(frames: Sequence[Atoms], path: Path) -> None:
    write(path, frames, format="traj" if path.suffix == ".traj" else "extxyz")


def write_database(frames: Sequence[Atoms], path: Path) -> None:
    with connect(path, use_lock_file=False) as database:
        for atoms in frames:
            database.write(atoms, data=dict(atoms.info))


def write_aselmdb(frames: Sequence[Atoms], path: Path) -> None:
    """As fairchem's backend of ase.db stores rows: zlib over ASE's JSON, under "1", "2", …, and "nextid"."""
    with lmdb.open(str(path), subdir=False, map_size=2**24, lock=False) as database, database.begin(write=True) as put:
        for row, atoms in enumerate(frames):
            content = {key: value for key, value in AtomsRow(atoms).__dict__.items() if not key.startswith("_")}
            content["cell"] = np.asarray(content["cell"])
            content["data"] = dict(atoms.info)
            put.put(str(row + 1).encode(), zlib.compress(encode(content).encode()))
        put.put(b"nextid", zlib.compress(encode(len(frames) + 1).encode()))


def write_spice(data: Dataset, path: Path) -> None:
    """A group a molecule, with the conformations that share a parent."""
    with h5py.File(path, "w") as file:
        for parent in sorted(set(data.parent.tolist())):
            molecule = data.subset(np.flatnonzero(data.parent == parent))
            shape = (len(molecule), -1, 3)
            group = file.create_group(f"molecule-{parent:03d}")
            group.create_dataset("atomic_numbers", data=molecule.numbers[molecule.atoms_of(0)].astype(np.int16))
            group.create_dataset("smiles", data=[molecule.smiles[0]], dtype=h5py.string_dtype())
            group.create_dataset("subset", data=["tests"], dtype=h5py.string_dtype())
            stored = {
                "conformations": (molecule.positions.reshape(shape) / units.Bohr, "bohr"),
                "dft_total_energy": (molecule.energy / units.Hartree, "hartree"),
                "dft_total_gradient": (-molecule.forces.reshape(shape) / (units.Hartree / units.Bohr), "hartree/bohr"),
                "formation_energy": (molecule.energy * 0, "hartree"),
            }
            for name, (values, unit) in stored.items():
                group.create_dataset(name, data=values).attrs["units"] = unit


def write_npz(data: Dataset, path: Path) -> None:
    """The layout of rMD17: one molecule."""
    shape = (len(data), -1, 3)
    np.savez(
        path,
        nuclear_charges=data.numbers[data.atoms_of(0)],
        coords=data.positions.reshape(shape).astype(float),
        energies=data.energy / KCAL,
        forces=data.forces.reshape(shape).astype(float) / KCAL,
        old_indices=np.arange(len(data)),
    )


WRITERS = {
    ".extxyz": write_frames,
    ".xyz": write_frames,
    ".traj": write_frames,
    ".db": write_database,
    ".json": write_database,
    ".aselmdb": write_aselmdb,
    ".hdf5": write_spice,
    ".npz": write_npz,
    ".h5": write_dataset,
}
OF_FRAMES = (write_frames, write_database, write_aselmdb)


@pytest.fixture
def written(tmp_path: Path) -> Callable[[Dataset | Sequence[Atoms], str], Path]:
    """A data set, or ASE Atoms, as the file ``data`` with the suffix of a format; ``.hdf5`` is SPICE's."""

    def make(content: Dataset | Sequence[Atoms], suffix: str) -> Path:
        path = tmp_path / f"data{suffix}"
        writer = WRITERS[suffix]
        writer(labelled_atoms(content) if isinstance(content, Dataset) and writer in OF_FRAMES else content, path)
        return path

    return make


@pytest.fixture(scope="session")
def few(labelled: Dataset) -> Dataset:
    """Four molecules, three geometries each; without the isolated atoms, which most files do not hold."""
    return replace(labelled.subset(range(12)), isolated_atom_energies=None, _cache={})


@pytest.fixture
def few_atoms(few: Dataset) -> list[Atoms]:
    """The same as ASE Atoms with calculators, made anew for each test."""
    return labelled_atoms(few)


@pytest.fixture
def hydrogate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., int]:
    """The command, away from any ./params.yaml; ``hydrogate.output`` is what it printed, in one line."""

    def call(*arguments: object) -> int:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("sys.argv", ["hydrogate", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        call.output = " ".join("".join(capfd.readouterr()).split())
        return int(end.value.code or 0)

    return call
