"""Conversion of a sequence of structures from a file or a program to one data set; labels are found by key."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from os import PathLike
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms
from ase.calculators.calculator import compare_atoms
from numpy.typing import NDArray

from hydrogate.checks.data.builder import Columns, charge_of, multiplicity_of, plain
from hydrogate.checks.data.dataset import Dataset
from hydrogate.checks.data.label_keys import KeyChoice, Named, ReadOptions
from hydrogate.checks.errors import BadParams, UnreadableData

# The REF_ and total_ keys are those of MACE; its total_spin is 2S + 1.
FRAME_KEYS = {
    "energy": ("energy", "REF_energy"),
    "forces": ("forces", "REF_forces"),
    "charge": ("charge", "total_charge"),
    "spin": ("spin", "spin_multiplicity", "multiplicity", "total_spin"),
    "smiles": ("smiles", "SMILES"),
}
_GEOMETRY = ("numbers", "positions", "cell", "pbc")


class Frame(NamedTuple):
    """Structure as read: numbers (n,), positions (n, 3) in the unit of the data, and all other values by key."""

    numbers: NDArray[Any]
    positions: NDArray[np.float64]
    found: Mapping[str, Any]
    cell: NDArray[np.float64]
    pbc: NDArray[np.bool_]


def frame_of(atoms: Atoms) -> Frame:
    """Return ``atoms`` with its arrays, its info and the stored results of its calculator."""
    results = getattr(atoms.calc, "results", {})
    return Frame(atoms.numbers, atoms.positions, {**atoms.arrays, **atoms.info, **results}, atoms.cell.array, atoms.pbc)


def dataset_of_frames(source: str, frames: Iterable[Frame], options: ReadOptions, convention: str) -> Dataset:
    """Convert frames to a data set; single atoms with an energy become isolated-atom energies.

    Raises
    ------
    BadParams
        A key is missing, or another key looks like the quantity; see :class:`KeyChoice`.
    UnreadableData
        Only some frames are labelled, or a value is invalid.
    """
    choice = KeyChoice(source, options, FRAME_KEYS)
    columns = Columns(source, options.scale(convention))
    frame = None
    for index, frame in enumerate(frames):
        where = f"frame {index}"
        numbers = np.asarray(frame.numbers)
        n = len(numbers)
        find = partial(choice.find, where=where, found=frame.found)
        charge, spin = (_of_all_atoms(find(quantity, fits=_is_integral), n) for quantity in ("charge", "spin"))
        total = charge_of(source, where, charge) if charge else 0
        multiplicity = multiplicity_of(source, where, spin) if spin else None
        energy = find("energy", fits=_is_scalar)
        if _is_isolated_atom(frame, total, energy):
            if energy is None:
                raise UnreadableData(f"{source}: {where} is an isolated atom without an energy")
            columns.add_isolated_atom(
                where, numbers, energy=_number(source, where, energy), charge=total, spin=multiplicity
            )
            continue
        forces = find("forces", fits=_has_shape((n, 3)))
        choice.refuse_mixture(where, {"energy": energy, "forces": forces})
        smiles = find("smiles")
        columns.add(
            where,
            numbers,
            np.asarray(frame.positions)[None],
            energy=None if energy is None else np.array([_number(source, where, energy)]),
            forces=None if forces is None else _signed(forces)[None],
            charge=total,
            spin=multiplicity,
            smiles=str(smiles.value) if smiles else "",
            source=source,
            source_index=index,
        )
        if frame.pbc.any() or frame.cell.any():
            columns.add_cell(frame.cell, frame.pbc)
    if frame is not None:
        choice.refuse_unseen(frame.found)
    return columns.dataset()


def from_atoms(
    structures: Sequence[Atoms], *, keys: Mapping[str, str] | None = None, units: str | None = None
) -> Dataset:
    """Convert ASE Atoms to a data set, with the rules of `hydrogate check` for ASE file formats; nothing is calculated.

    Parameters
    ----------
    structures : sequence of ase.Atoms
        Labels are read from ``energy`` and ``forces``, or from MACE's ``REF_energy`` and ``REF_forces``, in the
        calculator results, info or arrays of each Atoms; ``charge``, ``spin`` (2S + 1) and ``smiles`` are read from
        info. A neutral single atom with an energy is read as an isolated-atom energy, not as a structure.
    keys : mapping of str to str, optional
        Key of each quantity in the data, as in ``{"energy": "dft_e", "forces": "-gradient"}``; see
        :class:`hydrogate.checks.data.label_keys.ReadOptions`.
    units : str, optional
        One of :data:`hydrogate.checks.data.units.UNIT_SYSTEMS`; the default is ASE's ``eV,angstrom``.

    Raises
    ------
    BadParams
        The input is not a list of Atoms, the units or a key are unknown, or labels seem to be stored under other keys.
    UnreadableData
        The list contains no structures, only some structures are labelled, a value is invalid, or a calculator has the
        results of another structure.
    """
    options = ReadOptions(keys or {}, units, in_python=True)
    return dataset_of_frames("list", _frames_of(structures), options, "eV,angstrom")


def _frames_of(structures: Sequence[Atoms]) -> Iterator[Frame]:
    if isinstance(structures, Atoms):
        raise BadParams(
            "expected a list of ase.Atoms, got a single ase.Atoms: pass [atoms]; ase.io.read(file, ':') reads all "
            "structures of a file, ase.io.read(file) only the last one"
        )
    if isinstance(structures, str | PathLike):
        raise BadParams(
            f"{structures}: expected a list of ase.Atoms, got a file name: run `hydrogate check {structures}`"
        )
    for index, atoms in enumerate(structures):
        if not isinstance(atoms, Atoms):
            raise BadParams(f"list: item {index} is a {type(atoms).__name__}, expected ase.Atoms")
        _refuse_results_of_another(atoms, index)
        yield frame_of(atoms)


def _refuse_results_of_another(atoms: Atoms, index: int) -> None:
    """Reject calculator results of another structure: of a shared calculator, or from before the atoms moved."""
    calculated = getattr(atoms.calc, "atoms", None)
    if calculated is None or not atoms.calc.results:
        return
    different = compare_atoms(calculated, atoms, tol=1e-6)  # type: ignore[no-untyped-call]
    if changed := [what for what in _GEOMETRY if what in different]:
        raise UnreadableData(
            f"list: frame {index}: the results of its calculator are for different {', '.join(changed)}: "
            "store the results of each structure in a SinglePointCalculator when they are computed"
        )


def _signed(forces: Named) -> NDArray[Any]:
    values = plain(forces.value)
    return values.astype(np.float64) * forces.sign if values.dtype.kind in "fiu" else values


def _of_all_atoms(named: Named | None, n: int) -> Named | None:
    """Return ``named``, or None for per-atom values such as a spin density: a different quantity of the same name."""
    return None if named is not None and n != 1 and plain(named.value).shape[:1] == (n,) else named


def _is_isolated_atom(frame: Frame, charge: int, energy: Named | None) -> bool:
    """Return True for MACE's ``config_type=IsolatedAtom`` or a single neutral non-periodic atom with an energy."""
    if str(frame.found.get("config_type", "")).lower().replace("_", "") == "isolatedatom":
        return len(frame.numbers) == 1
    return len(frame.numbers) == 1 and energy is not None and charge == 0 and not frame.pbc.any()


def _number(source: str, where: str, named: Named) -> float:
    values = plain(named.value)
    if values.size != 1 or values.dtype.kind not in "fiu":
        raise UnreadableData(f"{source}: {where}: {named.key} is {named.value!r}, expected one number")
    return float(values.item())


def _is_scalar(value: Any) -> bool:
    values = plain(value)
    return values.size == 1 and values.dtype.kind in "fiu"


def _is_integral(value: Any) -> bool:
    return _is_scalar(value) and float(plain(value).item()).is_integer()


def _has_shape(shape: tuple[int, ...]) -> Callable[[Any], bool]:
    return lambda value: plain(value).shape == shape and plain(value).dtype.kind in "fiu"
