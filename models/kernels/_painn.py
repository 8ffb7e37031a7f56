"""Complete PaiNN in C++: energies and their gradient by the positions, for constant weights.

Molecules are processed a few at a time, so that all data on their atoms and pairs stay in the cache.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from hydrogate.models.kernels import NotAvailable, _native


def takes(features: int, like: Tensor) -> bool:
    """Return True if rows of ``features`` numbers with the dtype of ``like`` fill this machine's vector registers.

    Only such rows are supported.
    """
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
    """Return the atoms' energies (N,) in units of the energy scale, and the gradient of their sum (N, 3).

    Parameters
    ----------
    s : (N, F)
        Initial features of the atoms.
    weights : sequence of Tensor
        For each layer, the filter with its bias, and weight and bias of message, update and mix; then the readout's.
    distance : (B, 1), Å
    unit : (B, 3)
    functions : (B, K)
        See `hydrogate.models.kernels.radial.basis`.
    slopes : (B, K), 1/Å
        Derivatives of ``functions`` by the distance.
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
