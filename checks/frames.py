"""Structures as a file or a program gives them, one after another, gathered into the arrays of a :class:`Dataset`.

Numbers are scaled to eV and Å before they are rounded to float32, and converted once.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from os import PathLike
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms
from ase.calculators.calculator import compare_atoms
from ase.data import chemical_symbols
from numpy.typing import NDArray

from hydrogate.checks.dataset import UNKNOWN_HYDROGENS, Dataset, UnreadableData
from hydrogate.checks.declared import BadParams
from hydrogate.checks.keys import KeyChoice, Named, ReadOptions
from hydrogate.checks.units import Units

# The REF_ and total_ keys are MACE's, whose total_spin is 2S + 1.
FRAME_KEYS = {
    "energy": ("energy", "REF_energy"),
    "forces": ("forces", "REF_forces"),
    "charge": ("charge", "total_charge"),
    "spin": ("spin", "spin_multiplicity", "multiplicity", "total_spin"),
    "smiles": ("smiles", "SMILES"),
}
_GEOMETRY = ("numbers", "positions", "cell", "pbc")
# Two energies of one isolated atom may differ by this much (eV): files hold them with as few as four decimals.
ISOLATED_ATOM_TOLERANCE = 1e-3


class Frame(NamedTuple):
    """One structure: numbers (n,), positions (n, 3) in the data's unit, everything else that was found, by its key."""

    numbers: NDArray[Any]
    positions: NDArray[np.float64]
    found: Mapping[str, Any]
    cell: NDArray[np.float64]
    pbc: NDArray[np.bool_]


def frame_of(atoms: Atoms) -> Frame:
    """``atoms`` with its arrays, its info and the results that its calculator holds."""
    results = getattr(atoms.calc, "results", {})
    return Frame(atoms.numbers, atoms.positions, {**atoms.arrays, **atoms.info, **results}, atoms.cell.array, atoms.pbc)


