"""Drawings of structures with all their hydrogens: flat ones as SVG, and the data of rotatable ones."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase.data import chemical_symbols, covalent_radii
from ase.data.colors import jmol_colors
from numpy.typing import NDArray

from hydrogate.checks.data.dataset import Dataset
from hydrogate.checks.geometry.observables import bonds
from hydrogate.checks.metrics.bootstrap import Floats
from hydrogate.checks.render.html.svg import add, drawing, markup, written


def colour(number: int) -> str:
    """Return the element's Jmol colour; hydrogen is greyer, to be visible on white."""
    channels = jmol_colors[number] if number != 1 else (0.86, 0.88, 0.91)
    return "#" + "".join(f"{round(255 * float(channel)):02x}" for channel in channels)


def radius(number: int) -> float:
    """Return the drawn radius of an atom, in Å."""
    return 0.22 + 0.25 * float(covalent_radii[number])


def bonds_of(data: Dataset, index: int) -> NDArray[np.int64]:
    """Return the bonded atoms (B, 2) of structure ``index``, by distance, counted from its first atom."""
    found = bonds(data.subset([index]))
    return np.stack([found.first, found.second], axis=1)


def turned(positions: Floats) -> tuple[Floats, Floats]:
    """Return centred positions (n, 3) in Å, rotated to the principal axes, widest first, and the rotation (3, 3)."""
    centred = np.nan_to_num(positions - positions.mean(axis=0))
    _, _, axes = np.linalg.svd(centred, full_matrices=True)
    turn = (axes * np.sign(np.linalg.det(axes))).T
    return centred @ turn, turn


def flat(data: Dataset, index: int) -> str:
    """Draw structure ``index`` along its flattest direction, with nearer atoms in front."""
    own = data.atoms_of(index)
    numbers = data.numbers[own].astype(int).tolist()
    name = f"{data.formula(index)}, {numbers.count(1)} hydrogens"
    drawn = drawing(200, 150, name, "molecule")
    places, _ = turned(data.positions[own].astype(np.float64))
    half = np.abs(places).max(axis=0) + 0.6
    scale = min(98 / half[0], 73 / half[1], 24.0)
    x, y, depth = 100 + scale * places[:, 0], 75 - scale * places[:, 1], places[:, 2]
    for one, two in bonds_of(data, index).tolist():
        add(drawn, "line", "bond", x1=x[one], y1=y[one], x2=x[two], y2=y[two], stroke_width=written(scale * 0.13))
    for atom in np.argsort(depth).tolist():
        disc = {"cx": x[atom], "cy": y[atom], "r": scale * radius(numbers[atom])}
        add(drawn, "circle", "atom", fill=colour(numbers[atom]), **disc)
    return markup(drawn)


def view(data: Dataset, index: int, predicted: Floats) -> dict[str, Any]:
    """Return the plain numbers that the page's script draws and rotates.

    Parameters
    ----------
    data : Dataset
        Labelled.
    index : int
    predicted : (n, 3) float64, eV/Å
        The student's forces on the atoms of structure ``index``.
    """
    own = data.atoms_of(index)
    numbers = data.numbers[own].astype(int).tolist()
    places, turn = turned(data.positions[own].astype(np.float64))
    assert data.forces is not None
    return {
        "symbols": [chemical_symbols[number] for number in numbers],
        "colours": [colour(number) for number in numbers],
        "radii": [round(radius(number), 3) for number in numbers],
        "positions": _rounded(places),
        "bonds": bonds_of(data, index).tolist(),
        "teacher": _rounded(data.forces[own].astype(np.float64) @ turn),
        "student": _rounded(predicted @ turn),
        "worst": int(np.nan_to_num(((predicted - data.forces[own]) ** 2).sum(axis=1), nan=np.inf).argmax()),
    }


def _rounded(rows: Floats) -> list[list[float]]:
    return [[round(float(value), 3) for value in row] for row in np.nan_to_num(rows)]


def sample(data: Dataset, count: int, seed: int = 0) -> Sequence[int]:
    """Draw at most ``count`` structures of different molecules with ``seed``; return their indices in order."""
    roots = np.flatnonzero(data.parent == np.arange(len(data)))
    chosen = np.random.default_rng(seed).choice(roots, min(count, len(roots)), replace=False)
    return sorted(int(index) for index in chosen)
