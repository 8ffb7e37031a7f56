"""ASE formats: extended XYZ, trajectories, databases, and LMDB files of ASE rows, the format of OMol25.

Units are eV and Å by ASE's convention. Keys: ``energy`` and ``forces``, or MACE's ``REF_energy`` and ``REF_forces``;
``charge`` and ``spin`` (2S + 1) in ``Atoms.info``, or in the key-value pairs or data of a row.
"""

import re
import sqlite3
import subprocess
import sys
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from ase.calculators.calculator import all_properties

from hydrogate.checks.data.dataset import Dataset
from hydrogate.checks.data.from_atoms import Frame, dataset_of_frames, frame_of
from hydrogate.checks.data.label_keys import NONE, ReadOptions
from hydrogate.checks.errors import BadParams, UnreadableData
from hydrogate.pipeline.formats.options import reader
from hydrogate.pipeline.storage.hdf5 import LARGEST_EXPANSION, UnreadableFile

if TYPE_CHECKING:
    from ase import Atoms
    from ase.db.row import AtomsRow

UNITS = "eV,angstrom"
ASE = "ASE's convention"
# ASE allocates memory for all columns before it reads the first atom.
_MANY_COLUMNS = re.compile(rb"Properties\s*=\s*\S*?:(\d{4,})")


@reader(".extxyz", ".xyz", units=UNITS, convention=ASE)
def read_extxyz(path: Path, options: ReadOptions) -> Dataset:
    """Read extended XYZ; plain XYZ is extended XYZ without declarations."""
    frames = _named_faults(map(frame_of, _extxyz_frames(path, options)), path, "extended XYZ")
    return dataset_of_frames(path.name, frames, options, UNITS)


@reader(".traj", units=UNITS, convention=ASE)
def read_traj(path: Path, options: ReadOptions) -> Dataset:
    """Read an ASE trajectory."""
    frames = _named_faults(map(frame_of, _traj_frames(path)), path, "an ASE trajectory")
    return dataset_of_frames(path.name, frames, options, UNITS)


@reader(".db", units=UNITS, convention=ASE)
def read_db(path: Path, options: ReadOptions) -> Dataset:
    """Read an ASE database in SQLite."""
    frames = _named_faults(map(_frame_of_row, _database_rows(path, "db", options)), path, "an ASE database")
    return dataset_of_frames(path.name, frames, options, UNITS)


@reader(".json", units=UNITS, convention=ASE)
def read_json(path: Path, options: ReadOptions) -> Dataset:
    """Read an ASE database in JSON."""
    frames = _named_faults(map(_frame_of_row, _database_rows(path, "json", options)), path, "an ASE database in JSON")
    return dataset_of_frames(path.name, frames, options, UNITS)


@reader(".aselmdb", units=UNITS, convention=ASE)
def read_aselmdb(path: Path, options: ReadOptions) -> Dataset:
    """Read ASE rows as compressed JSON in LMDB, as written by fairchem; needs the package lmdb."""
    frames = _named_faults(map(_frame_of_row, _lmdb_rows(path)), path, "ASE rows in LMDB")
    return dataset_of_frames(path.name, frames, options, UNITS)


def _named_faults(items: Iterable[Frame], path: Path, what: str) -> Iterator[Frame]:
    """Yield ``items``; turn any exception of the reader into an UnreadableFile with the file and the frames read."""
    index = 0
    iterator = iter(items)
    while True:
        try:
            item = next(iterator)
        except StopIteration:
            return
        except (BadParams, UnreadableData):
            raise
        # For a damaged file ASE may raise any exception: KeyError, struct.error, AttributeError, AssertionError, …
        except Exception as error:
            after = f" after {index} frames" if index else ""
            raise UnreadableFile(f"{path}: not readable as {what}{after}: {type(error).__name__}: {error}") from error
        yield item
        index += 1


def _extxyz_frames(path: Path, options: ReadOptions) -> "Iterator[Atoms]":
    from ase.io.extxyz import read_xyz

    refuse_impossible_counts(path)
    with path.open(encoding="utf-8") as file:
        if options.keys.get("forces") != NONE:
            _refuse_undeclared_columns(file, path)
        yield from read_xyz(file, index=slice(None))
        # ASE stops reading at a blank line.
        rest = next((line for line in file if line.strip()), None)
        if rest is not None:
            raise UnreadableFile(
                f"{path}: text after a blank line ({rest.strip()[:40]!r}): ASE stops reading at a blank line; remove "
                "the blank lines"
            )


