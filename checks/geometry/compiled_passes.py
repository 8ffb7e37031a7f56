"""Loops over the atoms of many structures, compiled by Numba; NumPy versions are in ``distances`` and ``observables``.

This module is imported only for large data sets: small ones are finished before the first loop would be compiled. The
loops release the GIL. Coordinates are processed in double precision and no operation is reordered, so distances equal
those of the NumPy version to the last bit.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

_LANES = 8  # rows of coordinates are padded to a multiple of this, so that loops over them have no remainder
_FAR = 1e15  # Å; padding value
_NEAR = np.float32(1e14)  # Å; an atom beyond this could be mistaken for padding


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile ``function``; cache the machine code for the next run if the cache folder is writable."""
    try:
        compiled: Callable[..., Any] = njit(nogil=True, cache=True)(function)
    except RuntimeError:
        compiled = njit(nogil=True)(function)
    return compiled


@_compiled
def nearest(numbers, positions, offset, radii, first_hydrogen, skip, least, partner, length, relative):  # type: ignore[no-untyped-def]
    """Compute the least distance of each structure, and the partner, length and relative length of each hydrogen.

    The results have the meaning described in ``Geometry``.

    Parameters
    ----------
    numbers, positions, offset, radii
        Arrays of the data set, and the covalent radii; Å.
    first_hydrogen : (M + 1,) int64
        Start of the hydrogens of each structure in ``partner``, ``length`` and ``relative``.
    skip : (M,) bool
        Structures to skip. Set for structures that need the NumPy version, because a position is not finite or an
        atomic number is invalid.
    least, partner, length, relative
        Output arrays.
    """
    widest = _LANES
    for m in range(len(offset) - 1):
        widest = max(widest, offset[m + 1] - offset[m] + _LANES)
    heavy = np.empty((3, widest))
    light = np.empty((3, widest))
    weight, square, weighted = np.empty(widest), np.empty(widest), np.empty(widest)
    atom = np.empty(widest, np.int64)
    # Bit patterns of non-negative floats sort like the floats, and the minimum of integers is found eight at a time.
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


@_compiled
def bonded(numbers, positions, offset, radii, reach, skip):  # type: ignore[no-untyped-def]
    """Find pairs within ``reach`` times the sum of radii, except in ``skip``; return first, second and length."""
    capacity = 2 * len(numbers) + 64
    first, second, length = np.empty(capacity, np.int64), np.empty(capacity, np.int64), np.empty(capacity)
    widest = 1
    for m in range(len(offset) - 1):
        widest = max(widest, offset[m + 1] - offset[m])
    x, y, z, radius, beyond = (np.empty(widest), np.empty(widest), np.empty(widest), np.empty(widest), np.empty(widest))
    count = 0
    for m in range(len(offset) - 1):
        start, size = offset[m], offset[m + 1] - offset[m]
        if skip[m]:
            continue
        for i in range(size):
            a = start + i
            x[i], y[i], z[i], radius[i] = positions[a, 0], positions[a, 1], positions[a, 2], radii[numbers[a]]
        for i in range(size):
            if count + size > capacity:
                capacity = 2 * capacity + size
                first, second, length = _grown(first, size), _grown(second, size), _grown(length, size)
            near = _bonded_to(i, size, x, y, z, radius, reach, beyond, second[count:], length[count:])
            first[count : count + near] = start + i
            second[count : count + near] += start
            count += near
    return first[:count].copy(), second[:count].copy(), length[:count].copy()


@_compiled
def _grown(values, more):  # type: ignore[no-untyped-def]
    larger = np.empty(2 * len(values) + more, values.dtype)
    larger[: len(values)] = values
    return larger


