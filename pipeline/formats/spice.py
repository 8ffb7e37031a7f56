"""SPICE's HDF5: one group per molecule, with all its conformations; energies in hartree, gradients in hartree/bohr."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from hydrogate.checks.data.builder import Columns, charge_of, multiplicity_of
from hydrogate.checks.data.dataset import Dataset
from hydrogate.checks.data.label_keys import KeyChoice, ReadOptions
from hydrogate.checks.errors import BadParams, UnreadableData
from hydrogate.pipeline.formats.options import reader
from hydrogate.pipeline.storage.hdf5 import UnreadableFile, refuse_foreign

UNITS = "hartree,bohr"
# Source: downloader/downloader.py of the repository openmm/spice-dataset.
UNIT_OF = {"positions": "bohr", "energy": "hartree", "forces": "hartree/bohr"}
KEYS = {
    "numbers": ("atomic_numbers",),
    "positions": ("conformations",),
    "energy": ("dft_total_energy",),
    "forces": ("-dft_total_gradient",),
    "smiles": ("smiles",),
    "charge": ("charge", "total_charge"),
    "spin": ("spin", "spin_multiplicity", "multiplicity"),
}
# A bracket atom ends with its charge and its class. Source: OpenSMILES specification 1.0, section 3.1.
_CHARGE_OF_ATOM = re.compile(r"([+-]+)(\d*)(?::\d+)?\]")
_CLASS_OF_ATOM = re.compile(r":\d+\]")


@reader(units=UNITS, convention="SPICE's convention")
def read_spice(path: Path, options: ReadOptions) -> Dataset:
    """Read SPICE's layout: the first conformation is the parent of the others; forces are the negative gradients.

    The total charge is taken from the SMILES if no dataset provides it; atom classes are removed from the SMILES.
    """
    choice = KeyChoice(path.name, options, KEYS)
    columns = Columns(path.name, options.scale_of_known_keys(UNITS, KEYS))
    group = ""
    found: dict[str, Any] = {}
    try:
        with h5py.File(path, "r") as file:
            for group, item in file.items():
                if not isinstance(item, h5py.Group):
                    raise UnreadableFile(f"{path}: {group!r} is not a group; SPICE has one group per molecule")
                found = {name: values for name, values in item.items() if isinstance(values, h5py.Dataset)}
                for values in found.values():
                    refuse_foreign(path, values)
                if options.units is None:
                    _refuse_other_units(path, group, found)
                _add_molecule(path, group, found, choice, columns)
    except (BadParams, UnreadableData):
        raise
    except (OSError, KeyError, RuntimeError, TypeError, ValueError, MemoryError) as error:
        where = f" at group {group!r}" if group else ""
        raise UnreadableFile(f"{path}: not readable as SPICE's HDF5{where}: {type(error).__name__}: {error}") from error
    choice.refuse_unseen(found)
    return columns.dataset()


def has_molecules(path: Path) -> bool:
    """Return True if ``path`` is an HDF5 file that starts with a group and is not in the project's own format."""
    try:
        with h5py.File(path, "r") as file:
            first = next(iter(file.values()), None)
            ours = file.attrs.get("format") == "hydrogate" or "structures" in file
            return isinstance(first, h5py.Group) and not ours
    except (OSError, KeyError, RuntimeError, ValueError):
        return False


def _refuse_other_units(path: Path, group: str, found: Mapping[str, Any]) -> None:
    for quantity, unit in UNIT_OF.items():
        key = KEYS[quantity][0].removeprefix("-")
        says = found[key].attrs.get("units", unit) if key in found else unit
        if says != unit:
            raise BadParams(
                f"{path}: {key} of group {group!r} is in {says!r}, but SPICE's convention is {unit!r}; "
                "declare the units of the file with --units"
            )


def _add_molecule(path: Path, group: str, found: Mapping[str, Any], choice: KeyChoice, columns: Columns) -> None:
    where = f"group {group!r}"
    numbers, positions = (choice.need(quantity, where, found)[...] for quantity in ("numbers", "positions"))
    energy = choice.find("energy", where, found, lambda values: values.shape in (positions.shape[:1], ()))
    forces = choice.find("forces", where, found, lambda values: values.shape == positions.shape)
    choice.refuse_mixture(where, {"energy": energy, "forces": forces})
    smiles, charge, spin = (choice.find(quantity, where, found) for quantity in ("smiles", "charge", "spin"))
    text = str(np.ravel(smiles.value.asstr()[...])[0]) if smiles else ""
    columns.add(
        where,
        numbers,
        positions,
        energy=None if energy is None else energy.value[...],
        forces=None if forces is None else forces.sign * forces.value[...],
        charge=charge_of(path.name, where, charge) if charge else charge_of_smiles(text),
        spin=multiplicity_of(path.name, where, spin) if spin else None,
        smiles=_CLASS_OF_ATOM.sub("]", text),
        source=f"{path.name}/{group}",
        source_index=0,
    )


def charge_of_smiles(smiles: str) -> int:
    """Return the sum of the atomic charges in ``smiles``, e."""
    return sum(
        (1 if signs[0] == "+" else -1) * (int(digits) if digits else len(signs))
        for signs, digits in _CHARGE_OF_ATOM.findall(smiles)
    )
