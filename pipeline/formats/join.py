"""Several files, or shards, as one data set."""

from typing import Any

import numpy as np

from hydrogate.checks.dataset import Dataset
from hydrogate.pipeline.hdf5 import UnreadableFile

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
    """``parts`` one after another; one teacher only where all agree.

    Raises
    ------
    UnreadableFile
        Some carry energies or forces and others do not, or they give one isolated atom two energies.
    """
    if len(parts) == 1:
        return parts[0]
    teachers = [part.teacher for part in parts]
    columns: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _CONCATENATED}
    for name in ("energy", "forces"):
        labels = [getattr(part, name) for part in parts]
        without = [index for index, values in enumerate(labels) if values is None]
        if without and len(without) < len(parts):
            sources = ", ".join(dict.fromkeys(str(parts[index].source[0]) for index in without if len(parts[index])))
            raise UnreadableFile(f"no {name} in {sources or 'an empty file'}, unlike the others; check them apart")
        columns[name] = None if without else np.concatenate(labels)
    if any(part.cell is not None for part in parts):
        columns["cell"] = np.concatenate([_or_zeros(part.cell, (len(part), 3, 3), np.float64) for part in parts])
        columns["pbc"] = np.concatenate([_or_zeros(part.pbc, (len(part), 3), np.bool_) for part in parts])
    if any(part.heavy_atoms_moved is not None for part in parts):
        recorded = [
            np.full(len(part), np.nan) if part.heavy_atoms_moved is None else part.heavy_atoms_moved for part in parts
        ]
        columns["heavy_atoms_moved"] = np.concatenate(recorded).astype(np.float32)
    starts = np.cumsum([0, *(len(part) for part in parts)])
    ends = np.cumsum([0, *(len(part.numbers) for part in parts)])
    return Dataset(
        **columns,
        offset=np.concatenate([[0], *(part.offset[1:] + end for part, end in zip(parts, ends, strict=False))]),
        parent=np.concatenate([part.parent + start for part, start in zip(parts, starts, strict=False)]),
        teacher=teachers[0] if all(teacher == teachers[0] for teacher in teachers) else None,
        quarantine=tuple(record for part in parts for record in part.quarantine),
        n_read=sum(part.n_read for part in parts),
        isolated_atom_energies=_isolated_atom_energies(parts),
    )


def _or_zeros(values: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    return np.zeros(shape, dtype=dtype) if values is None else values


def _isolated_atom_energies(parts: list[Dataset]) -> dict[str, float] | None:
    joined: dict[str, float] = {}
    for part in parts:
        for symbol, value in (part.isolated_atom_energies or {}).items():
            if joined.setdefault(symbol, value) != value:
                raise UnreadableFile(
                    f"the files give the isolated atom {symbol} {joined[symbol]:.6f} and {value:.6f} eV: labels of two "
                    "methods; check them apart"
                )
    return joined or None
