"""PaiNN filter: radial functions of the edges' lengths, through a linear layer, times the cutoff's envelope.

w = (Σ_n φ_n W_n + bias) · f with φ_n = sin(nπr/c)/r and f = ½(cos(πr/c) + 1). Source: Schütt, Unke, Gastegger, arXiv
2102.03150; the envelope is Behler's, 10.1063/1.3553717.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from hydrogate.models.kernels import Kernel


def basis(distance: Tensor, frequencies: Tensor, cutoff: float) -> Tensor:
    """Return the radial functions times the envelope, and the envelope itself, (E, K + 1).

    Parameters
    ----------
    distance : (E, 1), Å
    frequencies : (K,), 1/Å
        nπ over the cutoff.
    cutoff : float, Å
    """
    envelope = _envelope(distance, cutoff)
    return torch.cat([torch.sin(distance * frequencies) * (envelope / distance), envelope], dim=1)


def slopes(distance: Tensor, frequencies: Tensor, cutoff: float) -> Tensor:
    """Return the derivatives (E, K + 1) of `basis` by the distance, 1/Å."""
    envelope, turn = _envelope(distance, cutoff), torch.pi / cutoff
    falling = (-0.5 * turn) * torch.sin(distance * turn)
    waves, over = distance * frequencies, envelope / distance
    along = torch.cos(waves) * (frequencies * over) + torch.sin(waves) * ((falling - over) / distance)
    return torch.cat([along, falling], dim=1)


def _envelope(distance: Tensor, cutoff: float) -> Tensor:
    return 0.5 * (torch.cos(distance * (torch.pi / cutoff)) + 1.0)


def reference(distance: Tensor, frequencies: Tensor, weight: Tensor, bias: Tensor, cutoff: float) -> Tensor:
    """Return the filter (E, G).

    Parameters
    ----------
    distance : (E, 1), Å
    frequencies : (K,), 1/Å
    weight : (G, K)
    bias : (G,)
    cutoff : float, Å
    """
    radial = torch.sin(distance * frequencies) / distance
    return (radial @ weight.T + bias) * _envelope(distance, cutoff)


def folded(distance: Tensor, frequencies: Tensor, weight: Tensor, bias: Tensor, cutoff: float) -> Tensor:
    """Compute `reference` with the envelope inside the radial functions.

    One matrix product is then the only operation of size (E, G): nothing of that size is multiplied again, here or in
    any derivative.
    """
    return basis(distance, frequencies, cutoff) @ with_bias(weight, bias).T


def with_bias(weight: Tensor, bias: Tensor) -> Tensor:
    """Return the weight (G, K + 1) for `basis`, which all layers share; the envelope also multiplies the bias."""
    return torch.cat([weight, bias[:, None]], dim=1)


IMPLEMENTATIONS: dict[str, Callable[[], Kernel]] = {
    "eager": lambda: reference,
    "folded": lambda: folded,
    "compiled": partial(torch.compile, reference, dynamic=True),
}
