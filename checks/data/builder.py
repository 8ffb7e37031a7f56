"""Builder of a :class:`Dataset`: collects arrays molecule by molecule from a file or a program.

Values are scaled to eV and Å before they are rounded to float32, and are converted only once.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray

from hydrogate.checks.data.dataset import UNKNOWN_HYDROGENS, Dataset
from hydrogate.checks.data.label_keys import Named
from hydrogate.checks.data.units import Units
from hydrogate.checks.errors import UnreadableData

# Largest difference (eV) between two energies of the same isolated atom: some files store only four decimals.
ISOLATED_ATOM_TOLERANCE = 1e-3


class Columns:
    """Columns of a data set under construction.

    Parameters
    ----------
    source : str
        File name, for messages.
    units : Units
        Units of the input values.
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
        """Append K geometries of one molecule; the first is the parent of the others.

        Parameters
        ----------
        where : str
            Name of the geometries in messages.
        numbers : (n,) int
        positions, forces : (K, n, 3), in the units of the data
        energy : (K,), in the unit of the data
        charge, spin : int, e and 2S + 1
            If ``spin`` is None, it is derived from the electron count.
        source_index : int
            Record index of the first geometry.

        Raises
        ------
        UnreadableData
            An atomic number is invalid, or an array has the wrong shape.
        """
        self._refuse_no_elements(where, numbers)
        n, count = len(numbers), positions.shape[0] if positions.ndim else 0
        self._refuse_other_shapes(where, {"positions": (positions, (count, n, 3))})
        if energy is not None:
            self._refuse_other_shapes(where, {"energy": (energy, (count,))})
            self._energy.append(energy.astype(np.float64) * self._units.energy)
        if forces is not None:
            self._refuse_other_shapes(where, {"forces": (forces, (count, n, 3))})
            self._atoms["forces"].append(_scaled(forces, self._units.force))
        self._atoms["numbers"].append(np.tile(numbers.astype(np.uint8), count))
        self._atoms["positions"].append(_scaled(positions, self._units.length))
        spin = _lowest_spin(numbers, charge) if spin is None else spin
        parent = len(self)
        values = (n, charge, spin, smiles, source)
        for name, value in zip(("sizes", "charge", "spin", "smiles", "source"), values, strict=True):
            self._structures[name] += [value] * count
        self._structures["source_index"] += range(source_index, source_index + count)
        self._structures["parent"] += [parent] * count

    def add_cell(self, cell: NDArray[Any], pbc: NDArray[Any]) -> None:
        """Set the cell (3, 3), rows in the unit of the data, and the periodic directions (3,) of the last structure."""
        self._periodic.append((len(self) - 1, np.asarray(cell, dtype=np.float64) * self._units.length, pbc))

    def add_isolated_atom(
        self, where: str, numbers: NDArray[Any], *, energy: float, charge: int, spin: int | None
    ) -> None:
        """Store the energy of an isolated atom, in the unit of the data; the lowest of several multiplicities is used.

        The parameters are those of `add`, with ``numbers`` of shape (1,).

        Raises
        ------
        UnreadableData
            The atomic number is invalid, the energy is not finite, or a different energy was stored for the same
            multiplicity.
        """
        self._refuse_no_elements(where, numbers)
        number = int(numbers[0])
        spin = _lowest_spin(numbers, charge) if spin is None else spin
        value = energy * self._units.energy
        known = self._isolated.setdefault((number, spin), value)
        if not np.isfinite(value) or abs(known - value) > ISOLATED_ATOM_TOLERANCE:
            raise UnreadableData(
                f"{self._source}: {where}: isolated atom {chemical_symbols[number]} has energy {value:.6f} eV, an "
                f"earlier one {known:.6f} eV: keep the energy from the method of the labels, or set the spin of each"
            )

    def _refuse_no_elements(self, where: str, numbers: NDArray[Any]) -> None:
        if numbers.dtype.kind not in "iu" or numbers.ndim != 1:
            raise UnreadableData(
                f"{self._source}: {where}: atomic numbers are {numbers.dtype} of shape {numbers.shape}"
            )
        if len(numbers) and not 1 <= int(numbers.min()) <= int(numbers.max()) < len(chemical_symbols):
            outside = numbers.min() if numbers.min() < 1 else numbers.max()
            raise UnreadableData(f"{self._source}: {where}: {outside} is not a valid atomic number")

    def _refuse_other_shapes(self, where: str, shapes: Mapping[str, tuple[NDArray[Any], tuple[int, ...]]]) -> None:
        for name, (values, shape) in shapes.items():
            if values.shape != shape or values.dtype.kind not in "fiu":
                raise UnreadableData(
                    f"{self._source}: {where}: {name} is {values.dtype} of shape {values.shape}, expected numbers of "
                    f"shape {shape}"
                )

    def dataset(self) -> Dataset:
        """Return the collected structures as a data set.

        Raises
        ------
        UnreadableData
            No structure was added.
        """
        if not len(self):
            only = ", only isolated atoms" if self._isolated else ""
            raise UnreadableData(f"{self._source}: contains no structures{only}")
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


def _lowest_spin(numbers: NDArray[Any], charge: int) -> int:
    return 1 + (int(numbers.sum()) - charge) % 2


def _scaled(values: NDArray[Any], factor: float) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # overflow gives infinity, which the contracts report
        return (values.astype(np.float64) * factor).reshape(-1, 3).astype(np.float32)


def charge_of(source: str, where: str, named: Named) -> int:
    """Return the total charge, e.

    Raises
    ------
    UnreadableData
        The value is not an integer.
    """
    most = np.iinfo(np.int16).max
    return _whole(source, where, named, f"an integer from {-most} to {most}", -most)


def multiplicity_of(source: str, where: str, named: Named) -> int:
    """Return the spin multiplicity.

    Raises
    ------
    UnreadableData
        The value is not an integer of at least 1, for example the 0 of a file that stores the number of unpaired
        electrons.
    """
    return _whole(source, where, named, "the multiplicity 2S + 1", 1)


def _whole(source: str, where: str, named: Named, expected: str, least: int) -> int:
    values = plain(named.value)
    value = float(values.item()) if values.size == 1 and values.dtype.kind in "fiu" else float("nan")
    if not least <= value <= np.iinfo(np.int16).max or not value.is_integer():
        given = values.item() if values.size == 1 else named.value
        raise UnreadableData(f"{source}: {where}: {named.key} is {given!r}, expected {expected}")
    return int(value)


def plain(value: Any) -> NDArray[Any]:
    """Return ``value`` as an array; an empty object array if it is ragged."""
    try:
        return np.asarray(value)
    except ValueError:
        return np.empty(0, dtype=object)
