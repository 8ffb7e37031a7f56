"""SO3krates attention message: query and key of an edge's ends, filtered, weigh the sender's value.

h_i = Σ_j (f Σ_c q_ic w_c k_jc) v_j, head by head, without a softmax. Source: SO3krates, Nat. Commun. 15, 6539 (2024).
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from hydrogate.models.kernels import _native, fastest, refuse_unsorted, triton_module
from hydrogate.models.kernels._derivatives import implementations, twice_differentiable


def reference(q: Tensor, k: Tensor, v: Tensor, w: Tensor, envelope: Tensor, edges: Tensor) -> Tensor:
    """Return the messages (N, H, C) that the atoms receive.

    Parameters
    ----------
    q, k, v : (N, H, C)
        Query, key and value of each atom, by head.
    w : (E, H, C)
        Filter of the edges.
    envelope : (E, 1)
    edges : (2, E) int64
        Receiver and sender of each edge, sorted by receiver.
    """
    scores = (q[edges[0]] * w * k[edges[1]]).sum(2) * envelope
    return torch.zeros_like(v).index_add(0, edges[0], scores[:, :, None] * v[edges[1]])


def _shapes(q: Tensor, k: Tensor, v: Tensor, w: Tensor, envelope: Tensor) -> list[tuple[int, ...]]:
    return [tuple(v.shape)]


def _run(how: str, what: str, edges: Tensor, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
    edges = edges.contiguous()
    refuse_unsorted(edges)
    sizes = (edges.shape[1], *inputs[0].shape[1:])
    if how == "triton":
        triton_module("attention").run(what, sizes, edges, inputs, outputs)
    else:
        _native.call("attention", what, sizes, edges, *inputs, *outputs)


_kernel: Callable[..., Tensor] = twice_differentiable((True, True, True, False, False), _shapes, _run)

IMPLEMENTATIONS = implementations(reference, _kernel, "attention", triton=True)


def attention(q: Tensor, k: Tensor, v: Tensor, w: Tensor, envelope: Tensor, edges: Tensor) -> Tensor:
    """Run the fastest implementation for the device of ``q``; in a compiled graph, which fuses it, `reference`."""
    if torch.compiler.is_compiling():
        return reference(q, k, v, w, envelope, edges)
    how = fastest("attention", q.device.type)
    given = (q, k, v, w, envelope, edges)
    return reference(*given) if how == "eager" else _kernel(*given, how)
