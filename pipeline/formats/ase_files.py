"""What ASE reads: extended XYZ, trajectories, its databases, and the LMDB of its rows in which OMol25 is shipped.

All of them are in eV and Å by ASE's convention. Keys: ``energy`` and ``forces``, MACE's ``REF_energy`` and
``REF_forces``; ``charge`` and ``spin`` (2S + 1) in the info, a row's key-value pairs or its data.
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
# ASE makes room for all of them before it looks at an atom.
_MANY_COLUMNS = re.compile(rb"Properties\s*=\s*\S*?:(\d{4,})")


@reader(".extxyz", ".xyz", units=UNITS, convention=ASE)
def read_extxyz(path: Path, options: ReadOptions) -> Dataset:
    """Extended XYZ; plain XYZ is extended XYZ that declares nothing."""
    frames = _named_faults(map(frame_of, _extxyz_frames(path, options)), path, "extended XYZ")
    return dataset_of_frames(path.name, frames, options, UNITS)


@reader(".traj", units=UNITS, convention=ASE)
def read_traj(path: Path, options: ReadOptions) -> Dataset:
    """ASE trajectory."""
    frames = _named_faults(map(frame_of, _traj_frames(path)), path, "an ASE trajectory")
    return dataset_of_frames(path.name, frames, options, UNITS)


@reader(".db", units=UNITS, convention=ASE)
def read_db(path: Path, options: ReadOptions) -> Dataset:
    """ASE database in SQLite."""
    frames = _named_faults(map(_frame_of_row, _database_rows(path, "db", options)), path, "an ASE database")
    return dataset_of_frames(path.name, frames, options, UNITS)


@reader(".json", units=UNITS, convention=ASE)
def read_json(path: Path, options: ReadOptions) -> Dataset:
    """ASE database in JSON."""
    frames = _named_faults(map(_frame_of_row, _database_rows(path, "json", options)), path, "an ASE database in JSON")
    return dataset_of_frames(path.name, frames, options, UNITS)


@reader(".aselmdb", units=UNITS, convention=ASE)
def read_aselmdb(path: Path, options: ReadOptions) -> Dataset:
    """ASE rows as compressed JSON in LMDB, as fairchem writes them; needs the package lmdb."""
    frames = _named_faults(map(_frame_of_row, _lmdb_rows(path)), path, "ASE rows in LMDB")
    return dataset_of_frames(path.name, frames, options, UNITS)


def _named_faults(items: Iterable[Frame], path: Path, what: str) -> Iterator[Frame]:
    """``items``; whatever their reader raises becomes an UnreadableFile with the file and how far it came."""
    index = 0
    iterator = iter(items)
    while True:
        try:
            item = next(iterator)
        except StopIteration:
            return
        except (BadParams, UnreadableData):
            raise
        # A damaged file makes ASE raise anything: KeyError, struct.error, AttributeError, AssertionError, …
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
        # ASE takes a blank line for the end.
        rest = next((line for line in file if line.strip()), None)
        if rest is not None:
            raise UnreadableFile(
                f"{path}: text after a blank line ({rest.strip()[:40]!r}), which ends the file for ASE: take the blank "
                "lines out"
            )


def refuse_impossible_counts(path: Path) -> None:
    """A frame that claims more atoms than there are bytes left: ASE would go on reading lines beyond the end.

    Raises
    ------
    UnreadableFile
        Or it declares thousands of columns, for which ASE makes room at once.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        while (head := file.readline()).strip().isdigit():
            count = int(head)
            if count > size - file.tell():
                raise UnreadableFile(f"{path}: a frame claims {count} atoms, more than the rest of the file can hold")
            if columns := _MANY_COLUMNS.search(file.readline()):
                raise UnreadableFile(f"{path}: a frame declares {columns[1].decode()} columns an atom, which none has")
            for _ in range(count):
                file.readline()


def _refuse_undeclared_columns(file: IO[str], path: Path) -> None:
    """Columns that the comment line does not declare are dropped by ASE without a word; three may well be forces."""
    _, comment, atom = (file.readline() for _ in range(3))
    declared = re.search(r'Properties="?([^\s"]+)', comment)
    columns = declared[1].split(":")[2::3] if declared else ["1", "3"]
    width = sum(int(count) for count in columns if count.isdigit())
    if len(atom.split()) >= width + 3:
        raise UnreadableFile(
            f"{path}: frame 0 has {len(atom.split())} columns an atom and declares {width}: name the others in its "
            "comment line, as in Properties=species:S:1:pos:R:3:forces:R:3, or leave them unread with "
            "--keys forces=none"
        )
    file.seek(0)


