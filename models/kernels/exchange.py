"""The PaiNN message both ways along pairs of atoms, with the filter made from the radial functions on the way.

Both atoms of a pair see the same filter, and opposite directions: half as many rows as edges have to be made, and in
C++ none is ever written to memory.
"""

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from hydrogate.models.kernels import _native, fastest, message
from hydrogate.models.kernels._derivatives import implementations, twice_differentiable


def reference(
    x: Tensor, functions: Tensor, weight: Tensor, unit: Tensor, v: Tensor, pairs: Tensor
) -> tuple[Tensor, Tensor]:
    """What the atoms receive.

    Parameters
    ----------
    x : (N, P·F)
        What each atom sends; P is 3, or 2 where there are no vectors yet.
    functions : (B, K)
        What the filter is made of; see `hydrogate.models.kernels.radial.basis`.
    weight : (P·F, K)
    unit : (B, 3)
        Unit vectors from the first atom of each pair to the second.
    v : (N, 3, F), or (0, 3, F) where P is 2
        The atoms' vectors.
    pairs : (2, B) int64
        Two different atoms, each pair once.

    Returns
    -------
    s : (N, F)
    vectors : (N, 3, F)
    """
    w = functions @ weight.T
    both = torch.cat([pairs, pairs.flip(0)], dim=1)
    return message.reference(x, torch.cat([w, w]), torch.cat([unit, -unit]), v, both)


def _shapes(x: Tensor, functions: Tensor, weight: Tensor, unit: Tensor, v: Tensor) -> list[tuple[int, ...]]:
    return [(x.shape[0], v.shape[2]), (x.shape[0], 3, v.shape[2])]


def _run(how: str, what: str, pairs: Tensor, inputs: Sequence[Tensor | None], outputs: Sequence[Tensor | None]) -> None:
    x, functions, _, _, v, *_ = inputs
    f = v.shape[2]
    sizes = (pairs.shape[1], f, x.shape[1] // f, functions.shape[1])
    _native.call("exchange", what, sizes, pairs.contiguous(), *inputs, *outputs)


# The weight's gradient is a matrix product, which energies and forces alone do not ask for.
_kernel = twice_differentiable((True, False, False, True, True), _shapes, _run, spared=(2,))

IMPLEMENTATIONS = implementations(reference, _kernel, "exchange")


def halves(edges: Tensor, atoms: int) -> Tensor | None:
    """The pairs (2, E/2), first atom before second, of ``edges`` (2, E); None where the C++ kernel cannot take them.

    It takes what `neighbour_pairs` gives, sorted by receiver, then sender, each edge with its twin the other way, on a
    CPU, in no compiled graph and not inside `torch.func`.
    """
    if torch.compiler.is_compiling() or fastest("exchange", edges.device.type) == "eager":
        return None
    edges = edges.contiguous()
    found = torch.empty_like(edges)
    try:
        pointers = [ctypes.c_void_p(row.data_ptr()) for row in (*edges, *found)]
    except RuntimeError:  # inside `torch.func.grad` tensors have no storage of their own
        return None
    count = _native.library("exchange").halves
    count.restype = ctypes.c_long
    pairs = count(ctypes.c_long(edges.shape[1]), ctypes.c_long(atoms), *pointers)
    return None if pairs < 0 else found[:, :pairs].contiguous()


def exchange(
    x: Tensor, functions: Tensor, weight: Tensor, unit: Tensor, v: Tensor, pairs: Tensor
) -> tuple[Tensor, Tensor]:
    """`reference` in C++, along the pairs that `halves` gave."""
    return _kernel(x, functions, weight, unit, v, pairs, "cpp")
