"""Persistent progress of a stage: labels already computed, kept in ``.progress/``, which DVC never deletes.

``python -m hydrogate.pipeline.storage.resume FILE`` recovers the intact rows of a damaged ``labels.sqlite``.
"""

import hashlib
import json
import sqlite3
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from hydrogate.pipeline.program import stage_exit_status

PROGRESS = Path(".progress")
VERSION = 2  # of the label store; version 1 had no digests
TABLES = {
    "labels": ("structure", "teacher", "energy", "forces", "reason"),
    # A separate table, so that labels computed before charges were supported remain valid.
    "charges": ("structure", "teacher", "dipole", "charges"),
}
# SQLite error codes for the disk, other processes and permissions; all other codes concern the content of the file.
OF_THE_DISK = {
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PERM,
}
KINDS = {"energy": "REAL", "forces": "BLOB", "dipole": "BLOB", "charges": "BLOB", "digest": "BLOB"}


class Stored(NamedTuple):
    """Result of a teacher: energy (eV) and forces (n, 3) in eV/Å, or the reason why there are none.

    If the teacher provides them, also charges (n,) in e and, for non-periodic structures, the dipole (3,) in e·Å.
    """

    energy: float | None
    forces: NDArray[np.float32] | None
    reason: str
    dipole: NDArray[np.float64] | None = None
    charges: NDArray[np.float32] | None = None


class AlreadyRunning(RuntimeError):
    """Another process is writing the same output."""


class DamagedStore(RuntimeError):
    """The stored labels are damaged; the message reports how many are intact and how to recover them."""


@contextmanager
def locked(name: str, root: Path = PROGRESS) -> Iterator[Path]:
    """Hold the lock ``root/name.lock``; the system releases it when the process ends for any reason.

    Raises
    ------
    AlreadyRunning
        Another process holds the lock.
    """
    root.mkdir(parents=True, exist_ok=True)
    lock = FileLock(root / f"{name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise AlreadyRunning(
            f"another process is already running {name!r} here (it holds {lock.lock_file}); wait for it or stop it"
        ) from error
    with lock:
        yield root


