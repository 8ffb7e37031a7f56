"""What must survive a killed stage: labels already computed, in ``.progress/``, which DVC never deletes."""

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

PROGRESS = Path(".progress")


class Stored(NamedTuple):
    """A teacher's answer: energy (eV) and forces (n, 3) in eV/Å, or the reason why there are none.

    Where the teacher gives them, charges (n,) in e, and the dipole (3,) in e·Å of what is not periodic.
    """

    energy: float | None
    forces: NDArray[np.float32] | None
    reason: str
    dipole: NDArray[np.float64] | None = None
    charges: NDArray[np.float32] | None = None


class AlreadyRunning(RuntimeError):
    """Another process works on the same output."""


@contextmanager
def locked(name: str, root: Path = PROGRESS) -> Iterator[Path]:
    """Hold ``root/name.lock``; the system lets go of it when the process ends, however it ends.

    Raises
    ------
    AlreadyRunning
        Another process holds it.
    """
    root.mkdir(parents=True, exist_ok=True)
    lock = FileLock(root / f"{name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise AlreadyRunning(
            f"another process is already at work on {name!r} here ({lock.lock_file} is held); wait for it or stop it"
        ) from error
    with lock:
        yield root


class LabelStore:
    """Labels by structure fingerprint and teacher identity, each chunk one durable transaction."""

    def __init__(self, path: Path, teacher: Mapping[str, Any]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._teacher = hashlib.sha256(json.dumps(dict(teacher), sort_keys=True).encode()).hexdigest()
        self._connection = sqlite3.connect(path)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=FULL")
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS labels (structure TEXT, teacher TEXT, energy REAL, forces BLOB, reason TEXT, "
            "PRIMARY KEY (structure, teacher)) WITHOUT ROWID"
        )
        # Beside the others: what was labelled before there were charges keeps its labels.
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS charges (structure TEXT, teacher TEXT, dipole BLOB, charges BLOB, "
            "PRIMARY KEY (structure, teacher)) WITHOUT ROWID"
        )
        self._connection.commit()

    def __enter__(self) -> "LabelStore":
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def known(self, charges: bool = False) -> set[str]:
        """The fingerprints of the structures that this teacher has answered, also for their ``charges`` if need be."""
        query = "SELECT structure FROM labels LEFT JOIN charges USING (structure, teacher) WHERE teacher = ?"
        query += " AND (forces IS NULL OR charges IS NOT NULL)" if charges else ""
        with closing(self._connection.execute(query, (self._teacher,))) as rows:
            return {row[0] for row in rows}

    def add(self, answers: Sequence[tuple[str, Stored]]) -> None:
        """Store answers, all or none of them; one that is already there stays as it is."""
        rows = [
            (key, self._teacher, a.energy, None if a.forces is None else a.forces.tobytes(), a.reason)
            for key, a in answers
        ]
        charges = [
            (key, self._teacher, None if a.dipole is None else a.dipole.tobytes(), a.charges.tobytes())
            for key, a in answers
            if a.charges is not None
        ]
        with self._connection:
            self._connection.executemany("INSERT OR IGNORE INTO labels VALUES (?, ?, ?, ?, ?)", rows)
            self._connection.executemany("INSERT OR IGNORE INTO charges VALUES (?, ?, ?, ?)", charges)

    def get(self, structure: str) -> Stored:
        """The answer for a structure.

        Raises
        ------
        KeyError
            There is none.
        """
        query = (
            "SELECT energy, forces, reason, dipole, charges FROM labels LEFT JOIN charges USING (structure, teacher) "
            "WHERE structure = ? AND teacher = ?"
        )
        row = self._connection.execute(query, (structure, self._teacher)).fetchone()
        if row is None:
            raise KeyError(structure)
        forces = None if row[1] is None else np.frombuffer(row[1], dtype=np.float32).reshape(-1, 3)
        dipole = None if row[3] is None else np.frombuffer(row[3], dtype=np.float64)
        return Stored(row[0], forces, row[2], dipole, None if row[4] is None else np.frombuffer(row[4], np.float32))
