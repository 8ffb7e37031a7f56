"""Files that other programs made, read as a data set: one function a format, found by its name.

A reader takes a path and returns a :class:`Dataset` in eV, Å and eV/Å. It reads what the file says and adds nothing:
an SDF file's implicit hydrogens stay implicit, so that the contracts see them missing.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from ase import units

from hydrogate.checks.contract import from_atoms
from hydrogate.checks.dataset import Dataset, concatenate
from hydrogate.checks.declared import BadParams, did_you_mean
from hydrogate.pipeline.hdf5 import UnreadableFile, read_dataset

Reader: TypeAlias = Callable[[Path], Dataset]

# What one unit of length, energy and force is in Å, eV and eV/Å. Source: ase.units (CODATA 2014).
UNIT_SYSTEMS: dict[str, tuple[float, float, float]] = {
    "eV,angstrom": (1.0, 1.0, 1.0),
    "hartree,bohr": (units.Bohr, units.Hartree, units.Hartree / units.Bohr),
    "hartree,angstrom": (1.0, units.Hartree, units.Hartree),
    "kcal/mol,angstrom": (1.0, units.kcal / units.mol, units.kcal / units.mol),
    "kJ/mol,nm": (units.nm, units.kJ / units.mol, units.kJ / units.mol / units.nm),
}


def read_hdf5(path: Path) -> Dataset:
    """The project's own HDF5 layout."""
    return read_dataset(path)


def read_sdf(path: Path) -> Dataset:
    """SDF, also gzipped: the atoms as written down, and the hydrogen count that the valences imply."""
    from hydrogate.pipeline.sdf import read_records

    return read_records(path)


def read_extxyz(path: Path) -> Dataset:
    """Extended XYZ with ASE's keys: ``energy`` and ``forces``, ``charge`` and ``spin`` in the comment line."""
    from ase.io import iread

    try:
        return from_atoms(list(iread(path, index=":", format="extxyz")))
    except (ValueError, KeyError, IndexError, AssertionError, OSError) as error:
        raise UnreadableFile(f"{path}: not readable as extended XYZ: {type(error).__name__}: {error}") from error


READERS: dict[str, Reader] = {"extxyz": read_extxyz, "hdf5": read_hdf5, "sdf": read_sdf}
SUFFIXES = {".h5": "hdf5", ".hdf5": "hdf5", ".sdf": "sdf", ".sdf.gz": "sdf", ".extxyz": "extxyz", ".xyz": "extxyz"}


def read(path: Path, input_format: str | None = None, unit_system: str | None = None) -> Dataset:
    """``path`` as a data set.

    Parameters
    ----------
    input_format : str, optional
        One of ``READERS``; told by the suffix where it is left out.
    unit_system : str, optional
        One of ``UNIT_SYSTEMS``: what the file's numbers are in.

    Raises
    ------
    BadParams
        The format or the units are unknown, or the suffix tells nothing.
    FileNotFoundError, UnreadableFile
        There is no such file, or it cannot be read as that format.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    chosen = input_format or next((f for suffix, f in SUFFIXES.items() if path.name.lower().endswith(suffix)), None)
    if chosen is None:
        raise BadParams(f"{path}: its suffix tells no format; name one with --input-format ({', '.join(READERS)})")
    if chosen not in READERS:
        raise BadParams(f"--input-format {chosen!r} is unknown{did_you_mean(chosen, READERS)}")
    data = READERS[chosen](path)
    data = replace(data, source=np.where(data.source == "", path.name, data.source).astype(object))
    return _in_own_units(data, unit_system) if unit_system else data


def _in_own_units(data: Dataset, unit_system: str) -> Dataset:
    if unit_system not in UNIT_SYSTEMS:
        raise BadParams(f"--units {unit_system!r} is unknown{did_you_mean(unit_system, UNIT_SYSTEMS)}")
    length, energy, force = UNIT_SYSTEMS[unit_system]
    return replace(
        data,
        positions=(data.positions.astype(np.float64) * length).astype(np.float32),
        energy=None if data.energy is None else data.energy * energy,
        forces=None if data.forces is None else (data.forces.astype(np.float64) * force).astype(np.float32),
        _cache={},
    )


def join(parts: list[Dataset]) -> Dataset:
    """Several files as one data set; labels only where every file has them, and one teacher only where all agree."""
    if len(parts) == 1:
        return parts[0]
    labelled = [part.forces is not None and part.energy is not None for part in parts]
    if any(labelled) and not all(labelled):
        raise UnreadableFile("some of the files carry energies and forces and others do not; check them apart")
    shift = np.cumsum([0, *(len(part) for part in parts)])
    joined = concatenate([part.to_atoms(row) for part in parts for row in range(len(part))])
    stacked: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("expected_hydrogens", "smiles", "inchikey", "source", "source_index", "split", "spin_multiplicity")
    }
    teachers = [part.teacher for part in parts]
    return replace(
        joined,
        **stacked,
        parent=np.concatenate([part.parent + start for part, start in zip(parts, shift, strict=False)]),
        energy=np.concatenate([part.energy for part in parts if part.energy is not None]) if all(labelled) else None,
        forces=np.concatenate([part.forces for part in parts if part.forces is not None]) if all(labelled) else None,
        teacher=teachers[0] if all(teacher == teachers[0] for teacher in teachers) else None,
        quarantine=tuple(record for part in parts for record in part.quarantine),
        n_read=sum(part.n_read for part in parts),
    )
