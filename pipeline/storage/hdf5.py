"""The project's own file format: one HDF5 file with flat arrays and offsets, written atomically.

Layout: ``atoms/{numbers, positions, forces}``; ``structures/{offset, charge, …, energy}``; ``structures/{cell, pbc}``
if any structure has a cell; ``structures/{heavy_atoms_moved, dipole, partner}`` and ``atoms/charges`` if known; and
``quarantine/{source, source_index, reason}``. A text column is a group of ``utf8``, the concatenated texts, and
``ends``, the end of each. Each array has the attribute ``unit``; the file has a schema version, the teacher and a
fingerprint of its content.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from functools import lru_cache
from itertools import pairwise, starmap
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from hydrogate.checks.data.dataset import TEXT, Dataset, Quarantined
from hydrogate.checks.data.fingerprint import Text, cuts, fingerprint_of, fingerprint_of_schema_1
from hydrogate.pipeline.storage.atomic_write import written_whole as written_whole
from hydrogate.pipeline.storage.hdf5_arrays import LARGEST_EXPANSION as LARGEST_EXPANSION
from hydrogate.pipeline.storage.hdf5_arrays import Column, refuse_unusable
from hydrogate.pipeline.storage.hdf5_arrays import UnreadableFile as UnreadableFile
from hydrogate.pipeline.storage.hdf5_arrays import refuse_foreign as refuse_foreign

SCHEMA_VERSION = 2
UNITS = {
    "positions": "angstrom",
    "forces": "eV/angstrom",
    "energy": "eV",
    "charge": "e",
    "cell": "angstrom",
    "heavy_atoms_moved": "angstrom",
    "dipole": "e*angstrom",
    "charges": "e",
}
_ATOMS = {"numbers": np.uint8, "positions": np.float32, "forces": np.float32, "charges": np.float32}
_STRUCTURES = {
    "offset": np.int64,
    "charge": np.int16,
    "spin_multiplicity": np.int16,
    "expected_hydrogens": np.int32,
    "smiles": object,
    "inchikey": object,
    "source": object,
    "source_index": np.int64,
    "parent": np.int64,
    "split": object,
    "energy": np.float64,
    "cell": np.float64,
    "pbc": np.bool_,
    "heavy_atoms_moved": np.float32,
    "dipole": np.float64,
    "partner": np.int64,
}
_TEXT = {"utf8": np.uint8, "ends": np.int64}
_QUARANTINE = {"source": object, "source_index": np.int64, "reason": object}
_OPTIONAL = ("forces", "energy", "cell", "pbc", "heavy_atoms_moved", "dipole", "charges", "partner")


def write_dataset(data: Dataset, path: Path) -> None:
    """Write ``data`` to ``path`` atomically: a reader sees either the old file or the new one.

    Raises
    ------
    OSError
        The file read back differs from ``data`` because the disk is full.
    """
    with written_whole(path) as temporary:
        _refuse_full_disk(data, path, temporary)
        # Aligned, so that arrays can be memory-mapped.
        with h5py.File(temporary, "w", alignment_interval=8) as file:
            _write(data, file)
        try:
            # HDF5 writes some of the data when h5py closes a dataset; an error is then printed but not raised.
            verify(temporary)
        except UnreadableFile as error:
            raise OSError(f"{path}: could not be written completely; free space on its disk ({error})") from error


def _refuse_full_disk(data: Dataset, path: Path, temporary: Path) -> None:
    """Allocate the disk space first: if it runs out while HDF5 is writing, the process crashes with a segfault."""
    texts = [part for name in TEXT for part in data.text(name)]
    columns = [getattr(data, name) for name in (*_ATOMS, *_STRUCTURES) if name not in TEXT]
    size = sum(array.nbytes for array in (*texts, *columns) if array is not None)
    size += sum(len(record.source) + len(record.reason) + 24 for record in data.quarantine) + 65536
    if hasattr(os, "posix_fallocate"):
        with temporary.open("wb") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, size)
            except OSError as error:
                raise OSError(f"{path}: not enough space for {size} bytes on its disk ({error.strerror})") from error


def _write(data: Dataset, file: h5py.File) -> None:
    file.attrs["format"] = "hydrogate"
    file.attrs["schema_version"] = SCHEMA_VERSION
    file.attrs["fingerprint"] = fingerprint_of(data.content())
    file.attrs["n_read"] = data.n_read
    for name in ("teacher", "isolated_atom_energies"):
        if (mapping := getattr(data, name)) is not None:
            file.attrs[name] = json.dumps(dict(mapping), sort_keys=True)
    for group, columns in (("atoms", _ATOMS), ("structures", _STRUCTURES)):
        for name, dtype in columns.items():
            if name in TEXT:
                _write_text(file, f"{group}/{name}", data.text(name))
            elif (values := getattr(data, name)) is not None:
                item = file.create_dataset(f"{group}/{name}", data=np.asarray(values, dtype=dtype))
                item.attrs["unit"] = UNITS.get(name, "")
    for name in ("source", "reason"):
        _write_text(file, f"quarantine/{name}", Text.of(getattr(record, name) for record in data.quarantine))
    file["quarantine/source_index"] = np.array([record.source_index for record in data.quarantine], dtype=np.int64)


def _write_text(file: h5py.File, name: str, text: Text) -> None:
    for part, array in text._asdict().items():
        file[f"{name}/{part}"] = array


def read_dataset(path: Path) -> Dataset:
    """Read and verify the complete file ``path``; arrays are read-only, texts are decoded on first use.

    Raises
    ------
    FileNotFoundError
        The file does not exist.
    UnreadableFile
        The file is not HDF5, has another layout or version, or its arrays are inconsistent or do not match the
        fingerprint.
    """
    with _opened(path) as stored:
        stored.refuse_disagreement()
        data = stored.read(0, stored.shape_of("charge")[0])
        fingerprint = (fingerprint_of_schema_1 if stored.version == 1 else fingerprint_of)(data.content())
        stored.refuse_another(fingerprint)
    return data.stored(fingerprint)


def verify(path: Path) -> str:
    """Return the fingerprint of ``path`` after verifying the content against it, a few megabytes at a time.

    Raises
    ------
    FileNotFoundError, UnreadableFile
        As :func:`read_dataset`.
    """
    with _opened(path, mapped=True) as stored:
        stored.refuse_disagreement()
        if stored.version == 1:
            return read_dataset(path).fingerprint()
        fingerprint = fingerprint_of(stored.content())
        stored.refuse_another(fingerprint)
    return fingerprint


class Part(NamedTuple):
    """Reference to structures ``first`` to ``last`` (``atoms`` atoms) of the data set at ``path``, not yet read."""

    path: Path
    first: int
    last: int
    atoms: int

    def read(self) -> Dataset:
        """Read these structures, as :meth:`Dataset.part` of the complete data set; only :func:`verify` detects damage.

        Raises
        ------
        FileNotFoundError, UnreadableFile
            As :func:`read_dataset`, but without verification of the fingerprint.
        """
        with _opened(self.path, mapped=True) as stored:
            return stored.read(self.first, self.last)


def parts(path: Path, atoms: int = 1_000_000) -> list[Part]:
    """Split the data set at ``path`` into consecutive parts of about ``atoms`` atoms; children stay with their parent.

    A data set without structures is one empty part.

    Raises
    ------
    FileNotFoundError, UnreadableFile
        As :func:`read_dataset`, but without verification of the fingerprint.
    """
    with _opened(path, mapped=True) as stored:
        stored.refuse_disagreement()
        offset, parent = stored.array("offset"), stored.array("parent")
    ends = [0, *cuts(offset, parent, atoms).tolist(), len(offset) - 1]
    return [Part(path, one, two, int(offset[two] - offset[one])) for one, two in pairwise(ends)]


@contextmanager
def _opened(path: Path, mapped: bool = False) -> Iterator["_Stored"]:
    """Open ``path``; if ``mapped``, its arrays are memory-mapped where possible, and the file need not stay open."""
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        state = path.stat()
        if mapped and (known := _mapped(path, state.st_ino, state.st_mtime_ns, state.st_size)):
            yield known
            return
        with h5py.File(path, "r") as file:
            yield _Stored(file, path, mapped)
    except UnreadableFile:
        raise
    except (OSError, KeyError, RuntimeError, TypeError, ValueError, AttributeError, IndexError, MemoryError) as error:
        raise UnreadableFile(
            f"{path}: not a readable hydrogate data set ({error}); restore it or create it again"
        ) from error


@lru_cache(maxsize=32)
def _mapped(path: Path, *state: int) -> "_Stored | None":
    """Inspect the file in that ``state`` once for all its parts; return None if HDF5 must read some of its arrays."""
    with h5py.File(path, "r") as file:
        stored = _Stored(file, path, mapped=True)
    items = [item for column in stored.columns.values() for item in (column if isinstance(column, Text) else (column,))]
    return stored if all(isinstance(item, Column) for item in items) else None


class _Stored:
    """Content of a file: its columns, read in slices, and its other attributes."""

    def __init__(self, file: h5py.File, path: Path, mapped: bool) -> None:
        self.path = path
        self.version = file.attrs.get("schema_version")
        if file.attrs.get("format") != "hydrogate" or self.version not in (1, SCHEMA_VERSION):
            raise UnreadableFile(
                f"{path}: an HDF5 file of another kind (format {file.attrs.get('format')!r}, schema {self.version!r}; "
                f"expected 'hydrogate', {SCHEMA_VERSION})"
            )
        flat = mapped and file.driver == "sec2" and not file.userblock_size

        def column(item: Any, kind: Any) -> Any:
            if kind is object and isinstance(item, h5py.Group):
                return Text(*(column(item[part], of_part) for part, of_part in _TEXT.items()))
            refuse_unusable(path, item, kind)
            found = Column.of(item, path) if flat else None
            return item if found is None else found

        self.columns: dict[str, Any] = {
            name: column(file[group][name], kind)
            for group, of in (("atoms", _ATOMS), ("structures", _STRUCTURES))
            for name, kind in of.items()
            if name not in _OPTIONAL or name in file[group]
        }
        quarantine = {name: column(file["quarantine"][name], kind) for name, kind in _QUARANTINE.items()}
        self.fingerprint = file.attrs["fingerprint"]
        self.plain = self._plain(file.attrs, **quarantine)

    def shape_of(self, name: str) -> tuple[int, ...]:
        item = self.columns[name]
        return (item.ends if isinstance(item, Text) else item).shape

    def array(self, name: str, first: int = 0, last: int | None = None) -> NDArray[Any]:
        return self.columns[name][first:last].astype({**_ATOMS, **_STRUCTURES}[name], copy=False)  # type: ignore[no-any-return]

    def refuse_disagreement(self) -> None:
        atoms, structures = self.shape_of("numbers")[0], self.shape_of("charge")[0]
        shapes: dict[str, tuple[int, ...]] = dict.fromkeys(_STRUCTURES, (structures,))
        shapes |= {"offset": (structures + 1,), "cell": (structures, 3, 3), "pbc": (structures, 3)}
        shapes |= {"numbers": (atoms,), "positions": (atoms, 3), "forces": (atoms, 3)}
        shapes |= {"dipole": (structures, 3), "charges": (atoms,)}
        for name in self.columns:
            if self.shape_of(name) != shapes[name]:
                raise UnreadableFile(f"{self.path}: {name} has shape {self.shape_of(name)}, expected {shapes[name]}")
        offset = self.array("offset")
        if offset[0] != 0 or offset[-1] != atoms or np.any(np.diff(offset) < 0):
            raise UnreadableFile(f"{self.path}: offset must run from 0 to the {atoms} atoms of the file")

    def refuse_another(self, fingerprint: str) -> None:
        if fingerprint != self.fingerprint:
            raise UnreadableFile(
                f"{self.path}: its content does not match its fingerprint: damaged or edited; create it again"
            )

    def read(self, first: int, last: int) -> Dataset:
        """Read structures ``first`` to ``last``; a parent or partner outside is replaced by the structure itself."""
        offset = self.array("offset", first, last + 1)
        rows = {**dict.fromkeys(_ATOMS, (offset[0], offset[-1])), **dict.fromkeys(_STRUCTURES, (first, last))}
        arrays: dict[str, Any] = {name: self.array(name, *rows[name]) for name in self.columns if name not in TEXT}
        own = np.arange(last - first)
        for name in {"parent", "partner"} & arrays.keys():
            moved = arrays[name] - first
            arrays[name] = np.where((moved < 0) | (moved >= last - first), own, moved)
        arrays["offset"] = offset - offset[0]
        texts = {name: self.text(self.columns[name], first, last) for name in TEXT}
        return Dataset(**arrays, **texts, **self.plain, first=first)

    def text(self, item: Any, first: int, last: int) -> Any:
        if not isinstance(item, Text):  # schema 1
            return item.asstr()[first:last]
        before = min(first, 1)
        ends = item.ends[first - before : last]
        start, ends = ends[0] if before else 0, ends[before:]
        return Text(item.utf8[start : ends[-1] if len(ends) else start], ends - start)

    def _plain(self, attributes: h5py.AttributeManager, source: Any, source_index: Any, reason: Any) -> dict[str, Any]:
        """Return the fields of a data set other than its columns."""
        indices = source_index[:].tolist()
        sources, reasons = (self.text(item, 0, len(indices)) for item in (source, reason))
        if self.version != 1:
            sources, reasons = sources.decoded(), reasons.decoded()
        mappings = {name: attributes.get(name) for name in ("teacher", "isolated_atom_energies")}
        return {
            "n_read": int(attributes["n_read"]),
            "quarantine": tuple(starmap(Quarantined, zip(sources.tolist(), indices, reasons.tolist(), strict=True))),
            **{name: None if value is None else json.loads(value) for name, value in mappings.items()},
        }

    def content(self) -> Iterator[tuple[str, Any]]:
        """Yield the same items as :meth:`Dataset.content`, without reading the columns."""
        for item in fields(Dataset):
            if item.name not in ("first", "_cache"):
                yield item.name, self.plain[item.name] if item.name in self.plain else self.columns.get(item.name)


def without_labels(data: Dataset) -> Dataset:
    """Return ``data`` without labels, as the label stage receives it."""
    return replace(data, energy=None, forces=None, teacher=None, isolated_atom_energies=None, dipole=None, charges=None)
