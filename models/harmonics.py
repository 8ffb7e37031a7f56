"""Real spherical harmonics of degrees one to four as polynomials: smooth everywhere, without any angle."""

import math

import torch
from torch import Tensor

LARGEST_DEGREE = 4


def spherical_harmonics(unit: Tensor, degrees: int) -> Tensor:
    """Return the harmonics of degrees 1 to ``degrees`` of ``unit``, each as m = −l … l.

    Degree 1 is therefore y, z, x; degree 0 is left out. The harmonics are orthonormal: the integral of a square over
    the sphere is one. They have no Condon-Shortley phase.

    Parameters
    ----------
    unit : (E, 3)
        Unit vectors.
    degrees : int
        1 to `LARGEST_DEGREE`.

    Returns
    -------
    (E, (degrees + 1)² − 1)

    Source: Blanco, Flórez, Bermejo, J. Mol. Struct. (Theochem) 419, 19 (1997), table 1.
    """
    x, y, z = unit[:, 0], unit[:, 1], unit[:, 2]
    root = [math.sqrt(k / math.pi) for k in range(106)]
    of = [y * (root[3] / 2), z * (root[3] / 2), x * (root[3] / 2)]
    if degrees >= 2:
        xx, yy, zz = x * x, y * y, z * z
        across, side = x * y, xx - yy
        of += [
            across * (root[15] / 2),
            y * z * (root[15] / 2),
            (3 * zz - 1) * (root[5] / 4),
            x * z * (root[15] / 2),
            side * (root[15] / 4),
        ]
    if degrees >= 3:
        left, right = y * (3 * xx - yy), x * (xx - 3 * yy)
        of += [
            left * (root[35] / math.sqrt(32)),
            across * z * (root[105] / 2),
            y * (5 * zz - 1) * (root[21] / math.sqrt(32)),
            z * (5 * zz - 3) * (root[7] / 4),
            x * (5 * zz - 1) * (root[21] / math.sqrt(32)),
            side * z * (root[105] / 4),
            right * (root[35] / math.sqrt(32)),
        ]
    if degrees >= 4:
        of += [
            across * side * (root[35] * 3 / 4),
            left * z * (root[35] * 3 / math.sqrt(32)),
            across * (7 * zz - 1) * (root[5] * 3 / 4),
            y * z * (7 * zz - 3) * (root[5] * 3 / math.sqrt(32)),
            ((35 * zz - 30) * zz + 3) * (root[1] * 3 / 16),
            x * z * (7 * zz - 3) * (root[5] * 3 / math.sqrt(32)),
            side * (7 * zz - 1) * (root[5] * 3 / 8),
            right * z * (root[35] * 3 / math.sqrt(32)),
            (x * right - y * left) * (root[35] * 3 / 16),
        ]
    return torch.stack(of, dim=1)