def _traj_frames(path: Path) -> "Iterator[Atoms]":
    from ase.io.trajectory import TrajectoryReader

    with TrajectoryReader(path) as trajectory:  # type: ignore[no-untyped-call]
        yield from trajectory


def _database_rows(path: Path, kind: str, options: ReadOptions) -> "Iterator[AtomsRow]":
    from ase.db import connect

    if kind == "db":
        # ASE would write its own tables into an SQLite file that has none.
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
            (page,) = connection.execute("PRAGMA page_size").fetchone()
        if "systems" not in tables:
            raise UnreadableFile(f"{path}: an SQLite file without ASE's table `systems`")
        # SQLite reads what is missing of the last page as zeros.
        if path.stat().st_size % page:
            raise UnreadableFile(f"{path}: {path.stat().st_size} bytes are no whole pages: truncated; copy it again")
    with connect(path, type=kind, use_lock_file=False) as database:  # type: ignore[no-untyped-call]
        if options.units is None:
            _refuse_other_units(path, database.metadata, options)
        yield from database.select()


def _refuse_other_units(path: Path, metadata: Mapping[str, Any], options: ReadOptions) -> None:
    """Raise BadParams where the database states units, as SchNetPack's do, and they are not eV and Å."""
    of_properties = metadata.get("_property_unit_dict", {})
    stated = {"distance": str(metadata.get("_distance_unit", "Ang"))}
    for quantity in ("energy", "forces"):
        key = options.keys.get(quantity, quantity)
        stated[quantity] = str(of_properties.get(key, "eV" if quantity == "energy" else "eV/Ang"))
    plain = {name: unit.lower().replace("angstrom", "ang") for name, unit in stated.items()}
    if plain != {"distance": "ang", "energy": "ev", "forces": "ev/ang"}:
        raise BadParams(f"{path}: says that its units are {stated}: declare them with --units")


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
            raise UnreadableFile(f"{path}: a row that is cut, or unpacks to more than {most} bytes")
        return decode(text.decode())  # type: ignore[no-untyped-call]

    _refuse_deadly_lmdb(path)
    with lmdb.open(str(path), subdir=False, readonly=True, lock=False) as database:
        expected = (database.info()["last_pgno"] + 1) * database.stat()["psize"]
        if path.stat().st_size < expected:
            raise UnreadableFile(f"{path}: {path.stat().st_size} bytes of {expected}: truncated; copy it again")
        with database.begin() as transaction:
            following, deleted = transaction.get(b"nextid"), transaction.get(b"deleted_ids")
            if following is None:
                raise UnreadableFile(f"{path}: an LMDB without ASE's key `nextid`; rows that are pickled are not read")
            without = set(decoded(deleted)) if deleted else set()
            for row in range(1, decoded(following)):
                if row not in without:
                    stored = transaction.get(str(row).encode())
                    if stored is None:
                        raise UnreadableFile(f"{path}: row {row} is missing")
                    yield AtomsRow(decoded(stored))  # type: ignore[no-untyped-call]


# All keys and values; no more of them than bytes, should the pages lead in a circle.
_WALK = """
import os, sys, lmdb
with lmdb.open(sys.argv[1], subdir=False, readonly=True, lock=False) as database, database.begin() as transaction:
    transaction.get(b"nextid"), transaction.get(b"deleted_ids")
    for _ in zip(range(os.path.getsize(sys.argv[1])), transaction.cursor()):
        pass
"""


def _refuse_deadly_lmdb(path: Path) -> None:
    """Refuse a file that ends the process that reads it: LMDB believes its pages, and a wrong one is no error to catch.

    What LMDB can say no to is left to the reader.
    """
    status = subprocess.run([sys.executable, "-P", "-c", _WALK, str(path)], stderr=subprocess.DEVNULL, check=False)
    if status.returncode not in (0, 1):  # neither read nor refused by an exception
        raise UnreadableFile(
            f"{path}: damaged or truncated: reading its pages ends the process ({status.returncode}); copy it again"
        )


def _frame_of_row(row: "AtomsRow") -> Frame:
    # ASE reads a key of digits as a number.
    data = {str(key): value for key, value in row.data.items()} if isinstance(row.data, Mapping) else {}
    results = {name: row[name] for name in all_properties if name in row}
    if np.ndim(numbers := row["numbers"]) != 1:
        raise ValueError(f"numbers of shape {np.shape(numbers)}, expected one for each atom")
    return Frame(
        np.asarray(numbers),
        np.asarray(row.positions, dtype=np.float64).reshape(-1, 3),
        {**data, **row.key_value_pairs, **results},
        np.asarray(row.cell, dtype=np.float64).reshape(3, 3),
        np.asarray(row.pbc, dtype=bool).reshape(3),
    )