def _digest(*row: object) -> bytes:
    digest = hashlib.blake2b(digest_size=8)
    for value in row:
        # NumPy floats have another repr than Python floats, and SQLite does not store negative zero.
        plain = float(value) + 0.0 if isinstance(value, np.floating | float) else value
        digest.update(plain if isinstance(plain, bytes) else repr(plain).encode())
        digest.update(b"\0")
    return digest.digest()


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Re-raise errors of SQLite with the file and the remedy in the message."""
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError) as error:  # UnicodeDecodeError: the error message itself is damaged
        if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF not in OF_THE_DISK:
            raise _damaged(path, str(error)) from error
        raise OSError(
            f"{path}: {error}; the labels stored so far are kept; free disk space, or make the file writable, and run "
            "the same command again"
        ) from error


def _damaged(path: Path, why: str) -> DamagedStore:
    sound = sum(1 for table, _ in _sound_rows(path) if table == "labels")
    return DamagedStore(
        f"{path}: the stored labels are damaged ({why}); {sound} of them are intact. To keep these and label the "
        f"others again, run: python -m hydrogate.pipeline.storage.resume {path}"
    )


class LabelStore:
    """Store of labels by structure fingerprint and teacher identity; each :meth:`add` is one durable transaction.

    Raises
    ------
    DamagedStore
        The file is damaged.
    OSError
        The file cannot be read or written.
    """

    def __init__(self, path: Path, teacher: Mapping[str, Any]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._teacher = hashlib.sha256(json.dumps(dict(teacher), sort_keys=True).encode()).hexdigest()
        with _explained(path):
            self._connection = _opened(path)
            try:
                _refuse_damage(self._connection, path)
            except BaseException:
                self._connection.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def known(self, charges: bool = False) -> set[str]:
        """Return the fingerprints of the structures labelled by this teacher, with ``charges`` if requested."""
        query = "SELECT structure FROM labels LEFT JOIN charges USING (structure, teacher) WHERE teacher = ?"
        query += " AND (forces IS NULL OR charges IS NOT NULL)" if charges else ""
        with _explained(self._path), closing(self._connection.execute(query, (self._teacher,))) as rows:
            return {row[0] for row in rows}

    def add(self, answers: Sequence[tuple[str, Stored]]) -> None:
        """Store results atomically, all or none; an existing one is not changed."""
        labels = [
            (key, self._teacher, a.energy, None if a.forces is None else a.forces.tobytes(), a.reason)
            for key, a in answers
        ]
        charges = [
            (key, self._teacher, None if a.dipole is None else a.dipole.tobytes(), a.charges.tobytes())
            for key, a in answers
            if a.charges is not None
        ]
        with _explained(self._path), self._connection:
            _insert(self._connection, "labels", labels)
            _insert(self._connection, "charges", charges)

    def get(self, structure: str) -> Stored:
        """Return the result for a structure.

        Raises
        ------
        KeyError
            No result is stored.
        """
        query = (
            "SELECT energy, forces, reason, dipole, charges FROM labels LEFT JOIN charges USING (structure, teacher) "
            "WHERE structure = ? AND teacher = ?"
        )
        with _explained(self._path):
            row = self._connection.execute(query, (structure, self._teacher)).fetchone()
        if row is None:
            raise KeyError(structure)
        forces = None if row[1] is None else np.frombuffer(row[1], dtype=np.float32).reshape(-1, 3)
        dipole = None if row[3] is None else np.frombuffer(row[3], dtype=np.float64)
        return Stored(row[0], forces, row[2], dipole, None if row[4] is None else np.frombuffer(row[4], np.float32))


def _opened(path: Path) -> sqlite3.Connection:
    """Open the database at ``path``; migrate it from version 1, or create it atomically if it does not exist."""
    if not path.exists():
        new = path.with_name(f"{path.name}.new")
        # SQLite would replay journals left by a deleted database, or by one that a killed process was creating.
        for remains in (new, *(Path(f"{of}-{part}") for of in (new, path) for part in ("journal", "wal", "shm"))):
            remains.unlink(missing_ok=True)
        with closing(sqlite3.connect(new)) as connection, connection:
            _make_tables(connection)
        new.rename(path)
    connection = sqlite3.connect(path)
    # No write-ahead log: SQLite treats a damaged log as unfinished, and its rows would have to be labelled again.
    connection.execute("PRAGMA journal_mode=DELETE")
    connection.execute("PRAGMA synchronous=FULL")
    connection.create_function("digest_of", -1, _digest, deterministic=True)
    found = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if "labels" in found and version == 0:
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            for table in found & set(TABLES):
                connection.execute(f"ALTER TABLE {table} ADD COLUMN digest BLOB")
                connection.execute(f"UPDATE {table} SET digest = digest_of({', '.join(TABLES[table])})")
            _make_tables(connection)
    elif found != set(TABLES) or version != VERSION:
        raise sqlite3.DatabaseError(f"version {version} with the tables {sorted(found)}")
    return connection


def _make_tables(connection: sqlite3.Connection) -> None:
    for table, columns in TABLES.items():
        typed = ", ".join(f"{name} {KINDS.get(name, 'TEXT')}" for name in (*columns, "digest"))
        connection.execute(
            f"CREATE TABLE IF NOT EXISTS {table} ({typed}, PRIMARY KEY (structure, teacher)) WITHOUT ROWID"
        )
    connection.execute(f"PRAGMA user_version = {VERSION}")


def _insert(connection: sqlite3.Connection, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
    columns = (*TABLES[table], "digest")
    marks = ", ".join("?" * len(columns))
    connection.executemany(
        f"INSERT OR IGNORE INTO {table} ({', '.join(columns)}) VALUES ({marks})",
        [(*row, _digest(*row)) for row in rows],
    )


def _refuse_damage(connection: sqlite3.Connection, path: Path) -> None:
    """Run SQLite's integrity check, then verify each row against its digest: a flipped bit must not become a label."""
    ((said,),) = connection.execute("PRAGMA integrity_check(1)")
    if said != "ok":
        raise _damaged(path, said.replace("\n", " "))
    for table, columns in TABLES.items():
        (spoiled,) = connection.execute(
            f"SELECT count(*) FROM {table} WHERE digest IS NOT digest_of({', '.join(columns)})"
        ).fetchone()
        if spoiled:
            raise _damaged(path, f"{spoiled} rows of {table} do not match their digest")


def _sound_rows(path: Path) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Yield the rows of a damaged store that match their digest, as pairs of table and row without the digest."""
    with closing(sqlite3.connect(path)) as connection:
        for table, columns in TABLES.items():
            seen: set[tuple[str, str]] = set()
            names = ", ".join((*columns, "digest"))
            # Keys are hexadecimal. Each range is read from both ends, so that a bad page hides only its own rows.
            for start, order in product([f"{byte:02x}" for byte in range(256)], ("ASC", "DESC")):
                query = f"SELECT {names} FROM {table} WHERE structure >= ? AND structure < ? ORDER BY structure {order}"
                with suppress(sqlite3.Error, UnicodeDecodeError):
                    for *row, digest in connection.execute(query, (start, f"{start}g")):
                        if digest == _digest(*row) and (row[0], row[1]) not in seen:
                            seen.add((row[0], row[1]))
                            yield table, tuple(row)


def salvage(path: Path) -> int:
    """Replace the store ``path`` by one with only its intact rows; the damaged file is kept as ``FILE.damaged``.

    Returns
    -------
    int
        Number of labels kept.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    new = path.with_name(f"{path.name}.salvaged")
    new.unlink(missing_ok=True)
    kept = 0
    with closing(_opened(new)) as connection, connection:
        for table, row in _sound_rows(path):
            _insert(connection, table, [row])
            kept += table == "labels"
    path.rename(path.with_name(f"{path.name}.damaged"))
    path.with_name(f"{path.name}-journal").unlink(missing_ok=True)
    new.rename(path)
    return kept


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``python -m hydrogate.pipeline.storage.resume FILE``."""
    (name,) = sys.argv[1:] if argv is None else argv
    with locked("label", Path(name).parent):
        kept = salvage(Path(name))
    print(f"{name}: {kept} labels kept; the damaged file is now {name}.damaged; `dvc repro` adds the missing labels")
    return 0


if __name__ == "__main__":
    sys.exit(stage_exit_status(main))
