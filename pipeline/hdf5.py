"""The project's own file format: one HDF5 file, flat arrays and offsets, written whole or not at all.

Layout: ``atoms/{numbers, positions, forces}``, ``structures/{offset, charge, …, energy}``, where a structure has a cell
also ``structures/{cell, pbc}``, where they are known ``structures/{heavy_atoms_moved, dipole, partner}`` and
``atoms/charges``, and ``quarantine/{source, source_index, reason}``. A column of text is a group of ``utf8``, the texts
one behind the other, and ``ends``. Each array carries its ``unit``; the file carries a schema version, the teacher and
a fingerprint of its content.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from itertools import pairwise, starmap
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from hydrogate.checks.content import Text, fingerprint_of
from hydrogate.checks.dataset import TEXT, Dataset, Quarantined, UnreadableData

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
_OPTIONAL = ("forces", "energy", "cell", "pbc", "heavy_atoms_moved", "dipole", "charges", "partner")


# What a file may hold over its size. Gzip makes SDF files 3 to 20 times as small, HDF5 twice; a constant, a thousand.
LARGEST_EXPANSION = 200


class UnreadableFile(UnreadableData):
    """A file that cannot be used as what it was taken for; the message names the file and the remedy."""


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path``, moved into place when the block ends well and removed when it does not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_dataset(data: Dataset, path: Path) -> None:
    """Write ``data`` to ``path``, whole: a reader sees the old file or the new one.

    Raises
    ------
    OSError
        What was written does not read as ``data``: the disk is full.
    """
    with written_whole(path) as temporary:
        _refuse_full_disk(data, path, temporary)
        # Aligned, so that an array can be used where it lies in the file.
        with h5py.File(temporary, "w", alignment_interval=8) as file:
            _write(data, file)
        try:
            # HDF5 writes some of it when h5py lets go of an array, and an error is then printed and not raised.
            verify(temporary)
        except UnreadableFile as error:
            raise OSError(f"{path}: could not be written whole, make room on its disk ({error})") from error


def _refuse_full_disk(data: Dataset, path: Path, temporary: Path) -> None:
    """Ask for the room before HDF5 does: where it finds none half-way, the process dies of a segmentation fault."""
    texts = [part for name in TEXT for part in data.text(name)]
    columns = [getattr(data, name) for name in (*_ATOMS, *_STRUCTURES) if name not in TEXT]
    size = sum(array.nbytes for array in (*texts, *columns) if array is not None)
    size += sum(len(record.source) + len(record.reason) + 24 for record in data.quarantine) + 65536
    if hasattr(os, "posix_fallocate"):
        with temporary.open("wb") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, size)
            except OSError as error:
                raise OSError(f"{path}: no room for {size} bytes on its disk ({error.strerror})") from error


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
    """Read ``path``, whole and verified; its arrays are read-only, its texts decoded at first use.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    UnreadableFile
        It is no HDF5 file, not of this layout or version, or its arrays disagree with each other or the fingerprint.
    """
    with _opened(path) as stored:
        stored.refuse_disagreement()
        data = stored.read(0, stored.shape_of("charge")[0])
        fingerprint = _fingerprint_of_schema_1(data) if stored.version == 1 else fingerprint_of(data.content())
        stored.refuse_another(fingerprint)
    return data.stored(fingerprint)


def verify(path: Path) -> str:
    """The fingerprint of ``path``, its content verified against it a few megabytes at a time.

    Raises
    ------
    FileNotFoundError, UnreadableFile
        As :func:`read_dataset`.
    """
    with _opened(path) as stored:
        stored.refuse_disagreement()
        if stored.version == 1:
            return read_dataset(path).fingerprint()
        fingerprint = fingerprint_of(stored.content())
        stored.refuse_another(fingerprint)
    return fingerprint


class Part(NamedTuple):
    """Structures ``first`` to ``last`` of the data set at ``path``, ``atoms`` atoms, not read yet."""

    path: Path
    first: int
    last: int
    atoms: int

    def read(self) -> Dataset:
        """These structures, as :meth:`Dataset.part` of the whole gives them; only :func:`verify` tells of damage.

        Raises
        ------
        FileNotFoundError, UnreadableFile
            As :func:`read_dataset`; a fingerprint that does not match is not noticed here.
        """
        with _opened(self.path, mapped=True) as stored:
            return stored.read(self.first, self.last)


def parts(path: Path, atoms: int = 1_000_000) -> list[Part]:
    """The data set at ``path`` in parts of about ``atoms`` atoms, in order; further geometries stay with their parent.

    They do where they stand beside it or each other in the file. A data set without structures is one empty part.

    Raises
    ------
    FileNotFoundError, UnreadableFile
        As :func:`read_dataset`; a fingerprint that does not match is not noticed here.
    """
    with _opened(path) as stored:
        stored.refuse_disagreement()
        offset, parent = stored.array("offset"), stored.array("parent")
    count = len(offset) - 1
    together = (parent[1:] == parent[:-1]) | (parent[1:] == np.arange(count - 1))
    cuts = np.concatenate([[0], 1 + np.flatnonzero(~together), [count]]).astype(np.int64)
    wanted = np.linspace(0, offset[-1], max(1, -(-int(offset[-1]) // atoms)) + 1)
    cuts = np.unique(cuts[np.searchsorted(offset[cuts], wanted)])
    ends = [0, count] if len(cuts) < 2 else cuts.tolist()
    return [Part(path, one, two, int(offset[two] - offset[one])) for one, two in pairwise(ends)]


def refuse_foreign(path: Path, item: h5py.Dataset) -> None:
    """Refuse an array that lies in another file than ``path``, or says that it is far larger than the file.

    Raises
    ------
    UnreadableFile
    """
    if item.is_virtual or item.external or item.file.filename != str(path):
        raise UnreadableFile(f"{path}: {item.name} lies in another file, which is not followed; copy it in (h5repack)")
    if item.nbytes > (most := LARGEST_EXPANSION * path.stat().st_size):
        raise UnreadableFile(
            f"{path}: {item.name} says that it is {item.nbytes} bytes, allowed at most {most}, {LARGEST_EXPANSION} "
            "times the file; make the file again"
        )


@contextmanager
def _opened(path: Path, mapped: bool = False) -> Iterator["_Stored"]:
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with h5py.File(path, "r") as file:
            yield _Stored(file, path, mapped)
    except UnreadableFile:
        raise
    except (OSError, KeyError, RuntimeError, TypeError, ValueError, AttributeError, IndexError, MemoryError) as error:
        raise UnreadableFile(
            f"{path}: not a readable hydrogate data set ({error}); make it again or restore it"
        ) from error


class _Stored:
    """An open file: its columns, read in slices.

    Where it is ``mapped`` into memory, an array that lies there as it is used is read when it is looked at, without a
    copy, and stays readable when the file is closed.
    """

    def __init__(self, file: h5py.File, path: Path, mapped: bool) -> None:
        self.file, self.path = file, path
        plain = mapped and file.driver == "sec2" and not file.userblock_size
        self.memory = mmap(file.id.get_vfd_handle(), 0, access=ACCESS_READ) if plain else None
        self.version = file.attrs.get("schema_version")
        if file.attrs.get("format") != "hydrogate" or self.version not in (1, SCHEMA_VERSION):
            raise UnreadableFile(
                f"{path}: an HDF5 file of another kind (format {file.attrs.get('format')!r}, schema {self.version!r}; "
                f"expected 'hydrogate', {SCHEMA_VERSION})"
            )
        groups = ((file["atoms"], _ATOMS), (file["structures"], _STRUCTURES))
        self.columns: dict[str, Any] = {
            name: group[name] for group, of in groups for name in of if name not in _OPTIONAL or name in group
        }
        for name, item in self.columns.items():
            self._refuse_unusable(item, {**_ATOMS, **_STRUCTURES}[name])
        for name, kind in (("source", object), ("source_index", np.int64), ("reason", object)):
            self._refuse_unusable(file["quarantine"][name], kind)

    def _refuse_unusable(self, item: Any, kind: Any) -> None:
        if kind is object and isinstance(item, h5py.Group):
            for part, of_part in _TEXT.items():
                self._refuse_unusable(item[part], of_part)
            return
        refuse_foreign(self.path, item)
        if not item.ndim or not np.can_cast(item.dtype, kind, "same_kind"):
            raise UnreadableFile(
                f"{self.path}: {item.name} is {item.dtype} of shape {item.shape}, expected an array of {kind.__name__}"
            )

    def shape_of(self, name: str) -> tuple[int, ...]:
        item = self.columns[name]
        return (item["ends"] if isinstance(item, h5py.Group) else item).shape  # type: ignore[no-any-return]

    def array(self, name: str, first: int = 0, last: int | None = None) -> NDArray[Any]:
        return self.rows(self.columns[name], first, last).astype({**_ATOMS, **_STRUCTURES}[name], copy=False)

    def rows(self, item: h5py.Dataset, first: int = 0, last: int | None = None) -> NDArray[Any]:
        kind, start = item.dtype, item.id.get_offset()
        if self.memory is None or start is None or start % kind.alignment:
            return item[first:last]  # type: ignore[no-any-return]
        shape = (len(range(*slice(first, last).indices(len(item)))), *item.shape[1:])
        return np.ndarray(shape, kind, self.memory, start + first * int(np.prod(shape[1:])) * kind.itemsize)

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
        if fingerprint != self.file.attrs["fingerprint"]:
            raise UnreadableFile(
                f"{self.path}: its content does not match its fingerprint: damaged or edited; make it again"
            )

    def read(self, first: int, last: int) -> Dataset:
        """The structures ``first`` to ``last``; a parent or partner outside becomes the structure itself."""
        offset = self.array("offset", first, last + 1)
        rows = {**dict.fromkeys(_ATOMS, (offset[0], offset[-1])), **dict.fromkeys(_STRUCTURES, (first, last))}
        arrays: dict[str, Any] = {name: self.array(name, *rows[name]) for name in self.columns if name not in TEXT}
        own = np.arange(last - first)
        for name in {"parent", "partner"} & arrays.keys():
            moved = arrays[name] - first
            arrays[name] = np.where((moved < 0) | (moved >= last - first), own, moved)
        arrays["offset"] = offset - offset[0]
        texts = {name: self.text(self.columns[name], first, last) for name in TEXT}
        return Dataset(**arrays, **texts, **self.plain(), first=first)

    def text(self, item: Any, first: int, last: int) -> Any:
        if isinstance(item, h5py.Dataset):  # schema 1
            return item.asstr()[first:last]
        before = min(first, 1)
        ends = self.rows(item["ends"], first - before, last)
        start, ends = ends[0] if before else 0, ends[before:]
        return Text(self.rows(item["utf8"], start, ends[-1] if len(ends) else start), ends - start)

    def plain(self) -> dict[str, Any]:
        """What a data set holds beside its columns."""
        attributes, quarantine = self.file.attrs, self.file["quarantine"]
        indices = quarantine["source_index"][...].tolist()
        sources, reasons = (self.text(quarantine[name], 0, len(indices)) for name in ("source", "reason"))
        if self.version != 1:
            sources, reasons = sources.decoded(), reasons.decoded()
        mappings = {name: attributes.get(name) for name in ("teacher", "isolated_atom_energies")}
        return {
            "n_read": int(attributes["n_read"]),
            "quarantine": tuple(starmap(Quarantined, zip(sources.tolist(), indices, reasons.tolist(), strict=True))),
            **{name: None if value is None else json.loads(value) for name, value in mappings.items()},
        }

    def content(self) -> Iterator[tuple[str, Any]]:
        """As :meth:`Dataset.content`, the columns not read."""
        plain = self.plain()
        for item in fields(Dataset):
            if item.name in TEXT:
                column = self.columns[item.name]
                yield item.name, Text(column["utf8"], column["ends"])
            elif item.name not in ("first", "_cache"):
                yield item.name, plain[item.name] if item.name in plain else self.columns.get(item.name)


def _fingerprint_of_schema_1(data: Dataset) -> str:
    """The fingerprint as the first version of the layout had it."""
    digest = hashlib.sha256()
    later = ("cell", "pbc", "isolated_atom_energies", "heavy_atoms_moved", "dipole", "charges", "partner")
    for item in fields(data):
        value = getattr(data, item.name)
        if item.name in ("first", "_cache") or (item.name in later and value is None):
            continue
        digest.update(item.name.encode())
        if isinstance(value, np.ndarray) and value.dtype != object:
            digest.update(str(value.dtype).encode() + str(value.shape).encode() + value.tobytes())
        else:
            plain = (
                value.tolist()
                if isinstance(value, np.ndarray)
                else dict(value)
                if item.name == "teacher" and value
                else value
            )
            digest.update(json.dumps(plain, sort_keys=not isinstance(value, np.ndarray)).encode())
    return digest.hexdigest()


def without_labels(data: Dataset) -> Dataset:
    """``data`` as the label stage receives it."""
    return replace(data, energy=None, forces=None, teacher=None, isolated_atom_energies=None, dipole=None, charges=None)
