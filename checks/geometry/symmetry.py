"""Symmetry tests of a potential on sampled structures: rotation, permutation, F = −∇E.

Each function takes the potential as a function of structures and returns the largest error found. If the potential
returned NaN, the result is NaN, which no bound accepts. Use a potential in float64: in float32 the results would be
dominated by the rounding of the energy.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

Floats: TypeAlias = NDArray[np.float64]
Potential: TypeAlias = Callable[[Sequence[Atoms]], Sequence[tuple[float, Floats]]]
"""Energy (eV) and forces ((n, 3), eV/Å) of each structure, in order."""

STEP = 1e-4  # Å; truncation of the central difference is of order 1e-8, rounding in float64 of 1e-8 eV/Å


def force_gradient_error(
    potential: Potential, structures: Sequence[Atoms], *, n_directions: int = 3, seed: int = 0
) -> float:
    """Compute the relative difference between forces and the slope of the energy along random directions.

    Parameters
    ----------
    potential : Potential
    structures : sequence of Atoms
    n_directions : int
        Number of directions per structure, each a random unit vector in the space of all coordinates.
    seed : int

    Returns
    -------
    float
        √(Σ (slope + F·d)² / Σ slope²), from central differences; NaN if all slopes are zero.
    """
    rng = np.random.default_rng(seed)
    directions, displaced = [], []
    for atoms in structures:
        for _ in range(n_directions):
            direction = rng.normal(size=(len(atoms), 3))
            direction /= np.linalg.norm(direction)
            directions.append(direction)
            displaced += [_at(atoms, atoms.positions + sign * STEP * direction) for sign in (1, -1)]
    energies = np.array([energy for energy, _ in potential(displaced)], dtype=np.float64).reshape(-1, 2)
    slopes = (energies[:, 0] - energies[:, 1]) / (2 * STEP)
    forces = [forces for _, forces in potential(structures) for _ in range(n_directions)]
    along = np.array([float((f * d).sum()) for f, d in zip(forces, directions, strict=True)])
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(np.sqrt(np.sum((slopes + along) ** 2) / np.sum(slopes**2)))


def rotation_error(potential: Potential, structures: Sequence[Atoms], *, seed: int = 0) -> tuple[float, float]:
    """Compute the change of energy and forces under a random rotation, plus inversion for every second structure.

    Parameters
    ----------
    potential : Potential
    structures : sequence of Atoms
    seed : int

    Returns
    -------
    energy : float, eV
        Largest change of the energy.
    forces : float, eV/Å
        Largest change of a force component after rotating the forces back.
    """
    turns = Rotation.from_quat(np.random.default_rng(seed).normal(size=(len(structures), 4))).as_matrix()
    turns[1::2] *= -1.0
    turned = [_at(atoms, atoms.positions @ turn.T) for atoms, turn in zip(structures, turns, strict=True)]
    for atoms, turn in zip(turned, turns, strict=True):
        atoms.cell = atoms.cell.array @ turn.T
    back = [(energy, forces @ turn) for (energy, forces), turn in zip(potential(turned), turns, strict=True)]
    return _worst(potential(structures), back)


def permutation_error(potential: Potential, structures: Sequence[Atoms], *, seed: int = 0) -> tuple[float, float]:
    """Compute the change of energy and forces under a permutation of the atoms.

    Parameters
    ----------
    potential : Potential
    structures : sequence of Atoms
    seed : int

    Returns
    -------
    energy : float, eV
        Largest change of the energy.
    forces : float, eV/Å
        Largest change of a force component after restoring the original order.
    """
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(len(atoms)) for atoms in structures]
    shuffled = [atoms[order] for atoms, order in zip(structures, orders, strict=True)]
    for atoms, original in zip(shuffled, structures, strict=True):
        atoms.info.update(original.info)
    answers = zip(potential(shuffled), orders, strict=True)
    return _worst(potential(structures), [(energy, forces[np.argsort(order)]) for (energy, forces), order in answers])


def _worst(before: Sequence[tuple[float, Floats]], after: Sequence[tuple[float, Floats]]) -> tuple[float, float]:
    if not before:
        return float("nan"), float("nan")
    pairs = list(zip(before, after, strict=True))
    energy = [abs(e_after - e_before) for (e_before, _), (e_after, _) in pairs]
    forces = [np.abs(f_after - f_before).max() for (_, f_before), (_, f_after) in pairs]
    return float(np.max(energy)), float(np.max(forces))


def _at(atoms: Atoms, positions: Floats) -> Atoms:
    moved: Atoms = atoms.copy()  # type: ignore[no-untyped-call]
    moved.positions = positions
    return moved
