"""Unreadable files: the error names the file and the frames read; no data are dropped and no code is executed."""

import builtins
import json
import pickle
import sqlite3
import zipfile
import zlib
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import h5py
import lmdb
import numpy as np
import pytest
from ase import Atoms

from hydrogate.checks.data.dataset import Dataset
from hydrogate.checks.errors import UnreadableData
from hydrogate.pipeline.formats import read

Written = Callable[[Dataset | Sequence[Atoms], str], Path]
SUFFIXES = (".extxyz", ".xyz", ".traj", ".db", ".json", ".aselmdb", ".hdf5", ".h5", ".npz")


@pytest.fixture
def one(few: Dataset) -> Dataset:
    """Return three geometries of one molecule, which every format can store."""
    return few.subset(range(3))


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.95])
def test_truncated(suffix: str, share: float, one: Dataset, written: Written) -> None:
    path = written(one, suffix)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(UnreadableData, match=rf"data\{suffix}: "):
        read(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("content", [b"", b"not what it seems\n", b"\x00\xff" * 500], ids=["empty", "text", "bytes"])
def test_something_else(suffix: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"data{suffix}"
    path.write_bytes(content)
    with pytest.raises(UnreadableData, match=rf"data\{suffix}: "):
        read(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("frames_before", [0, 2])
def test_a_frame_that_claims_a_million_million_atoms(frames_before: int, tmp_path: Path) -> None:
    path = tmp_path / "bomb.xyz"
    path.write_text(frames_before * "1\nmade\nH 0 0 0\n" + "999999999999\n\nH 0 0 0\n")
    with pytest.raises(UnreadableData, match=r"bomb\.xyz: a frame claims 999999999999 atoms"):
        read(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_folder(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"data{suffix}"
    path.mkdir()
    with pytest.raises(UnreadableData, match=rf"data\{suffix}: "):
        read(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_no_such_file(suffix: str, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=rf"data\{suffix}: no such file"):
        read(tmp_path / f"data{suffix}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_reading_leaves_the_file_and_its_folder_alone(suffix: str, one: Dataset, written: Written) -> None:
    path = written(one, suffix)
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    path.chmod(0o444)
    assert len(read(path)) == 3
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == before


@pytest.mark.parametrize("suffix", [".extxyz", ".traj", ".db", ".aselmdb"])
def test_no_structures(suffix: str, written: Written) -> None:
    path = written([], suffix)
    with pytest.raises(UnreadableData, match=rf"data\{suffix}: "):
        read(path)


def test_extxyz_says_how_far_it_came(few_atoms: list[Atoms], written: Written) -> None:
    path = written(few_atoms, ".extxyz")
    lines = path.read_text().splitlines(keepends=True)
    # Three frames of nine atoms, then the first atom of the fourth.
    lines[3 * 11 + 2] = lines[3 * 11 + 2].replace("C ", "C a", 1)
    path.write_text("".join(lines))
    with pytest.raises(UnreadableData, match="not readable as extended XYZ after 3 frames: ValueError"):
        read(path)


def test_extxyz_after_a_blank_line_is_not_dropped(few_atoms: list[Atoms], written: Written) -> None:
    path = written(few_atoms, ".extxyz")
    text = path.read_text()
    path.write_text(text + "\n\n")
    assert len(read(path)) == 12
    path.write_text(text + "\n" + text)
    with pytest.raises(UnreadableData, match="text after a blank line"):
        read(path)


def test_columns_that_nothing_declares(one: Dataset, tmp_path: Path) -> None:
    """Forces in the columns after the positions, which ASE silently drops."""
    path = tmp_path / "sgdml.xyz"
    rows = [f"H {x} 0.0 0.0 0.1 0.2 0.3" for x in (0.0, 0.74)]
    path.write_text("\n".join(["2", "-31.7", *rows]) + "\n")
    with pytest.raises(UnreadableData, match="frame 0 has 7 columns per atom but declares 4: declare the others"):
        read(path)
    assert read(path, keys={"forces": "none"}).forces is None


@pytest.mark.parametrize("symbol", ["X", "Qq"])
def test_no_element(symbol: str, tmp_path: Path) -> None:
    path = tmp_path / "data.xyz"
    path.write_text(f"2\n\nH 0 0 0\n{symbol} 0 0 1\n")
    with pytest.raises(UnreadableData, match=r"data\.xyz: "):
        read(path)


def test_a_foreign_sqlite_file_is_not_written_to(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE labels (x)")
    before = path.read_bytes()
    with pytest.raises(UnreadableData, match="an SQLite file without ASE's table `systems`"):
        read(path)
    assert path.read_bytes() == before


def test_another_json(tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text(json.dumps({"energy": 1.0}))
    with pytest.raises(UnreadableData, match=r"other\.json: not readable as an ASE database in JSON"):
        read(path)


class Bomb:
    """Object that creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_pickles_are_refused_and_not_run(one: Dataset, written: Written, tmp_path: Path) -> None:
    mark = tmp_path / "exploded"
    path = written(one, ".npz")
    with np.load(path) as file:
        arrays = {name: file[name] for name in file}
    np.savez(path, **{**arrays, "forces": np.array([Bomb(mark)], dtype=object)})
    with pytest.raises(UnreadableData, match="pickled arrays, which are not loaded"):
        read(path)
    path.write_bytes(pickle.dumps(Bomb(mark)))
    with pytest.raises(UnreadableData, match=r"data\.npz: "):
        read(path)
    rows = tmp_path / "rows.aselmdb"
    with lmdb.open(str(rows), subdir=False, lock=False) as database, database.begin(write=True) as put:
        put.put(b"0", pickle.dumps(Bomb(mark)))
        put.put(b"length", pickle.dumps(1))
    with pytest.raises(UnreadableData, match="pickled rows are not read"):
        read(rows)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("numbers", 6, r"numbers has shape \(\), expected one number per atom"),
        (
            "data",
            {"7": 1.0},
            "frame 1 has energy, unlike those before it",
        ),  # ASE converts a key of digits to a number
    ],
)
def test_rows_that_json_can_hold(key: str, value: object, words: str, one: Dataset, written: Written) -> None:
    path = written(one, ".json")
    content = json.loads(path.read_text())
    del content["1"]["energy"]
    content["1"][key] = value
    path.write_text(json.dumps(content))
    with pytest.raises(UnreadableData, match=words):
        read(path)


def test_an_isolated_atom_in_json_has_an_atomic_number(one: Dataset, written: Written) -> None:
    path = written(one, ".json")
    content = json.loads(path.read_text())
    content["1"] |= {"numbers": [None], "positions": [[0.0, 0.0, 0.0]]}
    path.write_text(json.dumps(content))
    with pytest.raises(UnreadableData, match="frame 0: atomic numbers are object"):
        read(path)


def test_pages_that_would_end_the_process_are_refused(one: Dataset, written: Written) -> None:
    """LMDB follows the pointers of a page to its nodes even beyond the page and the file."""
    path = written(one, ".aselmdb")
    content = bytearray(path.read_bytes())
    newest = max((0, 4096), key=lambda meta: int.from_bytes(content[meta + 144 : meta + 152], "little"))
    page = 4096 * int.from_bytes(content[newest + 128 : newest + 136], "little")
    content[page + 16 : page + 18] = (0xFFF0).to_bytes(2, "little")
    path.write_bytes(content)
    with pytest.raises(
        UnreadableData, match=r"data\.aselmdb: damaged or truncated: reading its pages crashes the process"
    ):
        read(path)


def test_a_row_that_is_missing(one: Dataset, written: Written) -> None:
    path = written(one, ".aselmdb")
    with lmdb.open(str(path), subdir=False, lock=False) as database, database.begin(write=True) as change:
        change.delete(b"2")
    with pytest.raises(UnreadableData, match="row 2 is missing"):
        read(path)


def test_without_lmdb_the_package_is_named(one: Dataset, written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(one, ".aselmdb")
    genuine = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "lmdb":
            raise ImportError(name)
        return genuine(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UnreadableData, match=r"pip install 'hydrogate\[formats\]'"):
        read(path)


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        (
            "forces",
            lambda a: a[:, :-1],
            r"forces is float64 of shape \(3, 8, 3\), expected numbers of shape \(3, 9, 3\)",
        ),
        ("energies", lambda a: a[:-1], r"energy is float64 of shape \(2,\), expected numbers of shape \(3,\)"),
        ("coords", lambda a: a[..., :2], r"positions is float64 of shape \(3, 9, 2\)"),
        ("coords", lambda a: a[0], r"positions is float64 of shape \(9, 3\)"),
        ("coords", lambda a: a.astype("U8"), "positions is <U8"),
        ("nuclear_charges", lambda a: a[:-1], r"positions is float64 of shape \(3, 9, 3\), expected .* \(3, 8, 3\)"),
        ("nuclear_charges", lambda a: a[0], r"atomic numbers are u?int\d+ of shape \(\)"),
        ("coords", lambda a: a[0, 0, 0], r"positions is float64 of shape \(\)"),
        ("nuclear_charges", lambda a: a * 0.5, "atomic numbers are float64"),
        ("nuclear_charges", lambda a: a * (np.arange(len(a)) > 0), "0 is not a valid atomic number"),
        ("nuclear_charges", lambda a: a * 0 + 119, "119 is not a valid atomic number"),
        ("coords", lambda a: a[:0], "contains no structures"),
    ],
)
def test_wrong_shapes_in_npz(
    name: str, change: Callable[[np.ndarray], np.ndarray], words: str, one: Dataset, written: Written
) -> None:
    path = written(one, ".npz")
    with np.load(path) as file:
        arrays = {key: file[key] for key in file}
    arrays[name] = change(arrays[name])
    if words == "contains no structures":
        arrays |= {"energies": arrays["energies"][:0], "forces": arrays["forces"][:0]}
    np.savez(path, **arrays)
    with pytest.raises(UnreadableData, match=rf"data\.npz: .*{words}"):
        read(path)


def test_a_cell_in_npz_is_not_dropped(one: Dataset, written: Written) -> None:
    path = written(one, ".npz")
    with np.load(path) as file:
        np.savez(path, **{key: file[key] for key in file}, cell=np.eye(3))
    with pytest.raises(UnreadableData, match="has 'cell', but npz files are read as isolated molecules"):
        read(path)


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("dft_total_gradient", lambda a: a[:, :-1], r"forces is float\d\d of shape \(3, 7, 3\)"),
        ("dft_total_energy", lambda a: a[:-1], r"energy is float64 of shape \(2,\)"),
        ("conformations", lambda a: a[0], r"positions is float\d\d of shape \(8, 3\)"),
        ("smiles", lambda a: np.zeros(1), "not readable as SPICE's HDF5 at group 'molecule-003'"),
    ],
)
def test_wrong_shapes_in_groups(
    name: str, change: Callable[[np.ndarray], np.ndarray], words: str, few: Dataset, written: Written
) -> None:
    path = written(few, ".hdf5")
    with h5py.File(path, "r+") as file:
        group = file["molecule-003"]
        values = change(group[name][...])
        del group[name]
        group[name] = values
    with pytest.raises(UnreadableData, match=words) as refusal:
        read(path)
    assert "molecule-003" in str(refusal.value)


def test_hdf5_of_another_kind(tmp_path: Path) -> None:
    path = tmp_path / "other.h5"
    with h5py.File(path, "w") as file:
        file["coordinates"] = np.zeros((3, 3))
    with pytest.raises(UnreadableData, match="an HDF5 file of another kind"):
        read(path)
    with h5py.File(path, "w") as file:
        file["a/atomic_numbers"], file["a/conformations"] = np.array([1, 1]), np.zeros((1, 2, 3))
        file["b"] = np.zeros(3)
    with pytest.raises(UnreadableData, match="'b' is not a group; SPICE has one group per molecule"):
        read(path)


def npy(header: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, 9, 3), }\n",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (100000000000000000000, 9, 3), }\n",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (-1, 9, 3), }\n",
        "((((((((",
        "__import__('pathlib').Path('exploded').touch()\n",
    ],
)
def test_headers_of_npz_that_were_made_to_harm(header: str, one: Dataset, written: Written) -> None:
    path = written(one, ".npz")
    with np.load(path) as file:
        arrays = {key: file[key] for key in file if key != "coords"}
    np.savez(path, **arrays)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("coords.npy", npy(header))
    with pytest.raises(UnreadableData, match=r"data\.npz: not readable as npz"):
        read(path)
    assert not Path("exploded").exists()


def test_bombs_of_zip_and_zlib(one: Dataset, written: Written) -> None:
    path = written(one, ".npz")
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("more.npy", bytes(20_000_000))
    with pytest.raises(UnreadableData, match=r"data\.npz: claims to decompress to 200\d+ bytes, but at most"):
        read(path)
    path = written(one, ".aselmdb")
    with lmdb.open(str(path), subdir=False, lock=False) as database, database.begin(write=True) as put:
        put.put(b"2", zlib.compress(bytes(20_000_000)))
    with pytest.raises(
        UnreadableData, match=r"data\.aselmdb: a row is truncated or decompresses to more than \d+ bytes"
    ):
        read(path)


def test_more_columns_than_memory(tmp_path: Path) -> None:
    path = tmp_path / "wide.extxyz"
    path.write_text("2\nProperties=species:S:1:pos:R:3:x:R:99999999\nH 0 0 0\nH 0 0 1\n")
    with pytest.raises(UnreadableData, match=r"wide\.extxyz: a frame declares 99999999 columns per atom"):
        read(path)
