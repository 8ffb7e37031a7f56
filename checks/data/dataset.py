"""Data set in memory: flat arrays and offsets in fixed units (eV, Å, eV/Å, e).

``hydrogate.pipeline.storage.hdf5`` stores it and the contracts read it; this module does no file I/O.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from numpy.typing import NDArray

from hydrogate.checks.data.fingerprint import Text, fingerprint_of

UNKNOWN_HYDROGENS = -1
SPLITS = ("train", "valid", "test")
TEXT = ("smiles", "inchikey", "source", "split")
_PER_ATOM = ("numbers", "positions", "forces", "charges")
_PER_STRUCTURE = ("charge", "spin_multiplicity", "expected_hydrogens", "source_index", "energy", "cell", "pbc",
                  "heavy_atoms_moved", "dipole")  # fmt: skip


Kept = TypeVar("Kept")


def symbol_of(number: int) -> str:
    """Return the symbol of an element, or "Z<number>" for an invalid atomic number."""
    return chemical_symbols[number] if number < len(chemical_symbols) else f"Z{number}"


class Quarantined(NamedTuple):
    """Quarantined record, with the reason."""

    source: str
    source_index: int
    reason: str


@dataclass(frozen=True, eq=False)
class Dataset:
    """Structures in flat arrays: N atoms in M structures.

    Parameters
    ----------
    numbers : (N,) uint8
        Atomic numbers.
    positions : (N, 3) float32, Å
    offset : (M + 1,) int64
        Structure ``m`` has the atoms ``offset[m]:offset[m + 1]``.
    charge : (M,) int16, e
        Total charge.
    spin_multiplicity : (M,) int16
        2S + 1.
    expected_hydrogens : (M,) int32
        Hydrogen count implied by the valences, recorded before any hydrogen was added; -1 if unknown.
    smiles, inchikey, source, split : (M,) object (str)
        ``source`` is the file that a structure was read from; ``split`` is train, valid, test or "". May be passed as
        :class:`Text`, which is decoded at first use.
    source_index : (M,) int64
        Record index in the source file, from 0.
    parent : (M,) int64
        Index of the structure of which this one is an additional geometry; its own index for a root.
    energy : (M,) float64, eV, optional
    forces : (N, 3) float32, eV/Å, optional
    teacher : mapping, optional
        Name, version and settings of the program that computed the labels.
    quarantine : tuple of Quarantined
        Records quarantined while the data set was made.
    n_read : int
        Number of records read while the data set was made, including the quarantined ones; 0 if not counted.
    cell : (M, 3, 3) float64, Å, optional
        Lattice vectors in rows, zero for a structure without a cell; None if no structure has a cell.
    pbc : (M, 3) bool, optional
        Periodic directions; None if ``cell`` is None.
    isolated_atom_energies : mapping of str to float, eV, optional
        Energy of the isolated atom of each element, if the data contained them.
    heavy_atoms_moved : (M,) float32, Å, optional
        Largest displacement of a heavy atom from its position in the input; NaN for a geometry that was sampled from
        another one. None if not recorded.
    dipole : (M, 3) float64, e·Å, optional
        Dipole moment about the origin of the positions; NaN for a structure without one, such as a periodic one.
    charges : (N,) float32, e, optional
        Partial charges of the atoms from the teacher; NaN where the teacher gave none.
    partner : (M,) int64, optional
        Index of the other structure of a displacement pair, x + h·v and x − h·v along a direction v: the difference of
        their forces divided by 2h is a Hessian-vector product. The structure's own index if it has no partner; None if
        no structure has one.
    first : int
        Index of structure 0 in the full data set of which this one is a part.
    """

    numbers: NDArray[np.uint8]
    positions: NDArray[np.float32]
    offset: NDArray[np.int64]
    charge: NDArray[np.int16]
    spin_multiplicity: NDArray[np.int16]
    expected_hydrogens: NDArray[np.int32]
    smiles: NDArray[np.object_]
    inchikey: NDArray[np.object_]
    source: NDArray[np.object_]
    source_index: NDArray[np.int64]
    parent: NDArray[np.int64]
    split: NDArray[np.object_]
    energy: NDArray[np.float64] | None = None
    forces: NDArray[np.float32] | None = None
    teacher: Mapping[str, Any] | None = None
    quarantine: tuple[Quarantined, ...] = ()
    n_read: int = 0
    cell: NDArray[np.float64] | None = None
    pbc: NDArray[np.bool_] | None = None
    isolated_atom_energies: Mapping[str, float] | None = None
    heavy_atoms_moved: NDArray[np.float32] | None = None
    dipole: NDArray[np.float64] | None = None
    charges: NDArray[np.float32] | None = None
    partner: NDArray[np.int64] | None = None
    first: int = 0
    _cache: dict[str, Any] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # A copy with a changed field must not share cached values.
        object.__setattr__(self, "_cache", {})
        for name in TEXT:
            if isinstance(stored := vars(self)[name], Text):
                self._cache[name] = stored
                object.__delattr__(self, name)

    def __getattr__(self, name: str) -> Any:
        # Called only while a text column is not yet decoded.
        if name not in TEXT:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        texts = self._cache[name].decoded()
        object.__setattr__(self, name, texts)
        return texts

    def __len__(self) -> int:
        return len(self.offset) - 1

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Number of atoms of each structure, (M,)."""
        return np.diff(self.offset)

    @property
    def structure_of_atom(self) -> NDArray[np.int64]:
        """Structure index of each atom, (N,)."""
        return self.once("structure_of_atom", lambda: np.repeat(np.arange(len(self)), self.sizes))

    def once(self, name: str, make: Callable[[], Kept]) -> Kept:
        """Return the result of ``make``, computed once for this data set and cached under ``name``."""
        if name not in self._cache:
            self._cache[name] = make()
        kept: Kept = self._cache[name]
        return kept

    def has(self, name: str) -> bool:
        """Return True if :meth:`once` has cached a value under ``name``."""
        return name in self._cache

    @property
    def periodic(self) -> NDArray[np.bool_]:
        """Mask of the structures that are periodic in any direction, (M,)."""
        directions = np.zeros((len(self), 3), dtype=bool) if self.pbc is None else self.pbc
        return np.logical_or.reduce(directions, axis=1)  # type: ignore[no-any-return]

    def atoms_of(self, index: int) -> slice:
        """Return the slice of the flat arrays with the atoms of structure ``index``."""
        return slice(int(self.offset[index]), int(self.offset[index + 1]))

    def to_atoms(self, index: int) -> Atoms:
        """Return structure ``index`` as ASE Atoms; ``info`` has charge and spin, as needed by Orb's omol models."""
        own = self.atoms_of(index)
        atoms = Atoms(
            numbers=self.numbers[own],
            positions=self.positions[own].astype(np.float64),
            cell=None if self.cell is None else self.cell[index],
            pbc=None if self.pbc is None else self.pbc[index],
        )
        atoms.info["charge"] = int(self.charge[index])
        atoms.info["spin"] = int(self.spin_multiplicity[index])
        return atoms

    def formula(self, index: int) -> str:
        """Return the Hill formula of structure ``index``."""
        counts = Counter(symbol_of(z) for z in self.numbers[self.atoms_of(index)].tolist())
        first = [s for s in ("C", "H") if s in counts] if "C" in counts else []
        order = [*first, *sorted(set(counts) - set(first))]
        return "".join(f"{s}{counts[s] if counts[s] > 1 else ''}" for s in order)

    def name(self, index: int) -> str:
        """Return a readable identifier of structure ``index``: index, formula, file and record."""
        held: Text | None = self._cache.get("source")  # only the requested text is decoded
        source = held.part(index, index + 1).decoded()[0] if held else self.source[index]
        origin = f", {source} record {self.source_index[index]}" if source else ""
        return f"structure {self.first + index} ({self.formula(index)}{origin})"

    def part(self, first: int, last: int) -> Self:
        """Return views of structures ``first`` to ``last``.

        A parent or partner outside this range is replaced by the structure itself.
        """

        def inside(indices: NDArray[np.int64]) -> NDArray[np.int64]:
            moved, own = indices[first:last] - first, np.arange(last - first)
            return np.where((moved >= 0) & (moved < last - first), moved, own)

        atoms = slice(int(self.offset[first]), int(self.offset[last]))
        columns = self._rows(_PER_ATOM, atoms) | self._rows(_PER_STRUCTURE, slice(first, last))
        for name in TEXT:
            held = self._cache.get(name)
            columns[name] = held.part(first, last) if held else getattr(self, name)[first:last]
        return replace(
            self,
            offset=self.offset[first : last + 1] - self.offset[first],
            parent=inside(self.parent),
            partner=None if self.partner is None else inside(self.partner),
            first=self.first + first,
            **columns,
        )

    def _rows(self, names: Iterable[str], rows: slice | NDArray[np.int64]) -> dict[str, Any]:
        columns = {name: getattr(self, name) for name in names}
        return {name: None if values is None else values[rows] for name, values in columns.items()}

    def subset(self, indices: Iterable[int] | NDArray[Any]) -> Self:
        """Return the structures ``indices`` in that order; an omitted parent or partner becomes the structure itself.

        The counts of records read and quarantined describe the full data set, so the subset does not keep them.
        """
        chosen = np.asarray(list(indices) if not isinstance(indices, np.ndarray) else indices, dtype=np.int64)
        sizes = self.sizes[chosen]
        offset = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        atoms = np.repeat(self.offset[chosen] - offset[:-1], sizes) + np.arange(offset[-1])
        new_index = {old: new for new, old in enumerate(chosen.tolist())}

        def moved(indices: NDArray[np.int64]) -> NDArray[np.int64]:
            kept = [new_index.get(old, new) for new, old in enumerate(indices[chosen].tolist())]
            return np.asarray(kept, dtype=np.int64)

        return replace(
            self,
            offset=offset,
            parent=moved(self.parent),
            partner=None if self.partner is None else moved(self.partner),
            quarantine=(),
            n_read=0,
            first=0,
            **self._rows(_PER_ATOM, atoms),
            **self._rows((*_PER_STRUCTURE, *TEXT), chosen),
        )

    def fingerprint(self) -> str:
        """Return the SHA-256 of the content (arrays, teacher, quarantine); equal content gives an equal fingerprint."""
        return self._cache.get("fingerprint") or fingerprint_of(self.content())

    def stored(self, fingerprint: str) -> Self:
        """Make all arrays read-only, cache the fingerprint verified on reading the file, and return this data set."""
        texts = [self._cache[name] for name in TEXT if name in self._cache]
        for value in (*vars(self).values(), *(array for text in texts for array in text)):
            if isinstance(value, np.ndarray):
                value.flags.writeable = False
        self._cache["fingerprint"] = fingerprint
        return self

    def content(self) -> Iterator[tuple[str, Any]]:
        """Yield the fields that enter the fingerprint, by name; text columns in stored form."""
        for item in fields(self):
            if item.name in TEXT:
                yield item.name, self.text(item.name)
            elif item.name not in ("first", "_cache"):
                yield item.name, getattr(self, item.name)

    def text(self, name: str) -> Text:
        """Return the column ``name``, one of ``TEXT``, in stored form."""
        stored: Text | None = self._cache.get(name)
        return stored or Text.of(getattr(self, name).tolist())

    def structure_fingerprint(self, index: int) -> str:
        """Return the SHA-256 of a structure's teacher inputs: numbers, positions, charge, multiplicity and any cell."""
        own = self.atoms_of(index)
        seen = f"{self.charge[index]} {self.spin_multiplicity[index]} ".encode()
        seen += self.numbers[own].tobytes() + self.positions[own].tobytes()
        if self.cell is not None and self.pbc is not None and (self.cell[index].any() or self.pbc[index].any()):
            seen += self.cell[index].tobytes() + self.pbc[index].tobytes()
        return hashlib.sha256(seen).hexdigest()

    def species_percentages(self) -> dict[str, float]:
        """Return the percentage of each element among all atoms; hydrogen is always included, even at 0."""
        counts = np.bincount(self.numbers, minlength=2)
        present = [1, *(z for z in np.flatnonzero(counts).tolist() if z != 1)]
        total = max(len(self.numbers), 1)
        return {symbol_of(z): 100.0 * float(counts[z]) / total for z in present}

    def __repr__(self) -> str:
        species = ", ".join(f"{symbol} {share:.1f} %" for symbol, share in self.species_percentages().items())
        labels = (
            "unlabelled"
            if self.energy is None
            else f"labelled by {(self.teacher or {}).get('name', 'an unnamed teacher')}"
        )
        return f"Dataset({len(self)} structures, {len(self.numbers)} atoms: {species}; {labels})"