class Columns:
    """A data set that grows.

    Parameters
    ----------
    source : str
        The file, for messages.
    units : Units
        What the numbers are in.
    """

    def __init__(self, source: str, units: Units) -> None:
        self._source, self._units = source, units
        self._atoms: dict[str, list[NDArray[Any]]] = {name: [] for name in ("numbers", "positions", "forces")}
        self._structures: dict[str, list[Any]] = {
            name: [] for name in ("sizes", "charge", "spin", "smiles", "source", "source_index", "parent")
        }
        self._energy: list[NDArray[np.float64]] = []
        self._periodic: list[tuple[int, NDArray[Any], NDArray[Any]]] = []
        self._isolated: dict[tuple[int, int], float] = {}

    def __len__(self) -> int:
        return len(self._structures["sizes"])

    def add(
        self,
        where: str,
        numbers: NDArray[Any],
        positions: NDArray[Any],
        *,
        energy: NDArray[Any] | None,
        forces: NDArray[Any] | None,
        charge: int,
        spin: int | None,
        smiles: str,
        source: str,
        source_index: int,
    ) -> None:
        """Append K geometries of one molecule, the first of them the parent of the others.

        Parameters
        ----------
        where : str
            What to call them in a message.
        numbers : (n,) int
        positions, forces : (K, n, 3), in the data's units
        energy : (K,), in the data's unit
        charge, spin : int, e and 2S + 1
            ``spin`` by electron count where it is None.
        source_index : int
            Record of the first geometry.

        Raises
        ------
        UnreadableData
            A number is no element's, or an array has another shape.
        """
        if numbers.dtype.kind not in "iu" or numbers.ndim != 1:
            raise UnreadableData(
                f"{self._source}: {where}: atomic numbers are {numbers.dtype} of shape {numbers.shape}"
            )
        n, count = len(numbers), positions.shape[0] if positions.ndim else 0
        self._refuse_other_shapes(where, {"positions": (positions, (count, n, 3))})
        if n and not 1 <= int(numbers.min()) <= int(numbers.max()) < len(chemical_symbols):
            outside = numbers.min() if numbers.min() < 1 else numbers.max()
            raise UnreadableData(f"{self._source}: {where}: {outside} is the atomic number of no element")
        if energy is not None:
            self._refuse_other_shapes(where, {"energy": (energy, (count,))})
            self._energy.append(energy.astype(np.float64) * self._units.energy)
        if forces is not None:
            self._refuse_other_shapes(where, {"forces": (forces, (count, n, 3))})
            self._atoms["forces"].append(_scaled(forces, self._units.force))
        self._atoms["numbers"].append(np.tile(numbers.astype(np.uint8), count))
        self._atoms["positions"].append(_scaled(positions, self._units.length))
        spin = 1 + (int(numbers.sum()) - charge) % 2 if spin is None else spin
        parent = len(self)
        values = (n, charge, spin, smiles, source)
        for name, value in zip(("sizes", "charge", "spin", "smiles", "source"), values, strict=True):
            self._structures[name] += [value] * count
        self._structures["source_index"] += range(source_index, source_index + count)
        self._structures["parent"] += [parent] * count

    def add_cell(self, cell: NDArray[Any], pbc: NDArray[Any]) -> None:
        """Give the last structure a cell (3, 3), rows in the data's unit, and its periodic directions (3,)."""
        self._periodic.append((len(self) - 1, np.asarray(cell, dtype=np.float64) * self._units.length, pbc))

    def add_isolated_atom(self, where: str, number: int, spin: int, energy: float) -> None:
        """Keep the energy of an isolated atom, in the data's unit; of several multiplicities the lowest counts.

        Raises
        ------
        UnreadableData
            It is not finite, or the element has another one of this multiplicity.
        """
        value = energy * self._units.energy
        known = self._isolated.setdefault((number, spin), value)
        if not np.isfinite(value) or abs(known - value) > ISOLATED_ATOM_TOLERANCE:
            raise UnreadableData(
                f"{self._source}: {where} gives the isolated atom {chemical_symbols[number]} {value:.6f} eV, an "
                f"earlier one {known:.6f} eV: keep the one of the method that made the labels, or give each its spin"
            )

    def _refuse_other_shapes(self, where: str, shapes: Mapping[str, tuple[NDArray[Any], tuple[int, ...]]]) -> None:
        for name, (values, shape) in shapes.items():
            if values.shape != shape or values.dtype.kind not in "fiu":
                raise UnreadableData(
                    f"{self._source}: {where}: {name} is {values.dtype} of shape {values.shape}, expected numbers of "
                    f"shape {shape}"
                )

    def dataset(self) -> Dataset:
        """What was gathered.

        Raises
        ------
        UnreadableData
            Nothing was.
        """
        if not len(self):
            only = " but isolated atoms" if self._isolated else ""
            raise UnreadableData(f"{self._source}: holds no structure{only}")
        isolated: dict[str, float] = {}
        for (number, _), value in sorted(self._isolated.items()):
            symbol = chemical_symbols[number]
            isolated[symbol] = min(value, isolated.get(symbol, value))
        columns = self._structures
        cell = pbc = None
        if self._periodic:
            cell, pbc = np.zeros((len(self), 3, 3)), np.zeros((len(self), 3), dtype=bool)
            for row, vectors, directions in self._periodic:
                cell[row], pbc[row] = vectors, directions
        blank = np.full(len(self), "", dtype=object)
        return Dataset(
            numbers=np.concatenate(self._atoms["numbers"]),
            positions=np.concatenate(self._atoms["positions"]),
            offset=np.concatenate([[0], np.cumsum(columns["sizes"])]).astype(np.int64),
            charge=np.array(columns["charge"], dtype=np.int16),
            spin_multiplicity=np.array(columns["spin"], dtype=np.int16),
            expected_hydrogens=np.full(len(self), UNKNOWN_HYDROGENS, dtype=np.int32),
            smiles=np.array(columns["smiles"], dtype=object),
            inchikey=blank,
            source=np.array(columns["source"], dtype=object),
            source_index=np.array(columns["source_index"], dtype=np.int64),
            parent=np.array(columns["parent"], dtype=np.int64),
            split=blank.copy(),
            energy=np.concatenate(self._energy) if self._energy else None,
            forces=np.concatenate(self._atoms["forces"]) if self._atoms["forces"] else None,
            cell=cell,
            pbc=pbc,
            isolated_atom_energies=isolated or None,
        )


