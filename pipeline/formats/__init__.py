"""Readers for external file formats: one function ``read_<format>`` per format, registered under that name.

A reader takes a path and :class:`ReadOptions` and returns a :class:`Dataset` in eV, Å and eV/Å. It adds nothing to the
content of the file: implicit hydrogens of an SDF file stay implicit, so that the contracts detect the missing atoms.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from hydrogate.checks.data.dataset import Dataset
from hydrogate.checks.data.label_keys import ReadOptions
from hydrogate.checks.errors import BadParams, did_you_mean

# Importing these modules registers their readers.
from hydrogate.pipeline.formats import ase_files, npz, own, spice
from hydrogate.pipeline.formats.join import join
from hydrogate.pipeline.formats.options import FORMATS, Declared, Format, Reader, parse_keys, reader
from hydrogate.pipeline.formats.paths import files_of
from hydrogate.pipeline.formats.trial import refuse_deadly
from hydrogate.pipeline.molecules.records import source_names
from hydrogate.pipeline.storage.hdf5 import UnreadableFile

__all__ = [
    "FORMATS",
    "Declared",
    "Format",
    "Reader",
    "called",
    "declared_for",
    "files_of",
    "format_of",
    "join",
    "parse_keys",
    "read",
    "read_all",
    "reader",
    "refuse_no_file",
    "told_by_suffix",
    "units_of",
]
MODULES = (ase_files, npz, own, spice)


def read(
    path: Path,
    input_format: str | None = None,
    unit_system: str | None = None,
    keys: Mapping[str, str] | None = None,
) -> Dataset:
    """Read ``path`` as a data set.

    Parameters
    ----------
    input_format : str, optional
        One of ``FORMATS``; by default identified by the suffix, for HDF5 also by the content.
    unit_system : str, optional
        Units of the values in the file, one of :data:`hydrogate.checks.data.units.UNIT_SYSTEMS`; by default those of
        the format's convention.
    keys : mapping of str to str, optional
        The file's keys for energy, forces, charge, spin, …; see
        :class:`hydrogate.checks.data.label_keys.ReadOptions`.

    Raises
    ------
    BadParams
        The format, the units or a key are unknown, or the file has what look like labels under other keys.
    FileNotFoundError, UnreadableData
        The file does not exist or cannot be read as that format.
    """
    chosen = format_of(path, input_format)
    options = ReadOptions(keys or {}, unit_system)
    options.scale(FORMATS[chosen].units)
    data = FORMATS[chosen].read(path, options)
    return replace(data, source=np.where(data.source == "", path.name, data.source).astype(object))


def read_all(
    paths: Sequence[Path],
    input_format: str | None = None,
    unit_system: str | None = None,
    keys: Mapping[str, str] | None = None,
) -> Dataset:
    """Read all files given by ``paths`` (files, folders, patterns) as one data set; other arguments as in :func:`read`.

    Raises
    ------
    BadParams, FileNotFoundError, UnreadableData
        As :func:`read`, :func:`files_of` and :func:`join`.
    """
    files = files_of(paths, input_format)
    return join(
        [
            called(read(path, input_format, unit_system, keys), path.name, name)
            for path, name in zip(files, source_names(files), strict=True)
        ]
    )


def called(data: Dataset, file: str, name: str) -> Dataset:
    """Return ``data`` with ``name`` in place of the file name, which files in different folders may share."""
    if name == file:
        return data
    sources = [name + of.removeprefix(file) if of.partition("/")[0] == file else of for of in data.source]
    return replace(data, source=np.array(sources, dtype=object))


def format_of(path: Path, input_format: str | None = None) -> str:
    """Return the format of ``path``, one of ``FORMATS``.

    Raises
    ------
    BadParams
        The format or the suffix is unknown.
    FileNotFoundError
        The file does not exist.
    UnreadableFile
        The path is a folder, a pipe or a device, or an HDF5 file that libhdf5 cannot traverse.
    """
    refuse_no_file(path)
    if input_format is not None and input_format not in FORMATS:
        raise BadParams(f"--input-format: unknown format {input_format!r}{did_you_mean(input_format, FORMATS)}")
    chosen = input_format or told_by_suffix(path)
    if chosen is None:
        raise BadParams(f"{path}: unknown suffix; give the format with --input-format ({', '.join(FORMATS)})")
    if chosen in ("hdf5", "spice"):
        refuse_deadly(path)
    return "spice" if chosen == "hdf5" and not input_format and spice.has_molecules(path) else chosen


def told_by_suffix(path: Path) -> str | None:
    """Return the format identified by the suffix of ``path``, or None if the suffix is unknown."""
    name = path.name.lower()
    return next((of for of, item in FORMATS.items() if name.endswith(item.suffixes)), None)


def declared_for(*sides: tuple[Sequence[Path], Declared]) -> list[Declared]:
    """Return the options for each data set of a call whose format, units and keys options apply to all of them.

    ``input_format`` does not apply to a data set of files whose suffix identifies a format with its own units and keys.
    Such a data set also gets no units and keys if another data set of the call has none of its own. If all data sets
    have their own, the options are passed on, and the readers reject them.
    """
    formats = [None if all(map(_says_itself, files)) else of.input_format for files, of in sides]
    says = [all(_says_itself(file, form) for file in files) for (files, _), form in zip(sides, formats, strict=True)]
    return [
        Declared(form) if itself and not all(says) else of._replace(input_format=form)
        for (_, of), form, itself in zip(sides, formats, says, strict=True)
    ]


def _says_itself(path: Path, input_format: str | None = None) -> bool:
    chosen = input_format or told_by_suffix(path)
    if chosen not in FORMATS or not FORMATS[chosen].says_itself or not path.is_file():
        return False
    return FORMATS[format_of(path, input_format)].says_itself  # False if the content is SPICE's


def refuse_no_file(path: Path) -> None:
    """Check that ``path`` is a regular file.

    Raises
    ------
    FileNotFoundError
        The path does not exist.
    UnreadableFile
        The path is a folder, a pipe or a device.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    if path.is_dir():
        raise UnreadableFile(f"{path}: expected a file, but this is a folder; give a file inside it")
    if not path.is_file():
        raise UnreadableFile(f"{path}: a pipe or a device, which cannot be read twice; write it to a file first")


def units_of(path: Path, input_format: str | None = None, unit_system: str | None = None) -> str:
    """Return the units in which ``path`` is read, and where they come from."""
    chosen = FORMATS[format_of(path, input_format)]
    return f"{unit_system} (declared)" if unit_system else f"{chosen.units} ({chosen.convention})"