@_compiled
def _bonded_to(i, size, x, y, z, radius, reach, beyond, second, length):  # type: ignore[no-untyped-def]
    """Write the atoms after ``i`` that are bonded to it to ``second`` and ``length``; return their number."""
    own_x, own_y, own_z, own_radius = x[i], y[i], z[i], radius[i]
    for j in range(size):
        dx, dy, dz = own_x - x[j], own_y - y[j], own_z - z[j]
        near = reach * (own_radius + radius[j])
        # Slightly larger than needed; the comparison after the square root decides.
        beyond[j] = dx * dx + dy * dy + dz * dz - near * near * (1.0 + 1e-12)
    beyond_bits = beyond.view(np.int64)
    count = 0
    for j in range(i + 1, size):
        # Tests the sign bit only, which NaN may have set as well.
        if beyond_bits[j] < 0:
            dx, dy, dz = own_x - x[j], own_y - y[j], own_z - z[j]
            distance = np.sqrt(dx * dx + dy * dy + dz * dz)
            if distance < reach * (own_radius + radius[j]):
                second[count], length[count] = j, distance
                count += 1
    return count


@_compiled
def force_sums(positions, forces, offset, norm, centroid, total, torque, square):  # type: ignore[no-untyped-def]
    """Write |F| of each atom, and the centroid, ΣF, Σ r × F about the centroid and Σ |F|² of each structure."""
    for m in range(len(offset) - 1):
        start, stop = offset[m], offset[m + 1]
        cx = cy = cz = fx = fy = fz = tx = ty = tz = both = 0.0
        for a in range(start, stop):
            x, y, z = np.float64(positions[a, 0]), np.float64(positions[a, 1]), np.float64(positions[a, 2])
            u, v, w = np.float64(forces[a, 0]), np.float64(forces[a, 1]), np.float64(forces[a, 2])
            cx, cy, cz = cx + x, cy + y, cz + z
            fx, fy, fz = fx + u, fy + v, fz + w
            tx, ty, tz = tx + (y * w - z * v), ty + (z * u - x * w), tz + (x * v - y * u)
            one = u * u + v * v + w * w
            norm[a] = np.sqrt(one)
            both += one
        size = max(stop - start, 1)
        cx, cy, cz = cx / size, cy / size, cz / size
        centroid[m, 0], centroid[m, 1], centroid[m, 2] = cx, cy, cz
        total[m, 0], total[m, 1], total[m, 2] = fx, fy, fz
        torque[m, 0], torque[m, 1] = tx - (cy * fz - cz * fy), ty - (cz * fx - cx * fz)
        torque[m, 2] = tz - (cx * fy - cy * fx)
        square[m] = both


@_compiled
def forces_along(positions, forces, hydrogen, partner, length, along):  # type: ignore[no-untyped-def]
    """Write the force on each hydrogen along the direction away from its partner to ``along``."""
    for row in range(len(hydrogen)):
        a, b = hydrogen[row], partner[row]
        value = 0.0
        for axis in range(3):
            away = np.float64(positions[a, axis] - positions[b, axis])
            value += np.float64(forces[a, axis]) * (away / length[row])
        along[row] = value


@_compiled
def sibling_sums(numbers, positions, forces, first, second, size, work, third_order, square, same):  # type: ignore[no-untyped-def]
    """Write the sums over atoms of ``SiblingWork`` for pairs of structures, given by their first atoms."""
    for pair in range(len(first)):
        half = cubic = moved = 0.0
        differ = 0
        for k in range(size[pair]):
            a, b = first[pair] + k, second[pair] + k
            differ += numbers[a] != numbers[b]
            along = change = displacement = 0.0
            for axis in range(3):
                step = np.float64(positions[b, axis] - positions[a, axis])
                along += 0.5 * np.float64(forces[a, axis] + forces[b, axis]) * step
                change += np.float64(forces[b, axis] - forces[a, axis]) * step
                displacement += step * step
            half += along
            cubic += abs(change) * np.sqrt(displacement)
            moved += displacement
        work[pair], third_order[pair], square[pair], same[pair] = -half, cubic, moved, differ == 0


