"""PaiNN message in both directions along pairs of atoms, with the filter computed from the radial functions.

Both atoms of a pair have the same filter, and opposite directions. Only half as many rows as edges are computed, and
C++ writes none of them to memory.
"""

import ctypes
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from hydrogate.models.kernels import _native, fastest, message
from hydrogate.models.kernels._derivatives import implementations, twice_differentiable


def reference(
    x: Tensor, functions: Tensor, weight: Tensor, unit: Tensor, v: Tensor, pairs: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the messages that the atoms receive.

    Parameters
    ----------
    x : (N, P·F)
        Values that each atom sends; P is 3, or 2 if there are no vectors yet.
    functions : (B, K)
        Functions from which the filter is computed; see `hydrogate.models.kernels.radial.basis`.
    weight : (P·F, K)
    unit : (B, 3)
        Unit vectors from the first atom of each pair to the second.
    v : (N, 3, F), or (0, 3, F) if P is 2
        Vectors of the atoms.
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
    assert x is not None and functions is not None and v is not None  # only the weight's direction may be None
    f = v.shape[2]
    sizes = (pairs.shape[1], f, x.shape[1] // f, functions.shape[1])
    _native.call("exchange", what, sizes, pairs.contiguous(), *inputs, *outputs)


# The weight's gradient is a matrix product, which energies and forces alone do not need.
_kernel: Callable[..., tuple[Tensor, Tensor]] = twice_differentiable(
    (True, False, False, True, True), _shapes, _run, spared=(2,)
)

IMPLEMENTATIONS = implementations(reference, _kernel, "exchange")


def halves(edges: Tensor, atoms: int) -> Tensor | None:
    """Return the pairs (2, E/2), first atom before second, of ``edges`` (2, E); None if C++ does not support them.

    The C++ kernel supports edges as returned by `neighbour_pairs`: sorted by receiver, then sender, each edge with its
    opposite edge. They must be on a CPU, outside of compiled graphs and of `torch.func`.
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
    """Run `reference` in C++, along the pairs that `halves` returned."""
    return _kernel(x, functions, weight, unit, v, pairs, "cpp")
