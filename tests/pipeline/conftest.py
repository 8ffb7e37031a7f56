"""Fixtures: the command, a project with a decision, and files in the formats of other programs."""

import json
import random
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

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

from hydrogate.checks.data.dataset import Dataset
from hydrogate.checks.findings import Finding, Report, Severity, Verdict
from hydrogate.checks.gates.milestones import Decision
from hydrogate.pipeline.cli import main
from hydrogate.pipeline.decision import decide
from hydrogate.pipeline.decision.record import read_record
from hydrogate.pipeline.decision.staleness import Stale
from hydrogate.pipeline.storage.hdf5 import write_dataset

KCAL = units.kcal / units.mol


def labelled_atoms(data: Dataset) -> list[Atoms]:
    """Return the structures as ASE Atoms with their labels in calculators."""
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
    """Write rows like fairchem's ase.db backend: zlib-compressed ASE JSON under the keys "1", "2", …, and "nextid"."""
    with lmdb.open(str(path), subdir=False, map_size=2**24, lock=False) as database, database.begin(write=True) as put:
        for row, atoms in enumerate(frames):
            content = {key: value for key, value in AtomsRow(atoms).__dict__.items() if not key.startswith("_")}
            content["cell"] = np.asarray(content["cell"])
            content["data"] = dict(atoms.info)
            put.put(str(row + 1).encode(), zlib.compress(encode(content).encode()))
        put.put(b"nextid", zlib.compress(encode(len(frames) + 1).encode()))


def write_spice(data: Dataset, path: Path) -> None:
    """Write one group per molecule, with all conformations that have the same parent."""
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
    """Write one molecule in rMD17's layout."""
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
    """Write a data set, or ASE Atoms, to the file ``data`` with the suffix of a format; ``.hdf5`` is SPICE's."""

    def make(content: Dataset | Sequence[Atoms], suffix: str) -> Path:
        path = tmp_path / f"data{suffix}"
        writer = WRITERS[suffix]
        writer(labelled_atoms(content) if isinstance(content, Dataset) and writer in OF_FRAMES else content, path)
        return path

    return make


@pytest.fixture(scope="session")
def few(labelled: Dataset) -> Dataset:
    """Return four molecules with three geometries each, without the isolated atoms, which most formats do not store."""
    return replace(labelled.subset(range(12)), isolated_atom_energies=None)


@pytest.fixture
def few_atoms(few: Dataset) -> list[Atoms]:
    """Return the same structures as ASE Atoms with calculators, new for each test."""
    return labelled_atoms(few)


@pytest.fixture(scope="session")
def assert_same() -> Callable[[Dataset, Dataset], None]:
    """Compare the structures and labels of two data sets within the precision of a text format."""

    def compare(data: Dataset, expected: Dataset) -> None:
        np.testing.assert_array_equal(data.numbers, expected.numbers)
        np.testing.assert_array_equal(data.offset, expected.offset)
        np.testing.assert_allclose(data.positions, expected.positions, atol=2e-6)
        np.testing.assert_allclose(data.energy, expected.energy, rtol=1e-9)
        np.testing.assert_allclose(data.forces, expected.forces, atol=2e-5)
        np.testing.assert_array_equal(data.charge, expected.charge)
        np.testing.assert_array_equal(data.spin_multiplicity, expected.spin_multiplicity)

    return compare


PARAMS = Path(__file__).parents[2] / "params.yaml"
GOOD = {
    "force_rmse": {"value": 0.2, "unit": "eV/Å", "n": 200, "low": 0.19, "high": 0.21},
    "force_rmse_relative": {"value": 0.08, "unit": "", "n": 200, "low": 0.07, "high": 0.09},
    "hydrogen_force_error": {"value": 0.06, "unit": "", "n": 200, "low": 0.05, "high": 0.07},
    "angular_error_mean_deg": {"value": 5.4, "unit": "degree", "n": 200, "low": 5.1, "high": 5.8},
    "hydrogen_fraction": {"value": 0.46, "unit": "", "n": 200},
    "n_structures": {"value": 200.0, "unit": "molecules", "n": 200},
    "oxygen_over_carbon": {"value": 0.3, "unit": "", "n": 180, "low": 0.2, "high": 0.4},
}
STABLE = {
    "md_stability": {"value": 1.0, "unit": "", "n": 20},
    "md_drift": {"value": 0.02, "unit": "meV/atom/ps", "n": 20, "low": 0.01, "high": 0.03},
}


