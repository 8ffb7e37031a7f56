"""The project's own file format: one HDF5 file, flat arrays and offsets, written whole or not at all.

Layout: ``atoms/{numbers, positions, forces}``, ``structures/{offset, charge, …, energy}``, where a structure has a cell
also ``structures/{cell, pbc}``, where it was recorded ``structures/heavy_atoms_moved``, and ``quarantine/{source,
source_index, reason}``. Each array carries its ``unit``; the file carries a schema version, the teacher and a
fingerprint of its content.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from hydrogate.checks.dataset import Dataset, Quarantined, UnreadableData

SCHEMA_VERSION = 1
UNITS = {
    "positions": "angstrom",
    "forces": "eV/angstrom",
    "energy": "eV",
    "charge": "e",
    "cell": "angstrom",
    "heavy_atoms_moved": "angstrom",
}
_ATOMS = {"numbers": np.uint8, "positions": np.float32, "forces": np.float32}
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
}
_OPTIONAL = ("forces", "energy", "cell", "pbc", "heavy_atoms_moved")


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
    """Write ``data`` to ``path``, whole: a reader sees the old file or the new one."""
    with written_whole(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["format"] = "hydrogate"
        file.attrs["schema_version"] = SCHEMA_VERSION
        file.attrs["fingerprint"] = data.fingerprint()
        file.attrs["n_read"] = data.n_read
        if data.teacher is not None:
            file.attrs["teacher"] = json.dumps(dict(data.teacher), sort_keys=True)
        if data.isolated_atom_energies is not None:
            file.attrs["isolated_atom_energies"] = json.dumps(dict(data.isolated_atom_energies), sort_keys=True)
        for group, columns in (("atoms", _ATOMS), ("structures", _STRUCTURES)):
            for name, dtype in columns.items():
                values = getattr(data, name)
                if values is not None:
                    _write(file, f"{group}/{name}", values, dtype)
        for name in Quarantined._fields:
            column = [getattr(record, name) for record in data.quarantine]
            _write(file, f"quarantine/{name}", column, np.int64 if name == "source_index" else object)


def _write(file: h5py.File, name: str, values: Any, dtype: Any) -> None:
    text = dtype is object
    kind = h5py.string_dtype() if text else dtype
    item = file.create_dataset(name, data=list(values) if text else np.asarray(values, dtype=dtype), dtype=kind)
    item.attrs["unit"] = UNITS.get(name.rpartition("/")[2], "")


def read_dataset(path: Path) -> Dataset:
    """Read ``path``.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    UnreadableFile
        It is no HDF5 file, not of this layout or version, or its arrays disagree with each other or the fingerprint.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with h5py.File(path, "r") as file:
            return _read(file, path)
    except UnreadableFile:
        raise
    except (OSError, KeyError, RuntimeError, TypeError, ValueError, MemoryError) as error:
        raise UnreadableFile(
            f"{path}: not a readable hydrogate data set ({error}); make it again or restore it"
        ) from error


def _read(file: h5py.File, path: Path) -> Dataset:
    version = file.attrs.get("schema_version")
    if file.attrs.get("format") != "hydrogate" or version != SCHEMA_VERSION:
        raise UnreadableFile(
            f"{path}: an HDF5 file of another kind (format {file.attrs.get('format')!r}, schema {version!r}; "
            f"expected 'hydrogate', {SCHEMA_VERSION})"
        )
    arrays: dict[str, Any] = {}
    for group, columns in (("atoms", _ATOMS), ("structures", _STRUCTURES)):
        for name, dtype in columns.items():
            if name in _OPTIONAL and name not in file[group]:
                arrays[name] = None
                continue
            item = file[f"{group}/{name}"]
            arrays[name] = item.asstr()[...] if dtype is object else item[...].astype(dtype, copy=False)
    columns_of_quarantine = [
        file[f"quarantine/{name}"][...].tolist()
        if name == "source_index"
        else file[f"quarantine/{name}"].asstr()[...].tolist()
        for name in Quarantined._fields
    ]
    data = Dataset(
        **arrays,
        teacher=json.loads(file.attrs["teacher"]) if "teacher" in file.attrs else None,
        quarantine=tuple(Quarantined(*row) for row in zip(*columns_of_quarantine, strict=True)),
        n_read=int(file.attrs["n_read"]),
        isolated_atom_energies=(
            json.loads(file.attrs["isolated_atom_energies"]) if "isolated_atom_energies" in file.attrs else None
        ),
    )
    _refuse_disagreement(data, path)
    if data.fingerprint() != file.attrs["fingerprint"]:
        raise UnreadableFile(f"{path}: its content does not match its fingerprint: damaged or edited; make it again")
    return data


def _refuse_disagreement(data: Dataset, path: Path) -> None:
    atoms, structures = len(data.numbers), len(data)
    shapes: dict[str, tuple[int, ...]] = {"positions": (atoms, 3), "forces": (atoms, 3)}
    shapes |= {name: (structures,) for name in _STRUCTURES if name != "offset"}
    shapes |= {"cell": (structures, 3, 3), "pbc": (structures, 3)}
    for name, shape in shapes.items():
        values = getattr(data, name)
        if values is not None and values.shape != shape:
            raise UnreadableFile(f"{path}: {name} has shape {values.shape}, expected {shape}")
    if data.offset.ndim != 1 or not len(data.offset) or data.offset[0] != 0 or data.offset[-1] != atoms:
        raise UnreadableFile(f"{path}: offset must run from 0 to the {atoms} atoms of the file")


def without_labels(data: Dataset) -> Dataset:
    """``data`` as the label stage receives it."""
    return replace(data, energy=None, forces=None, teacher=None, isolated_atom_energies=None)
