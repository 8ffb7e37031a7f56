"""Files that other programs made, read as a data set: one function ``read_<format>`` a format, found by its name.

A reader takes a path and :class:`ReadOptions` and returns a :class:`Dataset` in eV, Å and eV/Å. It reads what the file
says and adds nothing: an SDF file's implicit hydrogens stay implicit, so that the contracts see them missing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from hydrogate.checks.data.dataset import Dataset
from hydrogate.checks.data.label_keys import ReadOptions
from hydrogate.checks.errors import BadParams, did_you_mean

# Importing these modules declares their readers.
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
    """``path`` as a data set.

    Parameters
    ----------
    input_format : str, optional
        One of ``FORMATS``; told by the suffix, and for HDF5 by the content, where it is left out.
    unit_system : str, optional
        One of :data:`hydrogate.checks.data.units.UNIT_SYSTEMS`: what the file's numbers are in; the format's convention
        where it is left out.
    keys : mapping of str to str, optional
        What the file calls its energy, forces, charge, spin, …; see
        :class:`hydrogate.checks.data.label_keys.ReadOptions`.

    Raises
    ------
    BadParams
        The format, the units or a key are unknown, or the file holds something that looks like labels under other keys.
    FileNotFoundError, UnreadableData
        There is no such file, or it cannot be read as that format.
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
    """The files that ``paths`` name, folders and patterns too, as one data set; the rest as for :func:`read`.

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
    """``data`` with ``name`` for the name of its file: two files in two folders may share one."""
    if name == file:
        return data
    sources = [name + of.removeprefix(file) if of.partition("/")[0] == file else of for of in data.source]
    return replace(data, source=np.array(sources, dtype=object))


def format_of(path: Path, input_format: str | None = None) -> str:
    """The format of ``path``, one of ``FORMATS``.

    Raises
    ------
    BadParams
        The format is unknown, or the suffix tells none.
    FileNotFoundError
        There is no such file.
    UnreadableFile
        It is no file but a folder, a pipe or a device, or an HDF5 file that cannot be looked through.
    """
    refuse_no_file(path)
    if input_format is not None and input_format not in FORMATS:
        raise BadParams(f"--input-format {input_format!r} is unknown{did_you_mean(input_format, FORMATS)}")
    chosen = input_format or told_by_suffix(path)
    if chosen is None:
        raise BadParams(f"{path}: its suffix tells no format; name one with --input-format ({', '.join(FORMATS)})")
    if chosen in ("hdf5", "spice"):
        refuse_deadly(path)
    return "spice" if chosen == "hdf5" and not input_format and spice.has_molecules(path) else chosen


def told_by_suffix(path: Path) -> str | None:
    """The format that the name of ``path`` ends in; None where it tells none."""
    name = path.name.lower()
    return next((of for of, item in FORMATS.items() if name.endswith(item.suffixes)), None)


def declared_for(*sides: tuple[Sequence[Path], Declared]) -> list[Declared]:
    """What holds for each of several data sets that one call names, where it declares the same of all.

    A file whose suffix tells a format that says its units and keys itself has no other format. Its units and keys are
    left to it beside a data set that does not say them; where all do, their readers refuse what is declared.
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
    return FORMATS[format_of(path, input_format)].says_itself  # not where the content is SPICE's


def refuse_no_file(path: Path) -> None:
    """Raise unless ``path`` is a file.

    Raises
    ------
    FileNotFoundError
        There is nothing.
    UnreadableFile
        It is a folder, a pipe or a device.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    if path.is_dir():
        raise UnreadableFile(f"{path}: a folder, where one file is asked for; name a file in it")
    if not path.is_file():
        raise UnreadableFile(f"{path}: a pipe or a device, which cannot be read twice; write it to a file first")


def units_of(path: Path, input_format: str | None = None, unit_system: str | None = None) -> str:
    """What the numbers of ``path`` are taken to be in, and why."""
    chosen = FORMATS[format_of(path, input_format)]
    return f"{unit_system} (declared)" if unit_system else f"{chosen.units} ({chosen.convention})"
