"""Inputs and saved state of a training: the splits, the labelled structures, the loss, and the checkpoint.

Energies in eV, lengths in Å.
"""

import math
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from ase.data import chemical_symbols
from numpy.typing import NDArray
from torch import Tensor

from hydrogate.checks.data.dataset import Dataset
from hydrogate.models.batch import collate
from hydrogate.models.loss import Loss
from hydrogate.models.objective import Labelled
from hydrogate.models.potential import Student, Support
from hydrogate.pipeline.params import Loss as DeclaredLoss


class TrainingFailed(RuntimeError):
    """Training gave no valid student: the loss remained non-finite, or compilation is required and does not work."""


class Split(NamedTuple):
    """Structures to train on, structures to select the best epoch on, and what the training structures support."""

    train: Dataset
    valid: Dataset
    support: Support


@dataclass
class State:
    """Training state; with the weights and the optimizer state, a later process resumes to the same result."""

    best: dict[str, Tensor]
    epoch: int = 0
    step: int = 0
    rate_factor: float = 1.0
    returns: int = 0
    skipped: int = 0
    bad: int = 0
    compiled: bool = False
    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0
    atoms: int = 0
    best_epoch: int = 0
    best_loss: float = math.inf
    history: list[dict[str, float]] = field(default_factory=list)


def split_for_training(data: Dataset) -> Split:
    """Return the splits ``train`` and ``valid`` of ``data``.

    Raises
    ------
    ValueError
        A split is empty or unlabelled, or ``valid`` has an element, charge or spin multiplicity that ``train`` lacks.
    """
    train, valid = _part(data, "train"), _part(data, "valid")
    support = Support.of([train.to_atoms(row) for row in range(len(train))])
    for row in range(len(valid)):
        support.refuse_others(collate([valid.to_atoms(row)], 1.0), "to be trained on split 'train'", row)
    return Split(train, valid, support)


def _part(data: Dataset, name: str) -> Dataset:
    chosen = data.subset(np.flatnonzero(data.split == name))
    if not len(chosen) or chosen.energy is None or chosen.forces is None:
        missing = "labels" if len(chosen) else "structures"
        raise ValueError(f"split {name!r} has no {missing} to train on ({data!r}); see regenerate.split, stage label")
    return chosen


def loss_for(student: Student, declared: DeclaredLoss, split: Split) -> Loss:
    """Return the loss that ``declared`` describes.

    Raises
    ------
    ValueError
        The loss includes the dipole, but the student predicts none or ``split`` has none; or it includes the curvature,
        but there are no displacement pairs to train on.
    """
    weight, own = declared.dipole_weight, student.dipole_weight
    if weight and own is None:
        raise ValueError(
            f"train.loss.dipole_weight is {weight}, but student {student.name!r} predicts no dipole; set it to 0"
        )
    weight = (own or 0.0) if weight is None else weight
    for part in (split.train, split.valid):
        lacking = len(part) if part.dipole is None else int((~np.isfinite(part.dipole)).any(axis=1).sum())
        if weight and lacking:
            raise ValueError(
                f"student {student.name!r} learns its charges from dipoles (weight {weight}), but {lacking} of "
                f"{len(part)} structures have none ({part!r}): set label.dipoles to true with a teacher that predicts "
                "them (xtb), or set train.loss.dipole_weight to 0"
            )
    partner = split.train.partner
    if declared.hessian_weight and (partner is None or (partner == np.arange(len(split.train))).all()):
        raise ValueError(
            f"train.loss.hessian_weight is {declared.hessian_weight}, but split 'train' has no displacement pairs "
            f"({split.train!r}): set regenerate.sampling.pairs, or set the weight to 0"
        )
    plain = declared.model_dump(exclude={"element_balance"}) | {"dipole_weight": weight}
    return Loss(**plain, element_weights=element_weights(split.train.numbers, declared.element_balance))


def element_weights(numbers: NDArray[np.integer], balance: float) -> tuple[float, ...]:
    """Return the weight of an atom by atomic number: (fraction of its element) ** -balance, with mean 1.

    Empty if ``balance`` is 0, because then every weight is 1.

    Parameters
    ----------
    numbers : (N,)
        Atomic numbers of the atoms trained on; an element that is not among them is weighted as if it had one atom.
    balance : float
        0 weights every atom equally, 1 weights every element equally.
    """
    if not balance:
        return ()
    counts = np.bincount(numbers, minlength=len(chemical_symbols)).clip(min=1)
    weights = (counts / len(numbers)) ** -balance
    return tuple((weights / weights[numbers].mean()).tolist())


def labelled(data: Dataset, student: Student, device: torch.device) -> list[Labelled]:
    """Return the structures of ``data`` with their edges, computed once because the geometry is fixed."""
    assert data.energy is not None and data.forces is not None  # `split_for_training` rejects unlabelled data
    return [
        Labelled(
            student.collate([data.to_atoms(row)]).to(device, torch.float32),
            torch.tensor(data.energy[row], device=device),
            torch.from_numpy(data.forces[data.atoms_of(row)]).to(device),
            None if data.dipole is None else torch.from_numpy(data.dipole[row]).to(device, torch.float32),
            pair_of(data, row),
        )
        for row in range(len(data))
    ]


def pair_of(data: Dataset, row: int) -> int | None:
    """Return the identifier of the displacement pair that structure ``row`` is an end of, or None."""
    if data.partner is None or data.partner[row] == row:
        return None
    return min(row, int(data.partner[row]))


def units(rows: Sequence[Labelled], together: bool) -> list[tuple[int, ...]]:
    """Group ``rows`` for batching: each row alone or, if ``together``, both ends of a displacement pair in one unit."""
    if not together:
        return [(row,) for row in range(len(rows))]
    members: dict[tuple[str, int], tuple[int, ...]] = {}
    for row, one in enumerate(rows):
        key = ("alone", row) if one.pair is None else ("pair", one.pair)
        members[key] = (*members.get(key, ()), row)
    return list(members.values())


def read_state(path: Path) -> State:
    """Read the state that a training saved.

    Raises
    ------
    TrainingFailed
        The file cannot be read.
    """
    return State(**read_progress(path)["state"])


def read_progress(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = torch.load(path, weights_only=True)
        State(**content["state"])
    except (OSError, RuntimeError, KeyError, TypeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise TrainingFailed(
            f"{path}: cannot resume from this training state ({error}); delete it to train from the start"
        ) from error
    return content