class Project:
    """Small project folder with parameters and metrics of a run that passed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        shutil.copy(PARAMS, root / "params.yaml")
        for contract, fingerprint in (("input", "s"), ("structures", "s"), ("labels", "L"), ("predictions", "P")):
            found = Finding(contract, "finite", Verdict.PASS, Severity.ERROR, "All are finite.", n=1)
            self.report(contract, found, fingerprint=fingerprint)
        of = {"labelled_fingerprint": "L", "student_fingerprint": "S"}
        # Metric of another split, which must not be used.
        other = {"value": 9.0, "unit": "eV/Å", "n": 9}
        self.write("training", of | {"convergence": {"value": 0.01, "unit": "", "n": 12}, "force_rmse": other})
        self.write("validation", of | {"split": "test", "predictions_fingerprint": "P"} | GOOD)
        self.write("md", of | STABLE)

    def write(self, name: str, content: Mapping[str, object]) -> None:
        """Write ``metrics/<name>.json``."""
        path = self.root / "metrics" / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content), encoding="utf-8")

    def change(self, name: str, **changes: object) -> None:
        """Change entries of ``metrics/<name>.json``; None removes an entry."""
        content = json.loads((self.root / "metrics" / f"{name}.json").read_text()) | changes
        self.write(name, {key: value for key, value in content.items() if value is not None})

    def report(self, contract: str, *findings: Finding, fingerprint: str) -> None:
        """Write the findings of a contract."""
        self.write(contract, Report(contract, "druglike", fingerprint, findings).to_dict(strict=True))

    def decided(self, stale: Callable[[Path], list[Stale]] = lambda root: []) -> tuple[Decision, Any]:
        """Return the decision and the content of the decision file."""
        record = read_record(self.root, stale(self.root))
        decision = decide.decide_from(record)
        decide.write_decision(decision, record.metrics, self.root)
        written = json.loads((self.root / "metrics/decision.json").read_text(encoding="utf-8"))
        assert written["next_milestone"] == decision.milestone
        return decision, written


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Return a valid project, for tests to damage."""
    return Project(tmp_path)


class Called(NamedTuple):
    """Exit status and output of a command."""

    status: int
    out: str
    err: str


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Called]:
    """Run ``hydrogate`` as a user does, in an empty folder and a wide terminal."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")

    def run(*arguments: object) -> Called:
        monkeypatch.setattr("sys.argv", ["hydrogate", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        return Called(int(end.value.code or 0), *capsys.readouterr())

    return run


@pytest.fixture
def hydrogate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., int]:
    """Run the command in a folder without params.yaml; ``hydrogate.output`` is its output joined into one line."""

    def call(*arguments: object) -> int:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("sys.argv", ["hydrogate", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        call.output = " ".join("".join(capfd.readouterr()).split())
        return int(end.value.code or 0)

    return call


@pytest.fixture(params=["flip", "overwrite", "truncate"])
def damaged(request: pytest.FixtureRequest) -> Callable[[bytes, int], Iterator[bytes]]:
    """Generate copies of a file's content, each damaged in one place."""
    rng = random.Random(request.param)

    def copies(whole: bytes, count: int) -> Iterator[bytes]:
        for _ in range(count):
            content, place = bytearray(whole), rng.randrange(len(whole))
            if request.param == "flip":
                content[place] ^= 1 << rng.randrange(8)
            elif request.param == "overwrite":
                content[place : place + 64] = rng.randbytes(min(64, len(whole) - place))
            else:
                del content[place:]
            yield bytes(content)

    return copies
