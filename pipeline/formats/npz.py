"""NPZ files of rMD17, MD17 and sGDML: many geometries of one molecule, in kcal/mol and Å."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hydrogate.checks.data.builder import Columns, charge_of, multiplicity_of
from hydrogate.checks.data.dataset import Dataset
from hydrogate.checks.data.label_keys import KeyChoice, ReadOptions
from hydrogate.checks.data.units import UNIT_SYSTEMS
from hydrogate.checks.errors import BadParams, UnreadableData
from hydrogate.pipeline.formats.options import reader
from hydrogate.pipeline.storage.hdf5 import LARGEST_EXPANSION, UnreadableFile

UNITS = "kcal/mol,angstrom"
# Keys of rMD17, then those of MD17 and sGDML.
KEYS = {
    "numbers": ("nuclear_charges", "z"),
    "positions": ("coords", "R"),
    "energy": ("energies", "E"),
    "forces": ("forces", "F"),
    "charge": ("charge", "total_charge"),
    "spin": ("spin", "spin_multiplicity", "multiplicity"),
}
_CELL = ("cell", "lattice", "Lattice", "pbc")


@reader(".npz", units=UNITS, convention="rMD17's convention")
def read_npz(path: Path, options: ReadOptions) -> Dataset:
    """Read atomic numbers (n,), coordinates and forces (M, n, 3) and energies (M,).

    The first geometry is the parent of the others.
    """
    units = options.scale_of_known_keys(UNITS, KEYS)
    try:
        with path.open("rb") as stored:
            # A pickle can execute code when it is loaded.
            file = np.load(stored, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise UnreadableFile(f"{path}: a single .npy array, not an .npz archive")
            _refuse_bomb(path, file.zip)
            return _read(path, file, options, Columns(path.name, units))
    except (BadParams, UnreadableData):
        raise
    # NumPy parses headers as Python literals, which may raise SyntaxError, TokenError, OverflowError, … in addition
    # to errors of ZIP and NumPy.
    except Exception as error:
        pickled = "contains pickled arrays, which are not loaded" if "pickle" in str(error) else "not readable as npz"
        raise UnreadableFile(f"{path}: {pickled}: {type(error).__name__}: {error}") from error


def _refuse_bomb(path: Path, file: Any) -> None:
    size, most = sum(item.file_size for item in file.infolist()), LARGEST_EXPANSION * path.stat().st_size
    if size > most:
        raise UnreadableFile(
            f"{path}: claims to decompress to {size} bytes, but at most {most} ({LARGEST_EXPANSION} times the file "
            "size) are allowed"
        )


def _read(path: Path, file: Any, options: ReadOptions, columns: Columns) -> Dataset:
    choice, where = KeyChoice(path.name, options, KEYS), "the file"
    if options.units is None:
        _refuse_other_units(path, file)
    if cell := [name for name in _CELL if name in file]:
        raise UnreadableFile(
            f"{path}: has {cell[0]!r}, but npz files are read as isolated molecules; write the data as extxyz"
        )
    numbers, positions = (choice.need(quantity, where, file) for quantity in ("numbers", "positions"))
    count = len(positions) if positions.ndim == 3 else 0
    energy = choice.find("energy", where, file, lambda values: values.size == count)
    forces = choice.find("forces", where, file, lambda values: values.shape == positions.shape)
    charge, spin = choice.find("charge", where, file), choice.find("spin", where, file)
    choice.refuse_unseen(file)
    energies: NDArray[Any] | None = None
    if energy is not None:
        # sGDML writes (M, 1).
        energies = energy.value.reshape(count) if energy.value.size == count else energy.value
    columns.add(
        where,
        numbers,
        positions,
        energy=energies,
        forces=None if forces is None else forces.sign * forces.value,
        charge=charge_of(path.name, where, charge) if charge else 0,
        spin=multiplicity_of(path.name, where, spin) if spin else None,
        smiles="",
        source=path.name,
        source_index=0,
    )
    return columns.dataset()


def _refuse_other_units(path: Path, file: Any) -> None:
    """Raise BadParams if the file states units, as sGDML's do, and they differ from the convention."""
    for name, usual in (("e_unit", ("kcal/mol",)), ("r_unit", ("ang", "angstrom"))):
        if name in file and str(file[name]).lower() not in usual:
            raise BadParams(
                f"{path}: states {name} = {str(file[name])!r}, not {usual[0]!r}; declare the units with --units "
                f"({', '.join(UNIT_SYSTEMS)})"
            )
