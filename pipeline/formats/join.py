"""Joining several files, or shards, into one data set."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hydrogate.checks.data.builder import ISOLATED_ATOM_TOLERANCE
from hydrogate.checks.data.dataset import Dataset
from hydrogate.pipeline.storage.hdf5 import UnreadableFile

_CONCATENATED = (
    "numbers",
    "positions",
    "charge",
    "spin_multiplicity",
    "expected_hydrogens",
    "smiles",
    "inchikey",
    "source",
    "source_index",
    "split",
)


def join(parts: list[Dataset]) -> Dataset:
    """Concatenate ``parts``; if they name different teachers, the teacher ``several`` lists each of them.

    Raises
    ------
    UnreadableFile
        Some parts have energies or forces and others do not, or they have different energies for an isolated atom.
    """
    if len(parts) == 1:
        return parts[0]
    columns: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _CONCATENATED}
    for name in ("energy", "forces"):
        labels = [getattr(part, name) for part in parts]
        without = [index for index, values in enumerate(labels) if values is None]
        if without and len(without) < len(parts):
            sources = ", ".join(dict.fromkeys(str(parts[index].source[0]) for index in without if len(parts[index])))
            raise UnreadableFile(
                f"no {name} in {sources or 'an empty file'}, unlike in the other files; check them separately"
            )
        columns[name] = None if without else np.concatenate(labels)
    if any(part.cell is not None for part in parts):
        columns["cell"] = np.concatenate([_or_zeros(part.cell, (len(part), 3, 3), np.float64) for part in parts])
        columns["pbc"] = np.concatenate([_or_zeros(part.pbc, (len(part), 3), np.bool_) for part in parts])
    columns["heavy_atoms_moved"] = _or_nan([(part.heavy_atoms_moved, len(part)) for part in parts])
    columns["dipole"] = _or_nan([(part.dipole, len(part)) for part in parts])
    columns["charges"] = _or_nan([(part.charges, len(part.numbers)) for part in parts])
    starts = np.cumsum([0, *(len(part) for part in parts)])
    if any(part.partner is not None for part in parts):
        partners = [np.arange(len(part)) if part.partner is None else part.partner for part in parts]
        columns["partner"] = np.concatenate([own + start for own, start in zip(partners, starts, strict=False)])
    ends = np.cumsum([0, *(len(part.numbers) for part in parts)])
    return Dataset(
        **columns,
        offset=np.concatenate([[0], *(part.offset[1:] + end for part, end in zip(parts, ends, strict=False))]),
        parent=np.concatenate([part.parent + start for part, start in zip(parts, starts, strict=False)]),
        teacher=_teacher([part.teacher for part in parts]),
        quarantine=tuple(record for part in parts for record in part.quarantine),
        # The total is unknown if any of the parts has no record count.
        n_read=sum(part.n_read for part in parts) if all(part.n_read for part in parts) else 0,
        isolated_atom_energies=_isolated_atom_energies(parts),
    )


def _teacher(teachers: Sequence[Mapping[str, Any] | None]) -> Mapping[str, Any] | None:
    different = [teacher for index, teacher in enumerate(teachers) if teacher not in teachers[:index]]
    if len(different) == 1:
        return different[0]
    return {"name": "several", "several": [dict(teacher) if teacher else {"name": "unnamed"} for teacher in different]}


def _or_zeros(values: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    return np.zeros(shape, dtype=dtype) if values is None else values


def _or_nan(columns: list[tuple[Any, int]]) -> Any:
    """Concatenate columns, given with their lengths; NaN for a part without the column, None if no part has it."""
    known = [values for values, _ in columns if values is not None]
    if not known:
        return None
    filled = [
        np.full((count, *known[0].shape[1:]), np.nan, known[0].dtype) if values is None else values
        for values, count in columns
    ]
    return np.concatenate(filled)


def _isolated_atom_energies(parts: list[Dataset]) -> dict[str, float] | None:
    joined: dict[str, float] = {}
    for part in parts:
        for symbol, value in (part.isolated_atom_energies or {}).items():
            if abs(joined.setdefault(symbol, value) - value) > ISOLATED_ATOM_TOLERANCE:
                raise UnreadableFile(
                    f"the files have different energies for the isolated atom {symbol}, {joined[symbol]:.6f} and "
                    f"{value:.6f} eV: their labels come from two methods; check the files separately"
                )
    return joined or None
