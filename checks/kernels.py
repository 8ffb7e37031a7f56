"""Passes over the atoms of many structures, compiled by Numba; ``observables`` has each as a formula of NumPy too.

Imported where a data set is large alone: a small one is done before the first of them is compiled. They release the
interpreter's lock. Coordinates are computed with in double precision, and no operation is reordered, so that a
distance is that of the formula to the last bit.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numba import njit

_LANES = 8  # rows of coordinates are filled up to a multiple, so that no loop over them has a remainder
_FAR = 1e15  # Å; what a row is filled up with
_NEAR = np.float32(1e14)  # Å; an atom beyond could be taken for it

Function = TypeVar("Function", bound=Callable[..., Any])


def _compiled(function: Function) -> Function:
    """``function`` as machine code, which is kept for the next run where a folder can be written to."""
    try:
        return njit(nogil=True, cache=True)(function)  # type: ignore[no-any-return]
    except RuntimeError:
        return njit(nogil=True)(function)  # type: ignore[no-any-return]


@_compiled
def nearest(numbers, positions, offset, radii, first_hydrogen, skip, least, partner, length, relative):  # type: ignore[no-untyped-def]
    """Least distance of each structure; of each hydrogen the partner, length and relative length, as ``Geometry`` has.

    Parameters
    ----------
    numbers, positions, offset, radii
        Of the data set, Å.
    first_hydrogen : (M + 1,) int64
        Where the hydrogens of a structure begin in ``partner``, ``length`` and ``relative``.
    skip : (M,) bool
        Structures that are left out; set where the formula is needed, by a position that is not finite or no element.
    least, partner, length, relative
        Written to.
    """
    widest = _LANES
    for m in range(len(offset) - 1):
        widest = max(widest, offset[m + 1] - offset[m] + _LANES)
    heavy = np.empty((3, widest))
    light = np.empty((3, widest))
    weight, square, weighted = np.empty(widest), np.empty(widest), np.empty(widest)
    atom = np.empty(widest, np.int64)
    # Of numbers that are not negative the bits are in their order, and the least of integers is found eight at a time.
    square_bits, weighted_bits = square.view(np.int64), weighted.view(np.int64)
    one = np.full(1, np.inf)
    one_bits = one.view(np.int64)
    infinite = one_bits[0]
    for m in range(len(offset) - 1):
        start, stop = offset[m], offset[m + 1]
        if skip[m]:
            continue
        strange = 0
        for a in range(start, stop):
            strange += numbers[a] == 0
            for axis in range(3):
                strange += not abs(positions[a, axis]) < _NEAR
        if strange:
            skip[m] = True
            continue
        hydrogens = first_hydrogen[m + 1] - first_hydrogen[m]
        alone = hydrogens == stop - start
        heavies = stop - start - hydrogens
        filled = (heavies + _LANES - 1) // _LANES * _LANES
        heavy[:, :filled] = _FAR
        weight[:filled] = 1.0
        light[:, : (hydrogens + _LANES - 1) // _LANES * _LANES] = _FAR
        best = infinite
        placed = 0
        for a in range(start, stop):
            if numbers[a] == 1:
                continue
            x, y, z = np.float64(positions[a, 0]), np.float64(positions[a, 1]), np.float64(positions[a, 2])
            count = (placed + _LANES - 1) // _LANES * _LANES
            for j in range(count):
                dx, dy, dz = x - heavy[0, j], y - heavy[1, j], z - heavy[2, j]
                square[j] = dx * dx + dy * dy + dz * dz
            for j in range(count):
                best = min(best, square_bits[j])
            heavy[0, placed], heavy[1, placed], heavy[2, placed] = x, y, z
            both = radii[1] + radii[numbers[a]]
            weight[placed] = 1.0 / (both * both)
            atom[placed] = a
            placed += 1
        placed = 0
        row = first_hydrogen[m]
        for a in range(start, stop):
            if numbers[a] != 1:
                continue
            x, y, z = np.float64(positions[a, 0]), np.float64(positions[a, 1]), np.float64(positions[a, 2])
            nearest_bits = infinite
            for j in range(filled):
                dx, dy, dz = x - heavy[0, j], y - heavy[1, j], z - heavy[2, j]
                squared = dx * dx + dy * dy + dz * dz
                square[j] = squared
                weighted[j] = squared * weight[j]
            for j in range(filled):
                best = min(best, square_bits[j])
                nearest_bits = min(nearest_bits, weighted_bits[j])
            chosen = a
            if not alone:
                j = 0
                while weighted_bits[j] != nearest_bits:
                    j += 1
                chosen = atom[j]
                dx, dy, dz = x - heavy[0, j], y - heavy[1, j], z - heavy[2, j]
                length[row] = np.sqrt(dx * dx + dy * dy + dz * dz)
            count = (placed + _LANES - 1) // _LANES * _LANES
            for j in range(count):
                dx, dy, dz = x - light[0, j], y - light[1, j], z - light[2, j]
                square[j] = dx * dx + dy * dy + dz * dz
            for j in range(count):
                best = min(best, square_bits[j])
            light[0, placed], light[1, placed], light[2, placed] = x, y, z
            placed += 1
            if alone:
                closest = np.inf
                for b in range(start, stop):
                    dx, dy, dz = x - positions[b, 0], y - positions[b, 1], z - positions[b, 2]
                    squared = dx * dx + dy * dy + dz * dz
                    if b != a and squared < closest:
                        closest, chosen = squared, b
                length[row] = np.sqrt(closest)
            partner[row] = chosen
            relative[row] = length[row] / (radii[1] + radii[numbers[chosen]])
            row += 1
        one_bits[0] = best
        least[m] = np.sqrt(one[0])