def concatenate(structures: Sequence[Atoms], **columns: Any) -> Dataset:
    """Build a data set from ASE Atoms.

    Charge and spin multiplicity are taken from ``info["charge"]`` and ``info["spin"]``; the defaults are 0 and, by
    electron count, 1 or 2. Cell and periodicity are taken from the Atoms if any of them has a cell. ``columns`` sets
    other per-structure fields by name, including ``energy``, ``heavy_atoms_moved`` and ``partner``, and ``forces`` (a
    sequence of (n, 3) arrays).
    """
    count = len(structures)
    sizes = [len(atoms) for atoms in structures]
    numbers = np.concatenate([np.asarray(a.numbers) for a in structures]) if count else np.empty(0)
    positions = np.concatenate([a.positions for a in structures]) if count else np.empty((0, 3))
    charge = np.array([int(a.info.get("charge", 0)) for a in structures], dtype=np.int16)
    electrons = np.array([int(a.numbers.sum()) for a in structures], dtype=np.int64) - charge
    spin = [int(a.info.get("spin", 1 + odd)) for a, odd in zip(structures, (electrons % 2).tolist(), strict=True)]
    forces = columns.pop("forces", None)
    energy = columns.pop("energy", None)
    moved = columns.pop("heavy_atoms_moved", None)
    periodic = any(a.pbc.any() or a.cell.any() for a in structures)

    def column(name: str, default: Sequence[Any], dtype: Any) -> NDArray[Any]:
        values = np.empty(count, dtype=dtype)
        values[:] = columns.pop(name, default)
        return values

    data = Dataset(
        numbers=numbers.astype(np.uint8),
        positions=positions.astype(np.float32),
        offset=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        charge=charge,
        spin_multiplicity=np.array(spin, dtype=np.int16),
        expected_hydrogens=column("expected_hydrogens", [UNKNOWN_HYDROGENS] * count, np.int32),
        smiles=column("smiles", [""] * count, object),
        inchikey=column("inchikey", [""] * count, object),
        source=column("source", [""] * count, object),
        source_index=column("source_index", range(count), np.int64),
        parent=column("parent", range(count), np.int64),
        split=column("split", [""] * count, object),
        energy=None if energy is None else np.asarray(energy, dtype=np.float64),
        forces=None if forces is None else np.concatenate([np.asarray(f, dtype=np.float32) for f in forces]),
        cell=np.stack([a.cell.array for a in structures]) if periodic else None,
        pbc=np.stack([a.pbc for a in structures]) if periodic else None,
        heavy_atoms_moved=None if moved is None else np.asarray(moved, dtype=np.float32),
    )
    return replace(data, **columns) if columns else data