def refuse_impossible_counts(path: Path) -> None:
    """Check the atom and column counts of all frames before ASE reads the file.

    Raises
    ------
    UnreadableFile
        A frame claims more atoms than there are bytes left (ASE would continue to read beyond the end of the file), or
        declares thousands of columns (ASE would allocate memory for all of them at once).
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        while (head := file.readline()).strip().isdigit():
            count = int(head)
            if count > size - file.tell():
                raise UnreadableFile(
                    f"{path}: a frame claims {count} atoms, more than the rest of the file can contain"
                )
            if columns := _MANY_COLUMNS.search(file.readline()):
                raise UnreadableFile(f"{path}: a frame declares {columns[1].decode()} columns per atom, too many")
            for _ in range(count):
                file.readline()


def _refuse_undeclared_columns(file: IO[str], path: Path) -> None:
    """Reject undeclared columns in the first frame: ASE silently drops them, and three of them may be forces."""
    _, comment, atom = (file.readline() for _ in range(3))
    declared = re.search(r'Properties="?([^\s"]+)', comment)
    columns = declared[1].split(":")[2::3] if declared else ["1", "3"]
    width = sum(int(count) for count in columns if count.isdigit())
    if len(atom.split()) >= width + 3:
        raise UnreadableFile(
            f"{path}: frame 0 has {len(atom.split())} columns per atom but declares {width}: declare the others in its "
            "comment line, as in Properties=species:S:1:pos:R:3:forces:R:3, or ignore them with --keys forces=none"
        )
    file.seek(0)


def _traj_frames(path: Path) -> "Iterator[Atoms]":
    from ase.io.trajectory import TrajectoryReader

    with TrajectoryReader(path) as trajectory:  # type: ignore[no-untyped-call]
        yield from trajectory


def _database_rows(path: Path, kind: str, options: ReadOptions) -> "Iterator[AtomsRow]":
    from ase.db import connect

    if kind == "db":
        # ASE would create its tables in an SQLite file that does not have them.
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
            (page,) = connection.execute("PRAGMA page_size").fetchone()
        if "systems" not in tables:
            raise UnreadableFile(f"{path}: an SQLite file without ASE's table `systems`")
        # SQLite reads the missing end of the last page as zeros.
        if path.stat().st_size % page:
            raise UnreadableFile(
                f"{path}: {path.stat().st_size} bytes is not a multiple of the page size: truncated; copy it again"
            )
    with connect(path, type=kind, use_lock_file=False) as database:  # type: ignore[no-untyped-call]
        if options.units is None:
            _refuse_other_units(path, database.metadata, options)
        yield from database.select()


def _refuse_other_units(path: Path, metadata: Mapping[str, Any], options: ReadOptions) -> None:
    """Raise BadParams if the database states units, as SchNetPack's do, and they are not eV and Å."""
    of_properties = metadata.get("_property_unit_dict", {})
    stated = {"distance": str(metadata.get("_distance_unit", "Ang"))}
    for quantity in ("energy", "forces"):
        key = options.keys.get(quantity, quantity)
        stated[quantity] = str(of_properties.get(key, "eV" if quantity == "energy" else "eV/Ang"))
    plain = {name: unit.lower().replace("angstrom", "ang") for name, unit in stated.items()}
    if plain != {"distance": "ang", "energy": "ev", "forces": "ev/ang"}:
        raise BadParams(f"{path}: states the units {stated}; declare them with --units")


def _lmdb_rows(path: Path) -> "Iterator[AtomsRow]":
    from ase.db.row import AtomsRow
    from ase.io.jsonio import decode

    try:
        import lmdb
    except ImportError as error:
        raise UnreadableFile(f"{path}: .aselmdb needs the package lmdb: pip install 'hydrogate[formats]'") from error

    def decoded(stored: bytes) -> Any:
        unpacker, most = zlib.decompressobj(), LARGEST_EXPANSION * (len(stored) + 1000)
        text = unpacker.decompress(stored, most)
        if not unpacker.eof:
            raise UnreadableFile(f"{path}: a row is truncated or decompresses to more than {most} bytes")
        return decode(text.decode())  # type: ignore[no-untyped-call]

    _refuse_deadly_lmdb(path)
    with lmdb.open(str(path), subdir=False, readonly=True, lock=False) as database:
        expected = (database.info()["last_pgno"] + 1) * database.stat()["psize"]
        if path.stat().st_size < expected:
            raise UnreadableFile(f"{path}: has {path.stat().st_size} of {expected} bytes: truncated; copy it again")
        with database.begin() as transaction:
            following, deleted = transaction.get(b"nextid"), transaction.get(b"deleted_ids")
            if following is None:
                raise UnreadableFile(f"{path}: an LMDB file without ASE's key `nextid`; pickled rows are not read")
            without = set(decoded(deleted)) if deleted else set()
            for row in range(1, decoded(following)):
                if row not in without:
                    stored = transaction.get(str(row).encode())
                    if stored is None:
                        raise UnreadableFile(f"{path}: row {row} is missing")
                    yield AtomsRow(decoded(stored))  # type: ignore[no-untyped-call]


# Reads all keys and values. Their number is limited to the file size in bytes, in case the pages form a cycle.
_WALK = """
import os, sys, lmdb
with lmdb.open(sys.argv[1], subdir=False, readonly=True, lock=False) as database, database.begin() as transaction:
    transaction.get(b"nextid"), transaction.get(b"deleted_ids")
    for _ in zip(range(os.path.getsize(sys.argv[1])), transaction.cursor()):
        pass
"""


def _refuse_deadly_lmdb(path: Path) -> None:
    """Reject a file that crashes the process reading it: LMDB trusts its pages, and a bad page raises no exception.

    Errors that LMDB raises as exceptions are left to the reader.
    """
    status = subprocess.run([sys.executable, "-P", "-c", _WALK, str(path)], stderr=subprocess.DEVNULL, check=False)
    if status.returncode not in (0, 1):  # neither read nor rejected with an exception
        raise UnreadableFile(
            f"{path}: damaged or truncated: reading its pages crashes the process (exit status {status.returncode}); "
            "copy it again"
        )


def _frame_of_row(row: "AtomsRow") -> Frame:
    # ASE converts a key made of digits to a number.
    data = {str(key): value for key, value in row.data.items()} if isinstance(row.data, Mapping) else {}
    results = {name: row[name] for name in all_properties if name in row}
    if np.ndim(numbers := row["numbers"]) != 1:
        raise ValueError(f"numbers has shape {np.shape(numbers)}, expected one number per atom")
    return Frame(
        np.asarray(numbers),
        np.asarray(row.positions, dtype=np.float64).reshape(-1, 3),
        {**data, **row.key_value_pairs, **results},
        np.asarray(row.cell, dtype=np.float64).reshape(3, 3),
        np.asarray(row.pbc, dtype=bool).reshape(3),
    )
