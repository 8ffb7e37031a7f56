"""Invariants of an atom for the PaiNN update: its scalars, and the norms of its mixed vectors."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from hydrogate.models.kernels import _native, fastest
from hydrogate.models.kernels._derivatives import implementations, twice_differentiable

# Keeps the second derivative of a vector's norm finite where the vector is zero; same value as in update.cpp.
EPSILON = 1e-8


def reference(s: Tensor, right: Tensor) -> Tensor:
    """Join ``s`` (N, F) and the norms of ``right`` (N, 3, F) to (N, 2F)."""
    return torch.cat([s, torch.sqrt((right * right).sum(1) + EPSILON)], dim=1)


def _shapes(s: Tensor, right: Tensor) -> list[tuple[int, ...]]:
    return [(s.shape[0], 2 * s.shape[1])]


def _run(how: str, what: str, edges: None, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
    s = inputs[0]
    _native.call("update", f"invariants_{what}", tuple(s.shape), edges, *inputs, *outputs)


# The second derivative by the scalars stays at zero.
_kernel: Callable[..., Tensor] = twice_differentiable((True, False), _shapes, _run, adds_up=False)

IMPLEMENTATIONS = implementations(reference, _kernel, "update", given=(None,))


def invariants(s: Tensor, right: Tensor) -> Tensor:
    """Run the fastest implementation; in a compiled graph, which fuses it, `reference`."""
    if torch.compiler.is_compiling() or fastest("invariants", s.device.type) == "eager":
        return reference(s, right)
    return _kernel(s, right, None, "cpp")
