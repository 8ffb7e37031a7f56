"""Batches, the input of a student: several structures as one flat graph, without padding."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from hydrogate.models.neighbours import neighbour_pairs, periodic_pairs


@dataclass(frozen=True, eq=False)
class Batch:
    """A batch of M structures with N atoms and E directed edges in total.

    Parameters
    ----------
    numbers : (N,) int64
        Atomic numbers.
    positions : (N, 3) float, Å
    structure : (N,) int64
        Index of the structure that owns each atom, from 0, ascending.
    charge : (M,) int64, e
    spin_multiplicity : (M,) int64
        2S + 1.
    edge_index : (2, E) int64
        ``edge_index[0]`` holds the receivers (i), ``edge_index[1]`` the senders (j); sorted by receiver.
    pairs : (2, P) int64, optional
        All pairs of different atoms in each isolated structure, each pair once, at any distance; None for a student
        that reads no pairs.
    cell : (M, 3, 3) float, Å, optional
        Cell vectors of each periodic structure, as rows; zero for an isolated structure, None if all are isolated.
    shifts : (E, 3) float, optional
        Number of cells from the receiver to the sender's periodic image; None if all structures are isolated.
    """

    numbers: Tensor
    positions: Tensor
    structure: Tensor
    charge: Tensor
    spin_multiplicity: Tensor
    edge_index: Tensor
    pairs: Tensor | None = None
    cell: Tensor | None = None
    shifts: Tensor | None = None

    @property
    def n_structures(self) -> int:
        """Number of structures, M."""
        return self.charge.shape[0]

    @property
    def all_pairs(self) -> Tensor:
        """Return ``pairs``, for a student that requires them.

        Raises
        ------
        ValueError
            The batch was collated without pairs.
        """
        if self.pairs is None:
            raise ValueError("this student reads all pairs of atoms; collate its batches with `Student.collate`")
        return self.pairs

    def edge_vectors(self) -> Tensor:
        """Return the vectors (E, 3) in Å from receiver to sender."""
        receiver, sender = self.edge_index
        vector = self.positions.index_select(0, sender) - self.positions.index_select(0, receiver)
        if self.cell is None or self.shifts is None:
            return vector
        return vector + torch.einsum("ea,eab->eb", self.shifts, self.cell[self.structure[receiver]])

    def _cell_or_zero(self) -> Tensor:
        return self.positions.new_zeros(self.n_structures, 3, 3) if self.cell is None else self.cell

    def _shifts_or_zero(self) -> Tensor:
        return self.positions.new_zeros(self.edge_index.shape[1], 3) if self.shifts is None else self.shifts

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Self:
        """Return the batch on ``device``, with positions, cell and shifts as ``dtype``."""
        return type(self)(
            self.numbers.to(device),
            self.positions.to(device, dtype),
            self.structure.to(device),
            self.charge.to(device),
            self.spin_multiplicity.to(device),
            self.edge_index.to(device),
            None if self.pairs is None else self.pairs.to(device),
            None if self.cell is None else self.cell.to(device, dtype),
            None if self.shifts is None else self.shifts.to(device, dtype),
        )

    def at(self, positions: Tensor) -> Self:
        """Return the same graph with the atoms at ``positions`` (N, 3) Å."""
        return replace(self, positions=positions)


def collate(
    structures: Sequence[Atoms], cutoff: float, dtype: torch.dtype = torch.float32, *, pairs: bool = False
) -> Batch:
    """Return ``structures`` as one batch.

    Parameters
    ----------
    structures : sequence of ase.Atoms
        Total charge (e) in ``info["charge"]`` (0 if absent), 2S + 1 in ``info["spin"]`` (1 if absent).
    cutoff : float, Å
        Edges connect atoms of one structure, or their periodic images, that are at most this far apart.
    dtype : torch.dtype
        Type of the positions; neighbours are always found in double precision.
    pairs : bool
        Whether the batch also holds all pairs of atoms.

    Raises
    ------
    ValueError
        There is no structure, a structure is empty, a position is not finite, or the cell does not span the periodic
        directions.
    """
    return join([_single(index, atoms, cutoff, dtype, pairs) for index, atoms in enumerate(structures)])


def join(batches: Sequence[Batch]) -> Batch:
    """Join batches in order into one, without computing their neighbours again.

    Raises
    ------
    ValueError
        There are no batches, or only some of them hold all pairs of atoms.
    """
    if not batches:
        raise ValueError("a batch needs at least one structure, got none")
    atoms = np.cumsum([0] + [len(batch.numbers) for batch in batches]).tolist()
    pairs = [batch.pairs + before for batch, before in zip(batches, atoms, strict=False) if batch.pairs is not None]
    if len(pairs) not in (0, len(batches)):
        raise ValueError(f"{len(pairs)} of {len(batches)} batches hold all pairs of atoms; collate all of them alike")
    owners = np.cumsum([0] + [batch.n_structures for batch in batches]).tolist()
    periodic = any(batch.cell is not None for batch in batches)
    return Batch(
        torch.cat([batch.numbers for batch in batches]),
        torch.cat([batch.positions for batch in batches]),
        torch.cat([batch.structure + before for batch, before in zip(batches, owners, strict=False)]),
        torch.cat([batch.charge for batch in batches]),
        torch.cat([batch.spin_multiplicity for batch in batches]),
        torch.cat([batch.edge_index + before for batch, before in zip(batches, atoms, strict=False)], dim=1),
        torch.cat(pairs, dim=1) if pairs else None,
        torch.cat([batch._cell_or_zero() for batch in batches]) if periodic else None,
        torch.cat([batch._shifts_or_zero() for batch in batches]) if periodic else None,
    )


def _single(index: int, atoms: Atoms, cutoff: float, dtype: torch.dtype, pairs: bool) -> Batch:
    name = f"structure {index} ({atoms.symbols.get_chemical_formula()})"
    if not len(atoms):
        raise ValueError(f"structure {index} has no atoms; remove it")
    periodic, shifts, cell = bool(atoms.pbc.any()), None, None
    paired = 0 if periodic else len(atoms)
    try:
        if periodic:
            edges, shifts, cell = periodic_pairs(atoms, cutoff)
        else:
            edges = neighbour_pairs(atoms.positions, cutoff)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    return Batch(
        torch.as_tensor(atoms.numbers, dtype=torch.int64),
        torch.as_tensor(atoms.positions, dtype=dtype),
        torch.zeros(len(atoms), dtype=torch.int64),
        torch.tensor([int(atoms.info.get("charge", 0))]),
        torch.tensor([int(atoms.info.get("spin", 1))]),
        torch.from_numpy(edges),
        torch.triu_indices(paired, paired, offset=1) if pairs else None,
        None if cell is None else torch.as_tensor(cell, dtype=dtype)[None],
        None if shifts is None else torch.as_tensor(shifts, dtype=dtype),
    )