def _scaled(values: NDArray[Any], factor: float) -> NDArray[np.float32]:
    return (values.astype(np.float64) * factor).reshape(-1, 3).astype(np.float32)


def charge_of(source: str, where: str, named: Named) -> int:
    """A total charge, e.

    Raises
    ------
    UnreadableData
        It is no whole number.
    """
    return _whole(source, where, named, "a whole number", -np.iinfo(np.int16).max)


def multiplicity_of(source: str, where: str, named: Named) -> int:
    """A spin multiplicity.

    Raises
    ------
    UnreadableData
        It is no whole number from 1, such as the 0 of a file that counts unpaired electrons.
    """
    return _whole(source, where, named, "the multiplicity 2S + 1", 1)


def _whole(source: str, where: str, named: Named, expected: str, least: int) -> int:
    values = _plain(named.value)
    value = float(values.item()) if values.size == 1 and values.dtype.kind in "fiu" else float("nan")
    if not least <= value <= np.iinfo(np.int16).max or not value.is_integer():
        raise UnreadableData(f"{source}: {where}: {named.key} is {named.value!r}, expected {expected}")
    return int(value)


def dataset_of_frames(source: str, frames: Iterable[Frame], options: ReadOptions, convention: str) -> Dataset:
    """The frames as a data set; single atoms that carry an energy become isolated-atom energies.

    Raises
    ------
    BadParams
        A key is not there, or something else looks like the quantity; see :class:`KeyChoice`.
    UnreadableData
        Some frames are labelled and others are not, or a value is not what it should be.
    """
    choice = KeyChoice(source, options, FRAME_KEYS)
    columns = Columns(source, options.scale(convention))
    frame = None
    for index, frame in enumerate(frames):
        where = f"frame {index}"
        n = len(frame.numbers)
        find = partial(choice.find, where=where, found=frame.found)
        charge, spin = (_of_all_atoms(find(quantity, fits=_is_integral), n) for quantity in ("charge", "spin"))
        total = charge_of(source, where, charge) if charge else 0
        energy = find("energy", fits=_is_scalar)
        if _is_isolated_atom(frame, total, energy):
            if energy is None:
                raise UnreadableData(f"{source}: {where} is an isolated atom without an energy")
            number = int(frame.numbers[0])
            multiplicity = multiplicity_of(source, where, spin) if spin else 1 + (number - total) % 2
            columns.add_isolated_atom(where, number, multiplicity, _number(source, where, energy))
            continue
        forces = find("forces", fits=_has_shape((n, 3)))
        choice.refuse_mixture(where, {"energy": energy, "forces": forces})
        smiles = find("smiles")
        columns.add(
            where,
            np.asarray(frame.numbers),
            np.asarray(frame.positions)[None],
            energy=None if energy is None else np.array([_number(source, where, energy)]),
            forces=None if forces is None else _signed(forces)[None],
            charge=total,
            spin=multiplicity_of(source, where, spin) if spin else None,
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
    """A data set from ASE Atoms, read as `hydrogate check` reads ASE's file formats; nothing is calculated.

    Parameters
    ----------
    structures : sequence of ase.Atoms
        Labels under ``energy`` and ``forces``, or MACE's ``REF_energy`` and ``REF_forces``, in the results of each
        Atoms' calculator, its info or its arrays; ``charge``, ``spin`` (2S + 1) and ``smiles`` in its info. A neutral
        single atom with an energy is an isolated-atom energy and no structure.
    keys : mapping of str to str, optional
        What the data call a quantity, as in ``{"energy": "dft_e", "forces": "-gradient"}``; see
        :class:`hydrogate.checks.keys.ReadOptions`.
    units : str, optional
        One of :data:`hydrogate.checks.units.UNIT_SYSTEMS`; ASE's ``eV,angstrom`` where it is left out.

    Raises
    ------
    BadParams
        These are no Atoms, the units or a key are unknown, or something looks like labels under other keys.
    UnreadableData
        There are none, some are labelled and others are not, a value is not what it should be, or a calculator holds
        the results of another structure.
    """
    options = ReadOptions(keys or {}, units, in_python=True)
    return dataset_of_frames("list", _frames_of(structures), options, "eV,angstrom")


def _frames_of(structures: Sequence[Atoms]) -> Iterator[Frame]:
    if isinstance(structures, Atoms):
        raise BadParams(
            "one ase.Atoms and no list of them: write [atoms]; of a file, ase.io.read(file, ':') gives all structures "
            "and ase.io.read(file) the last one alone"
        )
    if isinstance(structures, str | PathLike):
        raise BadParams(f"{structures}: a file's name and no list of ase.Atoms: run `hydrogate check {structures}`")
    for index, atoms in enumerate(structures):
        if not isinstance(atoms, Atoms):
            raise BadParams(f"list: item {index} is a {type(atoms).__name__}, expected ase.Atoms")
        _refuse_results_of_another(atoms, index)
        yield frame_of(atoms)


def _refuse_results_of_another(atoms: Atoms, index: int) -> None:
    """One calculator for all structures holds the results of the last; one that was moved, those of where it was."""
    calculated = getattr(atoms.calc, "atoms", None)
    if calculated is None or not atoms.calc.results:
        return
    different = compare_atoms(calculated, atoms, tol=1e-6)  # type: ignore[no-untyped-call]
    if changed := [what for what in _GEOMETRY if what in different]:
        raise UnreadableData(
            f"list: frame {index}: its calculator holds results of other {', '.join(changed)} than the frame's: "
            "keep each result with its own structure in a SinglePointCalculator when it is computed"
        )


def _signed(forces: Named) -> NDArray[Any]:
    values = _plain(forces.value)
    return values.astype(np.float64) * forces.sign if values.dtype.kind in "fiu" else values


def _of_all_atoms(named: Named | None, n: int) -> Named | None:
    """``named`` unless it is a value an atom, such as a spin density: that is another quantity of the same name."""
    return None if named is not None and n != 1 and _plain(named.value).shape[:1] == (n,) else named


def _is_isolated_atom(frame: Frame, charge: int, energy: Named | None) -> bool:
    """MACE's ``config_type=IsolatedAtom``, or a neutral atom alone in no cell that carries an energy."""
    if str(frame.found.get("config_type", "")).lower().replace("_", "") == "isolatedatom":
        return len(frame.numbers) == 1
    return len(frame.numbers) == 1 and energy is not None and charge == 0 and not frame.pbc.any()


def _number(source: str, where: str, named: Named) -> float:
    values = _plain(named.value)
    if values.size != 1 or values.dtype.kind not in "fiu":
        raise UnreadableData(f"{source}: {where}: {named.key} is {named.value!r}, expected one number")
    return float(values.item())


def _plain(value: Any) -> NDArray[Any]:
    """``value`` as an array; an empty one of objects where it is ragged."""
    try:
        return np.asarray(value)
    except ValueError:
        return np.empty(0, dtype=object)


def _is_scalar(value: Any) -> bool:
    values = _plain(value)
    return values.size == 1 and values.dtype.kind in "fiu"


def _is_integral(value: Any) -> bool:
    return _is_scalar(value) and float(_plain(value).item()).is_integer()


def _has_shape(shape: tuple[int, ...]) -> Callable[[Any], bool]:
    return lambda value: _plain(value).shape == shape and _plain(value).dtype.kind in "fiu"
