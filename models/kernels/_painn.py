"""A whole PaiNN in C++, energies with their gradient by the positions: for where no weight is to learn.

Some molecules at a time, all that their atoms and pairs hold stays in the cache.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from hydrogate.models.kernels import NotAvailable, _native


def takes(features: int, like: Tensor) -> bool:
    """Whether rows of ``features`` numbers of the dtype of ``like`` fill the vectors of this machine: no others do."""
    try:
        library = _native.library("painn")
    except NotAvailable:
        return False
    lanes = {torch.float32: library.lanes_float32, torch.float64: library.lanes_float64}.get(like.dtype)
    return lanes is not None and features % lanes() == 0


def energies(
    s: Tensor,
    weights: Sequence[Tensor],
    distance: Tensor,
    unit: Tensor,
    functions: Tensor,
    slopes: Tensor,
    pairs: Tensor,
    layers: int,
) -> tuple[Tensor, Tensor]:
    """Energies of the atoms (N,) in units of the energy scale, and the gradient of their sum (N, 3).

    Parameters
    ----------
    s : (N, F)
        The atoms' first features.
    weights : sequence of Tensor
        Of each layer the filter with its bias, and weight and bias of message, update and mix; of the readout.
    distance : (B, 1), Å
    unit : (B, 3)
    functions : (B, K)
        See `hydrogate.models.kernels.radial.basis`.
    slopes : (B, K), 1/Å
        Their derivatives by the distance.
    pairs : (2, B) int64
        See `hydrogate.models.kernels.exchange.halves`.
    layers : int
    """
    atoms, f = s.shape
    flat = torch.cat([weight.reshape(-1) for weight in weights])
    energy, gradient = s.new_empty(atoms), s.new_zeros(atoms, 3)
    sizes = (atoms, pairs.shape[1], f, functions.shape[1], layers)
    _native.call("painn", "energies", sizes, pairs, s, flat, functions, slopes, unit, distance, energy, gradient)
    return energy, gradient