@_compiled
def force_squares(forces, offset, square):  # type: ignore[no-untyped-def]
    """Write Σ |F|² of each structure, equal to that of ``force_sums``."""
    for m in range(len(offset) - 1):
        both = 0.0
        for a in range(offset[m], offset[m + 1]):
            u, v, w = np.float64(forces[a, 0]), np.float64(forces[a, 1]), np.float64(forces[a, 2])
            both += u * u + v * v + w * w
        square[m] = both


@_compiled
def bond_moments(numbers, positions, forces, hydrogen, partner, length, count, mean, products):  # type: ignore[no-untyped-def]
    """Write count, means and Σ of products of deviations of bond length and force, by element of the partner."""
    along = np.full(len(hydrogen), np.nan)
    for row in range(len(hydrogen)):
        a, b = hydrogen[row], partner[row]
        if not 0.0 < length[row] < np.inf:
            continue
        value = 0.0
        for axis in range(3):
            away = np.float64(positions[a, axis] - positions[b, axis])
            value += np.float64(forces[a, axis]) * (away / length[row])
        along[row] = value
        z = numbers[b]
        count[z] += 1
        mean[z, 0] += length[row]
        mean[z, 1] += value
    for z in range(len(count)):
        mean[z] /= max(count[z], 1)
    for row in range(len(hydrogen)):
        if not 0.0 < length[row] < np.inf:
            continue
        z = numbers[partner[row]]
        longer, stronger = length[row] - mean[z, 0], along[row] - mean[z, 1]
        products[z, 0, 0] += longer * longer
        products[z, 0, 1] += longer * stronger
        products[z, 1, 1] += stronger * stronger
    products[:, 1, 0] = products[:, 0, 1]


@_compiled
def present(numbers):  # type: ignore[no-untyped-def]
    """Return a mask of the atomic numbers 0 to 255 that occur."""
    found = np.zeros(256, np.bool_)
    for a in range(len(numbers)):
        found[numbers[a]] = True
    return found


@_compiled
def compositions(numbers, offset, column, counts):  # type: ignore[no-untyped-def]
    """Add the number of atoms of each element in each structure to ``counts``, at the ``column`` of the element."""
    for m in range(len(offset) - 1):
        for a in range(offset[m], offset[m + 1]):
            counts[m, column[numbers[a]]] += 1


@_compiled
def sums(values, offset, total):  # type: ignore[no-untyped-def]
    """Write the sum of the values over the atoms of each structure to ``total``."""
    for m in range(len(offset) - 1):
        of_structure = 0.0
        for a in range(offset[m], offset[m + 1]):
            of_structure += np.float64(values[a])
        total[m] = of_structure


@_compiled
def histograms(values, kind, shift):  # type: ignore[no-untyped-def]
    """Histogram values of two kinds by leading float32 bits; return counts, lowest bin, NaN counts and extremes."""
    undefined = np.zeros(2, np.int64)
    least, greatest = np.full(2, np.inf), np.full(2, -np.inf)
    for a in range(len(values)):
        own, value = np.int64(kind[a]), values[a]
        if np.isnan(value):
            undefined[own] += 1
        elif value < least[own] or value > greatest[own]:
            least[own], greatest[own] = min(value, least[own]), max(value, greatest[own])
    pattern = np.empty(2, np.float32)
    bits = pattern.view(np.int32)
    pattern[0], pattern[1] = np.float32(least.min()), np.float32(greatest.max())
    lowest = (bits[0] if bits[0] >= 0 else bits[0] ^ 0x7FFFFFFF) >> shift
    highest = (bits[1] if bits[1] >= 0 else bits[1] ^ 0x7FFFFFFF) >> shift
    counts = np.zeros((2, max(highest - lowest + 1, 0)), np.int64)
    for a in range(len(values)):
        if not np.isnan(values[a]):
            pattern[0] = np.float32(values[a])
            place = bits[0] if bits[0] >= 0 else bits[0] ^ 0x7FFFFFFF
            counts[np.int64(kind[a]), (place >> shift) - lowest] += 1
    return counts, lowest, undefined, least, greatest
